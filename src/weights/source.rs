//! Positioned reads from one file, on disk or in memory.

use crate::error::{Error, ErrorKind, Result, error};
use crate::files::open_regular;
use crate::memory;
use crate::text;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Names of the weight file in the directory of a run, of `save_pretrained`, and of others.
const PREFERRED: [&str; 6] = [
    "best.safetensors",
    "last.safetensors",
    "model.safetensors",
    "pytorch_model.bin",
    "model.pth",
    "model.onnx",
];

/// An open file of known length.
///
/// Files on disk are read, not memory-mapped: a file that shrinks during reading then causes an
/// error instead of a signal, and no `unsafe` is needed.
#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    len: u64,
    bytes: Mutex<Bytes>,
}

#[derive(Debug)]
enum Bytes {
    File(File),
    Memory(io::Cursor<Vec<u8>>),
}

impl Source {
    /// Opens a file.
    ///
    /// # Errors
    /// Returns an error if the file is missing, unreadable, or not a regular file. For a directory
    /// it names the weight file in it.
    pub fn open(path: &Path) -> Result<Self> {
        let mut inside = PREFERRED.iter().map(|name| path.join(name));
        if let Some(file) = inside.find(|file| file.is_file()) {
            let advice = format!("pass the weight file in it: {}", text::path(file));
            return Err(error!(Io, "is a directory").file(path).advice(advice));
        }
        let file = open_regular(path, "a weight file")?;
        let len = file.metadata().map_err(|e| Error::io(path, "could not open", e))?.len();
        Ok(Self { path: path.to_path_buf(), len, bytes: Mutex::new(Bytes::File(file)) })
    }

    /// Creates a source from a file in memory, with a name for messages.
    pub fn memory(bytes: Vec<u8>, name: &Path) -> Self {
        let len = bytes.len() as u64;
        Self {
            path: name.to_path_buf(),
            len,
            bytes: Mutex::new(Bytes::Memory(io::Cursor::new(bytes))),
        }
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the length in bytes at the time of opening.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Returns whether the file is on disk.
    #[cfg(feature = "tensorflow")]
    pub fn is_on_disk(&self) -> bool {
        let bytes = self.bytes.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        matches!(*bytes, Bytes::File(_))
    }

    /// Reads the bytes at `offset` into `buffer`. The error does not name the file yet.
    ///
    /// # Errors
    /// Returns an error if the file ends before or cannot be read.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.read_exact_at(offset, buffer)
            .map_err(|e| Error::new(ErrorKind::Io, "could not read the weights").source(e))
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        // A poisoned lock means that a thread panicked between seek and read, which is harmless:
        // every read seeks first.
        let mut bytes = self.bytes.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let reader: &mut dyn ReadSeek = match &mut *bytes {
            Bytes::File(file) => file,
            Bytes::Memory(cursor) => cursor,
        };
        reader.seek(SeekFrom::Start(offset))?;
        reader.read_exact(buffer)
    }

    /// Reads the bytes `offset..offset + len`. The caller has checked that the range is within the
    /// file.
    ///
    /// # Errors
    /// Returns an error if memory runs out or the file cannot be read.
    pub fn bytes(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        let mut buffer = memory::zeros(len)?;
        self.read_at(offset, &mut buffer)?;
        Ok(buffer)
    }

    /// Creates a reader with an independent position.
    pub fn cursor(&self) -> Cursor<'_> {
        Cursor { source: self, at: 0 }
    }
}

trait ReadSeek: Read + Seek {}
impl<T: Read + Seek> ReadSeek for T {}

/// `Read + Seek` over a [`Source`], for crates that require them.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    source: &'a Source,
    at: u64,
}

impl Read for Cursor<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let remaining = self.source.len.saturating_sub(self.at);
        let n = buffer.len().min(usize::try_from(remaining).unwrap_or(usize::MAX));
        self.source.read_exact_at(self.at, &mut buffer[..n])?;
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for Cursor<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (base, by) = match to {
            SeekFrom::Start(at) => (at, 0),
            SeekFrom::End(by) => (self.source.len, by),
            SeekFrom::Current(by) => (self.at, by),
        };
        self.at = base.checked_add_signed(by).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
