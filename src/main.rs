//! The command line's entry: exit codes only.
fn main() {}
