//! Image sequences: a directory, a wildcard pattern, or numbered file names.

use super::{Frame, FrameRate, FrameSource, VideoInfo, VideoOptions};
use crate::error::{Error, Result, error};
use crate::files::{glob_files, is_input_file, is_pattern};
use crate::image::{DecodeOptions, EXTENSIONS, Image};
use std::cmp::Ordering;
use std::path::{Path, PathBuf};

/// Reads frames from image files, all of the same size.
pub(super) struct SequenceSource {
    files: std::vec::IntoIter<PathBuf>,
    /// The first image, decoded on opening for the size.
    first: Option<Image>,
    first_file: PathBuf,
    info: VideoInfo,
    decode: DecodeOptions,
    over: bool,
}

impl SequenceSource {
    pub(super) fn open(path: &Path, options: &VideoOptions) -> Result<Self> {
        let (files, notes) = files(path)?;
        let count = files.len() as u64;
        let mut files = files.into_iter();
        let first_file = files.next().expect("invariant: `files` returns at least one file");
        let first = options.decode.decode(&first_file)?;
        let frame_rate = options.frame_rate.unwrap_or(FrameRate::DEFAULT);
        let info = VideoInfo {
            width: first.width,
            height: first.height,
            frame_rate,
            frames: Some(count),
            notes,
        };
        Ok(Self {
            files,
            first: Some(first),
            first_file,
            info,
            decode: options.decode.clone(),
            over: false,
        })
    }

    fn read(&self, file: &Path) -> Result<Frame> {
        let image = self.decode.decode(file)?;
        let expected = self.info.size();
        if image.size() != expected {
            return Err(error!(
                Image,
                "the image has {} pixels, but {} has {expected}",
                image.size(),
                self.first_file.display()
            )
            .file(file)
            .advice("all images of a sequence must have the same size"));
        }
        Ok(Frame { image, duration: None })
    }
}

impl Iterator for SequenceSource {
    type Item = Result<Frame>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(image) = self.first.take() {
            return Some(Ok(Frame { image, duration: None }));
        }
        if self.over {
            return None;
        }
        let frame = self.files.next().map(|file| self.read(&file));
        self.over = !matches!(frame, Some(Ok(_)));
        frame
    }
}

impl FrameSource for SequenceSource {
    fn info(&self) -> &VideoInfo {
        &self.info
    }
}

/// Returns the files that a video is read from: the images of a directory or pattern, otherwise the
/// path itself.
/// # Errors
/// Returns an error if a directory or pattern has no images or cannot be read.
#[cfg(feature = "cli")]
pub(crate) fn files_of(path: &Path) -> Result<Vec<PathBuf>> {
    match super::kind(path) {
        super::VideoKind::Sequence => Ok(files(path)?.0),
        _ => Ok(vec![path.to_owned()]),
    }
}

/// Returns the files of a path in order, at least one, and notes about skipped or missing files.
fn files(path: &Path) -> Result<(Vec<PathBuf>, Vec<String>)> {
    if path.is_dir() {
        let mut skipped = Vec::new();
        let mut images = list_files(path, &mut skipped, |file| {
            file.extension()
                .is_some_and(|e| EXTENSIONS.iter().any(|known| e.eq_ignore_ascii_case(known)))
        })?;
        images.sort_by(|a, b| natural_order(a, b));
        if images.is_empty() {
            return Err(error!(Usage, "no images in the directory").file(path));
        }
        return Ok((images, skipped));
    }
    if path.exists() {
        return Ok((vec![path.to_owned()], Vec::new()));
    }
    if let Some(pattern) = numbered(path) {
        return numbered_files(path, &pattern);
    }
    if !is_pattern(path) {
        // Opening the file will report the error.
        return Ok((vec![path.to_owned()], Vec::new()));
    }
    let (mut files, skipped) = glob_files(path)?;
    files.sort_by(|a, b| natural_order(a, b));
    if files.is_empty() {
        return Err(no_match(path));
    }
    Ok((files, skipped))
}

/// Lists the regular files of a directory for which `filter` is true. Adds a line to `skipped` for
/// each FIFO, socket or device among them.
fn no_match(pattern: &Path) -> Error {
    error!(Usage, "no file matches the pattern `{}`", pattern.display())
}

fn list_files(
    directory: &Path,
    skipped: &mut Vec<String>,
    filter: impl Fn(&Path) -> bool,
) -> Result<Vec<PathBuf>> {
    let failed = |e| Error::io(directory, "could not read the directory", e);
    let entries = std::fs::read_dir(directory).map_err(failed)?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if filter(&path) && is_input_file(&path, skipped) {
            files.push(path);
        }
    }
    Ok(files)
}

/// A file name with a placeholder for a number: the text before and after it, and the minimum
/// number of digits.
#[derive(Debug, PartialEq)]
struct Numbered {
    prefix: Vec<u8>,
    suffix: Vec<u8>,
    digits: usize,
}

/// Returns whether a path is a pattern of numbered names, such as `shot%04d.png`, and not an
/// existing file.
pub fn is_numbered(path: impl AsRef<Path>) -> bool {
    let path = path.as_ref();
    !path.exists() && numbered(path).is_some()
}

/// Parses `%d`, `%4d` or `%04d` in the last component of a path. Names are treated as bytes, since
/// they need not be UTF-8.
fn numbered(path: &Path) -> Option<Numbered> {
    let name = path.file_name()?.as_encoded_bytes();
    let percent = name.iter().position(|b| *b == b'%')?;
    let (prefix, rest) = (&name[..percent], &name[percent + 1..]);
    let end = rest.iter().position(|b| *b == b'd')?;
    let (digits, suffix) = (&rest[..end], &rest[end + 1..]);
    if digits.len() > 2 || !digits.iter().all(u8::is_ascii_digit) || suffix.contains(&b'%') {
        return None;
    }
    let digits = std::str::from_utf8(digits).ok()?;
    let digits = if digits.is_empty() { 1 } else { digits.parse().ok()? };
    Some(Numbered { prefix: prefix.to_owned(), suffix: suffix.to_owned(), digits })
}

/// Returns the files that match, by number. Missing numbers are noted but not an error, since
/// renderers skip frames.
fn numbered_files(path: &Path, pattern: &Numbered) -> Result<(Vec<PathBuf>, Vec<String>)> {
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let number = |file: &Path| -> Option<u64> {
        let name = file.file_name()?.as_encoded_bytes();
        let digits = name.strip_prefix(&*pattern.prefix)?.strip_suffix(&*pattern.suffix)?;
        let fits = digits.len() >= pattern.digits && digits.iter().all(u8::is_ascii_digit);
        fits.then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten()
    };
    let mut notes = Vec::new();
    let files = list_files(directory, &mut notes, |file| number(file).is_some())?;
    let mut numbered: Vec<(u64, PathBuf)> =
        files.into_iter().filter_map(|f| Some((number(&f)?, f))).collect();
    numbered.sort();
    let (Some(first), Some(last)) = (numbered.first(), numbered.last()) else {
        return Err(no_match(path));
    };
    let missing = (last.0 - first.0).saturating_sub(numbered.len() as u64 - 1);
    if missing > 0 {
        notes.push(format!("{missing} numbers between {} and {} are missing", first.0, last.0));
    }
    Ok((numbered.into_iter().map(|(_, f)| f).collect(), notes))
}

/// Natural order of names: runs of digits compare as numbers, so `frame9` comes before `frame10`.
fn natural_order(a: &Path, b: &Path) -> Ordering {
    let (a, b) = (a.as_os_str().as_encoded_bytes(), b.as_os_str().as_encoded_bytes());
    let (mut left, mut right) = (a, b);
    while let (Some(x), Some(y)) = (left.first(), right.first()) {
        let order = if x.is_ascii_digit() && y.is_ascii_digit() {
            let (n, rest_left) = digits(left);
            let (m, rest_right) = digits(right);
            (left, right) = (rest_left, rest_right);
            n.len().cmp(&m.len()).then_with(|| n.cmp(m))
        } else {
            (left, right) = (&left[1..], &right[1..]);
            x.cmp(y)
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    left.len().cmp(&right.len()).then_with(|| a.cmp(b))
}

/// Splits a name into its leading digits, without leading zeros, and the rest.
fn digits(name: &[u8]) -> (&[u8], &[u8]) {
    let end = name.iter().position(|b| !b.is_ascii_digit()).unwrap_or(name.len());
    let zeros = name[..end].iter().take_while(|b| **b == b'0').count();
    (&name[zeros..end], &name[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ordered_as_people_count() {
        let mut names = ["f10", "f9", "f010", "f1b", "f1", "g1", "f2/z", "f"];
        names.sort_by(|a, b| natural_order(Path::new(a), Path::new(b)));
        assert_eq!(names, ["f", "f1", "f1b", "f2/z", "f9", "f010", "f10", "g1"]);
    }

    #[test]
    fn places_for_numbers_are_found() {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let parse = |name: &str| {
            numbered(Path::new(name)).map(|n| (text(n.prefix), text(n.suffix), n.digits))
        };
        assert_eq!(parse("a%b/shot%04d.png"), Some(("shot".into(), ".png".into(), 4)));
        assert_eq!(parse("%d.png"), Some((String::new(), ".png".into(), 1)));
        for text in ["shot.png", "100%.png", "%04x.png", "%123d.png", "%d-%d.png"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
