//! Matching of images and masks, and files without a partner.

use super::{MaskValues, Pair};
use crate::error::{Error, Result, error};
use crate::files::{read_text, refuse_special};
use crate::image::MASK_EXTENSIONS as MASKS;
use crate::text::excerpt;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Component, Path, PathBuf};

/// Extensions of image files; other files (`Thumbs.db`, `.txt`) are skipped.
pub(super) const IMAGES: &[&str] = &[
    "png", "jpg", "jpeg", "webp", "bmp", "tif", "tiff", "gif", "ppm", "pgm", "pnm", "pbm", "pam",
    "qoi", "tga",
];

/// What tools append to an image's name for its mask.
const SUFFIXES: &[&str] = &[
    "_mask",
    "-mask",
    ".mask",
    "_masks",
    "_label",
    "-label",
    "_labels",
    "_seg",
    "-seg",
    "_gt",
    "-gt",
    "_segmentation",
];

/// Maximum number of lines of a list. Each takes some hundred bytes of memory, and a file of the
/// maximum size could have 33 million.
const MAX_LINES: usize = 4_000_000;

/// Maximum number of names that an error lists.
const MAX_NAMES: usize = 5;

/// Why a file or an entry of a list is not in a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MismatchKind {
    /// An image without a mask.
    NoMask,
    /// A mask without an image.
    NoImage,
    /// A file with the same name as another one in its directory, except for the extension.
    SameName,
}

/// A file or an entry of a list that is not in a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The reason.
    pub kind: MismatchKind,
    /// Name without extension.
    pub name: String,
    /// The file, or the list that contains the name.
    pub file: PathBuf,
    /// The directory that should contain the partner; for [`MismatchKind::SameName`], the other
    /// file.
    pub partner: PathBuf,
}

impl Mismatch {
    /// Whether it is an entry of a list or an annotation file.
    pub(super) fn is_listed(&self) -> bool {
        self.file.extension().is_some_and(|e| e == "txt" || e == "json")
    }

    /// Returns the file that would be the mask of an image, were it in a format of masks.
    fn mask_of_another_format(&self) -> Option<PathBuf> {
        let is_listed = self.is_listed();
        let extensions = IMAGES.iter().filter(|extension| !MASKS.contains(extension));
        extensions
            .filter(|_| self.kind == MismatchKind::NoMask && !is_listed)
            .map(|extension| self.partner.join(format!("{}.{extension}", self.name)))
            .find(|path| path.is_file() && *path != self.file)
    }
}

/// The files of a split: pairs, and files without a partner.
#[derive(Debug, Default)]
pub(super) struct Matched {
    pub(super) pairs: Vec<Pair>,
    pub(super) mismatches: Vec<Mismatch>,
}

impl Matched {
    /// Returns the pairs. Returns an error if there are mismatches, with the first kind and the
    /// names of that kind; or if a file of a pair is a FIFO, a socket or a device, to refuse it
    /// before the training reads it hours later.
    pub(super) fn strict(self) -> Result<Vec<Pair>> {
        let Some(first) = self.mismatches.first() else {
            for pair in &self.pairs {
                refuse_special(&pair.image, "an image")?;
                refuse_special(pair.mask.path(), "a mask")?;
            }
            return Ok(self.pairs);
        };
        if first.kind == MismatchKind::SameName {
            let other = first.partner.display();
            return Err(error!(Data, "and `{other}` have the same name").file(&first.file));
        }
        let same_kind: Vec<&Mismatch> =
            self.mismatches.iter().filter(|m| m.kind == first.kind).collect();
        let listed = first.is_listed();
        let (noun, problem) = match (first.kind, listed) {
            (MismatchKind::NoMask, false) => ("image", "without a mask of the same name"),
            (MismatchKind::NoMask, true) => ("listed name", "without a mask"),
            (_, false) => ("mask", "without an image of the same name"),
            (_, true) => ("listed name", "without an image"),
        };
        if let Some(other) = first.mask_of_another_format() {
            let other = crate::text::path(&other).to_string();
            return Err(error!(
                Data,
                "masks are PNG, TIFF, BMP, GIF or .npy files, but this is none: {other}"
            )
            .file(&first.partner)
            .advice("save the masks as PNG, without lossy compression"));
        }
        let count = same_kind.len();
        let plural = if count == 1 { "" } else { "s" };
        let more = if count > MAX_NAMES { ", ..." } else { "" };
        let names: Vec<String> =
            same_kind.iter().take(MAX_NAMES).map(|m| excerpt(&m.name)).collect();
        let error = error!(Data, "{count} {noun}{plural} {problem}: {}{more}", names.join(", "))
            .file(&first.partner)
            .advice("`atrous doctor` lists all problems of a data set");
        Err(if listed { error.file(&first.file) } else { error })
    }
}

/// The images and masks of two directories, by name.
pub(super) struct Directories {
    roots: (PathBuf, PathBuf),
    images: BTreeMap<String, PathBuf>,
    masks: BTreeMap<String, PathBuf>,
    mismatches: Vec<Mismatch>,
}

impl Directories {
    /// Lists the files. Returns an error if a directory cannot be listed.
    pub(super) fn read(images: &Path, masks: &Path) -> Result<Self> {
        let mut mismatches = Vec::new();
        let mut read =
            |directory: &Path, extensions| by_name(&files(directory)?, extensions, &mut mismatches);
        let (image_files, mask_files) = (read(images, IMAGES)?, read(masks, MASKS)?);
        Ok(Self {
            roots: (images.into(), masks.into()),
            masks: without_suffixes(mask_files, &image_files),
            images: image_files,
            mismatches,
        })
    }

    /// Lists the files of a directory with both: masks have the names of their images with a suffix
    /// such as `_mask`. Returns an error if it cannot be listed.
    pub(super) fn in_one(directory: &Path) -> Result<Self> {
        let files = files(directory)?;
        let names: HashSet<&str> = files.iter().filter_map(|path| name_of(path, IMAGES)).collect();
        let has_mask =
            |name: &str| SUFFIXES.iter().any(|end| names.contains(format!("{name}{end}").as_str()));
        // An image whose own name ends like a mask's has a mask with one more suffix.
        let is_mask = |path: &&PathBuf| {
            name_of(path, MASKS).is_some_and(|name| bare_name(name).is_some() && !has_mask(name))
        };
        let (masks, images): (Vec<_>, Vec<_>) = files.iter().partition(is_mask);
        let [masks, images] = [masks, images].map(|v| v.into_iter().cloned().collect::<Vec<_>>());
        let mut mismatches = Vec::new();
        let images = by_name(&images, IMAGES, &mut mismatches)?;
        let masks = without_suffixes(by_name(&masks, MASKS, &mut mismatches)?, &images);
        Ok(Self { roots: (directory.into(), directory.into()), images, masks, mismatches })
    }

    /// Whether an image has a mask.
    pub(super) fn has_pairs(&self) -> bool {
        self.masks.keys().any(|name| self.images.contains_key(name))
    }

    /// Matches every image with its mask, by name. Returns an error if there are no images.
    pub(super) fn all(self, values: MaskValues) -> Result<Matched> {
        if self.images.is_empty() {
            return Err(error!(Data, "contains no images").file(&self.roots.0));
        }
        Ok(match_up(self.images, self.masks, &self.roots, self.mismatches, values))
    }

    /// Matches the entries of a list, in its order. Paths in
    /// the list are relative to `root`.
    pub(super) fn listed(mut self, list: &Path, root: &Path) -> Result<Matched> {
        let text = read_text(list)?;
        let entries = Entry::all(&text).map_err(|e| e.file(list))?;
        let (mut names, mut images) = (HashSet::new(), HashSet::new());
        let mut out =
            Matched { pairs: Vec::new(), mismatches: std::mem::take(&mut self.mismatches) };
        // Files with the same name do not matter unless they are listed.
        let listed: HashSet<&str> = text.lines().map(str::trim).collect();
        out.mismatches.retain(|m| listed.contains(m.name.as_str()));
        for entry in entries {
            let (image, mask) = match &entry.paths {
                Some((image, mask)) => self.find(root, image, mask),
                None => {
                    (self.images.get(&entry.name).cloned(), self.masks.get(&entry.name).cloned())
                }
            };
            let is_duplicate = image.as_ref().is_some_and(|image| !images.insert(image.clone()));
            if !names.insert(entry.name.clone()) || is_duplicate {
                let error = error!(Data, "`{}` is listed twice", excerpt(&entry.name));
                return Err(error.at(format!("line {}", entry.line)).file(list));
            }
            match (image, mask) {
                (Some(image), Some(mask)) => {
                    let (name, mask, values) = (entry.name, mask.into(), MaskValues::CLASSES);
                    out.pairs.push(Pair { name, image, mask, values });
                }
                (image, _) => {
                    let (kind, partner) = match image {
                        None => (MismatchKind::NoImage, &self.roots.0),
                        Some(_) => (MismatchKind::NoMask, &self.roots.1),
                    };
                    out.mismatches.push(Mismatch {
                        kind,
                        name: entry.name,
                        file: list.into(),
                        partner: partner.clone(),
                    });
                }
            }
        }
        if out.pairs.is_empty() && out.mismatches.is_empty() {
            return Err(error!(Data, "the list contains no names").file(list));
        }
        Ok(out)
    }

    /// Finds the files of a list entry with two paths, first under `root`. Lists written on another
    /// machine contain its leading directories, so if neither file exists, tries to remove these;
    /// then the file names in the two directories.
    fn find(&self, root: &Path, image: &Path, mask: &Path) -> (Option<PathBuf>, Option<PathBuf>) {
        let existing = |path: &Path| Some(root.join(path)).filter(|p| p.is_file());
        let as_listed = (existing(image), existing(mask));
        if as_listed != (None, None) {
            return as_listed;
        }
        let depth = image.components().count().min(mask.components().count());
        // Keep at least one directory: image and mask are in different ones.
        for skipped in 1..depth.saturating_sub(1) {
            let without_prefix =
                |path: &Path| existing(&path.components().skip(skipped).collect::<PathBuf>());
            if let (Some(image), Some(mask)) = (without_prefix(image), without_prefix(mask))
                && image != mask
            {
                return (Some(image), Some(mask));
            }
        }
        let named = |path: &Path, directory: &Path, files: &BTreeMap<String, PathBuf>| {
            let same = path.file_name().map(|name| directory.join(name)).filter(|p| p.is_file());
            same.or_else(|| files.get(path.file_stem()?.to_str()?).cloned())
        };
        (named(image, &self.roots.0, &self.images), named(mask, &self.roots.1, &self.masks))
    }

    /// Adds masks of another directory for names without a mask.
    pub(super) fn add_masks(&mut self, directory: &Path) -> Result<()> {
        for (name, mask) in by_name(&files(directory)?, MASKS, &mut self.mismatches)? {
            self.masks.entry(name).or_insert(mask);
        }
        Ok(())
    }
}

/// Returns the name of the image that a mask is of, if its name has a suffix that says mask.
fn bare_name(mask: &str) -> Option<&str> {
    SUFFIXES.iter().find_map(|suffix| mask.strip_suffix(suffix)).filter(|name| !name.is_empty())
}

/// Names masks as their images, where these have the mask's name without a suffix.
pub(super) fn without_suffixes(
    masks: BTreeMap<String, PathBuf>,
    images: &BTreeMap<String, PathBuf>,
) -> BTreeMap<String, PathBuf> {
    let (mut named, suffixed): (BTreeMap<_, _>, BTreeMap<_, _>) =
        masks.into_iter().partition(|(name, _)| images.contains_key(name));
    for (name, path) in suffixed {
        let bare = bare_name(&name).filter(|bare| images.contains_key(*bare));
        let bare = bare.filter(|bare| !named.contains_key(*bare)).map(str::to_owned);
        named.insert(bare.unwrap_or(name), path);
    }
    named
}

/// Matches images and masks by name.
pub(super) fn match_up(
    images: BTreeMap<String, PathBuf>,
    mut masks: BTreeMap<String, PathBuf>,
    roots: &(PathBuf, PathBuf),
    mismatches: Vec<Mismatch>,
    values: MaskValues,
) -> Matched {
    let mut out = Matched { pairs: Vec::with_capacity(images.len()), mismatches };
    for (name, image) in images {
        match masks.remove(&name) {
            Some(mask) => out.pairs.push(Pair { name, image, mask: mask.into(), values }),
            None => out.mismatches.push(Mismatch {
                kind: MismatchKind::NoMask,
                name,
                file: image,
                partner: roots.1.clone(),
            }),
        }
    }
    for (name, file) in masks {
        let (kind, partner) = (MismatchKind::NoImage, roots.0.clone());
        out.mismatches.push(Mismatch { kind, name, file, partner });
    }
    out
}

/// A line of a list.
struct Entry {
    /// Line number, from 1.
    line: usize,
    name: String,
    /// Paths of image and mask, relative to the data set's directory.
    paths: Option<(PathBuf, PathBuf)>,
}

impl Entry {
    /// Parses the non-empty lines of a list. Images with the same name in several directories are
    /// called by their paths, without extension, so that names are unique.
    fn all(text: &str) -> Result<Vec<Self>> {
        if let Some((number, _)) = text.lines().enumerate().nth(MAX_LINES) {
            return Err(error!(Data, "has more than {number} lines"));
        }
        let lines = (1..).zip(text.lines().map(str::trim)).filter(|(_, line)| !line.is_empty());
        let parsed = lines.map(|(number, line)| {
            Self::parse(number, line).map_err(|e| e.at(format!("line {number}")))
        });
        let mut entries: Vec<Self> = parsed.collect::<Result<_>>()?;
        let mut counts = HashMap::<String, usize>::new();
        for entry in &entries {
            *counts.entry(entry.name.clone()).or_default() += 1;
        }
        for entry in entries.iter_mut().filter(|entry| counts[&entry.name] > 1) {
            if let Some((image, _)) = &entry.paths {
                entry.name = image.with_extension("").display().to_string();
            }
        }
        Ok(entries)
    }

    fn parse(number: usize, line: &str) -> Result<Self> {
        if matches!(components(line)[..], [Component::Normal(_)]) && !line.contains('/') {
            return Ok(Self { line: number, name: line.into(), paths: None });
        }
        let relative = |path: &str| {
            let path = path.trim_start_matches('/');
            let is_inside = !path.is_empty()
                && components(path).iter().all(|c| matches!(c, Component::Normal(_)));
            is_inside.then(|| PathBuf::from(path))
        };
        let stem = |path: &Path| path.file_stem().and_then(|s| s.to_str()).map(str::to_owned);
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [image, mask] = words[..]
            && let (Some(image), Some(mask)) = (relative(image), relative(mask))
            && let Some(name) = stem(&image)
        {
            return Ok(Self { line: number, name, paths: Some((image, mask)) });
        }
        Err(error!(
            Data,
            "`{}` is neither a file name nor two paths inside the directory",
            excerpt(line)
        ))
    }
}

fn components(path: &str) -> Vec<Component<'_>> {
    Path::new(path).components().collect()
}

/// Returns the files of a directory, sorted.
pub(super) fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    Ok(entries(directory)?.into_iter().filter(|path| !path.is_dir()).collect())
}

/// Returns the names of the subdirectories of a directory, sorted.
pub(super) fn directories(directory: &Path) -> Result<Vec<String>> {
    let name = |path: PathBuf| path.file_name().and_then(|n| n.to_str()).map(str::to_owned);
    Ok(entries(directory)?.into_iter().filter(|path| path.is_dir()).filter_map(name).collect())
}

/// Returns the names of the subdirectories of `images` that `masks` has as well, sorted.
pub(super) fn common_directories(images: &Path, masks: &Path) -> Result<Vec<String>> {
    Ok(directories(images)?.into_iter().filter(|name| masks.join(name).is_dir()).collect())
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = |e| Error::io(directory, "could not list the directory", e);
    let paths = std::fs::read_dir(directory)
        .map_err(unreadable)?
        .map(|entry| Ok(entry.map_err(unreadable)?.path()));
    let mut paths: Vec<PathBuf> = paths.collect::<Result<_>>()?;
    paths.sort();
    Ok(paths)
}

/// Whether a directory directly contains images.
pub(super) fn has_images(directory: &Path) -> Result<bool> {
    Ok(files(directory)?.iter().any(|path| name_of(path, IMAGES).is_some()))
}

/// Returns the images directly in a directory by name. Adds files with the same name to
/// `mismatches`.
pub(super) fn image_files(
    directory: &Path,
    mismatches: &mut Vec<Mismatch>,
) -> Result<BTreeMap<String, PathBuf>> {
    by_name(&files(directory)?, IMAGES, mismatches)
}

/// Number of images directly in a directory; 0 if it cannot be listed.
pub(super) fn count_images(directory: &Path) -> usize {
    let files = files(directory).unwrap_or_default();
    files.iter().filter(|path| name_of(path, IMAGES).is_some()).count()
}

/// Files with one of these extensions, by name. Adds files with the same name to `mismatches`.
fn by_name(
    files: &[PathBuf],
    extensions: &[&str],
    mismatches: &mut Vec<Mismatch>,
) -> Result<BTreeMap<String, PathBuf>> {
    let mut out = BTreeMap::<String, PathBuf>::new();
    for path in files {
        let Some(name) = name_of(path, extensions) else { continue };
        match out.get(name) {
            None => drop(out.insert(name.to_owned(), path.clone())),
            Some(other) => mismatches.push(Mismatch {
                kind: MismatchKind::SameName,
                name: name.to_owned(),
                file: path.clone(),
                partner: other.clone(),
            }),
        }
    }
    Ok(out)
}

/// Name of a file without its extension, if that is one of `extensions`. Skips hidden files
/// (`._a.png`, created by macOS).
fn name_of<'a>(path: &'a Path, extensions: &[&str]) -> Option<&'a str> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    let stem = path.file_stem()?.to_str()?;
    (extensions.contains(&extension.as_str()) && !stem.starts_with('.')).then_some(stem)
}
