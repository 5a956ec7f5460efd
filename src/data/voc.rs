//! Directories in the layout of PASCAL VOC, optionally with the masks of the Semantic Boundaries
//! Dataset (SBD).

use super::Pair;
use super::pairing::{Directories, Matched, files};
use crate::error::Result;
use std::path::{Path, PathBuf};

/// Directories of the official masks, and of those of SBD, which has more.
const MASKS: [&str; 2] = ["SegmentationClass", "SegmentationClassAug"];

fn lists(root: &Path) -> PathBuf {
    root.join("ImageSets").join("Segmentation")
}

/// Lists the pairs of a split ("train", "val", "trainval", "trainaug"): the names of
/// `ImageSets/Segmentation/SPLIT.txt`, their images in `JPEGImages/`, and their masks in
/// `SegmentationClass/` or else `SegmentationClassAug/`. Lines with two paths
/// (`/JPEGImages/x.jpg /SegmentationClassAug/x.png`) name image and mask explicitly.
///
/// # Errors
/// Returns an error that names the list and the missing files.
pub fn list_voc(root: impl AsRef<Path>, split: &str) -> Result<Vec<Pair>> {
    matched(root.as_ref(), split)?.strict()
}

pub(super) fn matched(root: &Path, split: &str) -> Result<Matched> {
    let masks: Vec<PathBuf> =
        MASKS.iter().map(|name| root.join(name)).filter(|directory| directory.is_dir()).collect();
    let first = masks.first().cloned().unwrap_or_else(|| root.join(MASKS[0]));
    let mut directories = Directories::read(&root.join("JPEGImages"), &first)?;
    for directory in masks.iter().skip(1) {
        directories.add_masks(directory)?;
    }
    directories.listed(&lists(root).join(format!("{split}.txt")), root)
}

/// The splits that have a list, by name.
pub(super) fn splits(root: &Path) -> Result<Vec<String>> {
    let lists = files(&lists(root))?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "txt"));
    let names =
        lists.filter_map(|path| path.file_stem().and_then(|s| s.to_str()).map(String::from));
    // Skip hidden files (`._train.txt`, created by macOS).
    Ok(names.filter(|name| !name.starts_with('.')).collect())
}

/// Whether a directory has this layout.
pub(super) fn detect(root: &Path) -> bool {
    root.join("JPEGImages").is_dir() && MASKS.iter().any(|name| root.join(name).is_dir())
}
