//! One owner for a directory that a process keeps writing to.

use crate::error::{Error, Result, error};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// An exclusive lock on a directory, held until it is dropped or the process ends, however it ends.
///
/// The lock is the operating system's (`flock`, `LockFileEx`) on a file in the directory, so a dead
/// process never keeps one. The file holds the owner's process ID for messages, and stays after the
/// lock is released: if it were deleted, two processes could each lock a file of that name.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    /// Open for as long as the lock is held.
    _file: File,
    path: PathBuf,
    is_new: bool,
}

/// How often a lock file is opened anew that its last owner removed before it could be locked.
const TRIES: usize = 64;

impl DirectoryLock {
    /// Locks the directory `directory` by its file `name`, without waiting.
    ///
    /// Errors (`Usage`) where another process holds the lock: `directory` "`doing` by process N",
    /// for example "is being trained". Also where the file cannot be written, or the file system
    /// has no locks: two owners at once would lose data, so none is assumed.
    pub(crate) fn acquire(directory: &Path, name: &str, doing: &str) -> Result<Self> {
        let path = directory.join(name);
        let failed = |e| Error::io(&path, "could not be locked", e);
        for _ in 0..TRIES {
            super::refuse_special(&path, "a lock file")?;
            refuse_link(&path)?;
            let (mut file, is_new) = open(&path).map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let by = owner(&mut file).map_or_else(
                        || "another process".to_owned(),
                        |pid| format!("process {pid}"),
                    );
                    return Err(error!(Usage, "{doing} by {by}")
                        .file(directory)
                        .advice("wait until it ends, or name another directory"));
                }
                Err(TryLockError::Error(e)) => {
                    return Err(failed(e).advice(
                        "this file system may not support locks; name a directory on a local disk",
                    ));
                }
            }
            // A lock on a file that was removed since it was opened keeps nobody out.
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
        Err(error!(Io, "could not be locked: it is removed again and again").file(&path))
    }

    /// Releases the lock, and removes the file where [`DirectoryLock::acquire`] made it: for an
    /// owner that leaves the directory as it was.
    pub(crate) fn undo(self) {
        if self.is_new {
            // Removed while it is still locked, so that whoever opened it before finds out. A file
            // that stays is no more than untidy.
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

/// The lock file, and whether it is new. Not truncated: until the lock is held, the content is
/// somebody else's.
fn open(path: &Path) -> std::io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    match options.clone().create_new(true).open(path) {
        Ok(file) => Ok((file, true)),
        // Removed in between, it is made after all.
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            options.create(true).truncate(false).open(path).map(|file| (file, false))
        }
        Err(e) => Err(e),
    }
}

/// Whether `path` is still the name of an open file.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |meta: &std::fs::Metadata| (meta.dev(), meta.ino());
    matches!((file.metadata(), std::fs::metadata(path)), (Ok(open), Ok(named)) if id(&open) == id(&named))
}

/// Elsewhere files have no number to compare: one that is there is taken for the same one.
#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

/// The process ID in a lock file. `None` where it holds none, or (on Windows) nobody else may read
/// it.
fn owner(file: &mut File) -> Option<u32> {
    // An owner that has just locked the file writes its ID in a moment; until then there is none,
    // or that of the owner before.
    (0..20).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        let mut text = String::new();
        file.seek(SeekFrom::Start(0)).ok()?;
        Read::take(&mut *file, 16).read_to_string(&mut text).ok()?;
        text.trim().parse().ok()
    })
}

/// Removes temporary files that a killed process left in a directory. Only for the owner of its
/// lock: to anybody else they may be files that are being written.
///
/// `is_temporary` decides by the name. Errors name what could not be listed or removed.
pub(crate) fn sweep(
    _owned: &DirectoryLock,
    directory: &Path,
    is_temporary: impl Fn(&str) -> bool,
) -> Result<Vec<PathBuf>> {
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
        // A longer number than ours, so that the rest of it would show.
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

    /// Threads that lock, look whether they are alone, and remove the file: comparing the file with
    /// its name is what keeps them apart.
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
        let removed = sweep(&owned, dir.path(), |name| name.starts_with(".atrous-")).unwrap();
        assert_eq!(removed, [dir.path().join(".atrous-1.tmp")]);
        assert!(dir.path().join("keep.png").exists() && dir.path().join(".atrous-2.tmp").is_dir());
    }
}
