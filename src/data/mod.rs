//! Data sets for training and evaluation: directories of images with their masks, listed as pairs.

mod ade20k;
mod annotations;
#[cfg(feature = "training")]
mod augment;
mod beside;
mod binary;
mod cityscapes;
mod coco;
#[cfg(feature = "training")]
mod color;
pub mod convert;
mod data_yaml;
pub mod doctor;
#[cfg(feature = "training")]
mod hold_out;
mod label_studio;
mod labelme;
mod layout;
#[cfg(test)]
mod layout_tests;
#[cfg(feature = "training")]
mod loader;
mod mask;
mod pairing;
mod patterns;
mod plain;
#[cfg(feature = "training")]
mod rng;
#[cfg(feature = "training")]
mod sample_cache;
mod source;
#[cfg(test)]
mod test_files;
#[cfg(all(test, feature = "training"))]
mod tests;
mod unrecognized;
mod voc;
mod yolo;

pub use annotations::Annotation;
#[cfg(feature = "training")]
pub use augment::Augmentation;
pub use layout::DatasetLayout;
#[cfg(feature = "training")]
pub(crate) use layout::is_split_named;
#[cfg(feature = "training")]
pub(crate) use loader::MAX_WORKERS;
#[cfg(feature = "training")]
pub use loader::{Batch, Loader, LoaderOptions};
pub use mask::Mask;
pub(crate) use pairing::{Mismatch, MismatchKind};
pub use patterns::Patterns;
pub use plain::list_directories;
pub use source::DataSource;

use crate::error::{Result, error};
use crate::image::{ClassTable, Image, LabelMap, decode};
use crate::text;
use layout::Contents;
use pairing::Matched;
use std::fmt;
use std::path::PathBuf;

/// An image and its mask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Common name of the files, without extension.
    pub name: String,
    /// Path of the image.
    pub image: PathBuf,
    /// The labels: a PNG, TIFF, BMP, GIF or `.npy` file, or shapes.
    pub mask: Mask,
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
        let (mut mask, by_color) = self.mask.read(table)?;
        if image.size() != mask.size() {
            let (mask, image) = (mask.size(), image.size());
            return Err(error!(Data, "the mask has {mask} pixels, but the image has {image}")
                .file(self.mask.path())
                .advice("check whether one of them was rotated or resized"));
        }
        // Colors already name classes, whatever the values mean.
        if self.values != MaskValues::CLASSES && !by_color {
            for label in &mut mask.labels {
                *label = self.values.class(*label);
            }
        }
        Ok((image, mask))
    }
}

/// Meaning of the values of a mask.
#[derive(Clone, Copy)]
pub struct MaskValues {
    name: &'static str,
    class: fn(u16) -> u16,
}

impl MaskValues {
    /// Class numbers.
    pub const CLASSES: Self = Self::new("classes", |value| value);

    /// Creates a meaning. `class` returns the class of a value, or 255 if it is ignored. Invalid
    /// values must stay invalid, i.e. past the last class. Meanings of the same name are equal.
    pub const fn new(name: &'static str, class: fn(u16) -> u16) -> Self {
        Self { name, class }
    }

    /// Returns the class of a mask's value, or 255 if it is ignored. Invalid values stay invalid,
    /// i.e. past the last class.
    pub fn class(self, value: u16) -> u16 {
        (self.class)(value)
    }
}

impl PartialEq for MaskValues {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for MaskValues {}

impl fmt::Debug for MaskValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The contents of a data set's directory.
#[derive(Debug, Clone)]
pub struct Listing {
    /// Directory of the data set, or the one that contains all that its patterns match.
    pub root: PathBuf,
    /// Its layout.
    pub layout: DatasetLayout,
    /// The listed split ("val"), if the data set has splits.
    pub split: Option<String>,
    /// Images with masks, in the order of the list, or by name.
    pub pairs: Vec<Pair>,
    /// Classes: those of `classes.txt`, or else the standard ones of VOC, Cityscapes and ADE20K;
    /// background and foreground of masks in 0 and 255.
    pub classes: Option<ClassTable>,
    /// What was assumed about the masks, for people.
    pub notes: Vec<String>,
}

/// Opens a data set: a directory in any [`DatasetLayout`], or [`Patterns`] of images and masks.
///
/// `split` is the split to list ("train", "val"). `None` lists "val", or the only split if there is
/// one. If there is no split of that name, "train" also matches "training" and "val" also matches
/// "validation" and "valid".
///
/// # Errors
/// Returns an error if the layout is not recognized, there is no such split (the error lists those
/// that exist), images have no masks, or a list cannot be read.
pub fn open(source: impl Into<DataSource>, split: Option<&str>) -> Result<Listing> {
    open_with_classes(&source.into(), split, None)
}

/// As [`open`], with classes that override those of the data set.
///
/// # Errors
/// As for [`open`].
pub(crate) fn open_with_classes(
    source: &DataSource,
    split: Option<&str>,
    table: Option<&ClassTable>,
) -> Result<Listing> {
    let (listing, matched) = find(source, split)?;
    Ok(Listing { pairs: matched.strict()?, ..listing }.with_meaning(table))
}

/// As [`open`], but returns images and masks without a partner as well, instead of refusing them.
///
/// # Errors
/// Returns an error if the layout is not recognized, there is no such split, or a list cannot be
/// read.
pub(crate) fn open_lenient(
    source: &DataSource,
    split: Option<&str>,
    table: Option<&ClassTable>,
) -> Result<(Listing, Vec<Mismatch>)> {
    let (listing, matched) = find(source, split)?;
    let listing = Listing { pairs: matched.pairs, ..listing };
    Ok((listing.with_meaning(table), matched.mismatches))
}

impl Listing {
    /// Whether the foreground of its masks is 255.
    pub(crate) fn is_binary(&self) -> bool {
        self.pairs.first().is_some_and(binary::is_binary)
    }

    /// Reads 255 as the foreground, as another split of the data set does.
    ///
    /// # Errors
    /// Returns an error if masks have values other than 0 and 255.
    #[cfg(feature = "training")]
    pub(crate) fn with_meaning_of_other_split(mut self, other: &str) -> Result<Self> {
        if binary::adopt_from_other_split(&mut self.pairs, self.classes.as_ref()) {
            return Ok(self);
        }
        let split = self.split.as_deref().unwrap_or_default();
        Err(error!(Data, "the masks of {other} have only 0 and 255, those of {split} other values")
            .file(&self.root)
            .advice("write 1 for the foreground in all of them; if 255 marks pixels to ignore, list both classes and the line `255 ignore` in classes.txt"))
    }

    /// Checks that another split of the data set has the same classes: annotation files list their
    /// own, and the same label would mean different classes.
    ///
    /// # Errors
    /// Returns an error that names both splits if it has others.
    pub(crate) fn check_same_classes(&self, other: &Self) -> Result<()> {
        let names = |listing: &Self| listing.classes.as_ref().map(|table| table.names.clone());
        match (names(self), names(other)) {
            (Some(own), Some(others)) if own != others => {
                let [own, others] =
                    [self, other].map(|l| text::excerpt(l.split.as_deref().unwrap_or_default()));
                Err(error!(Data, "the split {others} has other classes than {own}")
                    .file(&self.root)
                    .advice("the same number must mean the same class in all splits: export them together"))
            }
            _ => Ok(()),
        }
    }

    /// Sets what the values of the masks mean, if they tell. `table` overrides the classes.
    fn with_meaning(mut self, table: Option<&ClassTable>) -> Self {
        let assumption = self.layout.assumption(&self.root).filter(|_| table.is_none());
        let own = self.classes.as_ref().filter(|_| assumption.is_none());
        match binary::adopt(&mut self.pairs, table.or(own)) {
            binary::Found::All => {
                let note = "the masks have only 0 and 255: 255 is read as class 1, the foreground";
                self.notes.push(note.to_owned());
                if table.is_none() && own.is_none() {
                    self.classes = Some(binary::classes());
                }
            }
            binary::Found::AllBut(odd) => {
                self.notes.push(format!(
                    "masks have only 0 and 255, but not {}: 255 is ignored in all of them",
                    text::path(&odd)
                ));
                self.notes.extend(assumption);
            }
            binary::Found::Other => self.notes.extend(assumption),
        }
        self
    }
}

/// Returns the names of a data set's splits; empty if it has none.
///
/// # Errors
/// Returns an error if the layout of the directory is not recognized.
pub(crate) fn splits(source: &DataSource) -> Result<Vec<String>> {
    source.layout()?.splits(source.directory())
}

fn find(source: &DataSource, split: Option<&str>) -> Result<(Listing, Matched)> {
    let (root, layout) = (source.directory(), source.layout()?);
    let split = layout.split(root, split)?;
    let Contents { matched, classes, notes } = layout.contents(root, split.as_deref())?;
    let (root, pairs) = (root.to_path_buf(), Vec::new());
    Ok((Listing { root, layout, split, pairs, classes, notes }, matched))
}
