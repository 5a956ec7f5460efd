//! Data sets in no layout: two patterns, one for the images and one for their masks.

use super::MaskValues;
use super::layout::Layout;
use super::pairing::{Matched, Mismatch, MismatchKind, match_up, without_suffixes};
use crate::error::{Result, error};
use crate::files::{glob_files, is_pattern};
use crate::text::excerpt;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Component, Path, PathBuf};

/// The placeholder for the name of a split.
const SPLIT: &str = "{split}";

/// Where images and masks are: paths with the wildcards `*`, `?`, `[...]`, and `**` for any number
/// of directories. The text that the wildcards match is the name of an image, and its mask has the
/// same one, or the same with a suffix such as `_mask`. `{split}` matches the name of a split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patterns {
    /// Pattern of the images, such as `scans/*/photo.jpg`.
    pub images: String,
    /// Pattern of the masks, such as `scans/*/mask.png`.
    pub masks: String,
}

impl Patterns {
    /// Returns the directory that contains everything that the patterns match, where a
    /// `classes.txt` is looked for.
    pub fn directory(&self) -> PathBuf {
        let [images, masks] = [&self.images, &self.masks].map(|p| literal_directory(p));
        let pairs = images.components().zip(masks.components());
        let common = pairs.take_while(|(a, b)| a == b).map(|(a, _)| a).collect::<PathBuf>();
        if common.as_os_str().is_empty() { PathBuf::from(".") } else { common }
    }

    fn has_splits(&self) -> bool {
        self.images.contains(SPLIT) || self.masks.contains(SPLIT)
    }

    /// Returns the patterns of a split.
    fn of_split(&self, split: &str) -> [String; 2] {
        [&self.images, &self.masks].map(|pattern| pattern.replace(SPLIT, split))
    }
}

impl Layout for Patterns {
    fn name(&self) -> &'static str {
        "patterns"
    }

    fn title(&self) -> &'static str {
        "patterns of images and masks"
    }

    fn directories(&self) -> &'static str {
        "--images PATTERN with --masks PATTERN"
    }

    /// No directory says what the patterns are.
    fn detect(&self, _root: &Path) -> Result<bool> {
        Ok(false)
    }

    fn splits(&self, _root: &Path) -> Result<Vec<String>> {
        if !self.has_splits() {
            return Ok(Vec::new());
        }
        let mut found: Vec<String> = splits_of(&self.images)?.into_iter().collect();
        let with_masks = splits_of(&self.masks)?;
        found.retain(|split| with_masks.contains(split));
        Ok(found)
    }

    fn undivided(&self) -> Option<&'static str> {
        (!self.has_splits()).then_some("images and masks given by patterns without {split}")
    }

    fn matched(&self, _root: &Path, split: Option<&str>) -> Result<Matched> {
        let [image_pattern, mask_pattern] = self.of_split(split.unwrap_or_default());
        let mut mismatches = Vec::new();
        let mask_files = files(&mask_pattern)?;
        // `x/*.png` also matches the masks `x/*_mask.png`.
        let of_masks: HashSet<&PathBuf> = mask_files.iter().collect();
        let mut image_files = files(&image_pattern)?;
        image_files.retain(|path| !of_masks.contains(path));
        if image_files.is_empty() {
            let (images, masks) = (excerpt(&image_pattern), excerpt(&mask_pattern));
            return Err(error!(
                Data,
                "all images of `{images}` match the pattern `{masks}` of masks too"
            )
            .advice(
                "end the pattern of the masks with what only they have, such as '*-labels.png'",
            ));
        }
        let images = by_name(&image_pattern, image_files, &mut mismatches);
        let masks = by_name(&mask_pattern, mask_files, &mut mismatches);
        let masks = without_suffixes(masks, &images);
        if !masks.keys().any(|name| images.contains_key(name)) {
            return Err(no_pairs(&images, &masks));
        }
        let roots = (literal_directory(&image_pattern), literal_directory(&mask_pattern));
        Ok(match_up(images, masks, &roots, mismatches, MaskValues::CLASSES))
    }
}

/// Returns the files that match a pattern, at least one.
fn files(pattern: &str) -> Result<Vec<PathBuf>> {
    let (files, _) = glob_files(Path::new(pattern))?;
    if files.is_empty() {
        return Err(error!(Data, "no file matches the pattern `{}`", excerpt(pattern))
            .advice("quote the pattern, so that the shell does not replace it"));
    }
    Ok(files)
}

fn no_pairs(
    images: &BTreeMap<String, PathBuf>,
    masks: &BTreeMap<String, PathBuf>,
) -> crate::error::Error {
    let first = |files: &BTreeMap<String, PathBuf>| {
        let names = files.keys().take(3).map(|name| format!("`{}`", excerpt(name)));
        let more = if files.len() > 3 { ", ..." } else { "" };
        format!("{}{more}", names.collect::<Vec<_>>().join(", "))
    };
    let (of_images, of_masks) = (first(images), first(masks));
    error!(Data, "no image and mask have the same name: images are {of_images}, masks {of_masks}")
        .advice("a name is the text that the wildcards match: end the pattern of the masks with what only they have, such as '*-labels.png'")
}

/// Returns the part of a pattern before its first wildcard, and that after its last.
fn literal_ends(pattern: &str) -> (&str, &str) {
    let first = pattern.find(['*', '?', '[', '{']).unwrap_or(pattern.len());
    let last = pattern.rfind(['*', '?', ']', '}']).map_or(pattern.len(), |at| at + 1);
    (&pattern[..first], &pattern[last..])
}

/// Returns the directory before the first wildcard of a pattern.
fn literal_directory(pattern: &str) -> PathBuf {
    let parent = |(path, _): (&str, &str)| Path::new(path).to_path_buf();
    literal_ends(pattern).0.rsplit_once('/').map_or_else(PathBuf::new, parent)
}

/// Returns files by the text that the wildcards of their pattern match.
fn by_name(
    pattern: &str,
    files: Vec<PathBuf>,
    mismatches: &mut Vec<Mismatch>,
) -> BTreeMap<String, PathBuf> {
    // As the paths are that it matches, without `./` inside and `//`; the extension is no part of a
    // name.
    let pattern = Path::new(pattern).components().collect::<PathBuf>().with_extension("");
    let (start, end) = literal_ends(pattern.to_str().expect("invariant: made of a String"));
    let mut named = BTreeMap::<String, PathBuf>::new();
    for file in files {
        let name = name_of(&file, start, end);
        match named.get(&name) {
            None => drop(named.insert(name, file)),
            Some(other) => mismatches.push(Mismatch {
                kind: MismatchKind::SameName,
                name,
                partner: other.clone(),
                file,
            }),
        }
    }
    named
}

fn name_of(file: &Path, start: &str, end: &str) -> String {
    let whole = file.with_extension("");
    let whole = whole.to_string_lossy();
    let middle = whole.strip_prefix(start).and_then(|rest| rest.strip_suffix(end));
    match middle.filter(|middle| !middle.is_empty()) {
        Some(middle) => middle.to_owned(),
        None => file.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
    }
}

/// Returns the names that `{split}` matches in the paths that match a pattern.
fn splits_of(pattern: &str) -> Result<BTreeSet<String>> {
    let path = Path::new(pattern);
    let component = |c: Component| c.as_os_str().to_str().unwrap_or_default().to_owned();
    let components: Vec<String> = path.components().map(component).collect();
    let Some(at) = components.iter().position(|c| c.contains(SPLIT)) else {
        return Err(error!(Usage, "`{}` does not contain {SPLIT}", excerpt(pattern))
            .advice("write {split} in both patterns, or in none"));
    };
    let (before, after) = components[at].split_once(SPLIT).expect("invariant: it contains this");
    let is_unclear = is_pattern(Path::new(&format!("{before}{after}")))
        || after.contains(SPLIT)
        || components[..at].iter().any(|c| c == "**");
    if is_unclear {
        return Err(error!(Usage, "what {SPLIT} is in `{}` is not clear", excerpt(pattern))
            .advice(
                "leave wildcards out of the name with {split}, and ** out of what is before it",
            ));
    }
    let (files, _) = glob_files(Path::new(&pattern.replace(SPLIT, "*")))?;
    let split = |file: PathBuf| {
        let component = file.components().nth(at)?.as_os_str().to_str()?.to_owned();
        Some(component.strip_prefix(before)?.strip_suffix(after)?.to_owned())
    };
    Ok(files.into_iter().filter_map(split).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::test_files::tree;
    use crate::data::{DataSource, open};

    /// The pairs of a split as `NAME: IMAGE MASK`, relative to the directory.
    fn pairs(root: &Path, images: &str, masks: &str, split: Option<&str>) -> Result<Vec<String>> {
        let [images, masks] = [images, masks].map(|p| format!("{}/{p}", root.display()));
        let listing = open(DataSource::from(Patterns { images, masks }), split)?;
        let relative = |path: &Path| path.strip_prefix(root).unwrap().display().to_string();
        let pair = |pair: super::super::Pair| {
            format!("{}: {} {}", pair.name, relative(&pair.image), relative(pair.mask.path()))
        };
        Ok(listing.pairs.into_iter().map(pair).collect())
    }

    #[test]
    fn a_name_is_what_the_wildcards_stand_for() {
        let root = tree(&[
            ("scans/1/photo.jpg", ""),
            ("scans/1/mask.png", ""),
            ("scans/2/photo.jpg", ""),
            ("scans/2/mask.png", ""),
            ("flat/a.jpg", ""),
            ("flat/a-labels.png", ""),
            ("flat/b.tif", ""),
            ("flat/b_mask.png", ""),
        ]);
        for (images, masks, expected) in [
            (
                "scans/*/photo.jpg",
                "scans/*/mask.png",
                &["1: scans/1/photo.jpg scans/1/mask.png", "2: scans/2/photo.jpg scans/2/mask.png"]
                    [..],
            ),
            ("./flat//*.jpg", "flat/*-labels.png", &["a: flat/a.jpg flat/a-labels.png"]),
            ("flat/?.*", "flat/*_mask.png", &["image without a mask of the same name: a"]),
            ("flat/b.*", "flat/*_mask.png", &["b: flat/b.tif flat/b_mask.png"]),
            (
                "**/photo.jpg",
                "**/mask.png",
                &[
                    "scans/1: scans/1/photo.jpg scans/1/mask.png",
                    "scans/2: scans/2/photo.jpg scans/2/mask.png",
                ],
            ),
        ] {
            match pairs(root.path(), images, masks, None) {
                Ok(found) => assert_eq!(found, expected, "{images}"),
                Err(e) => assert!(e.to_string().contains(expected[0]), "{images}: {e}"),
            }
        }
    }

    #[test]
    fn splits_are_directories_or_parts_of_names() {
        let root = tree(&[
            ("train/rgb/a.jpg", ""),
            ("train/gt/a.png", ""),
            ("val/rgb/b.jpg", ""),
            ("val/gt/b.png", ""),
            ("test/rgb/c.jpg", ""),
            ("classes.txt", "0 ground\n1 car\n"),
        ]);
        let of = |split| pairs(root.path(), "{split}/rgb/*.jpg", "{split}/gt/*.png", split);
        assert_eq!(of(Some("train")).unwrap(), ["a: train/rgb/a.jpg train/gt/a.png"]);
        assert_eq!(of(None).unwrap(), ["b: val/rgb/b.jpg val/gt/b.png"]);
        let error = of(Some("test")).unwrap_err().to_string();
        assert!(error.contains("no split `test`; available splits: train, val"), "{error}");
        let patterns = |images: &str, masks: &str| {
            pairs(root.path(), images, masks, None).unwrap_err().to_string()
        };
        let error = patterns("{split}/rgb/*.jpg", "train/gt/*.png");
        assert!(error.contains("does not contain {split}"), "{error}");
        let error = patterns("*{split}/rgb/*.jpg", "{split}/gt/*.png");
        assert!(error.contains("is not clear"), "{error}");
        let [images, masks] = ["{split}/rgb/*.jpg", "{split}/gt/*.png"]
            .map(|p| format!("{}/{p}", root.path().display()));
        let patterns = Patterns { images, masks };
        assert_eq!(patterns.directory(), root.path());
        let classes = open(DataSource::from(patterns), None).unwrap().classes.unwrap();
        assert_eq!(classes.names, ["ground", "car"]);
    }

    #[test]
    fn patterns_that_match_nothing_are_refused_with_what_they_match() {
        let root = tree(&[("a/x.jpg", ""), ("b/y.png", ""), ("c/z.txt", "")]);
        for (images, masks, part) in [
            ("a/*.png", "b/*.png", "no file matches the pattern `"),
            ("a/*.jpg", "b/*.png", "images are `x`, masks `y`"),
            ("b/*.png", "*/*.png", "match the pattern `"),
        ] {
            let error = pairs(root.path(), images, masks, None).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(
            Patterns { images: "a/*.jpg".into(), masks: "b/*.png".into() }.directory(),
            Path::new(".")
        );
    }
}
