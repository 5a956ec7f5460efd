//! Locks that keep two processes from downloading the same file at the same time.

use super::cache::create_parent;
use crate::error::{Error, Result};
use crate::files::{is_at, refuse_special};
use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::time::Duration;

/// Interval between attempts to lock.
const POLL: Duration = Duration::from_millis(100);

/// An operating system lock on a file of the cache, as Python's client holds it, released when it
/// is dropped or the process ends.
///
/// Contents are renamed into place and verified before, so a file system without locks costs a
/// second download, not a damaged file.
#[derive(Debug)]
pub(super) struct DownloadLock {
    _file: File,
}

impl DownloadLock {
    /// Waits for the lock. `on_wait` is called once if another process holds it.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn acquire(path: &Path, on_wait: &mut dyn FnMut()) -> Result<Self> {
        create_parent(path)?;
        let failed = |e| Error::io(path, "could not be locked", e);
        let mut is_waiting = false;
        loop {
            refuse_special(path, "a lock file")?;
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
                .map_err(failed)?;
            match file.try_lock() {
                // A lock on a file that was removed after it was opened excludes nobody.
                Ok(()) if is_at(&file, path) => return Ok(Self { _file: file }),
                Ok(()) => continue,
                Err(TryLockError::WouldBlock) => {
                    if !is_waiting {
                        on_wait();
                        is_waiting = true;
                    }
                    std::thread::sleep(POLL);
                }
                Err(TryLockError::Error(e)) => {
                    log::warn!(
                        "{}: the file system supports no locks ({e}); do not download the same \
                         file twice at once",
                        crate::text::path(path)
                    );
                    return Ok(Self { _file: file });
                }
            }
        }
    }
}
