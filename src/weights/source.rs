//! Positioned reads from one file, on disk or in memory.

use crate::error::{Error, ErrorKind, Result};
use crate::files::open_regular;
use crate::memory;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// An opened file of known length.
///
/// Of a file on disk: reads, not a memory map: a file that shrinks while it is read then ends in an
/// error and not in a signal, and no `unsafe` is needed.
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
    /// Opens a file. Errors where it is missing, unreadable, or not a regular file.
    pub fn open(path: &Path) -> Result<Self> {
        let file = open_regular(path, "a file of weights")?;
        let len = file.metadata().map_err(|e| Error::io(path, "could not be opened", e))?.len();
        Ok(Self { path: path.to_path_buf(), len, bytes: Mutex::new(Bytes::File(file)) })
    }

    /// A file that is in memory, under a name for messages.
    pub fn memory(bytes: Vec<u8>, name: &Path) -> Self {
        let len = bytes.len() as u64;
        Self {
            path: name.to_path_buf(),
            len,
            bytes: Mutex::new(Bytes::Memory(io::Cursor::new(bytes))),
        }
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Length in bytes when the file was opened.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Fills `buffer` from the bytes at `offset`. The error does not name the file yet.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.read_exact_at(offset, buffer)
            .map_err(|e| Error::new(ErrorKind::Io, "cannot read the weights").source(e))
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        // A poisoned lock only means that another thread panicked between a seek and a read: the
        // next one seeks anyway.
        let mut bytes = self.bytes.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let reader: &mut dyn ReadSeek = match &mut *bytes {
            Bytes::File(file) => file,
            Bytes::Memory(cursor) => cursor,
        };
        reader.seek(SeekFrom::Start(offset))?;
        reader.read_exact(buffer)
    }

    /// Bytes `offset..offset + len`, for ranges that were checked to lie in the file.
    pub fn bytes(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        let mut buffer = memory::zeros(len)?;
        self.read_at(offset, &mut buffer)?;
        Ok(buffer)
    }

    /// A reader with a position of its own.
    pub fn cursor(&self) -> Cursor<'_> {
        Cursor { source: self, at: 0 }
    }
}

trait ReadSeek: Read + Seek {}
impl<T: Read + Seek> ReadSeek for T {}

/// `Read + Seek` over a [`Source`], for crates that want those.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    source: &'a Source,
    at: u64,
}

impl Read for Cursor<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.source.len.saturating_sub(self.at);
        let n = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
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
