//! Which pictures, and where each result goes.

use super::Style;
use crate::error::{Error, ErrorKind, Result, error};
use crate::image::ENDINGS;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// A picture to read and the file to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    pub input: PathBuf,
    pub output: PathBuf,
}

/// The jobs for the arguments of the command line, in their order, folders and patterns sorted by name.
pub(super) fn jobs(inputs: &[String], output: Option<&Path>, style: Style) -> Result<Vec<Job>> {
    let mut found: Vec<(PathBuf, PathBuf)> = Vec::new();
    for text in inputs {
        found.extend(expand(text)?);
    }
    let to_folder = found.len() > 1
        || output.is_some_and(|o| o.is_dir() || o.as_os_str().to_string_lossy().ends_with(['/', std::path::MAIN_SEPARATOR]))
        || inputs.iter().any(|i| Path::new(i).is_dir());
    let mut taken: HashMap<PathBuf, PathBuf> = HashMap::new();
    found
        .into_iter()
        .map(|(input, relative)| {
            let output = match output {
                Some(file) if !to_folder => file.to_owned(),
                Some(folder) => folder.join(relative.with_extension("png")),
                None => {
                    let stem = input.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                    PathBuf::from(format!("{stem}-{}.png", style.suffix()))
                }
            };
            if output.extension().is_none_or(|e| !e.eq_ignore_ascii_case("png")) {
                return Err(error!(Usage, "results are PNG files").file(&output).advice("let the name end in .png"));
            }
            if same_file(&input, &output) {
                return Err(error!(Usage, "the result would replace the picture itself")
                    .file(&input)
                    .advice("name another `-o`"));
            }
            if let Some(other) = taken.insert(output.clone(), input.clone()) {
                return Err(error!(Usage, "{} and {} would both be written there", other.display(), input.display())
                    .file(&output)
                    .advice("segment them one by one"));
            }
            Ok(Job { input, output })
        })
        .collect()
}

pub(super) fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// The pictures that an argument names, each with its path below the folder that was named.
fn expand(text: &str) -> Result<Vec<(PathBuf, PathBuf)>> {
    let path = Path::new(text);
    let name = |p: &Path| PathBuf::from(p.file_name().unwrap_or_default());
    if path.is_dir() {
        let mut found = Vec::new();
        folder(path, path, &mut found)?;
        if found.is_empty() {
            return Err(error!(Usage, "the folder holds no pictures").file(path));
        }
        found.sort();
        return Ok(found);
    }
    if path.exists() || !text.contains(['*', '?', '[']) {
        // A file that does not exist is reported when it is read, beside the others' results.
        return Ok(vec![(path.to_owned(), name(path))]);
    }
    let paths = glob::glob(text).map_err(|e| Error::new(ErrorKind::Usage, format!("`{text}` is not a pattern")).source(e))?;
    let mut found: Vec<PathBuf> = paths.filter_map(|p| p.ok().filter(|p| p.is_file())).collect();
    found.sort();
    if found.is_empty() {
        return Err(error!(Usage, "no file fits the pattern `{text}`"));
    }
    Ok(found.into_iter().map(|p| (p.clone(), name(&p))).collect())
}

fn folder(root: &Path, at: &Path, found: &mut Vec<(PathBuf, PathBuf)>) -> Result<()> {
    let entries = std::fs::read_dir(at).map_err(|e| Error::io(at, "the folder cannot be read", e))?;
    for entry in entries {
        let entry = entry.map_err(|e| Error::io(at, "the folder cannot be read", e))?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(|e| Error::io(at, "the folder cannot be read", e))?);
        // Links to folders are not followed: they may lead in a circle.
        if kind.is_dir() {
            folder(root, &path, found)?;
        } else if path.extension().is_some_and(|e| ENDINGS.iter().any(|known| e.eq_ignore_ascii_case(known))) {
            let relative = path.strip_prefix(root).unwrap_or(&path).to_owned();
            found.push((path, relative));
        }
    }
    Ok(())
}
