//! Folders laid out as PASCAL VOC's.

use super::Pair;
use super::folder::list_names;
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

fn lists(root: &Path) -> PathBuf {
    root.join("ImageSets").join("Segmentation")
}

/// The pairs of a part ("train", "val", "trainval"): the names of `ImageSets/Segmentation/SPLIT.txt`, their pictures in
/// `JPEGImages/`, their masks in `SegmentationClass/`.
///
/// Errors name the list and what is missing.
pub fn list_voc(root: impl AsRef<Path>, split: &str) -> Result<Vec<Pair>> {
    let root = root.as_ref();
    list_names(root.join("JPEGImages"), root.join("SegmentationClass"), lists(root).join(format!("{split}.txt")))
}

/// The parts there are lists of, by name.
pub(super) fn splits(root: &Path) -> Result<Vec<String>> {
    let folder = lists(root);
    let unreadable = |e| Error::io(&folder, "could not be listed", e);
    let mut splits = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|e| e == "txt") && path.is_file() {
            splits.extend(path.file_stem().and_then(|s| s.to_str()).map(String::from));
        }
    }
    splits.sort();
    Ok(splits)
}
