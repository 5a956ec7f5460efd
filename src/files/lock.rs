//! Exclusive locks on directories.

use crate::error::{Error, Result, error};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// An exclusive lock on a directory, released when it is dropped or the process ends for any
/// reason.
///
/// It is an operating system lock (`flock`, `LockFileEx`) on a file in the directory, so a dead
/// process never keeps one. The file contains the owner's process ID for messages. It is kept after
/// the lock is released: if it were deleted, two processes could each lock a file of that name.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    /// Open as long as the lock is held.
    _file: File,
    path: PathBuf,
    is_new: bool,
}

/// Maximum number of attempts to open a lock file that its previous owner removes before it is
/// locked.
const MAX_ATTEMPTS: usize = 64;

impl DirectoryLock {
    /// Locks `directory` through its file `name`, without waiting.
    ///
    /// `activity` describes what the lock is for in the error, which reads "`activity` by process
    /// N", for example "is being trained by process 5".
    ///
    /// # Errors
    /// Returns an error of kind `Usage` if another process holds the lock. Returns an error if
    /// the file cannot be written or the file system does not support locks, because two owners
    /// at once would lose data.
    pub(crate) fn acquire(directory: &Path, name: &str, activity: &str) -> Result<Self> {
        let path = directory.join(name);
        let failed = |e| Error::io(&path, "could not be locked", e);
        for _ in 0..MAX_ATTEMPTS {
            super::refuse_special(&path, "a lock file")?;
            refuse_link(&path)?;
            let (mut file, is_new) = open(&path).map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let owner = owner(&mut file).map_or_else(
                        || "another process".to_owned(),
                        |pid| format!("process {pid}"),
                    );
                    return Err(error!(Usage, "{activity} by {owner}")
                        .file(directory)
                        .advice("wait until it ends, or use another directory"));
                }
                Err(TryLockError::Error(e)) => {
                    return Err(failed(e).advice(
                        "this file system may not support locks; use a directory on a local disk",
                    ));
                }
            }
            // A lock on a file that was removed after it was opened excludes nobody.
            if !is_at(&file, &path) {
                continue;
            }
            if !is_lock(&mut file).map_err(failed)? {
                return Err(error!(Usage, "is not a lock file of this program")
                    .file(&path)
                    .advice("rename the file, or name another directory"));
            }
            let pid = format!("{}\n", std::process::id());
            file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).map_err(failed)?;
            file.write_all(pid.as_bytes()).and_then(|()| file.flush()).map_err(failed)?;
            return Ok(Self { _file: file, path, is_new });
        }
        Err(error!(Io, "could not be locked: the file is removed repeatedly").file(&path))
    }

    /// Releases the lock and removes the file if [`DirectoryLock::acquire`] created it, for an
    /// owner that leaves the directory unchanged.
    pub(crate) fn undo(self) {
        if self.is_new {
            // Removed while still locked, so that processes that opened it before can detect this.
            // A file that cannot be removed is harmless.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Refuses links, symbolic and hard: writing the process ID would change a file elsewhere.
fn refuse_link(path: &Path) -> Result<()> {
    let Ok(meta) = std::fs::symlink_metadata(path) else { return Ok(()) };
    #[cfg(unix)]
    let linked = meta.is_symlink() || std::os::unix::fs::MetadataExt::nlink(&meta) > 1;
    #[cfg(not(unix))]
    let linked = meta.is_symlink();
    if linked {
        return Err(error!(Usage, "is a link, not a lock file of this program")
            .file(path)
            .advice("remove the link, or name another directory"));
    }
    Ok(())
}

/// Whether the content is that of a lock file: nothing, or a process ID.
fn is_lock(file: &mut File) -> std::io::Result<bool> {
    const LONGEST: u64 = 16;
    file.seek(SeekFrom::Start(0))?;
    let mut content = Vec::new();
    Read::take(&mut *file, LONGEST + 1).read_to_end(&mut content)?;
    let digits = content.trim_ascii_end();
    Ok(content.len() as u64 <= LONGEST && digits.iter().all(u8::is_ascii_digit))
}

/// Opens the lock file and returns whether it is new. It is not truncated, because its content
/// belongs to the owner of the lock.
fn open(path: &Path) -> std::io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    match options.clone().create_new(true).open(path) {
        Ok(file) => Ok((file, true)),
        // Created if it was removed in between.
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            options.create(true).truncate(false).open(path).map(|file| (file, false))
        }
        Err(e) => Err(e),
    }
}

/// Returns whether `path` still refers to the open file.
#[cfg(unix)]
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |meta: &std::fs::Metadata| (meta.dev(), meta.ino());
    matches!((file.metadata(), std::fs::metadata(path)), (Ok(open), Ok(named)) if id(&open) == id(&named))
}

/// Elsewhere there is no file number to compare: an existing file is assumed to be the same.
#[cfg(not(unix))]
pub(crate) fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

/// Reads the process ID from a lock file. `None` if it contains none, or (on Windows) only its
/// owner may read it.
fn owner(file: &mut File) -> Option<u32> {
    // An owner that has just locked the file writes its ID shortly after; until then the file
    // contains none, or that of the previous owner.
    (0..20).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        let mut text = String::new();
        file.seek(SeekFrom::Start(0)).ok()?;
        Read::take(&mut *file, 16).read_to_string(&mut text).ok()?;
        text.trim().parse().ok()
    })
}

/// Removes temporary files that a killed process left in a directory. Only the owner of the lock
/// may do this: for anyone else they may be files being written.
///
/// `is_temporary` decides by file name. Returns the removed files.
///
/// # Errors
/// Returns an error if the directory cannot be listed or a file cannot be removed.
pub(crate) fn remove_stale_temporaries(
    _lock: &DirectoryLock,
    directory: &Path,
    is_temporary: impl Fn(&str) -> bool,
) -> Result<Vec<PathBuf>> {
    let failed = |e| Error::io(directory, "could not be listed", e);
    let mut removed = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let is_ours = entry.file_name().to_str().is_some_and(&is_temporary);
        // Not `Path::is_file`, which follows links: a link with such a name is not ours.
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
        let error =
            DirectoryLock::acquire(dir.path(), "lock", "is being trained").unwrap_err().to_string();
        assert!(error.contains("is being trained by"), "{error}");
        #[cfg(unix)]
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        DirectoryLock::acquire(dir.path(), "lock", "is being trained")
            .expect("released when it is dropped");
    }

    #[test]
    fn the_lock_of_a_dead_process_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        // Longer than our ID, so that leftover digits would show.
        fs::write(dir.path().join("lock"), "4294967295\n").unwrap();
        let _owned = DirectoryLock::acquire(dir.path(), "lock", "is in use").unwrap();
        #[cfg(unix)]
        assert_eq!(
            fs::read_to_string(dir.path().join("lock")).unwrap(),
            format!("{}\n", std::process::id())
        );
    }

    /// A user's file of that name, or one that a link leads to, would lose its content.
    #[test]
    fn what_is_not_a_lock_file_keeps_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let lock = dir.path().join("lock");
        let refused = || DirectoryLock::acquire(dir.path(), "lock", "is in use").unwrap_err();
        for content in ["steps = 1\n", "12345678901234567890\n", "1 2\n"] {
            fs::write(&lock, content).unwrap();
            assert!(refused().to_string().contains("is not a lock file"), "{content:?}");
            assert_eq!(fs::read_to_string(&lock).unwrap(), content);
        }
        #[cfg(unix)]
        {
            let other = dir.path().join("keep.txt");
            fs::write(&other, "77").unwrap();
            fs::remove_file(&lock).unwrap();
            std::os::unix::fs::symlink("keep.txt", &lock).unwrap();
            assert!(refused().to_string().contains("is a link"));
            fs::remove_file(&lock).unwrap();
            fs::hard_link(&other, &lock).unwrap();
            assert!(refused().to_string().contains("is a link"));
            fs::remove_file(&lock).unwrap();
            std::os::unix::fs::symlink("new.txt", &lock).unwrap();
            assert!(refused().to_string().contains("is a link"));
            assert!(!dir.path().join("new.txt").exists(), "nothing is created outside");
            assert_eq!(fs::read_to_string(&other).unwrap(), "77");
        }
    }

    #[test]
    fn a_lock_that_is_undone_leaves_the_directory_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        DirectoryLock::acquire(dir.path(), "lock", "is in use").unwrap().undo();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        drop(DirectoryLock::acquire(dir.path(), "lock", "is in use").unwrap());
        DirectoryLock::acquire(dir.path(), "lock", "is in use").unwrap().undo();
        assert!(dir.path().join("lock").exists(), "it was there before");
    }

    /// Threads lock, check that they are the only owner, and remove the file. Only the comparison
    /// of the file with its name makes this exclusive.
    #[test]
    fn a_lock_on_a_removed_file_is_not_taken_for_one() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let dir = tempfile::tempdir().unwrap();
        let (owners, locked) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        if let Ok(lock) = DirectoryLock::acquire(dir.path(), "lock", "is in use") {
                            assert_eq!(
                                owners.fetch_add(1, Ordering::SeqCst),
                                0,
                                "two owners at once"
                            );
                            locked.fetch_add(1, Ordering::SeqCst);
                            owners.fetch_sub(1, Ordering::SeqCst);
                            lock.undo();
                        }
                    }
                });
            }
        });
        assert!(locked.into_inner() > 0);
    }

    #[test]
    fn only_temporary_files_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        for name in [".atrous-1.tmp", "keep.png"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        fs::create_dir(dir.path().join(".atrous-2.tmp")).unwrap();
        let owned = DirectoryLock::acquire(dir.path(), "lock", "is in use").unwrap();
        let removed =
            remove_stale_temporaries(&owned, dir.path(), |name| name.starts_with(".atrous-"))
                .unwrap();
        assert_eq!(removed, [dir.path().join(".atrous-1.tmp")]);
        assert!(dir.path().join("keep.png").exists() && dir.path().join(".atrous-2.tmp").is_dir());
    }
}
