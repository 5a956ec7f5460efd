//! Folders of pictures with their masks, as pairs, for training and evaluation.

mod augment;
mod colour;
mod draw;
mod folder;
mod loader;
mod samples;
#[cfg(test)]
mod tests;
mod voc;

pub use augment::Augmentation;
pub use folder::{list_folders, list_names};
pub use loader::{Batch, Loader, LoaderOptions};
pub use voc::list_voc;

use crate::error::{Result, error};
use crate::image::{ClassTable, LabelMap, Picture, decode};
use std::path::{Path, PathBuf};

/// A picture and its mask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The files' common name, without ending.
    pub name: String,
    /// The picture.
    pub picture: PathBuf,
    /// The mask: a PNG whose values are classes.
    pub mask: PathBuf,
}

impl Pair {
    /// Reads both. `table` tells what the colours of RGB masks mean; masks with a palette or in grey do not need it.
    ///
    /// Errors name the file: one cannot be read, or the two differ in size.
    pub fn load(&self, table: Option<&ClassTable>) -> Result<(Picture, LabelMap)> {
        let (picture, mask) = (decode(&self.picture)?, LabelMap::read(&self.mask, table)?);
        if (picture.width, picture.height) != (mask.width, mask.height) {
            let size = format!("{} x {} pixels, its picture {} x {}", mask.width, mask.height, picture.width, picture.height);
            return Err(error!(Data, "the mask has {size}")
                .file(&self.mask)
                .advice("check whether one of them was turned or scaled"));
        }
        Ok((picture, mask))
    }
}

/// How a data set's folder is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `JPEGImages/`, `SegmentationClass/`, `ImageSets/Segmentation/SPLIT.txt`.
    Voc,
    /// `images/` and `masks/`.
    Folders,
    /// `SPLIT/` and `SPLITannot/`, perhaps with `SPLIT.txt`, as CamVid comes.
    Split,
}

/// A data set: what was found in its folder.
#[derive(Debug, Clone)]
pub struct Listing {
    /// Its folder.
    pub root: PathBuf,
    /// How it is laid out.
    pub layout: Layout,
    /// The part that was listed ("val"), where the layout has parts.
    pub split: Option<String>,
    /// Pictures with masks, in the order of the list, or by name.
    pub pairs: Vec<Pair>,
    /// Its classes: of `classes.txt`; VOC's where a VOC folder has no such file.
    pub classes: Option<ClassTable>,
}

/// Opens a data set's folder, whichever of the [`Layout`]s it has.
///
/// `split` is the part to list ("train", "val"); `None` takes "val" where there is one, else the only one there is.
///
/// Errors name what is off: no layout that is known, no such part (with those there are), pictures without masks, an unreadable list.
pub fn open(root: impl AsRef<Path>, split: Option<&str>) -> Result<Listing> {
    let root = root.as_ref();
    if !root.is_dir() {
        return Err(error!(Data, "is no folder").file(root));
    }
    let has = |name: &str| root.join(name).is_dir();
    let (layout, split, pairs) = if has("JPEGImages") && has("SegmentationClass") {
        let split = choose(root, split, voc::splits(root)?)?;
        let pairs = list_voc(root, &split)?;
        (Layout::Voc, Some(split), pairs)
    } else if has("images") && has("masks") {
        if let Some(split) = split {
            return Err(error!(Data, "has images/ and masks/, and no part `{split}`").file(root));
        }
        (Layout::Folders, None, list_folders(root.join("images"), root.join("masks"))?)
    } else {
        let splits = folder::splits(root)?;
        if splits.is_empty() {
            return Err(error!(Data, "is laid out in no known way").file(root).advice(
                "expected JPEGImages/ with SegmentationClass/, images/ with masks/, or NAME/ with NAMEannot/ (such as val/ and valannot/)",
            ));
        }
        let split = choose(root, split, splits)?;
        let (pictures, masks) = (root.join(&split), root.join(format!("{split}annot")));
        let list = root.join(format!("{split}.txt"));
        let pairs = if list.is_file() { list_names(pictures, masks, list)? } else { list_folders(pictures, masks)? };
        (Layout::Split, Some(split), pairs)
    };
    let classes = match (root.join("classes.txt"), layout) {
        (file, _) if file.is_file() => Some(ClassTable::read(file)?),
        (_, Layout::Voc) => Some(ClassTable::voc()),
        _ => None,
    };
    Ok(Listing { root: root.to_path_buf(), layout, split, pairs, classes })
}

fn choose(root: &Path, wanted: Option<&str>, splits: Vec<String>) -> Result<String> {
    let fallback = match splits.as_slice() {
        [only] => only,
        _ => "val",
    };
    let wanted = wanted.unwrap_or(fallback);
    if splits.iter().any(|s| s == wanted) {
        return Ok(wanted.to_string());
    }
    let list = if splits.is_empty() { "none".to_string() } else { splits.join(", ") };
    Err(error!(Data, "has no part `{wanted}`; there are: {list}").file(root))
}
