//! Which image belongs to which mask, and what has no partner.

use super::{MaskValues, Pair};
use crate::error::{Error, Result, error};
use crate::files::{read_text, refuse_special};
use crate::text::excerpt;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Component, Path, PathBuf};

/// Endings of the files that count as images; others (`Thumbs.db`, `.txt`) are passed over.
const IMAGES: &[&str] = &[
    "png", "jpg", "jpeg", "webp", "bmp", "tif", "tiff", "gif", "ppm", "pgm", "pnm", "pbm", "pam",
    "qoi", "tga",
];
const MASKS: &[&str] = &["png"];

/// Lines of the longest list that is read: each takes some hundred bytes of memory, and a file of
/// the greatest length could have 33 million.
const MOST_LINES: usize = 4_000_000;

/// How many names an error spells out.
const SPELLED_OUT: usize = 5;

/// What keeps a file, or a name of a list, out of the pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MismatchKind {
    /// An image that has no mask.
    NoMask,
    /// A mask that has no image.
    NoImage,
    /// A file of the same name, ending aside, as another one of its directory.
    SameName,
}

/// A file, or a name of a list, without a partner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// What is wrong.
    pub kind: MismatchKind,
    /// The name, without ending.
    pub name: String,
    /// The file at hand; the list, where the name stands in a list.
    pub file: PathBuf,
    /// The directory in which the partner was looked for; the other file, where two share a name.
    pub place: PathBuf,
}

/// What a part of a data set holds.
#[derive(Debug, Default)]
pub(super) struct Matched {
    pub(super) pairs: Vec<Pair>,
    pub(super) misfits: Vec<Mismatch>,
}

impl Matched {
    /// The pairs. Errors where anything does not fit, with the first kind of misfit and the names
    /// of that kind; and where a file of a pair is a FIFO, a socket or a device, before hours of
    /// work come to it.
    pub(super) fn strict(self) -> Result<Vec<Pair>> {
        let Some(first) = self.misfits.first() else {
            for pair in &self.pairs {
                refuse_special(&pair.image, "an image")?;
                refuse_special(&pair.mask, "a mask")?;
            }
            return Ok(self.pairs);
        };
        if first.kind == MismatchKind::SameName {
            return Err(
                error!(Data, "and `{}` share a name", first.place.display()).file(&first.file)
            );
        }
        let alike: Vec<&Mismatch> = self.misfits.iter().filter(|m| m.kind == first.kind).collect();
        let listed = first.file.extension().is_some_and(|e| e == "txt");
        let what = match (first.kind, listed) {
            (MismatchKind::NoMask, false) => "without a mask of the same name",
            (MismatchKind::NoMask, true) => "names that have no mask",
            (_, false) => "masks without an image of the same name",
            (_, true) => "names that have no image",
        };
        let more = if alike.len() > SPELLED_OUT { ", ..." } else { "" };
        let names: Vec<String> = alike.iter().take(SPELLED_OUT).map(|m| excerpt(&m.name)).collect();
        let error =
            error!(Data, "{} {what}: {}{more}", alike.len(), names.join(", ")).file(&first.place);
        let error = error.advice("`atrous doctor data` lists all that is off with a data set");
        Err(if listed { error.file(&first.file) } else { error })
    }
}

/// The images and masks of two directories.
pub(super) struct Directories {
    places: (PathBuf, PathBuf),
    images: BTreeMap<String, PathBuf>,
    masks: BTreeMap<String, PathBuf>,
    misfits: Vec<Mismatch>,
}

impl Directories {
    /// Errors where a directory cannot be listed.
    pub(super) fn read(images: &Path, masks: &Path) -> Result<Self> {
        let mut misfits = Vec::new();
        let mut read =
            |directory: &Path, endings| by_name(&files(directory)?, endings, &mut misfits);
        let (found, found_masks) = (read(images, IMAGES)?, read(masks, MASKS)?);
        Ok(Self {
            places: (images.into(), masks.into()),
            images: found,
            masks: found_masks,
            misfits,
        })
    }

    /// Every image with its mask, by name. Errors where there is no image.
    pub(super) fn all(self, ids: MaskValues) -> Result<Matched> {
        if self.images.is_empty() {
            return Err(error!(Data, "holds no images").file(&self.places.0));
        }
        Ok(match_up(self.images, self.masks, &self.places, self.misfits, ids))
    }

    /// The pairs that a file lists, in its order; see [`list_names`](super::list_names). Pairs of
    /// paths begin at `root`.
    pub(super) fn listed(mut self, list: &Path, root: &Path) -> Result<Matched> {
        let text = read_text(list)?;
        let entries = Entry::all(&text).map_err(|e| e.file(list))?;
        let (mut names, mut images) = (HashSet::new(), HashSet::new());
        let mut out = Matched { pairs: Vec::new(), misfits: std::mem::take(&mut self.misfits) };
        // Two files of one name do not matter where a list says nothing of them.
        let named: HashSet<&str> = text.lines().map(str::trim).collect();
        out.misfits.retain(|m| named.contains(m.name.as_str()));
        for entry in entries {
            let (image, mask) = match &entry.paths {
                Some((image, mask)) => self.find(root, image, mask),
                None => {
                    (self.images.get(&entry.name).cloned(), self.masks.get(&entry.name).cloned())
                }
            };
            let known = image.as_ref().is_some_and(|image| !images.insert(image.clone()));
            if !names.insert(entry.name.clone()) || known {
                let error = error!(Data, "`{}` is listed twice", excerpt(&entry.name));
                return Err(error.at(format!("line {}", entry.line)).file(list));
            }
            match (image, mask) {
                (Some(image), Some(mask)) => {
                    out.pairs.push(Pair { name: entry.name, image, mask, ids: MaskValues::Classes })
                }
                (image, _) => {
                    let (kind, place) = match image {
                        None => (MismatchKind::NoImage, &self.places.0),
                        Some(_) => (MismatchKind::NoMask, &self.places.1),
                    };
                    out.misfits.push(Mismatch {
                        kind,
                        name: entry.name,
                        file: list.into(),
                        place: place.clone(),
                    });
                }
            }
        }
        if out.pairs.is_empty() && out.misfits.is_empty() {
            return Err(error!(Data, "lists no names").file(list));
        }
        Ok(out)
    }

    /// The files of two listed paths: those that lie so under `root`. Lists that were written on
    /// another machine begin with its directories, so where neither is there, those that lie there
    /// without them; else the files of these names in the two directories.
    fn find(&self, root: &Path, image: &Path, mask: &Path) -> (Option<PathBuf>, Option<PathBuf>) {
        let there = |path: &Path| Some(root.join(path)).filter(|p| p.is_file());
        let as_listed = (there(image), there(mask));
        if as_listed != (None, None) {
            return as_listed;
        }
        let depth = image.components().count().min(mask.components().count());
        // A directory stays in front of the name: the two lie in different ones.
        for skipped in 1..depth.saturating_sub(1) {
            let rest = |path: &Path| there(&path.components().skip(skipped).collect::<PathBuf>());
            if let (Some(image), Some(mask)) = (rest(image), rest(mask))
                && image != mask
            {
                return (Some(image), Some(mask));
            }
        }
        let named = |path: &Path, directory: &Path, files: &BTreeMap<String, PathBuf>| {
            let same = path.file_name().map(|name| directory.join(name)).filter(|p| p.is_file());
            same.or_else(|| files.get(path.file_stem()?.to_str()?).cloned())
        };
        (named(image, &self.places.0, &self.images), named(mask, &self.places.1, &self.masks))
    }

    /// Adds a second directory of masks for the names that have none in the first.
    pub(super) fn more_masks(&mut self, directory: &Path) -> Result<()> {
        for (name, mask) in by_name(&files(directory)?, MASKS, &mut self.misfits)? {
            self.masks.entry(name).or_insert(mask);
        }
        Ok(())
    }
}

/// Images with the masks of their names, and what is left over.
pub(super) fn match_up(
    images: BTreeMap<String, PathBuf>,
    mut masks: BTreeMap<String, PathBuf>,
    places: &(PathBuf, PathBuf),
    misfits: Vec<Mismatch>,
    ids: MaskValues,
) -> Matched {
    let mut out = Matched { pairs: Vec::with_capacity(images.len()), misfits };
    for (name, image) in images {
        match masks.remove(&name) {
            Some(mask) => out.pairs.push(Pair { name, image, mask, ids }),
            None => out.misfits.push(Mismatch {
                kind: MismatchKind::NoMask,
                name,
                file: image,
                place: places.1.clone(),
            }),
        }
    }
    let lonely = masks.into_iter();
    let misfit = |(name, file)| Mismatch {
        kind: MismatchKind::NoImage,
        name,
        file,
        place: places.0.clone(),
    };
    out.misfits.extend(lonely.map(misfit));
    out
}

/// A line of a list.
struct Entry {
    /// Its number, from 1 on.
    line: usize,
    name: String,
    /// Of image and mask, from the data set's directory.
    paths: Option<(PathBuf, PathBuf)>,
}

impl Entry {
    /// The lines of a list that are not empty. Images of one name in several directories are called
    /// by their paths, without ending, so that no two have the same name.
    fn all(text: &str) -> Result<Vec<Self>> {
        if let Some((number, _)) = text.lines().enumerate().nth(MOST_LINES) {
            return Err(error!(Data, "has more than {number} lines"));
        }
        let lines = (1..).zip(text.lines().map(str::trim)).filter(|(_, line)| !line.is_empty());
        let parsed = lines.map(|(number, line)| {
            Self::parse(number, line).map_err(|e| e.at(format!("line {number}")))
        });
        let mut entries: Vec<Self> = parsed.collect::<Result<_>>()?;
        let mut times = HashMap::<String, usize>::new();
        entries.iter().for_each(|entry| *times.entry(entry.name.clone()).or_default() += 1);
        for entry in entries.iter_mut().filter(|entry| times[&entry.name] > 1) {
            if let Some((image, _)) = &entry.paths {
                entry.name = image.with_extension("").display().to_string();
            }
        }
        Ok(entries)
    }

    fn parse(number: usize, line: &str) -> Result<Self> {
        if matches!(parts(line)[..], [Component::Normal(_)]) && !line.contains('/') {
            return Ok(Self { line: number, name: line.into(), paths: None });
        }
        let inside = |path: &str| {
            let path = path.trim_start_matches('/');
            let normal =
                !path.is_empty() && parts(path).iter().all(|c| matches!(c, Component::Normal(_)));
            normal.then(|| PathBuf::from(path))
        };
        let stem = |path: &Path| path.file_stem().and_then(|s| s.to_str()).map(str::to_owned);
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [image, mask] = words[..]
            && let (Some(image), Some(mask)) = (inside(image), inside(mask))
            && let Some(name) = stem(&image)
        {
            return Ok(Self { line: number, name, paths: Some((image, mask)) });
        }
        Err(error!(
            Data,
            "`{}` is no plain file name, and no two paths inside the directory",
            excerpt(line)
        ))
    }
}

fn parts(path: &str) -> Vec<Component<'_>> {
    Path::new(path).components().collect()
}

/// The files of a directory, sorted. Errors where it cannot be listed.
pub(super) fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    Ok(entries(directory)?.into_iter().filter(|path| !path.is_dir()).collect())
}

/// The names of the directories in a directory, sorted. Errors where it cannot be listed.
pub(super) fn directories(directory: &Path) -> Result<Vec<String>> {
    let name = |path: PathBuf| path.file_name().and_then(|n| n.to_str()).map(str::to_owned);
    Ok(entries(directory)?.into_iter().filter(|path| path.is_dir()).filter_map(name).collect())
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = |e| Error::io(directory, "could not be listed", e);
    let paths = std::fs::read_dir(directory)
        .map_err(unreadable)?
        .map(|entry| Ok(entry.map_err(unreadable)?.path()));
    let mut paths: Vec<PathBuf> = paths.collect::<Result<_>>()?;
    paths.sort();
    Ok(paths)
}

/// Whether a directory holds an image itself.
pub(super) fn has_images(directory: &Path) -> Result<bool> {
    Ok(files(directory)?.iter().any(|path| name_of(path, IMAGES).is_some()))
}

fn by_name(
    files: &[PathBuf],
    endings: &[&str],
    misfits: &mut Vec<Mismatch>,
) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::<String, PathBuf>::new();
    for path in files {
        let Some(name) = name_of(path, endings) else { continue };
        match found.get(name) {
            None => drop(found.insert(name.to_owned(), path.clone())),
            Some(other) => misfits.push(Mismatch {
                kind: MismatchKind::SameName,
                name: name.to_owned(),
                file: path.clone(),
                place: other.clone(),
            }),
        }
    }
    Ok(found)
}

/// A file's name without its ending, where the ending is one of these. Hidden files (`._a.png` of a
/// Mac) are none of ours.
fn name_of<'a>(path: &'a Path, endings: &[&str]) -> Option<&'a str> {
    let ending = path.extension()?.to_str()?.to_ascii_lowercase();
    let stem = path.file_stem()?.to_str()?;
    (endings.contains(&ending.as_str()) && !stem.starts_with('.')).then_some(stem)
}
