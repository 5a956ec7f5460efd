//! The error type of the crate: a kind that programs can match, and a message with an address.

#[cfg(feature = "training")]
use crate::text::excerpt;
use crate::text::{self, detail_line, printable, printable_lines, truncate};
use std::borrow::Cow;
use std::fmt;
use std::path::Path;

/// `Result` with the crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Category of an error, for programs to match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file or directory could not be read or written.
    Io,
    /// An image is damaged, of an unsupported format, or too large.
    Image,
    /// A weight file is damaged, or does not fit the network.
    Weights,
    /// A network configuration is inconsistent.
    Config,
    /// A graph is not well-formed: mismatched shapes, missing values, missing gradient rules.
    Graph,
    /// Arguments of the command line or of a library call are invalid.
    Usage,
    /// A data set is damaged or incomplete.
    Data,
    /// A training run failed: its loss or weights are no longer finite.
    Training,
    /// No adapter matches, or the adapter lacks a required feature or limit.
    Device,
    /// Not enough memory, on the device or on the host.
    OutOfMemory,
    /// The device was lost (driver reset, unplugged).
    DeviceLost,
    /// A shader did not compile, or a dispatch does not fit its shader.
    Shader,
    /// The device did not answer in time.
    Timeout,
}

/// An error with an address (the file, node or tensor), a message, and advice on what to do.
///
/// [`Display`](fmt::Display) prints `address: message: source; advice` on one line, followed by the
/// lines of [`Error::detail`]. Addresses and messages quote names from files, so characters that
/// control a terminal (escape sequences, line breaks, bidirectional overrides) are shown as U+FFFD.
///
/// ```
/// use atrous::{Error, ErrorKind};
/// let error = Error::new(ErrorKind::Graph, "expected 304 input channels, got 256")
///     .at("node `decoder.conv1`")
///     .advice("load weights that were made for this configuration");
/// assert_eq!(
///     error.to_string(),
///     "node `decoder.conv1`: expected 304 input channels, got 256; load weights that were made for this configuration"
/// );
/// ```
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    address: Vec<String>,
    message: Cow<'static, str>,
    advice: Option<Cow<'static, str>>,
    detail: Vec<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// Creates an error without an address.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            address: Vec::new(),
            message: message.into(),
            advice: None,
            detail: Vec::new(),
            source: None,
        }))
    }

    /// Prepends context to the address, like `anyhow::Context`: add the innermost address first.
    #[must_use]
    pub fn at(mut self, address: impl Into<String>) -> Self {
        self.0.address.insert(0, address.into());
        self
    }

    /// Prepends a file name to the address.
    #[must_use]
    pub fn file(self, path: impl AsRef<Path>) -> Self {
        self.at(text::path(path))
    }

    /// Adds advice on how to fix the problem.
    #[must_use]
    pub fn advice(mut self, advice: impl Into<Cow<'static, str>>) -> Self {
        self.0.advice = Some(advice.into());
        self
    }

    /// Adds lines below the message, such as an excerpt of the offending file. Each line is
    /// truncated to 240 characters: a path and what is wrong there.
    #[must_use]
    pub fn detail(mut self, lines: impl AsRef<str>) -> Self {
        self.0.detail.extend(lines.as_ref().trim_end().split('\n').map(detail_line));
        self
    }

    /// Sets the error that caused this one. Its text is shown after the message.
    #[must_use]
    pub fn source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Returns the error with another kind.
    #[cfg(feature = "cli")]
    pub(crate) fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// Whether a file, node or tensor is named.
    #[cfg(feature = "cli")]
    pub(crate) fn has_address(&self) -> bool {
        !self.0.address.is_empty()
    }

    /// Returns the category of the error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns whether the cause is a write to a closed pipe.
    pub fn is_broken_pipe(&self) -> bool {
        let source = self.0.source.as_deref().and_then(|s| s.downcast_ref::<std::io::Error>());
        source.is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    }

    /// Creates an I/O error on `path`; `message` is the operation that failed.
    pub fn io(path: impl AsRef<Path>, message: &'static str, source: std::io::Error) -> Self {
        Self::new(ErrorKind::Io, message).file(path).source(source)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.0;
        // Shader compilers and drivers report several lines, which quote no names from files.
        let multiline =
            matches!(inner.kind, ErrorKind::Shader | ErrorKind::Device | ErrorKind::DeviceLost);
        let sanitize = |text: &str, max_chars: usize| {
            if multiline {
                printable_lines(text).into_owned()
            } else {
                printable(&truncate(text, max_chars)).into_owned()
            }
        };
        for address in &inner.address {
            write!(f, "{}: ", printable(&truncate(address, MAX_CHARS)))?;
        }
        f.write_str(&sanitize(&inner.message, MAX_CHARS))?;
        if let Some(source) = &inner.source {
            match source.downcast_ref::<Error>() {
                // An `Error` sanitizes its own text, and its line breaks are intended.
                Some(error) => write!(f, ": {error}")?,
                None => write!(f, ": {}", sanitize(&source.to_string(), MAX_SOURCE_CHARS))?,
            }
        }
        if let Some(advice) = &inner.advice {
            write!(f, "; {}", sanitize(advice, MAX_CHARS))?;
        }
        inner.detail.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|e| e as _)
    }
}

/// Maximum length of an address, a message or advice, in characters. The longest messages list
/// three dozen mismatched tensors.
const MAX_CHARS: usize = 8000;
/// Maximum length of a cause, in characters. Parsers quote the input that they reject, which may be
/// megabytes.
const MAX_SOURCE_CHARS: usize = 1000;

/// Creates an [`Error`] of a kind with a formatted message.
macro_rules! error {
    ($kind:ident, $($arg:tt)+) => {
        $crate::error::Error::new($crate::error::ErrorKind::$kind, format!($($arg)+))
    };
}
pub(crate) use error;

/// Converts an error of the TOML parser into an [`Error`] with the offending line of `text` as its
/// detail, truncated: the parser's own `Display` repeats that line in full.
#[cfg(feature = "training")]
pub(crate) fn toml_error(kind: ErrorKind, what: &str, text: &str, e: &toml::de::Error) -> Error {
    // "unknown field `x`, expected one of ..." lists all fields, which is worth the space; text
    // quoted from the file is not.
    const MAX_MESSAGE_CHARS: usize = 1500;
    let message = truncate(e.message(), MAX_MESSAGE_CHARS);
    let Some(before) = e.span().and_then(|span| text.get(..span.start)) else {
        return Error::new(kind, format!("{what}: {message}"));
    };
    let number = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[start..].lines().next().unwrap_or_default();
    Error::new(kind, format!("{what}: line {number}: {message}"))
        .detail(format!("{number} | {}", excerpt(line)))
}

#[cfg(test)]
mod tests {
    use super::ErrorKind;
    #[cfg(feature = "training")]
    use super::toml_error;

    const HOSTILE: &str = "a\u{1b}[2J\r\nerror: forged\u{9b}\u{202e}";
    const SHOWN: &str = "a\u{fffd}[2J\u{fffd}\u{fffd}error: forged\u{fffd}\u{fffd}";

    #[test]
    fn names_out_of_files_do_not_reach_the_terminal_as_commands() {
        let cause = std::io::Error::other(HOSTILE);
        let error = error!(Weights, "no tensor `{HOSTILE}`")
            .file(HOSTILE)
            .at(HOSTILE)
            .source(cause)
            .advice(HOSTILE);
        assert_eq!(
            error.to_string(),
            format!("{SHOWN}: {SHOWN}: no tensor `{SHOWN}`: {SHOWN}; {SHOWN}")
        );
    }

    #[test]
    fn an_error_of_megabytes_is_cut() {
        let long = "é".repeat(1 << 20);
        let error = error!(Weights, "no tensor `{long}`")
            .at(long.clone())
            .source(std::io::Error::other(long));
        assert!(error.to_string().chars().count() < 18_000);
    }

    #[test]
    fn lines_that_were_meant_stay_lines_in_an_error_and_around_it() {
        let inner = error!(Config, "invalid recipe")
            .detail(format!("1 | {}\n  | ^{HOSTILE}", "x".repeat(300)));
        let x = "x".repeat(236);
        let expected = format!("invalid recipe\n  1 | {x}...\n    | ^a\u{fffd}[2J\u{fffd}");
        assert!(inner.to_string().starts_with(&expected), "{inner}");
        let outer = error!(Data, "failed").source(inner);
        assert!(outer.to_string().starts_with(&format!("failed: {expected}")), "{outer}");
        let shader = error!(Shader, "line 1\nline 2\u{1b}");
        assert_eq!(shader.to_string(), "line 1\nline 2\u{fffd}");
    }

    #[test]
    #[cfg(feature = "training")]
    fn an_error_of_toml_shows_its_line_and_not_the_whole_of_a_long_one() {
        #[derive(serde::Deserialize, Debug)]
        #[serde(deny_unknown_fields)]
        struct Two {
            #[serde(rename = "steps")]
            _steps: u32,
        }
        let shown = |text: &str| {
            let e = toml::from_str::<Two>(text).unwrap_err();
            toml_error(ErrorKind::Config, "invalid recipe", text, &e).to_string()
        };
        assert_eq!(
            shown("steps = 1\nstep = 2\n"),
            "invalid recipe: line 2: unknown field `step`, expected `steps`\n  2 | step = 2"
        );
        for long in [
            format!("steps = \"{}\"", "é".repeat(1 << 18)),
            format!("{} = 1", "x".repeat(1 << 18)),
            "[".repeat(1 << 18),
        ] {
            let text = shown(&long);
            assert!(text.chars().count() < 2000, "{} characters", text.chars().count());
        }
    }
}
