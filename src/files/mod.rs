//! Reading and writing files: never half of one, never more than a limit, never over somebody
//! else's.

pub(crate) mod json_path;
mod lock;
mod pattern;
mod read;
mod temporary;

pub(crate) use lock::{DirectoryLock, sweep};
pub(crate) use pattern::{is_pattern, is_read, matching};
pub(crate) use read::{
    BYTE_ORDER_MARK, open_regular, read_bytes, read_text, read_text_at_most, refuse_special,
};
#[cfg(feature = "cli")]
pub(crate) use temporary::remove_temporaries;

use crate::error::{Error, Result, error};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Writes a file through a temporary one in the same directory, which then takes the name.
///
/// Whoever reads `path` sees the old content or the whole new content, also where the program is
/// stopped in between or the disk is full. A symbolic link keeps pointing where it does: its target
/// is replaced. What is not a regular file (a pipe, `/dev/stdout`, `/dev/null`) cannot be replaced
/// by a rename and is written to directly. The data is not flushed to the disk (`fsync`): that a
/// power cut may cost the newest images is fine, waiting for the disk after each of them is not.
///
/// Errors: the directory does not exist, `path` is a directory, no permission, disk full, or
/// whatever `write` returns; each names `path`.
pub fn atomic_write(
    path: impl AsRef<Path>,
    write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> Result<()> {
    let path = path.as_ref();
    let staged = Staged::create(path, ".tmp")?;
    fill(staged.file(), write).map_err(|e| Error::io(path, "could not be written", e))?;
    staged.commit()
}

/// As [`atomic_write`], for files whose loss costs hours: the data is flushed to the disk before
/// the file takes its name, and the directory after it. So after a power cut `path` has the whole
/// old content or the whole new content.
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

/// A file in the making, as [`atomic_write`] makes them, for what is written bit by bit: it takes
/// its name with [`Staged::commit`], and is gone when it is dropped before.
#[derive(Debug)]
pub(crate) struct Staged {
    path: PathBuf,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// No regular file: written to directly.
    Direct(File),
    /// A temporary file, the name that it will take, and its entry among those that a forced exit
    /// removes.
    Temporary(tempfile::NamedTempFile, PathBuf, temporary::Registered),
}

impl Staged {
    /// Begins the file `path`. The temporary file's name ends in `ending`.
    pub(crate) fn create(path: &Path, ending: &str) -> Result<Self> {
        let failed = |e| Error::io(path, "could not be written", e);
        let target = match fs::metadata(path) {
            Ok(meta) if meta.is_dir() => {
                return Err(error!(Io, "is a directory; give the name of a file").file(path));
            }
            Ok(meta) if !meta.is_file() => {
                let file = OpenOptions::new().write(true).open(path).map_err(failed)?;
                return Ok(Self { path: path.to_owned(), place: Place::Direct(file) });
            }
            Ok(_) => fs::canonicalize(path).map_err(failed)?,
            Err(_) => path.to_path_buf(),
        };
        let directory = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
            _ => PathBuf::from("."),
        };
        if !directory.is_dir() {
            return Err(error!(Io, "there is no directory `{}`", directory.display())
                .file(path)
                .advice("create the directory first"));
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(".atrous-").suffix(ending);
        // A temporary file is private by default; the finished one must be as readable as any other
        // (the umask still applies).
        #[cfg(unix)]
        let builder = {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o666))
        };
        let (temporary, entry) =
            temporary::create(|| builder.tempfile_in(&directory)).map_err(failed)?;
        Ok(Self { path: path.to_owned(), place: Place::Temporary(temporary, target, entry) })
    }

    /// The file's name at the end.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What to write to.
    pub(crate) fn file(&self) -> &File {
        match &self.place {
            Place::Direct(file) => file,
            Place::Temporary(temporary, ..) => temporary.as_file(),
        }
    }

    /// Where the bytes go by name, for another program to write them.
    pub(crate) fn written_path(&self) -> &Path {
        match &self.place {
            Place::Direct(_) => &self.path,
            Place::Temporary(temporary, ..) => temporary.path(),
        }
    }

    /// Gives the file its name once its data is on the disk, and waits until the name is there too.
    pub(crate) fn commit_durably(self) -> Result<()> {
        let failed = |e| Error::io(&self.path, "could not be written", e);
        if let Place::Temporary(temporary, target, _) = &self.place {
            temporary.as_file().sync_all().map_err(failed)?;
            let directory = target
                .parent()
                .filter(|p| !p.as_os_str().is_empty())
                .unwrap_or(Path::new("."))
                .to_owned();
            let path = self.path.clone();
            self.commit()?;
            return sync_directory(&directory)
                .map_err(|e| Error::io(path, "was written, but may not outlive a power cut", e));
        }
        self.commit()
    }

    /// Gives the file its name.
    pub(crate) fn commit(self) -> Result<()> {
        if let Place::Temporary(temporary, target, _entry) = self.place {
            temporary
                .persist(target)
                .map_err(|e| Error::io(&self.path, "could not be written", e.error))?;
        }
        Ok(())
    }
}

/// Waits until the names in a directory are on the disk.
#[cfg(unix)]
fn sync_directory(directory: &Path) -> io::Result<()> {
    match File::open(directory)?.sync_all() {
        // Some network file systems cannot flush a directory; they keep names in an order of their
        // own.
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => Ok(()),
        done => done,
    }
}

/// Elsewhere the rename itself is flushed (Windows: directories cannot be opened for it).
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
            error.to_string().contains("a.png")
                && error.to_string().contains("create the directory"),
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
