//! Registry of this process's temporary files, so that an exit without destructors can remove them.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tempfile::{NamedTempFile, TempDir};

static LIVE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn live() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    // The set is consistent after every step, so a panic elsewhere does not corrupt it.
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The registry entry of a temporary file; dropping it removes the entry, not the file.
#[derive(Debug)]
pub(crate) struct Registered(PathBuf);

impl Drop for Registered {
    fn drop(&mut self) {
        live().remove(&self.0);
    }
}

/// Creates a temporary file with `make` and registers it. The registry stays locked meanwhile, so
/// that [`remove_temporaries`] misses no file.
pub(crate) fn create(
    make: impl FnOnce() -> io::Result<NamedTempFile>,
) -> io::Result<(NamedTempFile, Registered)> {
    let mut live = live();
    let file = make()?;
    let path = file.path().to_owned();
    live.insert(path.clone());
    Ok((file, Registered(path)))
}

/// As [`create`], for a directory.
pub(crate) fn create_directory(
    make: impl FnOnce() -> io::Result<TempDir>,
) -> io::Result<(TempDir, Registered)> {
    let mut live = live();
    let directory = make()?;
    let path = directory.path().to_owned();
    live.insert(path.clone());
    Ok((directory, Registered(path)))
}

/// Removes all registered files and prevents new ones from being created. Only for a process that
/// is about to exit.
#[cfg(feature = "cli")]
pub(crate) fn remove_temporaries() {
    // On a hanging file system, creating a file holds the lock forever. Do not wait for that on
    // exit.
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
        // It may already have been renamed, or be a directory.
        if std::fs::remove_file(path).is_err() {
            let _ = std::fs::remove_dir_all(path);
        }
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
