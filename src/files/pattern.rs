//! Files that a pattern with wildcards names (`shots/*.png`, `a?[0-9].png`, `**/x.png`).
//!
//! The crate `glob` matches names, and the directories are walked here: its own walk passes over
//! names that are not UTF-8 and over directories that cannot be read, without a word.

use super::read::special;
use crate::error::{Error, ErrorKind, Result};
use glob::Pattern;
use std::ffi::OsStr;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Where bytes that are no text go: a plane for private use, so that no two names become one.
const NO_TEXT: u32 = 0x10_FF00;

/// Whether a name has a wildcard in it.
pub(crate) fn is_pattern(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().iter().any(|b| b"*?[".contains(b))
}

/// The regular files that a pattern names, sorted, and a line for each FIFO, socket or device that
/// is left out.
///
/// Errors name the pattern where it is none, and a directory that cannot be read.
pub(crate) fn matching(pattern: &Path) -> Result<(Vec<PathBuf>, Vec<String>)> {
    let steps: Vec<Step> =
        pattern.components().map(|c| Step::of(c, pattern)).collect::<Result<_>>()?;
    let mut found = Vec::new();
    walk(PathBuf::new(), &steps, &mut found)?;
    found.sort();
    found.dedup();
    let mut skipped = Vec::new();
    found.retain(|path| is_read(path, &mut skipped));
    Ok((found, skipped))
}

/// Whether a path is read as a file. Directories are not, nor, with a line in `skipped`, what a
/// read might wait for without an end.
pub(crate) fn is_read(path: &Path, skipped: &mut Vec<String>) -> bool {
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => false,
        Ok(meta) if !meta.is_file() => {
            skipped.push(format!("{}: is {}, skipped", path.display(), special(&meta)));
            false
        }
        // A link that leads nowhere is reported when it is read.
        _ => true,
    }
}

/// One part of a pattern.
enum Step {
    /// A name as it is.
    Name(PathBuf),
    /// Names that fit.
    Wild(Pattern),
    /// Any number of directories.
    Deep,
}

impl Step {
    fn of(component: Component, whole: &Path) -> Result<Self> {
        let name = match component {
            Component::Normal(name) if is_pattern(Path::new(name)) => name,
            other => return Ok(Step::Name(PathBuf::from(other.as_os_str()))),
        };
        if name == "**" {
            return Ok(Step::Deep);
        }
        let pattern = Pattern::new(&text(name));
        pattern.map(Step::Wild).map_err(|e| {
            Error::new(ErrorKind::Usage, format!("`{}` is not a pattern", whole.display()))
                .source(e)
        })
    }
}

/// A name as text, different for different names.
fn text(name: &OsStr) -> String {
    let mut text = String::new();
    for chunk in name.as_encoded_bytes().utf8_chunks() {
        text += chunk.valid();
        text.extend(chunk.invalid().iter().filter_map(|b| char::from_u32(NO_TEXT + u32::from(*b))));
    }
    text
}

fn walk(at: PathBuf, steps: &[Step], found: &mut Vec<PathBuf>) -> Result<()> {
    let Some((step, rest)) = steps.split_first() else {
        found.push(at);
        return Ok(());
    };
    match step {
        Step::Name(name) => {
            let next = at.join(name);
            // A link that leads nowhere has metadata of its own.
            if rest.is_empty() && fs::symlink_metadata(&next).is_err() {
                return Ok(());
            }
            walk(next, rest, found)
        }
        Step::Wild(pattern) => {
            for (name, path, _) in listed(&at)? {
                if pattern.matches(&name) {
                    walk(path, rest, found)?;
                }
            }
            Ok(())
        }
        Step::Deep => {
            walk(at.clone(), rest, found)?;
            for (_, path, is_dir) in listed(&at)? {
                // Links to directories are not followed: they may lead in a circle.
                if is_dir {
                    walk(path, steps, found)?;
                } else if rest.is_empty() {
                    found.push(path);
                }
            }
            Ok(())
        }
    }
}

/// What a directory holds: names as text, paths, and whether they are directories. Nothing where it
/// is none.
fn listed(directory: &Path) -> Result<Vec<(String, PathBuf, bool)>> {
    let here = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    if !here.is_dir() {
        return Ok(Vec::new());
    }
    let failed = |e| Error::io(here, "the directory cannot be read", e);
    let mut found = Vec::new();
    for entry in fs::read_dir(here).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let is_dir = entry.file_type().map_err(failed)?.is_dir();
        found.push((text(&entry.file_name()), directory.join(entry.file_name()), is_dir));
    }
    Ok(found)
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
        let (found, skipped) = matching(&directory.join(pattern)).unwrap();
        assert!(skipped.is_empty());
        found
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
        let error = matching(Path::new("a[b")).unwrap_err().to_string();
        assert!(error.contains("`a[b` is not a pattern"), "{error}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn names_that_are_not_utf_8_fit_patterns_too() {
        use std::os::unix::ffi::OsStrExt;
        let dir = tempfile::tempdir().unwrap();
        for name in [&b"a\xff.png"[..], b"a\xfe.png", b"b.png"] {
            fs::write(dir.path().join(OsStr::from_bytes(name)), "").unwrap();
        }
        assert_eq!(matching(&dir.path().join("a*.png")).unwrap().0.len(), 2);
        let (one, _) = matching(&dir.path().join(OsStr::from_bytes(b"a\xff.*"))).unwrap();
        assert_eq!(one, [dir.path().join(OsStr::from_bytes(b"a\xff.png"))]);
    }
}
