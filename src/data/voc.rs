//! Directories laid out as PASCAL VOC's, also with the masks of the Semantic Boundaries Dataset
//! (SBD).

use super::Pair;
use super::pairing::{Directories, Matched, files};
use crate::error::Result;
use std::path::{Path, PathBuf};

/// Official masks, and those of SBD, which has more of them.
const MASKS: [&str; 2] = ["SegmentationClass", "SegmentationClassAug"];

fn lists(root: &Path) -> PathBuf {
    root.join("ImageSets").join("Segmentation")
}

/// The pairs of a part ("train", "val", "trainval", "trainaug"): the names of
/// `ImageSets/Segmentation/SPLIT.txt`, their images in `JPEGImages/`, their masks in
/// `SegmentationClass/`, or where that has none, in `SegmentationClassAug/`. Lines of two paths
/// (`/JPEGImages/x.jpg /SegmentationClassAug/x.png`) say themselves which.
///
/// Errors name the list and what is missing.
pub fn list_voc(root: impl AsRef<Path>, split: &str) -> Result<Vec<Pair>> {
    matched(root.as_ref(), split)?.strict()
}

pub(super) fn matched(root: &Path, split: &str) -> Result<Matched> {
    let there: Vec<PathBuf> =
        MASKS.iter().map(|name| root.join(name)).filter(|directory| directory.is_dir()).collect();
    let first = there.first().cloned().unwrap_or_else(|| root.join(MASKS[0]));
    let mut found = Directories::read(&root.join("JPEGImages"), &first)?;
    there.iter().skip(1).try_for_each(|directory| found.more_masks(directory))?;
    found.listed(&lists(root).join(format!("{split}.txt")), root)
}

/// The parts there are lists of, by name.
pub(super) fn splits(root: &Path) -> Result<Vec<String>> {
    let lists = files(&lists(root))?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "txt"));
    let names =
        lists.filter_map(|path| path.file_stem().and_then(|s| s.to_str()).map(String::from));
    // Not the hidden files (`._train.txt`) of a Mac.
    Ok(names.filter(|name| !name.starts_with('.')).collect())
}

pub(super) fn is_there(root: &Path) -> bool {
    root.join("JPEGImages").is_dir() && MASKS.iter().any(|name| root.join(name).is_dir())
}
