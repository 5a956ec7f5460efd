//! The one error type of the crate: a kind that programs can match, and a message with an address.

use crate::text::{self, cut, excerpt, printable, printable_lines};
use std::borrow::Cow;
use std::fmt;
use std::path::Path;

/// `Result` with the crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in the terms a program can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file or directory could not be read or written.
    Io,
    /// An image is damaged, of a kind that is not read, or too large.
    Image,
    /// A weight file is damaged, or does not fit the network.
    Weights,
    /// A network's configuration contradicts itself.
    Config,
    /// A graph is not well-formed: shapes, missing values, missing rules.
    Graph,
    /// Arguments of the command line or of a library call are off.
    Usage,
    /// A data set is not what it should be.
    Data,
    /// A training went wrong: its numbers are not finite any more.
    Training,
    /// No adapter fits, or the adapter lacks what the work needs.
    Device,
    /// The device has no memory left for the work.
    OutOfMemory,
    /// The device was lost (driver reset, unplugged).
    DeviceLost,
    /// A shader did not compile, or a dispatch does not fit its shader.
    Shader,
    /// The device did not answer in time.
    Timeout,
}

/// An error with an address: which file, node or tensor, what is wrong, and what to do.
///
/// It is shown on one line, and below that the lines of [`Error::detail`]. Addresses and messages
/// quote names out of files: characters in them that a terminal obeys (escape sequences, line
/// breaks, bidirectional overrides) are shown as U+FFFD.
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
    /// An error of `kind` that says `message`, with no address yet.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        let (address, detail) = (Vec::new(), Vec::new());
        Self(Box::new(Inner {
            kind,
            address,
            message: message.into(),
            advice: None,
            detail,
            source: None,
        }))
    }

    /// Puts an address in front: the innermost is given first, each further call goes to its left.
    #[must_use]
    pub fn at(mut self, address: impl Into<String>) -> Self {
        self.0.address.insert(0, address.into());
        self
    }

    /// Puts a file's name in front of the message.
    #[must_use]
    pub fn file(self, path: impl AsRef<Path>) -> Self {
        self.at(text::path(path))
    }

    /// Adds what the reader can do about it.
    #[must_use]
    pub fn advice(mut self, advice: impl Into<Cow<'static, str>>) -> Self {
        self.0.advice = Some(advice.into());
        self
    }

    /// Adds lines below the message, such as an excerpt of the file at fault. Each is cut at 80
    /// characters.
    #[must_use]
    pub fn detail(mut self, lines: impl AsRef<str>) -> Self {
        self.0.detail.extend(lines.as_ref().trim_end().split('\n').map(excerpt));
        self
    }

    /// Keeps the error that caused this one; its text is shown behind the message.
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

    /// What went wrong, for programs.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether output was written to a reader that had gone away.
    pub fn is_broken_pipe(&self) -> bool {
        let source = self.0.source.as_deref().and_then(|s| s.downcast_ref::<std::io::Error>());
        source.is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    }

    /// An I/O error on `path`.
    pub fn io(path: impl AsRef<Path>, doing: &'static str, source: std::io::Error) -> Self {
        Self::new(ErrorKind::Io, doing).file(path).source(source)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.0;
        // Compilers of shaders and drivers write several lines, and no names out of files.
        let lines =
            matches!(inner.kind, ErrorKind::Shader | ErrorKind::Device | ErrorKind::DeviceLost);
        let clean = |text: &str, longest: usize| match lines {
            true => printable_lines(text).into_owned(),
            false => printable(&cut(text, longest)).into_owned(),
        };
        for address in &inner.address {
            write!(f, "{}: ", printable(&cut(address, LONGEST)))?;
        }
        f.write_str(&clean(&inner.message, LONGEST))?;
        if let Some(source) = &inner.source {
            match source.downcast_ref::<Error>() {
                // It is clean already, and its line breaks are its own.
                Some(ours) => write!(f, ": {ours}")?,
                None => write!(f, ": {}", clean(&source.to_string(), LONGEST_SOURCE))?,
            }
        }
        if let Some(advice) = &inner.advice {
            write!(f, "; {}", clean(advice, LONGEST))?;
        }
        inner.detail.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|e| e as _)
    }
}

/// Characters of an address, a message or an advice that are shown. Reports of three dozen tensors
/// that do not fit are the longest.
const LONGEST: usize = 8000;
/// Characters of a cause that are shown. Parsers quote what they could not read, which may be
/// megabytes.
const LONGEST_SOURCE: usize = 1000;

/// Shorthand: an [`Error`] of a kind with a formatted message.
macro_rules! error {
    ($kind:ident, $($arg:tt)+) => {
        $crate::error::Error::new($crate::error::ErrorKind::$kind, format!($($arg)+))
    };
}
pub(crate) use error;

#[cfg(test)]
mod tests {
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
        let inner = error!(Config, "is no recipe")
            .detail(format!("1 | {}\n  | ^{HOSTILE}", "x".repeat(100)));
        let x = "x".repeat(76);
        let expected = format!("is no recipe\n  1 | {x}...\n    | ^a\u{fffd}[2J\u{fffd}");
        assert!(inner.to_string().starts_with(&expected), "{inner}");
        let outer = error!(Data, "failed").source(inner);
        assert!(outer.to_string().starts_with(&format!("failed: {expected}")), "{outer}");
        let shader = error!(Shader, "line 1\nline 2\u{1b}");
        assert_eq!(shader.to_string(), "line 1\nline 2\u{fffd}");
    }
}
