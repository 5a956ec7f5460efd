//! Images one after the other: a directory, a pattern, or numbered names.

use super::{Frame, FrameSource, Rate, VideoInfo, VideoOptions};
use crate::error::{Error, Result, error};
use crate::files::{is_pattern, is_read, matching};
use crate::image::{DecodeOptions, ENDINGS, Image};
use std::cmp::Ordering;
use std::path::{Path, PathBuf};

/// Frames from image files, all of the first one's size.
pub(super) struct SequenceSource {
    files: std::vec::IntoIter<PathBuf>,
    /// The first image, which told the size.
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
        let first_file = files.next().expect("invariant: `files` gives one at least");
        let first = options.decode.decode(&first_file)?;
        let rate = options.rate.unwrap_or(Rate::USUAL);
        let info = VideoInfo {
            width: first.width,
            height: first.height,
            rate,
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
        let (w, h) = (self.info.width, self.info.height);
        if (image.width, image.height) != (w, h) {
            return Err(error!(
                Image,
                "has {} x {} pixels, {} has {w} x {h}",
                image.width,
                image.height,
                self.first_file.display()
            )
            .file(file)
            .advice("the images of a video have one size"));
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

/// The files that a video is read from: of a directory or pattern its images, else the path itself.
///
/// # Errors
/// A directory or pattern has no images, or cannot be read.
#[cfg(feature = "cli")]
pub(crate) fn files_of(path: &Path) -> Result<Vec<PathBuf>> {
    match super::kind(path) {
        super::VideoKind::Sequence => Ok(files(path)?.0),
        _ => Ok(vec![path.to_owned()]),
    }
}

/// The files that a path stands for, in order, one at least; and what is odd about them.
fn files(path: &Path) -> Result<(Vec<PathBuf>, Vec<String>)> {
    if path.is_dir() {
        let mut skipped = Vec::new();
        let mut found = listed(path, &mut skipped, |file| {
            file.extension()
                .is_some_and(|e| ENDINGS.iter().any(|known| e.eq_ignore_ascii_case(known)))
        })?;
        found.sort_by(|a, b| by_numbers(a, b));
        return match found.is_empty() {
            true => Err(error!(Usage, "the directory holds no images").file(path)),
            false => Ok((found, skipped)),
        };
    }
    if path.exists() {
        return Ok((vec![path.to_owned()], Vec::new()));
    }
    if let Some(pattern) = numbered(path) {
        return numbered_files(path, &pattern);
    }
    if !is_pattern(path) {
        // Opening it gives the reason.
        return Ok((vec![path.to_owned()], Vec::new()));
    }
    let (mut found, skipped) = matching(path)?;
    found.sort_by(|a, b| by_numbers(a, b));
    match found.is_empty() {
        true => Err(error!(Usage, "no file fits the pattern `{}`", path.display())),
        false => Ok((found, skipped)),
    }
}

/// The regular files of a directory that `wanted` takes; and a line in `skipped` for each FIFO,
/// socket or device among them.
fn listed(
    directory: &Path,
    skipped: &mut Vec<String>,
    wanted: impl Fn(&Path) -> bool,
) -> Result<Vec<PathBuf>> {
    let failed = |e| Error::io(directory, "the directory cannot be read", e);
    let entries = std::fs::read_dir(directory).map_err(failed)?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if wanted(&path) && is_read(&path, skipped) {
            found.push(path);
        }
    }
    Ok(found)
}

/// A name with a place for a number: what stands before and behind it, and its digits at least.
#[derive(Debug, PartialEq)]
struct Numbered {
    before: Vec<u8>,
    behind: Vec<u8>,
    digits: usize,
}

/// Whether a path is a pattern of numbered names, such as `shot%04d.png`, and no file of that name.
pub fn is_numbered(path: impl AsRef<Path>) -> bool {
    let path = path.as_ref();
    !path.exists() && numbered(path).is_some()
}

/// Reads `%d`, `%4d` or `%04d` in the last part of a path. Names are bytes here: they need not be
/// UTF-8.
fn numbered(path: &Path) -> Option<Numbered> {
    let name = path.file_name()?.as_encoded_bytes();
    let percent = name.iter().position(|b| *b == b'%')?;
    let (before, rest) = (&name[..percent], &name[percent + 1..]);
    let end = rest.iter().position(|b| *b == b'd')?;
    let (digits, behind) = (&rest[..end], &rest[end + 1..]);
    if digits.len() > 2 || !digits.iter().all(u8::is_ascii_digit) || behind.contains(&b'%') {
        return None;
    }
    let digits = std::str::from_utf8(digits).ok()?;
    let digits = if digits.is_empty() { 1 } else { digits.parse().ok()? };
    Some(Numbered { before: before.to_owned(), behind: behind.to_owned(), digits })
}

/// Files whose names fit, by number. Numbers that are left out are told of, not refused: renderers
/// leave out frames.
fn numbered_files(path: &Path, pattern: &Numbered) -> Result<(Vec<PathBuf>, Vec<String>)> {
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let number = |file: &Path| -> Option<u64> {
        let name = file.file_name()?.as_encoded_bytes();
        let digits = name.strip_prefix(&*pattern.before)?.strip_suffix(&*pattern.behind)?;
        let fits = digits.len() >= pattern.digits && digits.iter().all(u8::is_ascii_digit);
        fits.then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten()
    };
    let mut notes = Vec::new();
    let listed = listed(directory, &mut notes, |file| number(file).is_some())?;
    let mut found: Vec<(u64, PathBuf)> =
        listed.into_iter().filter_map(|f| Some((number(&f)?, f))).collect();
    found.sort();
    let (Some(first), Some(last)) = (found.first(), found.last()) else {
        return Err(error!(Usage, "no file fits the pattern `{}`", path.display()));
    };
    let missing = (last.0 - first.0).saturating_sub(found.len() as u64 - 1);
    if missing > 0 {
        notes.push(format!("{missing} numbers between {} and {} have no image", first.0, last.0));
    }
    Ok((found.into_iter().map(|(_, f)| f).collect(), notes))
}

/// Order of names in which `frame9` comes before `frame10`: runs of digits count as numbers.
fn by_numbers(a: &Path, b: &Path) -> Ordering {
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

/// The digits at the beginning, without leading zeros, and the rest.
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
        names.sort_by(|a, b| by_numbers(Path::new(a), Path::new(b)));
        assert_eq!(names, ["f", "f1", "f1b", "f2/z", "f9", "f010", "f10", "g1"]);
    }

    #[test]
    fn places_for_numbers_are_found() {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let found = |name: &str| {
            numbered(Path::new(name)).map(|n| (text(n.before), text(n.behind), n.digits))
        };
        assert_eq!(found("a%b/shot%04d.png"), Some(("shot".into(), ".png".into(), 4)));
        assert_eq!(found("%d.png"), Some((String::new(), ".png".into(), 1)));
        for text in ["shot.png", "100%.png", "%04x.png", "%123d.png", "%d-%d.png"] {
            assert_eq!(found(text), None, "{text}");
        }
    }
}
