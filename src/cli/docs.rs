//! `atrous completions` and `atrous man`: made from the command's definitions.

use crate::error::{Error, Result};
use std::path::PathBuf;

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  atrous completions bash > ~/.local/share/bash-completion/completions/atrous"
)]
pub(super) struct CompletionArgs {
    /// Shell to complete for
    shell: clap_complete::Shell,
}

/// Write man pages into a directory
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  atrous man ~/.local/share/man/man1")]
pub(super) struct ManArgs {
    /// Directory to write to; created if it does not exist
    directory: PathBuf,
}

pub(super) fn completions(args: &CompletionArgs, mut command: clap::Command) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "atrous", &mut script);
    super::console::print(&String::from_utf8_lossy(&script))
}

pub(super) fn man(args: &ManArgs, command: clap::Command) -> Result<()> {
    std::fs::create_dir_all(&args.directory)
        .map_err(|e| Error::io(&args.directory, "could not create the directory", e))?;
    clap_mangen::generate_to(command, &args.directory)
        .map_err(|e| Error::io(&args.directory, "could not write man pages", e))
}
