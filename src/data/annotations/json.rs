//! JSON files of annotations: reading them within limits, recognizing them, and finding their
//! images.

use crate::data::pairing::{IMAGES, files};
use crate::error::{Error, ErrorKind, Result, error};
use crate::files::{open_regular, read_bytes};
use crate::memory;
use serde::Deserialize;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// Size limit of an annotation file in bytes. COCO's largest has 450 MB.
const MAX_BYTES: u64 = 1 << 30;

/// Bytes from which the kind of a file is recognized.
const HEAD_BYTES: u64 = 64 << 10;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Reads a file.
///
/// # Errors
/// Returns an error that names the file if it is not a regular file, larger than the limit, or
/// there is no memory for it.
pub(in crate::data) fn read(path: &Path) -> Result<Vec<u8>> {
    let len = std::fs::metadata(path).map_or(0, |meta| meta.len().min(MAX_BYTES));
    memory::check(len, "reading the annotations").map_err(|e| e.file(path))?;
    read_bytes(path, "an annotation file", MAX_BYTES)
}

/// Parses a file.
///
/// # Errors
/// Returns an error that names the file and the line.
pub(in crate::data) fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8], path: &Path) -> Result<T> {
    let text = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    // The parser refuses what is nested deeper than 128 levels.
    serde_json::from_slice(text).map_err(|e| {
        Error::new(ErrorKind::Data, "is not a valid annotation file").source(e).file(path)
    })
}

/// The kind of a JSON file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::data) enum Kind {
    Coco,
    Labelme,
    LabelStudio,
    Other,
}

/// Recognizes the kind of a JSON file by its beginning. A file that cannot be read is of no kind.
pub(in crate::data) fn kind(path: &Path) -> Kind {
    let mut head = Vec::new();
    let read = open_regular(path, "an annotation file").map(|file| {
        // A damaged file is reported when it is read completely.
        let _ = file.take(HEAD_BYTES).read_to_end(&mut head);
    });
    if read.is_err() {
        return Kind::Other;
    }
    let text = String::from_utf8_lossy(&head);
    let has = |keys: &[&str]| keys.iter().any(|key| text.contains(&format!("\"{key}\"")));
    match text.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']).as_bytes().first() {
        Some(b'[') if has(&["annotations", "completions", "data", "image", "id"]) => {
            Kind::LabelStudio
        }
        Some(b'{') if has(&["shapes", "imagePath"]) => Kind::Labelme,
        Some(b'{') if has(&["images", "annotations", "categories", "licenses"]) => Kind::Coco,
        _ => Kind::Other,
    }
}

/// Returns the JSON files of a kind in a directory, sorted; none if it cannot be listed.
pub(in crate::data) fn of_kind(directory: &Path, expected: Kind) -> Vec<PathBuf> {
    json_files(directory).into_iter().filter(|path| kind(path) == expected).collect()
}

/// Returns the JSON files in a directory, sorted, without hidden ones; none if it cannot be listed.
pub(in crate::data) fn json_files(directory: &Path) -> Vec<PathBuf> {
    let is_json = |path: &PathBuf| {
        let is_hidden = stem(path).starts_with('.');
        !is_hidden && path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json"))
    };
    files(directory).unwrap_or_default().into_iter().filter(is_json).collect()
}

/// Returns the name of a file without its extension; empty if it is not Unicode.
pub(in crate::data) fn stem(path: &Path) -> &str {
    path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default()
}

/// Returns a path out of an annotation file, with `/` for `\`.
///
/// # Errors
/// Returns an error if it is not inside a directory that it is relative to.
pub(in crate::data) fn relative(name: &str) -> Result<PathBuf> {
    let path = PathBuf::from(name.replace('\\', "/"));
    let path: PathBuf = path.components().filter(|c| *c != Component::CurDir).collect();
    let is_inside = path.components().all(|c| matches!(c, Component::Normal(_)));
    if is_inside && path.file_name().is_some() {
        return Ok(path);
    }
    Err(error!(Data, "`{}` is not a path inside the data set", crate::text::excerpt(name))
        .advice("use paths relative to the directory of the images"))
}

/// Returns the image with a name, whatever its extension, in a directory.
pub(in crate::data) fn image_named(directory: &Path, name: &str) -> Option<PathBuf> {
    IMAGES.iter().map(|end| directory.join(format!("{name}.{end}"))).find(|path| path.is_file())
}
