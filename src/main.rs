//! The command line's entry: exit codes only.

use std::process::ExitCode;

fn main() -> ExitCode {
    atrous::cli::main()
}
