//! Expansion of wildcard patterns to files (`shots/*.png`, `a?[0-9].png`, `**/x.png`).
//!
//! The crate `glob` matches names, but directories are walked here, because its own walk silently
//! skips names that are not UTF-8 and directories that cannot be read.

use super::read::special_kind;
use crate::error::{Error, ErrorKind, Result};
use glob::Pattern;
use std::ffi::OsStr;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Code point of byte 0 of names that are not UTF-8, in a private use plane, so that different
/// names stay different.
const INVALID_BYTE: u32 = 0x10_FF00;

/// Returns whether a path contains a wildcard.
pub(crate) fn is_pattern(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().iter().any(|b| b"*?[".contains(b))
}

/// Returns the regular files that match a pattern, sorted, and a note for each FIFO, socket or
/// device that was skipped.
///
/// # Errors
/// Returns an error if the pattern is invalid or a directory cannot be read.
pub(crate) fn glob_files(pattern: &Path) -> Result<(Vec<PathBuf>, Vec<String>)> {
    let steps: Vec<Step> =
        pattern.components().map(|c| Step::new(c, pattern)).collect::<Result<_>>()?;
    let mut files = Vec::new();
    walk(PathBuf::new(), &steps, &mut files)?;
    files.sort();
    files.dedup();
    let mut skipped = Vec::new();
    files.retain(|path| is_input_file(path, &mut skipped));
    Ok((files, skipped))
}

/// Returns whether a path should be read as a file. Directories are not; neither are special files,
/// on which a read might block forever, and which are noted in `skipped`.
pub(crate) fn is_input_file(path: &Path, skipped: &mut Vec<String>) -> bool {
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => false,
        Ok(meta) if !meta.is_file() => {
            skipped.push(format!("{}: is {}, skipped", path.display(), special_kind(&meta)));
            false
        }
        // A dangling link is reported when it is read.
        _ => true,
    }
}

/// A component of a pattern.
enum Step {
    /// A literal name.
    Name(PathBuf),
    /// Names that match.
    Wild(Pattern),
    /// Any number of directories.
    Deep,
}

impl Step {
    fn new(component: Component, whole: &Path) -> Result<Self> {
        let name = match component {
            Component::Normal(name) if is_pattern(Path::new(name)) => name,
            other => return Ok(Step::Name(PathBuf::from(other.as_os_str()))),
        };
        if name == "**" {
            return Ok(Step::Deep);
        }
        let pattern = Pattern::new(&text(name));
        pattern.map(Step::Wild).map_err(|e| {
            Error::new(ErrorKind::Usage, format!("invalid pattern `{}`", whole.display())).source(e)
        })
    }
}

/// Converts a name to text, injectively.
fn text(name: &OsStr) -> String {
    let mut text = String::new();
    for chunk in name.as_encoded_bytes().utf8_chunks() {
        text += chunk.valid();
        text.extend(
            chunk.invalid().iter().filter_map(|b| char::from_u32(INVALID_BYTE + u32::from(*b))),
        );
    }
    text
}

fn walk(at: PathBuf, steps: &[Step], files: &mut Vec<PathBuf>) -> Result<()> {
    let Some((step, rest)) = steps.split_first() else {
        files.push(at);
        return Ok(());
    };
    match step {
        Step::Name(name) => {
            let next = at.join(name);
            // The link's own metadata, so that dangling links are kept.
            if rest.is_empty() && fs::symlink_metadata(&next).is_err() {
                return Ok(());
            }
            walk(next, rest, files)
        }
        Step::Wild(pattern) => {
            for (name, path, _) in list(&at)? {
                if pattern.matches(&name) {
                    walk(path, rest, files)?;
                }
            }
            Ok(())
        }
        Step::Deep => {
            walk(at.clone(), rest, files)?;
            for (_, path, is_dir) in list(&at)? {
                // Links to directories are not followed, because they may form a cycle.
                if is_dir {
                    walk(path, steps, files)?;
                } else if rest.is_empty() {
                    files.push(path);
                }
            }
            Ok(())
        }
    }
}

/// Lists a directory: names as text, paths, and whether they are directories. Empty if it is not a
/// directory.
fn list(directory: &Path) -> Result<Vec<(String, PathBuf, bool)>> {
    let here = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    if !here.is_dir() {
        return Ok(Vec::new());
    }
    let failed = |e| Error::io(here, "could not read the directory", e);
    let mut entries = Vec::new();
    for entry in fs::read_dir(here).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let is_dir = entry.file_type().map_err(failed)?.is_dir();
        entries.push((text(&entry.file_name()), directory.join(entry.file_name()), is_dir));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for file in files {
            let path = directory.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        directory
    }

    fn names(directory: &Path, pattern: &str) -> Vec<String> {
        let (files, skipped) = glob_files(&directory.join(pattern)).unwrap();
        assert!(skipped.is_empty());
        files
            .iter()
            .map(|p| p.strip_prefix(directory).unwrap().to_str().unwrap().replace('\\', "/"))
            .collect()
    }

    #[test]
    fn patterns_name_files_as_shells_do() {
        let dir = tree(&["a.png", "b.png", "b.txt", "d/c.png", "d/e/f.png", "[x].png"]);
        assert_eq!(names(dir.path(), "*.png"), ["[x].png", "a.png", "b.png"]);
        assert_eq!(names(dir.path(), "[ab].png"), ["a.png", "b.png"]);
        assert_eq!(names(dir.path(), "*/?.png"), ["d/c.png"]);
        assert_eq!(
            names(dir.path(), "**/*.png"),
            ["[x].png", "a.png", "b.png", "d/c.png", "d/e/f.png"]
        );
        assert_eq!(names(dir.path(), "[[]x].png"), ["[x].png"]);
        assert_eq!(names(dir.path(), "d*"), [""; 0], "no directories");
        let error = glob_files(Path::new("a[b")).unwrap_err().to_string();
        assert!(error.contains("invalid pattern `a[b`"), "{error}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn names_that_are_not_utf_8_fit_patterns_too() {
        use std::os::unix::ffi::OsStrExt;
        let dir = tempfile::tempdir().unwrap();
        for name in [&b"a\xff.png"[..], b"a\xfe.png", b"b.png"] {
            fs::write(dir.path().join(OsStr::from_bytes(name)), "").unwrap();
        }
        assert_eq!(glob_files(&dir.path().join("a*.png")).unwrap().0.len(), 2);
        let (one, _) = glob_files(&dir.path().join(OsStr::from_bytes(b"a\xff.*"))).unwrap();
        assert_eq!(one, [dir.path().join(OsStr::from_bytes(b"a\xff.png"))]);
    }
}
