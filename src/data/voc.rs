//! Directories in the layout of PASCAL VOC, optionally with the masks of the Semantic Boundaries
//! Dataset (SBD).

use super::layout::Layout;
use super::pairing::{Directories, Matched, files};
use crate::error::Result;
use crate::image::ClassTable;
use std::path::{Path, PathBuf};

/// Directories of the official masks, and of those of SBD, which has more.
const MASKS: [&str; 2] = ["SegmentationClass", "SegmentationClassAug"];

/// The layout of PASCAL VOC: `JPEGImages/`, `SegmentationClass/` (or `SegmentationClassAug/`),
/// `ImageSets/Segmentation/SPLIT.txt`.
pub(super) struct Voc;

impl Layout for Voc {
    fn name(&self) -> &'static str {
        "voc"
    }

    fn title(&self) -> &'static str {
        "PASCAL VOC"
    }

    fn directories(&self) -> &'static str {
        "JPEGImages/ with SegmentationClass/"
    }

    fn detect(&self, root: &Path) -> Result<bool> {
        let masks = MASKS.iter().any(|name| root.join(name).is_dir());
        Ok(root.join("JPEGImages").is_dir() && masks)
    }

    /// The splits that have a list.
    fn splits(&self, root: &Path) -> Result<Vec<String>> {
        let lists = files(&lists(root))?
            .into_iter()
            .filter(|path| path.extension().is_some_and(|e| e == "txt"));
        let names =
            lists.filter_map(|path| path.file_stem().and_then(|s| s.to_str()).map(String::from));
        // Skip hidden files (`._train.txt`, created by macOS).
        Ok(names.filter(|name| !name.starts_with('.')).collect())
    }

    fn matched(&self, root: &Path, split: Option<&str>) -> Result<Matched> {
        matched(root, split.unwrap_or_default())
    }

    fn classes(&self, _root: &Path) -> Result<Option<ClassTable>> {
        Ok(Some(ClassTable::voc()))
    }
}

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
fn matched(root: &Path, split: &str) -> Result<Matched> {
    let masks: Vec<PathBuf> =
        MASKS.iter().map(|name| root.join(name)).filter(|directory| directory.is_dir()).collect();
    let first = masks.first().cloned().unwrap_or_else(|| root.join(MASKS[0]));
    let mut directories = Directories::read(&root.join("JPEGImages"), &first)?;
    for directory in masks.iter().skip(1) {
        directories.add_masks(directory)?;
    }
    directories.listed(&lists(root).join(format!("{split}.txt")), root)
}
