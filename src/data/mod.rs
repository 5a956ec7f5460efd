//! Data sets for training and evaluation: directories of images with their masks, listed as pairs.

mod ade20k;
mod augment;
mod cityscapes;
mod color;
pub mod doctor;
mod hold_out;
#[cfg(test)]
mod layout_tests;
mod loader;
mod pairing;
mod plain;
mod rng;
mod sample_cache;
#[cfg(test)]
mod tests;
mod voc;

pub use ade20k::list_ade20k;
pub use augment::Augmentation;
pub use cityscapes::list_cityscapes;
pub use loader::{Batch, Loader, LoaderOptions, MAX_WORKERS};
pub use pairing::{Mismatch, MismatchKind};
pub use plain::{list_directories, list_names};
pub use voc::list_voc;

use crate::error::{Result, error};
use crate::image::{ClassTable, Image, LabelMap, decode};
use pairing::Matched;
use std::path::{Path, PathBuf};

/// An image and its mask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Common name of the files, without extension.
    pub name: String,
    /// Path of the image.
    pub image: PathBuf,
    /// Path of the mask, a PNG.
    pub mask: PathBuf,
    /// Meaning of the mask's values. RGB masks contain the colors of classes instead.
    pub values: MaskValues,
}

impl Pair {
    /// Reads the image and the mask. The labels of the mask are classes, or 255 (or an ignored
    /// label of `table`) for pixels that belong to none. `table` maps the colors of RGB masks to
    /// classes; masks with a palette or in gray do not need it.
    ///
    /// # Errors
    /// Returns an error that names the file if one of them cannot be read, or if they differ in
    /// size.
    pub fn load(&self, table: Option<&ClassTable>) -> Result<(Image, LabelMap)> {
        let image = decode(&self.image)?;
        let (mut mask, by_color) = LabelMap::read_by_value_or_color(&self.mask, table)?;
        if image.size() != mask.size() {
            let (mask, image) = (mask.size(), image.size());
            return Err(error!(Data, "the mask has {mask} pixels, but the image has {image}")
                .file(&self.mask)
                .advice("check whether one of them was rotated or resized"));
        }
        // Colors already name classes, whatever the values mean.
        if self.values != MaskValues::Classes && !by_color {
            for label in &mut mask.labels {
                *label = self.values.class(*label);
            }
        }
        Ok((image, mask))
    }
}

/// Meaning of the values of a mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum MaskValues {
    /// Class numbers.
    #[default]
    Classes,
    /// The 34 labels of Cityscapes, of which 19 are training classes.
    Cityscapes,
    /// Values 1 to 150 are the classes 0 to 149 of ADE20K; 0 is no class.
    Ade20k,
}

impl MaskValues {
    /// Class of a mask's value, or 255 if it is ignored. Invalid values stay invalid, i.e. past the
    /// last class.
    pub fn class(self, value: u16) -> u16 {
        match (self, value) {
            (MaskValues::Classes, value) => value,
            (MaskValues::Cityscapes, label) => ClassTable::cityscapes_training(label),
            (MaskValues::Ade20k, 0 | 255) => 255,
            (MaskValues::Ade20k, value @ 1..=150) => value - 1,
            (MaskValues::Ade20k, value) => value,
        }
    }
}

/// Directory layout of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatasetLayout {
    /// `JPEGImages/`, `SegmentationClass/` (or `SegmentationClassAug/`),
    /// `ImageSets/Segmentation/SPLIT.txt`.
    Voc,
    /// `leftImg8bit/SPLIT/CITY/` and `gtFine/SPLIT/CITY/`.
    Cityscapes,
    /// `images/SPLIT/` and `annotations/SPLIT/`, with the splits `training` and `validation`. With
    /// a `classes.txt` that does not have 150 classes, it is other data in the same layout.
    Ade20k,
    /// `images/` and `masks/`, optionally with `SPLIT/` in both or `SPLIT.txt` next to them.
    Directories,
    /// `SPLIT/` and `SPLITannot/`, optionally with `SPLIT.txt`, as in CamVid.
    Split,
}

impl DatasetLayout {
    /// Detects the layout of a directory.
    ///
    /// # Errors
    /// Returns an error if it has none of the layouts.
    pub fn of(root: impl AsRef<Path>) -> Result<Self> {
        let root = root.as_ref();
        if !root.is_dir() {
            return Err(error!(Data, "is not a directory").file(root));
        }
        if voc::detect(root) {
            Ok(DatasetLayout::Voc)
        } else if cityscapes::detect(root) {
            Ok(DatasetLayout::Cityscapes)
        } else if ade20k::detect(root) {
            Ok(DatasetLayout::Ade20k)
        } else if root.join("images").is_dir() && root.join("masks").is_dir() {
            Ok(DatasetLayout::Directories)
        } else if !plain::annotated_splits(root)?.is_empty() {
            Ok(DatasetLayout::Split)
        } else {
            Err(error!(Data, "unrecognized data set layout").file(root).advice(
                "expected JPEGImages/ with SegmentationClass/, leftImg8bit/ with gtFine/, images/training/ with annotations/training/, images/ with masks/, or \
                 NAME/ with NAMEannot/ (such as val/ and valannot/)",
            ))
        }
    }

    fn splits(self, root: &Path) -> Result<Vec<String>> {
        match self {
            DatasetLayout::Voc => voc::splits(root),
            DatasetLayout::Cityscapes => cityscapes::splits(root),
            DatasetLayout::Ade20k => ade20k::splits(root),
            DatasetLayout::Directories => plain::splits(root),
            DatasetLayout::Split => plain::annotated_splits(root),
        }
    }

    fn classes(self, root: &Path) -> Result<Option<ClassTable>> {
        let file = root.join("classes.txt");
        Ok(match self {
            _ if file.exists() => Some(ClassTable::read(file)?),
            DatasetLayout::Voc => Some(ClassTable::voc()),
            DatasetLayout::Cityscapes => Some(ClassTable::cityscapes()),
            DatasetLayout::Ade20k => Some(ade20k::classes(root)?),
            DatasetLayout::Directories | DatasetLayout::Split => None,
        })
    }
}

/// The contents of a data set's directory.
#[derive(Debug, Clone)]
pub struct Listing {
    /// Directory of the data set.
    pub root: PathBuf,
    /// Its layout.
    pub layout: DatasetLayout,
    /// The listed split ("val"), if the data set has splits.
    pub split: Option<String>,
    /// Images with masks, in the order of the list, or by name.
    pub pairs: Vec<Pair>,
    /// Classes: those of `classes.txt`, or else the standard ones of VOC, Cityscapes and ADE20K.
    pub classes: Option<ClassTable>,
}

/// Opens a data set's directory, in any [`DatasetLayout`].
///
/// `split` is the split to list ("train", "val"). `None` lists "val", or the only split if there is
/// one. If there is no split of that name, "train" also matches "training" and "val" also matches
/// "validation".
///
/// # Errors
/// Returns an error if the layout is not recognized, there is no such split (the error lists those
/// that exist), images have no masks, or a list cannot be read.
pub fn open(root: impl AsRef<Path>, split: Option<&str>) -> Result<Listing> {
    let (listing, matched) = find(root.as_ref(), split)?;
    Ok(Listing { pairs: matched.strict()?, ..listing })
}

/// As [`open`], but returns images and masks without a partner as well, instead of refusing them.
///
/// # Errors
/// Returns an error if the layout is not recognized, there is no such split, or a list cannot be
/// read.
pub fn open_lenient(
    root: impl AsRef<Path>,
    split: Option<&str>,
) -> Result<(Listing, Vec<Mismatch>)> {
    let (listing, matched) = find(root.as_ref(), split)?;
    Ok((Listing { pairs: matched.pairs, ..listing }, matched.mismatches))
}

/// Returns the names of a data set's splits; empty if it has none.
///
/// # Errors
/// Returns an error if the layout of the directory is not recognized.
pub fn splits(root: impl AsRef<Path>) -> Result<Vec<String>> {
    DatasetLayout::of(&root)?.splits(root.as_ref())
}

fn find(root: &Path, split: Option<&str>) -> Result<(Listing, Matched)> {
    let layout = DatasetLayout::of(root)?;
    let splits = layout.splits(root)?;
    let split = match (layout, split) {
        (DatasetLayout::Directories, None) if splits.is_empty() => None,
        (DatasetLayout::Directories, Some(split)) if splits.is_empty() => {
            return Err(
                error!(Data, "no split `{split}`: images/ and masks/ are not divided").file(root)
            );
        }
        (_, split) => Some(choose_split(root, split, splits)?),
    };
    let name = split.as_deref().unwrap_or_default();
    let matched = match layout {
        DatasetLayout::Voc => voc::matched(root, name)?,
        DatasetLayout::Cityscapes => cityscapes::matched(root, name)?,
        DatasetLayout::Ade20k => ade20k::matched(root, name)?,
        DatasetLayout::Directories => plain::matched(root, split.as_deref())?,
        DatasetLayout::Split => plain::annotated(root, name)?,
    };
    let classes = layout.classes(root)?;
    Ok((Listing { root: root.to_path_buf(), layout, split, pairs: Vec::new(), classes }, matched))
}

fn choose_split(root: &Path, requested: Option<&str>, splits: Vec<String>) -> Result<String> {
    let default = match splits.as_slice() {
        [only] => only,
        _ => "val",
    };
    let requested = requested.unwrap_or(default);
    let long_name = match requested {
        "train" => "training",
        "val" => "validation",
        other => other,
    };
    let exists = |name: &&str| splits.iter().any(|split| split == name);
    if let Some(split) = [requested, long_name].into_iter().find(exists) {
        return Ok(split.to_string());
    }
    let list = if splits.is_empty() { "none".to_string() } else { splits.join(", ") };
    Err(error!(Data, "no split `{requested}`; available splits: {list}").file(root))
}
