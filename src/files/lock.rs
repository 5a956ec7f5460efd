//! One owner for a directory that a process keeps writing to.

use crate::error::{Error, Result, error};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// An exclusive lock on a directory, held until it is dropped or the process ends, however it ends.
///
/// The lock is the operating system's (`flock`, `LockFileEx`) on a file in the directory, so a dead process never keeps one. The file
/// holds the owner's process ID for messages, and stays after the lock is released: if it were deleted, two processes could each
/// lock a file of that name.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    /// Open for as long as the lock is held.
    _file: File,
}

impl DirectoryLock {
    /// Locks the directory `directory` by its file `name`, without waiting.
    ///
    /// Errors (`Usage`) where another process holds the lock: `directory` "`doing` by process N", for example "is being trained". Also
    /// where the file cannot be written, or the file system has no locks: two owners at once would lose data, so none is assumed.
    pub(crate) fn acquire(directory: &Path, name: &str, doing: &str) -> Result<Self> {
        let path = directory.join(name);
        super::refuse_special(&path, "a lock file")?;
        let failed = |e| Error::io(&path, "could not be locked", e);
        // Not truncated: until the lock is held, the content is somebody else's.
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let by = owner(&mut file).map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
                return Err(error!(Usage, "{doing} by {by}")
                    .file(directory)
                    .advice("wait until it ends, or name another directory"));
            }
            Err(TryLockError::Error(e)) => {
                return Err(failed(e).advice("this file system may not support locks; name a directory on a local disk"));
            }
        }
        let pid = format!("{}\n", std::process::id());
        file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).map_err(failed)?;
        file.write_all(pid.as_bytes()).and_then(|()| file.flush()).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

/// The process ID in a lock file. `None` where it holds none: its owner is just writing it, or (on Windows) nobody else may read it.
fn owner(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Removes temporary files that a killed process left in a directory. Only for the owner of its lock: to anybody else they may be files that
/// are being written.
///
/// `is_temporary` decides by the name. Errors name what could not be listed or removed.
pub(crate) fn sweep(_owned: &DirectoryLock, directory: &Path, is_temporary: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    let failed = |e| Error::io(directory, "could not be listed", e);
    let mut removed = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let is_ours = entry.file_name().to_str().is_some_and(&is_temporary);
        // Not `Path::is_file`: a link that bears such a name is not ours.
        if is_ours && entry.file_type().map_err(failed)?.is_file() {
            let path = entry.path();
            std::fs::remove_file(&path).map_err(|e| Error::io(&path, "could not be removed", e))?;
            removed.push(path);
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_second_owner_is_refused_with_the_first_ones_process_id() {
        let dir = tempfile::tempdir().unwrap();
        let first = DirectoryLock::acquire(dir.path(), "lock", "is being trained").unwrap();
        let error = DirectoryLock::acquire(dir.path(), "lock", "is being trained").unwrap_err().to_string();
        assert!(error.contains("is being trained by"), "{error}");
        #[cfg(unix)]
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        DirectoryLock::acquire(dir.path(), "lock", "is being trained").expect("released when it is dropped");
    }

    #[test]
    fn the_lock_of_a_dead_process_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        // A longer number than ours, so that the rest of it would show.
        fs::write(dir.path().join("lock"), "4294967295\n").unwrap();
        let _owned = DirectoryLock::acquire(dir.path(), "lock", "is in use").unwrap();
        #[cfg(unix)]
        assert_eq!(fs::read_to_string(dir.path().join("lock")).unwrap(), format!("{}\n", std::process::id()));
    }

    #[test]
    fn only_temporary_files_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        for name in [".atrous-1.tmp", "keep.png"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        fs::create_dir(dir.path().join(".atrous-2.tmp")).unwrap();
        let owned = DirectoryLock::acquire(dir.path(), "lock", "is in use").unwrap();
        let removed = sweep(&owned, dir.path(), |name| name.starts_with(".atrous-")).unwrap();
        assert_eq!(removed, [dir.path().join(".atrous-1.tmp")]);
        assert!(dir.path().join("keep.png").exists() && dir.path().join(".atrous-2.tmp").is_dir());
    }
}
