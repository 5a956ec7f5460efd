//! The download of one content: resumed where an earlier one was interrupted, and verified before
//! it gets its name.

use super::cache::{RepositoryCache, create_parent};
use super::checksum::Checksum;
use super::client::RemoteFile;
use super::errors::{Failure, FailureKind, Subject, gave_up, unwritable};
use super::http::{Answer, Http};
use super::progress::{Event, Progress};
use super::reference::encode;
use crate::error::{Error, ErrorKind, error};
use crate::files::refuse_special;
use crate::text;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Maximum number of attempts in a row that bring no further byte.
const MAX_ATTEMPTS: u32 = 5;
/// Maximum size of a file whose size the hub does not state.
const MAX_UNSTATED: u64 = 64 << 20;
/// Bytes between two reports of progress.
const CHUNK: usize = 1 << 17;

/// A download of a content into the cache.
pub(super) struct Download<'d> {
    pub http: &'d Http,
    pub cache: &'d RepositoryCache,
    pub remote: &'d RemoteFile,
    pub subject: Subject<'d>,
    /// Repository and host, for progress.
    pub source: &'d str,
    /// Pause before the first repetition.
    pub retry_pause: Duration,
}

/// How a transfer ended that did not fail for good.
enum Transfer {
    Complete,
    /// The connection broke off, for the reason.
    Interrupted(String),
}

impl Download<'_> {
    /// Downloads the content and renames it to its final name. The caller holds its lock.
    ///
    /// # Errors
    /// The hub cannot be reached or refuses; the file cannot be written; or the content is not what
    /// the hub announced, in which case it is deleted.
    pub fn run(&self, progress: &mut Progress<'_>) -> Result<(), Failure> {
        let partial = self.cache.partial(&self.remote.etag);
        create_parent(&partial)?;
        refuse_special(&partial, "a file")?;
        let mut done = self.present(&partial)?;
        progress(Event::Started {
            file: &self.remote.file,
            source: self.source,
            resumed: done,
            size: self.remote.size,
        });
        if self.remote.size == Some(0) {
            open(&partial, 0)?;
        }
        // The most bytes that were here at once: a server without ranges begins anew each time.
        let (mut attempt, mut most) = (0, done);
        while self.remote.size.is_none_or(|size| done < size) {
            let reason = match self.transfer(&partial, done, progress)? {
                Transfer::Complete => break,
                Transfer::Interrupted(reason) => reason,
            };
            done = length(&partial)?;
            attempt = if done > most { 1 } else { attempt + 1 };
            most = most.max(done);
            if attempt >= MAX_ATTEMPTS {
                let reference = self.subject.reference;
                let error = gave_up(&self.remote.file, &reason, done, reference, &partial);
                return Err(Failure::new(FailureKind::Unreachable, error));
            }
            let pause = self.retry_pause * (1 << (attempt - 1));
            progress(Event::Retrying { reason: &reason, pause });
            std::thread::sleep(pause);
        }
        self.verify(&partial)?;
        let blob = self.cache.blob(&self.remote.etag);
        fs::rename(&partial, &blob).map_err(|e| unwritable(&blob, e).into())
    }

    /// Returns the number of bytes of an earlier download. A file that is too long is deleted.
    fn present(&self, partial: &Path) -> Result<u64, Failure> {
        let done = length(partial)?;
        // Without a size nothing says whether the file is already complete.
        if done > 0 && self.remote.size.is_none_or(|size| done > size) {
            remove(partial)?;
            return Ok(0);
        }
        Ok(done)
    }

    fn url(&self) -> String {
        let repository = self.subject.reference.repository();
        let (commit, file) = (&self.remote.commit, encode(&self.remote.file, true));
        format!("/{repository}/resolve/{commit}/{file}")
    }

    /// Requests the bytes from `done` on and appends them to the file.
    fn transfer(
        &self,
        partial: &Path,
        done: u64,
        progress: &mut Progress<'_>,
    ) -> Result<Transfer, Failure> {
        let url = self.url();
        let answer = self.http.repeat(true, progress, || self.http.get(&url, done, self.subject));
        let answer = match answer {
            Ok(answer) => answer,
            Err(failure) if failure.kind == FailureKind::Unreachable => {
                return Ok(Transfer::Interrupted(failure.error.to_string()));
            }
            Err(failure) => return Err(failure),
        };
        let from = match first_byte(&answer, done) {
            Some(from) => from,
            // The server has nothing from there on, or something else: what is here is of no use.
            None => {
                remove(partial)?;
                return Ok(Transfer::Interrupted("the server has other bytes".to_owned()));
            }
        };
        let mut file = open(partial, from)?;
        if from < done {
            progress(Event::Advanced { bytes: from });
        }
        self.copy(answer, &mut file, from, partial, progress)
    }

    fn copy(
        &self,
        answer: Answer,
        file: &mut File,
        from: u64,
        partial: &Path,
        progress: &mut Progress<'_>,
    ) -> Result<Transfer, Failure> {
        let limit = self.remote.size.unwrap_or(MAX_UNSTATED);
        let mut body = answer.reader(u64::MAX);
        let (mut done, mut buffer) = (from, vec![0; CHUNK]);
        loop {
            let count = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Ok(Transfer::Interrupted(e.to_string())),
            };
            if done + count as u64 > limit {
                remove(partial)?;
                return Err(self.too_long(limit));
            }
            file.write_all(&buffer[..count]).map_err(|e| unwritable(partial, e))?;
            done += count as u64;
            progress(Event::Advanced { bytes: done });
        }
        match self.remote.size {
            Some(size) if done < size => {
                Ok(Transfer::Interrupted(format!("the connection ended after {done} bytes")))
            }
            _ => {
                file.sync_all().map_err(|e| unwritable(partial, e))?;
                Ok(Transfer::Complete)
            }
        }
    }

    fn too_long(&self, limit: u64) -> Failure {
        let file = &self.remote.file;
        let error = match self.remote.size {
            Some(size) => error!(Weights, "`{file}` is longer than the {size} bytes announced"),
            None => {
                error!(Weights, "the hub states no size for `{file}`, and sends over {limit} bytes")
            }
        };
        self.discarded(error).into()
    }

    /// Compares the content with its hash, and deletes it if it is another.
    fn verify(&self, partial: &Path) -> Result<(), Failure> {
        let etag = &self.remote.etag;
        let Some(checksum) = Checksum::of_etag(etag) else {
            log::warn!(
                "{}: the hub states no hash of `{}`; only its size was checked",
                self.subject.reference,
                text::excerpt(&self.remote.file)
            );
            return Ok(());
        };
        let found = checksum.of_file(partial)?;
        if found == *etag {
            return Ok(());
        }
        remove(partial)?;
        let (file, name) = (&self.remote.file, checksum.name());
        let error = error!(Weights, "`{file}` is damaged: its {name} is {found}, not {etag}");
        Err(self.discarded(error).into())
    }

    fn discarded(&self, error: Error) -> Error {
        error
            .at(self.subject.reference.to_string())
            .advice("it was deleted; try again, and if it recurs, check HF_ENDPOINT and the proxy")
    }
}

/// Returns the position of the first byte of an answer to a request for the bytes from `done` on.
/// `None` if it does not continue what is present.
fn first_byte(answer: &Answer, done: u64) -> Option<u64> {
    match answer.status.as_u16() {
        206 => {
            // `bytes 100-199/200`; the number is that of the first byte sent.
            let range = answer.header("content-range")?.strip_prefix("bytes ")?;
            let from: u64 = range.split('-').next()?.trim().parse().ok()?;
            (from == done).then_some(from)
        }
        416 => None,
        // The whole file, from a server that knows no ranges.
        _ => Some(0),
    }
}

/// Opens a partial file to append to its first `from` bytes.
fn open(partial: &Path, from: u64) -> Result<File, Failure> {
    let failed = |e| unwritable(partial, e);
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(partial)
        .map_err(failed)?;
    file.set_len(from).map_err(failed)?;
    io::Seek::seek(&mut file, io::SeekFrom::Start(from)).map_err(failed)?;
    Ok(file)
}

fn length(path: &Path) -> Result<u64, Failure> {
    match fs::metadata(path) {
        Ok(meta) => Ok(meta.len()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(e) => Err(Error::io(path, "could not be read", e).into()),
    }
}

/// Removes a file that is of no use, if it exists.
pub(super) fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            let error = Error::new(ErrorKind::Io, "is damaged and could not be removed");
            Err(error.file(path).source(e).advice("remove it").into())
        }
        _ => Ok(()),
    }
}

/// Returns the path if its file has the size that the hub states; else removes it.
pub(super) fn undamaged(path: PathBuf, size: Option<u64>) -> Result<Option<PathBuf>, Failure> {
    let len = length(&path)?;
    if size.is_none_or(|size| size == len) {
        return Ok(Some(path));
    }
    log::warn!(
        "{}: has {len} bytes, not those of the hub; downloading it again",
        text::path(&path)
    );
    // The content, if this is a link to it.
    if let Ok(content) = fs::canonicalize(&path) {
        remove(&content)?;
    }
    remove(&path)?;
    Ok(None)
}
