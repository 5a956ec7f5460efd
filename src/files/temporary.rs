//! The temporary files of this process, so that an exit without destructors removes them too.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tempfile::NamedTempFile;

static LIVE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn live() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    // A set of paths is whole after every step, so a panic elsewhere does not damage it.
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The entry of one temporary file; dropping it removes the entry, not the file.
#[derive(Debug)]
pub(crate) struct Registered(PathBuf);

impl Drop for Registered {
    fn drop(&mut self) {
        live().remove(&self.0);
    }
}

/// Creates a temporary file with `make` and registers it. The set stays locked in between: a file
/// that [`remove_temporaries`] does not know of is never left behind.
pub(crate) fn create(
    make: impl FnOnce() -> io::Result<NamedTempFile>,
) -> io::Result<(NamedTempFile, Registered)> {
    let mut live = live();
    let file = make()?;
    let path = file.path().to_owned();
    live.insert(path.clone());
    Ok((file, Registered(path)))
}

/// Removes every registered file, and keeps others from being created. Only for a process that ends
/// right after it.
#[cfg(feature = "cli")]
pub(crate) fn remove_temporaries() {
    // On a file system that hangs, whoever creates a file holds the lock for ever; the exit does
    // not wait for that.
    for _ in 0..100 {
        match LIVE.try_lock() {
            Ok(live) => {
                remove(&live);
                std::mem::forget(live);
                return;
            }
            Err(std::sync::TryLockError::Poisoned(live)) => return remove(&live.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => {
                std::thread::sleep(std::time::Duration::from_millis(10))
            }
        }
    }
}

#[cfg(feature = "cli")]
fn remove(paths: &BTreeSet<PathBuf>) {
    for path in paths {
        // It may have got its final name already.
        let _ = std::fs::remove_file(path);
    }
}

#[cfg(all(test, feature = "cli"))]
mod tests {
    use super::*;

    #[test]
    fn temporary_files_are_known_from_their_creation_to_their_end() {
        let directory = tempfile::tempdir().unwrap();
        let (file, entry) = create(|| NamedTempFile::new_in(directory.path())).unwrap();
        let path = file.path().to_owned();
        assert!(live().contains(&path));
        remove(&BTreeSet::from([path.clone(), directory.path().join("renamed meanwhile")]));
        assert!(!path.exists());
        drop(entry);
        assert!(!live().contains(&path));
    }
}
