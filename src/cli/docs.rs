//! `atrous completions` and `atrous man`: made from the command's definitions.

use crate::error::{Error, Result};
use std::path::PathBuf;

/// Writes a completion script for a shell to standard output
#[derive(Debug, clap::Args)]
pub(super) struct CompletionArgs {
    /// The shell
    shell: clap_complete::Shell,
}

/// Writes man pages into a directory
#[derive(Debug, clap::Args)]
pub(super) struct ManArgs {
    /// The directory, made if it does not exist
    directory: PathBuf,
}

pub(super) fn completions(args: &CompletionArgs, mut command: clap::Command) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "atrous", &mut script);
    super::args::print(&String::from_utf8_lossy(&script))
}

pub(super) fn man(args: &ManArgs, command: clap::Command) -> Result<()> {
    std::fs::create_dir_all(&args.directory)
        .map_err(|e| Error::io(&args.directory, "the directory cannot be made", e))?;
    clap_mangen::generate_to(command, &args.directory)
        .map_err(|e| Error::io(&args.directory, "man pages cannot be written", e))
}
