//! Standard output, standard error and progress bars.

use crate::error::{Error, ErrorKind, Result};
use crate::text::printable_json;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};

/// Writes text to standard output, without its colors if that is not a terminal.
///
/// # Errors
/// Standard output cannot be written, for example because its reader has exited.
pub(super) fn print(text: &str) -> Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|e| Error::new(ErrorKind::Io, "could not write to standard output").source(e))
}

/// Writes a line to standard error. The line is lost if standard error is closed (`eprintln` would
/// panic).
pub(super) fn say(text: &str) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// Writes `error: ...` to standard error, in red on a terminal.
pub(super) fn say_error(error: &Error) {
    let style = anstyle::AnsiColor::Red.on_default().bold();
    say(&format!("{style}error{style:#}: {error}"));
}

/// Writes a value as indented JSON to standard output.
///
/// # Errors
/// As [`print()`].
pub(super) fn print_json(value: &impl serde::Serialize) -> Result<()> {
    print(&json(value)?)
}

/// Returns a value as indented JSON, with control characters escaped for terminals.
///
/// # Errors
/// The value cannot be represented as JSON.
pub(super) fn json(value: &impl serde::Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::new(ErrorKind::Io, "could not write the report as JSON").source(e))?;
    Ok(format!("{}\n", printable_json(&text)))
}

/// Returns a progress bar over the bytes of a file, hidden if `quiet` or if standard error is not a
/// terminal.
#[cfg(feature = "hub")]
pub(super) fn byte_progress(len: Option<u64>, quiet: bool) -> ProgressBar {
    let visible = !quiet && std::io::stderr().is_terminal();
    let target = if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let template = match len {
        Some(_) => {
            "{bar:32} {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta} left"
        }
        None => "{spinner} {binary_bytes}  {binary_bytes_per_sec}  {elapsed}",
    };
    let style = ProgressStyle::with_template(template);
    ProgressBar::with_draw_target(len, target)
        .with_style(style.expect("invariant: the template is valid"))
}

/// Returns a progress bar over `len` items, hidden if `quiet` or if standard error is not a
/// terminal. `unit` is the plural of an item: "images".
pub(super) fn progress(len: Option<u64>, unit: &str, quiet: bool) -> ProgressBar {
    let visible = !quiet && std::io::stderr().is_terminal();
    let target = if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let template = match len {
        Some(_) => {
            format!("{{bar:32}} {{pos}}/{{len}} {unit}  {{per_sec}}  {{eta}} left  {{wide_msg}}")
        }
        None => format!("{{spinner}} {{pos}} {unit}  {{per_sec}}  {{elapsed}}  {{wide_msg}}"),
    };
    let style = ProgressStyle::with_template(&template);
    ProgressBar::with_draw_target(len, target)
        .with_style(style.expect("invariant: the template is valid"))
}
