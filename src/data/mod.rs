//! Directories of images with their masks, as pairs, for training and evaluation.

mod ade20k;
mod augment;
mod cityscapes;
mod color;
mod directory;
pub mod doctor;
mod draw;
mod hold_out;
#[cfg(test)]
mod layout_tests;
mod loader;
mod pairing;
mod samples;
#[cfg(test)]
mod tests;
mod voc;

pub use ade20k::list_ade20k;
pub use augment::Augmentation;
pub use cityscapes::list_cityscapes;
pub use directory::{list_directories, list_names};
pub use loader::{Batch, Loader, LoaderOptions, MOST_WORKERS};
pub use pairing::{Mismatch, MismatchKind};
pub use voc::list_voc;

use crate::error::{Result, error};
use crate::image::{ClassTable, Image, LabelMap, decode};
use pairing::Matched;
use std::path::{Path, PathBuf};

/// An image and its mask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The files' common name, without ending.
    pub name: String,
    /// The image.
    pub image: PathBuf,
    /// The mask: a PNG.
    pub mask: PathBuf,
    /// What the mask's values mean. Masks in RGB have colors instead, which are those of classes.
    pub ids: MaskValues,
}

impl Pair {
    /// Reads both; the labels are classes then, and 255 (or an ignored label of `table`) where
    /// there is none. `table` tells what the colors of RGB masks mean; masks with a palette or in
    /// gray do not need it.
    ///
    /// Errors name the file: one cannot be read, or the two differ in size.
    pub fn load(&self, table: Option<&ClassTable>) -> Result<(Image, LabelMap)> {
        let image = decode(&self.image)?;
        let (mut mask, by_color) = LabelMap::read_by_value_or_color(&self.mask, table)?;
        if (image.width, image.height) != (mask.width, mask.height) {
            let size = format!(
                "{} x {} pixels, its image {} x {}",
                mask.width, mask.height, image.width, image.height
            );
            return Err(error!(Data, "the mask has {size}")
                .file(&self.mask)
                .advice("check whether one of them was turned or scaled"));
        }
        // Colors are those of classes, whatever values mean.
        if self.ids != MaskValues::Classes && !by_color {
            mask.labels.iter_mut().for_each(|label| *label = self.ids.class(*label));
        }
        Ok((image, mask))
    }
}

/// What the values of a mask mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum MaskValues {
    /// Classes, as they are.
    #[default]
    Classes,
    /// The 34 labels of Cityscapes, of which 19 are trained and scored.
    Cityscapes,
    /// 1 to 150 are ADE20K's classes 0 to 149; 0 is none.
    Ade20k,
}

impl MaskValues {
    /// The class of a mask's value; 255 for those that are ignored. Values that mean nothing stay
    /// past the last class.
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

/// How a data set's directory is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatasetLayout {
    /// `JPEGImages/`, `SegmentationClass/` (or `SegmentationClassAug/`),
    /// `ImageSets/Segmentation/SPLIT.txt`.
    Voc,
    /// `leftImg8bit/SPLIT/CITY/` and `gtFine/SPLIT/CITY/`.
    Cityscapes,
    /// `images/SPLIT/` and `annotations/SPLIT/`, the parts being called `training` and
    /// `validation`. With a `classes.txt` of other than 150 classes, it is other data in that
    /// layout.
    Ade20k,
    /// `images/` and `masks/`, perhaps with `SPLIT/` in both or `SPLIT.txt` beside them.
    Directories,
    /// `SPLIT/` and `SPLITannot/`, perhaps with `SPLIT.txt`, as CamVid comes.
    Split,
}

impl DatasetLayout {
    /// The layout of a directory. Errors where it is none of them.
    pub fn of(root: impl AsRef<Path>) -> Result<Self> {
        let root = root.as_ref();
        if !root.is_dir() {
            return Err(error!(Data, "is no directory").file(root));
        }
        if voc::is_there(root) {
            Ok(DatasetLayout::Voc)
        } else if cityscapes::is_there(root) {
            Ok(DatasetLayout::Cityscapes)
        } else if ade20k::is_there(root) {
            Ok(DatasetLayout::Ade20k)
        } else if root.join("images").is_dir() && root.join("masks").is_dir() {
            Ok(DatasetLayout::Directories)
        } else if !directory::annotated_splits(root)?.is_empty() {
            Ok(DatasetLayout::Split)
        } else {
            Err(error!(Data, "is laid out in no known way").file(root).advice(
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
            DatasetLayout::Directories => directory::plain_splits(root),
            DatasetLayout::Split => directory::annotated_splits(root),
        }
    }

    fn classes(self, root: &Path) -> Result<Option<ClassTable>> {
        let file = root.join("classes.txt");
        Ok(match self {
            _ if file.is_file() => Some(ClassTable::read(file)?),
            DatasetLayout::Voc => Some(ClassTable::voc()),
            DatasetLayout::Cityscapes => Some(ClassTable::cityscapes()),
            DatasetLayout::Ade20k => Some(ade20k::classes(root)?),
            DatasetLayout::Directories | DatasetLayout::Split => None,
        })
    }
}

/// A data set: what was found in its directory.
#[derive(Debug, Clone)]
pub struct Listing {
    /// Its directory.
    pub root: PathBuf,
    /// How it is laid out.
    pub layout: DatasetLayout,
    /// The part that was listed ("val"), where the layout has parts.
    pub split: Option<String>,
    /// Images with masks, in the order of the list, or by name.
    pub pairs: Vec<Pair>,
    /// Its classes: of `classes.txt`, else those that VOC, Cityscapes and ADE20K have.
    pub classes: Option<ClassTable>,
}

/// Opens a data set's directory, whichever of the [`DatasetLayout`]s it has.
///
/// `split` is the part to list ("train", "val"); `None` takes "val" where there is one, else the
/// only one there is. Where there is no such part, "train" also finds "training" and "val" also
/// "validation".
///
/// Errors name what is off: no layout that is known, no such part (with those there are), images
/// without masks, an unreadable list.
pub fn open(root: impl AsRef<Path>, split: Option<&str>) -> Result<Listing> {
    let (listing, matched) = find(root.as_ref(), split)?;
    Ok(Listing { pairs: matched.strict()?, ..listing })
}

/// As [`open`], but what does not pair up is told beside the pairs, and refuses nothing.
///
/// Errors where there is no layout, no such part, or an unreadable list.
pub fn survey(root: impl AsRef<Path>, split: Option<&str>) -> Result<(Listing, Vec<Mismatch>)> {
    let (listing, matched) = find(root.as_ref(), split)?;
    Ok((Listing { pairs: matched.pairs, ..listing }, matched.misfits))
}

/// The names of a data set's parts; none where it has no parts.
///
/// Errors where the directory has no layout that is known.
pub fn parts(root: impl AsRef<Path>) -> Result<Vec<String>> {
    DatasetLayout::of(&root)?.splits(root.as_ref())
}

fn find(root: &Path, split: Option<&str>) -> Result<(Listing, Matched)> {
    let layout = DatasetLayout::of(root)?;
    let splits = layout.splits(root)?;
    let split = match (layout, split) {
        (DatasetLayout::Directories, None) if splits.is_empty() => None,
        (DatasetLayout::Directories, Some(split)) if splits.is_empty() => {
            return Err(error!(Data, "has images/ and masks/, and no part `{split}`").file(root));
        }
        (_, split) => Some(choose(root, split, splits)?),
    };
    let part = split.as_deref().unwrap_or_default();
    let matched = match layout {
        DatasetLayout::Voc => voc::matched(root, part)?,
        DatasetLayout::Cityscapes => cityscapes::matched(root, part)?,
        DatasetLayout::Ade20k => ade20k::matched(root, part)?,
        DatasetLayout::Directories => directory::plain(root, split.as_deref())?,
        DatasetLayout::Split => directory::annotated(root, part)?,
    };
    let classes = layout.classes(root)?;
    Ok((Listing { root: root.to_path_buf(), layout, split, pairs: Vec::new(), classes }, matched))
}

fn choose(root: &Path, wanted: Option<&str>, splits: Vec<String>) -> Result<String> {
    let fallback = match splits.as_slice() {
        [only] => only,
        _ => "val",
    };
    let wanted = wanted.unwrap_or(fallback);
    let long = match wanted {
        "train" => "training",
        "val" => "validation",
        other => other,
    };
    if let Some(found) = [wanted, long].into_iter().find(|name| splits.iter().any(|s| s == name)) {
        return Ok(found.to_string());
    }
    let list = if splits.is_empty() { "none".to_string() } else { splits.join(", ") };
    Err(error!(Data, "has no part `{wanted}`; there are: {list}").file(root))
}
