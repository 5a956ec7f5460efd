//! Frames as a stream of bytes: Y4M or raw, to a file, a pipe, or an encoder.

use super::alpha::rgba;
use super::{CHROMA_KEY_GREEN, Content, FrameSink, check, label_bytes};
use crate::error::{Error, ErrorKind, Result};
use crate::files::Staged;
use crate::image::{Image, mix};
use crate::video::{VideoInfo, y4m};
use std::borrow::Cow;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Duration;

/// Destination of a stream of bytes.
pub(super) trait Target: Write + Send {
    /// Completes the output after the last byte.
    fn finish(self) -> Result<()>;

    /// Turns a failed write into an error, with whatever else is known about the cause.
    fn write_failed(&mut self, name: &str, error: std::io::Error) -> Error {
        Error::io(name, "could not be written", error)
    }
}

/// Writes frames to a [`Target`], as Y4M or raw.
pub(super) struct Stream<T> {
    out: T,
    name: String,
    info: VideoInfo,
    masks: bool,
    raw: bool,
    alpha: bool,
}

impl<T: Target> Stream<T> {
    /// Creates a stream and writes the Y4M header, unless `raw`.
    pub(super) fn new(
        out: T,
        name: String,
        info: &VideoInfo,
        masks: bool,
        raw: bool,
    ) -> Result<Self> {
        let mut stream = Self { out, name, info: info.clone(), masks, raw, alpha: false };
        if !raw {
            let content = if masks { y4m::Content::Mono } else { y4m::Content::Color };
            let written = y4m::write_header(&mut stream.out, info, content);
            written.map_err(|e| stream.out.write_failed(&stream.name, e))?;
        }
        Ok(stream)
    }

    /// Writes raw images as RGBA.
    pub(super) fn with_alpha(self) -> Self {
        Self { alpha: true, ..self }
    }
}

impl<T: Target> FrameSink for Stream<T> {
    fn write(&mut self, content: &Content, _: Option<Duration>) -> Result<()> {
        check(content, &self.info, self.masks).map_err(|e| e.at(&self.name))?;
        let written = match content {
            Content::Mask(labels) => {
                let bytes = label_bytes(labels).map_err(|e| e.at(&self.name))?;
                if self.raw {
                    self.out.write_all(&bytes)
                } else {
                    y4m::write_mono(&mut self.out, &bytes)
                }
            }
            Content::Image(image) if self.alpha => self.out.write_all(&rgba(image)),
            Content::Image(image) => {
                let rgb = opaque(image, CHROMA_KEY_GREEN);
                if self.raw {
                    self.out.write_all(&rgb)
                } else {
                    y4m::write_color(&mut self.out, &self.info, &rgb)
                }
            }
        };
        // Flush every frame: a player may be reading the other end of the pipe.
        written.and_then(|()| self.out.flush()).map_err(|e| self.out.write_failed(&self.name, e))
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.out.finish()
    }
}

/// Returns the pixels with transparent ones blended over `backdrop`.
fn opaque(image: &Image, backdrop: [u8; 3]) -> Cow<'_, [u8]> {
    let Some(alpha) = &image.alpha else { return Cow::Borrowed(&image.rgb) };
    let pixels = image.rgb.chunks_exact(3).zip(alpha);
    pixels.flat_map(|(p, &a)| [0, 1, 2].map(|i| mix(p[i], backdrop[i], a))).collect()
}

/// A file that gets its final name when it is finished.
pub(super) struct StagedFile(BufWriter<Staged>);

impl StagedFile {
    /// Creates the temporary file for `path`.
    pub(super) fn create(path: &Path) -> Result<Self> {
        Ok(Self(BufWriter::with_capacity(1 << 16, Staged::create(path, ".tmp")?)))
    }
}

impl Target for StagedFile {
    fn finish(mut self) -> Result<()> {
        let flushed = self.0.flush();
        flushed.map_err(|e| Error::io(self.0.get_ref().path(), "could not be written", e))?;
        let staged = self.0.into_inner().map_err(|e| {
            Error::new(ErrorKind::Io, "could not be written").source(e.into_error())
        })?;
        staged.commit()
    }
}

impl Write for StagedFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// A stream of the caller, such as standard output, and its name.
pub(super) struct OutputStream<W: Write> {
    writer: BufWriter<W>,
    name: String,
}

impl<W: Write> OutputStream<W> {
    /// Wraps a writer; `name` identifies it in errors.
    pub(super) fn new(out: W, name: &str) -> Self {
        Self { writer: BufWriter::with_capacity(1 << 16, out), name: name.to_owned() }
    }
}

impl<W: Write + Send> Target for OutputStream<W> {
    fn finish(mut self) -> Result<()> {
        self.writer.flush().map_err(|e| Error::io(self.name, "could not be written", e))
    }
}

impl<W: Write> Write for OutputStream<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.writer.flush()
    }
}
