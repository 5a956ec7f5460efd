//! The layout of the cache, which is that of Python's `huggingface_hub`:
//!
//! ```text
//! models--OWNER--NAME/
//!   blobs/ETAG                   contents, by their hash
//!   blobs/ETAG.incomplete        an interrupted download
//!   snapshots/COMMIT/FILE        a link to the content (or the content, where links are impossible)
//!   refs/REVISION                the commit that a branch or tag was at
//!   .no_exist/COMMIT/FILE        an empty file: the commit has no such file
//! .locks/models--OWNER--NAME/ETAG.lock
//! ```

use super::reference::{Reference, is_commit, path_problem};
use crate::error::{Error, Result};
use crate::files::{atomic_write, read_text_at_most};
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Limits of the search for files of a snapshot.
const MAX_FILES: usize = 10_000;
const MAX_DEPTH: usize = 8;

/// The part of a cache that belongs to one repository.
#[derive(Debug, Clone)]
pub(super) struct RepositoryCache {
    root: PathBuf,
    /// Name of the repository's directory.
    name: String,
    symlinks: bool,
}

impl RepositoryCache {
    pub fn new(root: &Path, reference: &Reference, symlinks: bool) -> Self {
        let name = format!("models--{}--{}", reference.owner(), reference.name());
        Self { root: root.to_owned(), name, symlinks }
    }

    fn directory(&self) -> PathBuf {
        self.root.join(&self.name)
    }

    /// Returns the path of a content.
    pub fn blob(&self, etag: &str) -> PathBuf {
        self.directory().join("blobs").join(etag)
    }

    /// Returns the path of a content that is not complete. Clients that resume use the same name.
    pub fn partial(&self, etag: &str) -> PathBuf {
        self.directory().join("blobs").join(format!("{etag}.incomplete"))
    }

    /// Returns the path of the file whose lock the download of a content holds.
    pub fn lock(&self, etag: &str) -> PathBuf {
        self.root.join(".locks").join(&self.name).join(format!("{etag}.lock"))
    }

    /// Returns the path of a file at a commit, whether it is present or not. Both names must have
    /// been checked.
    pub fn snapshot(&self, commit: &str, file: &str) -> PathBuf {
        joined(self.directory().join("snapshots").join(commit), file)
    }

    /// Returns the path of a file at a commit, if it is present.
    pub fn present(&self, commit: &str, file: &str) -> Option<PathBuf> {
        Some(self.snapshot(commit, file)).filter(|path| path.is_file())
    }

    fn absence(&self, commit: &str, file: &str) -> PathBuf {
        joined(self.directory().join(".no_exist").join(commit), file)
    }

    /// Whether it is recorded that a commit has no such file.
    pub fn is_absent(&self, commit: &str, file: &str) -> bool {
        self.absence(commit, file).is_file()
    }

    /// Records that a commit has no such file. Without the record it is asked for again, so a cache
    /// that cannot be written is no failure.
    pub fn record_absence(&self, commit: &str, file: &str) {
        let path = self.absence(commit, file);
        let _ = create_parent(&path).and_then(|()| {
            fs::write(&path, []).map_err(|e| Error::io(&path, "could not be written", e))
        });
    }

    /// Returns the commit that a revision is, or was at when it was last asked for.
    pub fn commit(&self, reference: &Reference) -> Option<String> {
        if let Some(commit) = reference.commit() {
            return Some(commit.to_owned());
        }
        let path = joined(self.directory().join("refs"), reference.revision());
        // Whoever wrote it may have ended it with a line break.
        let text = read_text_at_most(&path, 256).ok()?;
        Some(text.trim().to_owned()).filter(|text| is_commit(text))
    }

    /// Records the commit that a revision is at.
    pub fn record_commit(&self, reference: &Reference, commit: &str) -> Result<()> {
        if reference.revision() == commit || self.commit(reference).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = joined(self.directory().join("refs"), reference.revision());
        create_parent(&path)?;
        atomic_write(&path, |out| out.write_all(commit.as_bytes()))
    }

    /// Returns the names of the files that are present at a commit, sorted.
    pub fn files(&self, commit: &str) -> Vec<String> {
        let mut names = Vec::new();
        walk(&self.directory().join("snapshots").join(commit), "", MAX_DEPTH, &mut names);
        names.sort();
        names
    }

    /// Makes a content the file of a commit, and returns its path: a relative link, or where the
    /// system or the settings allow none, the content itself (`is_new`: no other snapshot can need
    /// it) or a copy.
    pub fn publish(&self, etag: &str, commit: &str, file: &str, is_new: bool) -> Result<PathBuf> {
        let (blob, path) = (self.blob(etag), self.snapshot(commit, file));
        create_parent(&path)?;
        let failed = |e| Error::io(&path, "could not be written", e);
        if self.symlinks {
            let up = "../".repeat(2 + file.matches('/').count());
            let target = PathBuf::from(format!("{up}blobs/{etag}"));
            match link(&target, &blob, &path) {
                Ok(()) => return Ok(path),
                Err(e) if is_unsupported(&e) => {
                    log::debug!("{}: no link: {e}", crate::text::path(&path));
                }
                Err(e) => return Err(failed(e)),
            }
        }
        if is_new {
            fs::rename(&blob, &path).map_err(failed)?;
        } else {
            let mut content = fs::File::open(&blob).map_err(failed)?;
            atomic_write(&path, |out| io::copy(&mut content, out).map(drop))?;
        }
        Ok(path)
    }
}

/// Makes `path` a link, replacing a link that is broken or leads elsewhere.
fn link(target: &Path, blob: &Path, path: &Path) -> io::Result<()> {
    for _ in 0..2 {
        match symlink(target, path) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            done => return done,
        }
        // Another process may have made the same link a moment ago.
        if fs::canonicalize(path).is_ok_and(|p| fs::canonicalize(blob).is_ok_and(|b| p == b)) {
            return Ok(());
        }
        fs::remove_file(path)?;
    }
    Err(io::Error::new(ErrorKind::AlreadyExists, "another process keeps writing it"))
}

#[cfg(unix)]
fn symlink(target: &Path, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

#[cfg(windows)]
fn symlink(target: &Path, path: &Path) -> io::Result<()> {
    let target = target.to_string_lossy().replace('/', "\\");
    std::os::windows::fs::symlink_file(target, path)
}

#[cfg(not(any(unix, windows)))]
fn symlink(_: &Path, _: &Path) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

/// Whether links are impossible here, rather than this one.
fn is_unsupported(e: &io::Error) -> bool {
    /// A privilege that Windows grants administrators and developers.
    const ERROR_PRIVILEGE_NOT_HELD: i32 = 1314;
    matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::PermissionDenied)
        || cfg!(windows) && e.raw_os_error() == Some(ERROR_PRIVILEGE_NOT_HELD)
}

/// Joins a name with slashes, component by component.
fn joined(mut directory: PathBuf, name: &str) -> PathBuf {
    debug_assert!(path_problem(name).is_none(), "unchecked name {name}");
    directory.extend(name.split('/'));
    directory
}

/// Creates the directory of a file.
pub(super) fn create_parent(path: &Path) -> Result<()> {
    let Some(directory) = path.parent() else { return Ok(()) };
    fs::create_dir_all(directory).map_err(|e| {
        Error::io(directory, "could not be created", e)
            .advice("set HF_HUB_CACHE to a directory that can be written")
    })
}

fn walk(directory: &Path, prefix: &str, depth: usize, names: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let (name, path) = (format!("{prefix}{name}"), entry.path());
        if path.is_file() && names.len() < MAX_FILES {
            names.push(name);
        } else if depth > 0 && path.is_dir() {
            walk(&path, &format!("{name}/"), depth - 1, names);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn cache(root: &Path, symlinks: bool) -> RepositoryCache {
        RepositoryCache::new(root, &Reference::parse("hf:own/net").unwrap(), symlinks)
    }

    fn with_blob(root: &Path, symlinks: bool) -> RepositoryCache {
        let cache = cache(root, symlinks);
        create_parent(&cache.blob("e")).unwrap();
        fs::write(cache.blob("e"), "content").unwrap();
        cache
    }

    #[cfg(unix)]
    #[test]
    fn a_file_of_a_snapshot_is_a_relative_link_at_any_depth() {
        let root = tempfile::tempdir().unwrap();
        let cache = with_blob(root.path(), true);
        for (file, target) in
            [("a.pth", "../../blobs/e"), ("sub/deep/a.pth", "../../../../blobs/e")]
        {
            let path = cache.publish("e", COMMIT, file, true).unwrap();
            assert_eq!(fs::read_link(&path).unwrap(), PathBuf::from(target));
            assert_eq!(fs::read(cache.present(COMMIT, file).unwrap()).unwrap(), b"content");
        }
        assert_eq!(cache.files(COMMIT), ["a.pth", "sub/deep/a.pth"]);
        // A link that leads elsewhere is replaced, and one that is right is kept.
        fs::write(cache.blob("f"), "new").unwrap();
        let path = cache.publish("f", COMMIT, "a.pth", true).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(cache.publish("f", COMMIT, "a.pth", true).unwrap(), path);
    }

    #[test]
    fn without_links_a_new_content_is_moved_and_an_old_one_copied() {
        let root = tempfile::tempdir().unwrap();
        let cache = with_blob(root.path(), false);
        let copy = cache.publish("e", COMMIT, "a.pth", false).unwrap();
        assert!(cache.blob("e").exists() && fs::read(copy).unwrap() == b"content");
        let moved = cache.publish("e", COMMIT, "b.pth", true).unwrap();
        assert!(!cache.blob("e").exists() && fs::read(moved).unwrap() == b"content");
    }

    #[test]
    fn a_revision_is_what_was_last_recorded_and_a_commit_is_itself() {
        let root = tempfile::tempdir().unwrap();
        let cache = cache(root.path(), true);
        let branch = Reference::parse("hf:own/net@refs%2Fpr%2F1").unwrap();
        assert_eq!(cache.commit(&branch), None);
        for commit in [COMMIT, "f".repeat(40).as_str()] {
            cache.record_commit(&branch, commit).unwrap();
            assert_eq!(cache.commit(&branch).as_deref(), Some(commit));
        }
        let pinned = Reference::parse(&format!("hf:own/net@{COMMIT}")).unwrap();
        assert_eq!(cache.commit(&pinned).as_deref(), Some(COMMIT));
        // A damaged record is none: it must not become a path.
        fs::write(root.path().join("models--own--net/refs/main"), "../../..").unwrap();
        assert_eq!(cache.commit(&Reference::parse("hf:own/net").unwrap()), None);
    }
}
