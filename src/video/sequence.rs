//! Pictures one after the other: a folder, a pattern, or numbered names.

use super::{Frame, Info, Options, Rate, Source};
use crate::error::{Error, ErrorKind, Result, error};
use crate::image::{DecodeOptions, ENDINGS, Picture};
use std::cmp::Ordering;
use std::path::{Path, PathBuf};

/// Frames from picture files, all of the first one's size.
pub(super) struct SequenceSource {
    files: std::vec::IntoIter<PathBuf>,
    /// The first picture, which told the size.
    first: Option<Picture>,
    first_file: PathBuf,
    info: Info,
    decode: DecodeOptions,
    over: bool,
}

impl SequenceSource {
    pub(super) fn open(path: &Path, options: &Options) -> Result<Self> {
        let (files, notes) = files(path)?;
        let count = files.len() as u64;
        let mut files = files.into_iter();
        let first_file = files.next().expect("invariant: `files` gives one at least");
        let first = options.decode.decode(&first_file)?;
        let rate = options.rate.unwrap_or(Rate::USUAL);
        let info = Info { width: first.width, height: first.height, rate, frames: Some(count), notes };
        Ok(Self { files, first: Some(first), first_file, info, decode: options.decode.clone(), over: false })
    }

    fn read(&self, file: &Path) -> Result<Frame> {
        let picture = self.decode.decode(file)?;
        let (w, h) = (self.info.width, self.info.height);
        if (picture.width, picture.height) != (w, h) {
            return Err(error!(
                Picture,
                "has {} x {} pixels, {} has {w} x {h}",
                picture.width,
                picture.height,
                self.first_file.display()
            )
            .file(file)
            .advice("the pictures of a clip have one size"));
        }
        Ok(Frame { picture, duration: None })
    }
}

impl Iterator for SequenceSource {
    type Item = Result<Frame>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(picture) = self.first.take() {
            return Some(Ok(Frame { picture, duration: None }));
        }
        if self.over {
            return None;
        }
        let frame = self.files.next().map(|file| self.read(&file));
        self.over = !matches!(frame, Some(Ok(_)));
        frame
    }
}

impl Source for SequenceSource {
    fn info(&self) -> &Info {
        &self.info
    }
}

/// The files that a path stands for, in order, one at least; and what is odd about them.
fn files(path: &Path) -> Result<(Vec<PathBuf>, Vec<String>)> {
    let text = path.to_string_lossy();
    if path.is_dir() {
        let mut found = listed(path)?;
        found.retain(|f| f.extension().is_some_and(|e| ENDINGS.iter().any(|known| e.eq_ignore_ascii_case(known))));
        return sorted(found).ok_or_else(|| error!(Usage, "the folder holds no pictures").file(path));
    }
    if path.exists() {
        return Ok((vec![path.to_owned()], Vec::new()));
    }
    if let Some(pattern) = numbered(&text) {
        return numbered_files(path, &pattern);
    }
    if !text.contains(['*', '?', '[']) {
        // Opening it gives the reason.
        return Ok((vec![path.to_owned()], Vec::new()));
    }
    let paths = glob::glob(&text).map_err(|e| Error::new(ErrorKind::Usage, format!("`{text}` is not a pattern")).source(e))?;
    let found = paths.filter_map(|p| p.ok().filter(|p| p.is_file())).collect();
    sorted(found).ok_or_else(|| error!(Usage, "no file fits the pattern `{text}`"))
}

fn sorted(mut found: Vec<PathBuf>) -> Option<(Vec<PathBuf>, Vec<String>)> {
    found.sort_by(|a, b| by_numbers(&a.to_string_lossy(), &b.to_string_lossy()));
    (!found.is_empty()).then_some((found, Vec::new()))
}

fn listed(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |e| Error::io(folder, "the folder cannot be read", e);
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.is_file() {
            found.push(path);
        }
    }
    Ok(found)
}

/// A name with a place for a number: what stands before and behind it, and its digits at least.
#[derive(Debug, PartialEq)]
pub(super) struct Numbered {
    before: String,
    behind: String,
    digits: usize,
}

/// Whether a path is a pattern of numbered names, such as `shot%04d.png`, and no file of that name.
pub fn is_numbered(path: impl AsRef<Path>) -> bool {
    let path = path.as_ref();
    !path.exists() && numbered(&path.to_string_lossy()).is_some()
}

/// Reads `%d`, `%4d` or `%04d` in the last part of a path.
pub(super) fn numbered(text: &str) -> Option<Numbered> {
    let name = Path::new(text).file_name()?.to_str()?;
    let (before, rest) = name.split_once('%')?;
    let (digits, behind) = rest.split_once('d')?;
    if digits.len() > 2 || !digits.bytes().all(|b| b.is_ascii_digit()) || behind.contains('%') {
        return None;
    }
    let digits = if digits.is_empty() { 1 } else { digits.parse().ok()? };
    Some(Numbered { before: before.to_owned(), behind: behind.to_owned(), digits })
}

/// Files whose names fit, by number. Numbers that are left out are told of, not refused: renderers leave out frames.
fn numbered_files(path: &Path, pattern: &Numbered) -> Result<(Vec<PathBuf>, Vec<String>)> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let number = |file: &PathBuf| -> Option<u64> {
        let name = file.file_name()?.to_str()?;
        let digits = name.strip_prefix(&pattern.before)?.strip_suffix(&pattern.behind)?;
        let fits = digits.len() >= pattern.digits && digits.bytes().all(|b| b.is_ascii_digit());
        fits.then(|| digits.parse().ok()).flatten()
    };
    let mut found: Vec<(u64, PathBuf)> = listed(folder)?.into_iter().filter_map(|f| Some((number(&f)?, f))).collect();
    found.sort();
    let (Some(first), Some(last)) = (found.first(), found.last()) else {
        return Err(error!(Usage, "no file fits the pattern `{}`", path.display()));
    };
    let missing = (last.0 - first.0).saturating_sub(found.len() as u64 - 1);
    let mut notes = Vec::new();
    if missing > 0 {
        notes.push(format!("{missing} numbers between {} and {} have no picture", first.0, last.0));
    }
    Ok((found.into_iter().map(|(_, f)| f).collect(), notes))
}

/// Order of names in which `frame9` comes before `frame10`: runs of digits count as numbers.
fn by_numbers(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    while let (Some(x), Some(y)) = (left.chars().next(), right.chars().next()) {
        let order = if x.is_ascii_digit() && y.is_ascii_digit() {
            let (n, rest_left) = digits(left);
            let (m, rest_right) = digits(right);
            (left, right) = (rest_left, rest_right);
            n.len().cmp(&m.len()).then_with(|| n.cmp(m))
        } else {
            (left, right) = (&left[x.len_utf8()..], &right[y.len_utf8()..]);
            x.cmp(&y)
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    left.len().cmp(&right.len()).then_with(|| a.cmp(b))
}

/// The digits at the beginning, without leading zeros, and the rest.
fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (text[..end].trim_start_matches('0'), &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ordered_as_people_count() {
        let mut names = ["f10", "f9", "f010", "f1b", "f1", "g1", "f2/z", "f"];
        names.sort_by(|a, b| by_numbers(a, b));
        assert_eq!(names, ["f", "f1", "f1b", "f2/z", "f9", "f010", "f10", "g1"]);
    }

    #[test]
    fn places_for_numbers_are_found() {
        let found = |text| numbered(text).map(|n| (n.before, n.behind, n.digits));
        assert_eq!(found("a%b/shot%04d.png"), Some(("shot".into(), ".png".into(), 4)));
        assert_eq!(found("%d.png"), Some((String::new(), ".png".into(), 1)));
        for text in ["shot.png", "100%.png", "%04x.png", "%123d.png", "%d-%d.png"] {
            assert_eq!(found(text), None, "{text}");
        }
    }
}
