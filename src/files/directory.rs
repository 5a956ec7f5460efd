//! Directories that appear under their name when they are complete.

use super::temporary;
use crate::error::{Error, Result, error};
use std::fs;
use std::path::{Path, PathBuf};

/// A directory that is filled under a temporary name beside its final one, and removed if dropped
/// before [`NewDirectory::commit`].
#[derive(Debug)]
pub(crate) struct NewDirectory {
    path: PathBuf,
    temporary: tempfile::TempDir,
    _entry: temporary::Registered,
}

impl NewDirectory {
    /// Creates the temporary directory.
    ///
    /// # Errors
    /// Returns an error with `path` if it exists and is not an empty directory, or if its parent
    /// does not exist or cannot be written.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let failed = |e| Error::io(path, "could not be written", e);
        if fs::symlink_metadata(path).is_ok() {
            let is_empty = path.is_dir() && fs::read_dir(path).map_err(failed)?.next().is_none();
            if !is_empty {
                return Err(error!(Io, "already exists and is not an empty directory")
                    .file(path)
                    .advice("name a new directory"));
            }
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        if !parent.is_dir() {
            return Err(error!(Io, "directory `{}` does not exist", parent.display())
                .file(path)
                .advice("create it first"));
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(".atrous-").suffix(".tmp");
        // Private by default; the final directory has normal permissions.
        #[cfg(unix)]
        let builder = {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o777))
        };
        let (temporary, entry) =
            temporary::create_directory(|| builder.tempdir_in(parent)).map_err(failed)?;
        Ok(Self { path: path.to_owned(), temporary, _entry: entry })
    }

    /// Returns the path under which it is filled.
    pub(crate) fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Gives the directory its final name.
    ///
    /// # Errors
    /// Returns an error with the path if another program created it meanwhile.
    pub(crate) fn commit(self) -> Result<()> {
        let failed = |e| Error::io(&self.path, "could not be written", e);
        // An empty directory is replaced by the rename on Unix alone.
        if cfg!(not(unix)) && self.path.is_dir() {
            fs::remove_dir(&self.path).map_err(failed)?;
        }
        fs::rename(self.temporary.path(), &self.path).map_err(failed)?;
        // Under this name there is nothing left to remove.
        let _ = self.temporary.keep();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_appears_when_it_is_complete_and_replaces_only_an_empty_one() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("out");
        fs::create_dir(&path).unwrap();
        let new = NewDirectory::create(&path).unwrap();
        fs::write(new.path().join("a"), "a").unwrap();
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
        new.commit().unwrap();
        assert_eq!(fs::read(path.join("a")).unwrap(), b"a");
        let error = NewDirectory::create(&path).unwrap_err().to_string();
        assert!(error.contains("out: already exists and is not an empty directory"), "{error}");
        let other = root.path().join("other");
        drop(NewDirectory::create(&other).unwrap());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1, "nothing is left behind");
        let error = NewDirectory::create(&other.join("b")).unwrap_err().to_string();
        assert!(error.contains("create it first"), "{error}");
    }
}
