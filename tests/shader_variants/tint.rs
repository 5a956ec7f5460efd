//! tint, Chrome's WGSL compiler. It is stricter than naga about uniform control flow.

use crate::Compiled;
use std::io::ErrorKind;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// An installed tint, and a directory for its inputs.
pub struct Tint {
    directory: TempDir,
}

impl Tint {
    /// `None`, with a message, if there is none on the path.
    pub fn find() -> Option<Self> {
        match Command::new("tint")
            .arg("--help")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
        {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                println!("skipped: no tint");
                None
            }
            Err(e) => panic!("could not run tint: {e}"),
            Ok(_) => Some(Self {
                directory: TempDir::new().expect("the temporary directory can be written"),
            }),
        }
    }

    /// Problems that tint reports for a shader.
    pub fn check(&self, compiled: &Compiled) -> Result<(), String> {
        // naga supports subgroup functions without a directive; on the web they must be enabled.
        let enable = if compiled.uses_subgroups() { "enable subgroups;\n" } else { "" };
        let file = tempfile::Builder::new()
            .suffix(".wgsl")
            .tempfile_in(self.directory.path())
            .map_err(|e| e.to_string())?;
        std::fs::write(file.path(), format!("{enable}{}", compiled.wgsl))
            .map_err(|e| e.to_string())?;
        // Every build of tint can write WGSL; parsing and validation come first.
        let mut command = Command::new("tint");
        command
            .args(["--format", "wgsl", "--output-name"])
            .arg(file.path().with_extension("out"))
            .arg(file.path());
        let output = command.output().map_err(|e| e.to_string())?;
        if output.status.success() {
            Ok(())
        } else {
            Err(format!("tint: {}", String::from_utf8_lossy(&output.stderr)))
        }
    }
}
