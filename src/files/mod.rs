//! Reading and writing files: atomic writes, reads with a size limit, and locks on directories.

mod directory;
mod fifo;
pub(crate) mod json_path;
mod lock;
mod pattern;
mod read;
mod temporary;

pub(crate) use directory::NewDirectory;
#[cfg(feature = "cli")]
pub(crate) use fifo::interrupt;
pub(crate) use lock::{DirectoryLock, is_at, remove_stale_temporaries};
pub(crate) use pattern::{glob_files, is_input_file, is_pattern};
pub(crate) use read::{
    BYTE_ORDER_MARK, open_regular, read_bytes, read_text, read_text_at_most, refuse_special,
};
#[cfg(feature = "cli")]
pub(crate) use temporary::remove_temporaries;

use crate::error::{Error, Result, error};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Writes a file atomically: through a temporary file in the same directory that is then renamed.
///
/// Readers of `path` see either the old content or the complete new content, even if the program is
/// stopped or the disk is full. A symbolic link is preserved and its target is replaced. Files that
/// are not regular (a pipe, `/dev/stdout`, `/dev/null`) cannot be replaced by a rename and are
/// written to directly. The data is not flushed to disk (`fsync`): losing the latest images in a
/// power failure is acceptable, waiting for the disk after each image is not.
///
/// # Errors
/// Returns an error with `path` if the directory does not exist, `path` is a directory, permission
/// is denied, the disk is full, or `write` fails.
pub fn atomic_write(
    path: impl AsRef<Path>,
    write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> Result<()> {
    let path = path.as_ref();
    let staged = Staged::create(path, ".tmp")?;
    fill(staged.file(), write).map_err(|e| Error::io(path, "could not be written", e))?;
    staged.commit()
}

/// Like [`atomic_write`], for files whose loss would cost hours: the data is flushed to disk before
/// the rename, and the directory after it. So after a power failure `path` has either the old
/// content or the complete new content.
pub(crate) fn durable_write(
    path: impl AsRef<Path>,
    write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> Result<()> {
    let path = path.as_ref();
    let staged = Staged::create(path, ".tmp")?;
    fill(staged.file(), write).map_err(|e| Error::io(path, "could not be written", e))?;
    staged.commit_durably()
}

fn fill(
    file: &File,
    write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> io::Result<()> {
    let mut writer = BufWriter::with_capacity(1 << 16, file);
    write(&mut writer)?;
    writer.flush()
}

/// A file that is written incrementally and, like that of [`atomic_write`], renamed to its final
/// name by [`Staged::commit`]. It is removed if dropped before.
#[derive(Debug)]
pub(crate) struct Staged {
    path: PathBuf,
    target: Target,
}

#[derive(Debug)]
enum Target {
    /// Not a regular file: written to directly.
    Direct(File),
    /// A temporary file, its final name, and its entry in the list of files that a forced exit
    /// removes.
    Temporary(tempfile::NamedTempFile, PathBuf, temporary::Registered),
}

impl Staged {
    /// Creates the temporary file for `path`, with a name that ends in `suffix`.
    pub(crate) fn create(path: &Path, suffix: &str) -> Result<Self> {
        let failed = |e| Error::io(path, "could not be written", e);
        let target = match fs::metadata(path) {
            Ok(meta) if meta.is_dir() => {
                return Err(error!(Io, "is a directory; give a file name").file(path));
            }
            Ok(meta) if !meta.is_file() => {
                let file = fifo::open(path).map_err(failed)?;
                return Ok(Self { path: path.to_owned(), target: Target::Direct(file) });
            }
            Ok(_) => fs::canonicalize(path).map_err(failed)?,
            Err(_) => path.to_path_buf(),
        };
        let directory = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
            _ => PathBuf::from("."),
        };
        if !directory.is_dir() {
            return Err(error!(Io, "directory `{}` does not exist", directory.display())
                .file(path)
                .advice("create it first"));
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(".atrous-").suffix(suffix);
        // Temporary files are private by default; the final file must have normal permissions (the
        // umask still applies).
        #[cfg(unix)]
        let builder = {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o666))
        };
        let (temporary, entry) =
            temporary::create(|| builder.tempfile_in(&directory)).map_err(failed)?;
        Ok(Self { path: path.to_owned(), target: Target::Temporary(temporary, target, entry) })
    }

    /// Returns the final path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the open file.
    pub(crate) fn file(&self) -> &File {
        match &self.target {
            Target::Direct(file) => file,
            Target::Temporary(temporary, ..) => temporary.as_file(),
        }
    }

    /// Returns the path that is written to, for use by another program.
    pub(crate) fn written_path(&self) -> &Path {
        match &self.target {
            Target::Direct(_) => &self.path,
            Target::Temporary(temporary, ..) => temporary.path(),
        }
    }

    /// Flushes the data to disk, renames the file to its final name, and flushes the directory.
    pub(crate) fn commit_durably(self) -> Result<()> {
        let failed = |e| Error::io(&self.path, "could not be written", e);
        if let Target::Temporary(temporary, target, _) = &self.target {
            temporary.as_file().sync_all().map_err(failed)?;
            let directory = target
                .parent()
                .filter(|p| !p.as_os_str().is_empty())
                .unwrap_or(Path::new("."))
                .to_owned();
            let path = self.path.clone();
            self.commit()?;
            return sync_directory(&directory).map_err(|e| {
                Error::io(path, "was written, but may not survive a power failure", e)
            });
        }
        self.commit()
    }

    /// Renames the file to its final name.
    pub(crate) fn commit(self) -> Result<()> {
        if let Target::Temporary(temporary, target, _entry) = self.target {
            temporary
                .persist(target)
                .map_err(|e| Error::io(&self.path, "could not be written", e.error))?;
        }
        Ok(())
    }
}

/// Flushes the entries of a directory to disk.
#[cfg(unix)]
fn sync_directory(directory: &Path) -> io::Result<()> {
    match File::open(directory)?.sync_all() {
        // Some network file systems cannot flush a directory and have their own ordering
        // guarantees.
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => Ok(()),
        result => result,
    }
}

/// Elsewhere the rename itself is durable (on Windows directories cannot be opened for flushing).
#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

impl Write for Staged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        fs::read_dir(directory)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn the_old_file_stays_whole_when_writing_fails() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.bin");
        atomic_write(&path, |w| w.write_all(b"old")).unwrap();
        let error = atomic_write(&path, |w| {
            w.write_all(b"half of the new")?;
            Err(io::Error::other("disk full"))
        })
        .unwrap_err();
        assert!(
            error.to_string().contains("a.bin") && error.to_string().contains("disk full"),
            "{error}"
        );
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(directory.path()), ["a.bin"], "the temporary file must be gone");
        atomic_write(&path, |w| w.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn directories_and_missing_directories_are_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let error = atomic_write(directory.path(), |_| Ok(())).unwrap_err();
        assert!(error.to_string().contains("is a directory"), "{error}");
        let error = atomic_write(directory.path().join("no/such/a.png"), |_| Ok(())).unwrap_err();
        assert!(
            error.to_string().contains("a.png") && error.to_string().contains("create it first"),
            "{error}"
        );
    }

    #[test]
    fn a_durable_write_replaces_the_old_file_and_leaves_nothing_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("checkpoint.bin");
        for content in [&b"old"[..], b"new"] {
            durable_write(&path, |w| w.write_all(content)).unwrap();
            assert_eq!(fs::read(&path).unwrap(), content);
        }
        assert_eq!(names(directory.path()), ["checkpoint.bin"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_device_is_written_to_and_not_replaced() {
        use std::os::unix::fs::FileTypeExt;
        atomic_write("/dev/null", |w| w.write_all(b"gone")).unwrap();
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_keeps_pointing_and_the_mode_follows_the_umask() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let directory = tempfile::tempdir().unwrap();
        let (target, link, plain) = (
            directory.path().join("target"),
            directory.path().join("link"),
            directory.path().join("plain"),
        );
        fs::write(&target, b"old").unwrap();
        fs::write(&plain, b"").unwrap();
        symlink(&target, &link).unwrap();
        atomic_write(&link, |w| w.write_all(b"new")).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().file_type().is_symlink());
        assert_eq!(fs::read(&target).unwrap(), b"new");
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode();
        assert_eq!(mode(&target), mode(&plain), "as readable as a file written the plain way");
    }
}
