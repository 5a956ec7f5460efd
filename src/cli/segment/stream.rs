//! An image on standard input or standard output.

use super::Args;
use crate::cli::interrupt::{on_interrupt, unless_stopped};
use crate::error::{Error, ErrorKind, Result, error};
use crate::image::{DecodeOptions, probe};
use crate::memory;
use crate::video::VideoFormat;
use std::io::{ErrorKind as IoErrorKind, IsTerminal, Read, Write};
use std::path::Path;

/// The name of standard input and output.
pub(super) const STREAM: &str = "-";

/// What standard input is called in messages.
pub(super) const STANDARD_INPUT: &str = "standard input";

/// Number of bytes that distinguish an image from a video: every signature is within them.
const HEAD: usize = 16;

/// Whether a path is standard input or output.
pub(super) fn is_stream(path: &Path) -> bool {
    path == Path::new(STREAM)
}

/// Standard input, whose first bytes were read.
#[derive(Debug, Clone)]
pub(super) struct Piped {
    head: Vec<u8>,
}

impl Piped {
    /// Reads the first bytes of standard input, if it is the input and could be an image. `None` if
    /// the arguments name something else.
    pub(super) fn open(args: &Args) -> Result<Option<Self>> {
        let [input] = &args.inputs[..] else { return Ok(None) };
        let format = args.output.as_deref().and_then(VideoFormat::from_path);
        let to_video = format.is_some_and(|format| format != VideoFormat::Directory);
        if !is_stream(input) || args.video.is_raw() || to_video {
            return Ok(None);
        }
        refuse_terminal_input()?;
        let read = || {
            let mut head = Vec::new();
            std::io::stdin().lock().take(HEAD as u64).read_to_end(&mut head).map(|_| head)
        };
        let head = until_stopped(read)?;
        Ok(Some(Self { head: head.map_err(unreadable)? }))
    }

    /// Whether it begins like an image.
    pub(super) fn is_image(&self) -> bool {
        probe::is_image(&self.head)
    }

    /// Returns the stream from its first byte on.
    pub(super) fn into_reader(self) -> impl Read + Send + 'static {
        std::io::Cursor::new(self.head).chain(std::io::stdin())
    }

    /// Reads the rest, up to the limit of image files.
    pub(super) fn into_bytes(self) -> Result<Vec<u8>> {
        let limit = DecodeOptions::default().max_bytes;
        until_stopped(move || read_all(self.into_reader(), limit))?
    }
}

/// Runs `read` on a thread of its own, so that a signal ends the program while standard input
/// stalls.
fn until_stopped<T: Send + 'static>(read: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let stop = on_interrupt("stopping")?;
    unless_stopped(&stop, read)?
        .ok_or_else(|| error!(Image, "stopped before the first frame; nothing was written"))
}

fn read_all(mut reader: impl Read, limit: u64) -> Result<Vec<u8>> {
    let (mut bytes, mut chunk) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        let count = match reader.read(&mut chunk) {
            Ok(0) => return Ok(bytes),
            Ok(count) => count,
            Err(e) if e.kind() == IoErrorKind::Interrupted => continue,
            Err(e) => return Err(unreadable(e)),
        };
        if (bytes.len() + count) as u64 > limit {
            return Err(error!(Image, "is larger than the limit of {}", memory::mib(limit))
                .at(STANDARD_INPUT)
                .advice("scale the image down, or crop it, with an image editor first"));
        }
        bytes.try_reserve(count).map_err(|e| {
            Error::new(ErrorKind::OutOfMemory, "not enough memory to read the image")
                .source(e)
                .at(STANDARD_INPUT)
        })?;
        bytes.extend_from_slice(&chunk[..count]);
    }
}

fn unreadable(e: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, "could not be read").source(e).at(STANDARD_INPUT)
}

/// Refuses to wait for somebody to type an image.
pub(super) fn refuse_terminal_input() -> Result<()> {
    if std::io::stdin().is_terminal() {
        return Err(error!(
            Usage,
            "standard input is a terminal; pipe an image or a video into it"
        ));
    }
    Ok(())
}

/// Refuses to write an image or a video to a terminal.
pub(super) fn refuse_terminal_output() -> Result<()> {
    if std::io::stdout().is_terminal() {
        return Err(error!(
            Usage,
            "standard output is a terminal; pipe it into a program, or name a file"
        ));
    }
    Ok(())
}

/// Writes a whole result to standard output.
pub(super) fn write(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(|e| Error::new(ErrorKind::Io, "could not write to standard output").source(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Yields bytes in pieces, with an interruption between them.
    struct Pieces(Vec<Option<u8>>);

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            match self.0.pop() {
                Some(Some(byte)) => {
                    buffer[0] = byte;
                    Ok(1)
                }
                Some(None) => Err(IoErrorKind::Interrupted.into()),
                None => Ok(0),
            }
        }
    }

    #[test]
    fn a_stream_is_read_up_to_the_limit() {
        let pieces = || Pieces(vec![Some(3), None, Some(2), Some(1)]);
        assert_eq!(read_all(pieces(), 3).unwrap(), [1, 2, 3]);
        let error = read_all(pieces(), 2).unwrap_err().to_string();
        assert!(error.contains("standard input: is larger than the limit"), "{error}");
        let endless = std::io::repeat(7);
        assert!(read_all(endless, 1 << 20).is_err(), "an endless stream ends at the limit");
    }

    #[test]
    fn first_bytes_distinguish_images_from_videos() {
        let is_image = |head: &[u8]| Piped { head: head.to_vec() }.is_image();
        assert!(is_image(b"\x89PNG\r\n\x1a\n") && is_image(b"\xff\xd8\xff\xe0"));
        assert!(is_image(b"RIFF\0\0\0\0WEBPVP8 ") && is_image(b"BM") && is_image(b"P6\n1 1\n"));
        assert!(!is_image(b"YUV4MPEG2 W8 H8") && !is_image(b"") && !is_image(b"no image"));
    }
}
