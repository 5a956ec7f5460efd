//! The registry of data set layouts. A new one is a file with a [`Layout`], and one line in the list
//! below.

use super::pairing::Matched;
use super::patterns::Patterns;
use super::unrecognized::unrecognized;
use super::{ade20k, beside, cityscapes, coco, label_studio, labelme, plain, voc, yolo};
use crate::error::{Result, error};
use crate::image::ClassTable;
use std::fmt;
use std::path::Path;

/// All layouts, in the order of detection.
static LAYOUTS: &[&dyn Layout] = &[
    &voc::Voc,
    &cityscapes::Cityscapes,
    &ade20k::Ade20k,
    &plain::IMAGES_AND_MASKS,
    &plain::IMG_AND_ANN,
    &plain::SplitFirst,
    &plain::Annotated,
    &beside::Beside,
    &coco::Coco,
    &yolo::Yolo,
    &labelme::Labelme,
    &label_studio::LabelStudio,
];

/// The pairs of a split, and what is read together with them.
pub(super) struct Contents {
    pub(super) matched: Matched,
    pub(super) classes: Option<ClassTable>,
    /// What was assumed or left out, for people.
    pub(super) notes: Vec<String>,
}

/// How a data set arranges its files.
pub(super) trait Layout: Sync {
    /// Returns the name in reports, such as `voc`.
    fn name(&self) -> &'static str;

    /// Returns the title of the data set that has this layout, or of the layout.
    fn title(&self) -> &'static str;

    /// Returns the directories that identify the layout, for people.
    fn directories(&self) -> &'static str;

    /// Returns whether a directory has this layout. The first match is used.
    fn detect(&self, root: &Path) -> Result<bool>;

    /// Returns the splits that have images and masks, by name.
    fn splits(&self, root: &Path) -> Result<Vec<String>>;

    /// Returns whether a data set without splits is valid, and what its error calls the files if a
    /// split is requested.
    fn undivided(&self) -> Option<&'static str> {
        None
    }

    /// Matches the images and masks of a split; `None` if the data set has no splits.
    fn matched(&self, root: &Path, split: Option<&str>) -> Result<Matched>;

    /// Returns the pairs of a split and the classes: those of `classes.txt`, or else the standard
    /// ones. Annotations name their classes themselves.
    fn contents(&self, root: &Path, split: Option<&str>) -> Result<Contents> {
        let matched = self.matched(root, split)?;
        let file = root.join("classes.txt");
        let classes =
            if file.exists() { ClassTable::read(file).map(Some) } else { self.classes(root) };
        Ok(Contents { matched, classes: classes?, notes: Vec::new() })
    }

    /// Returns the classes of a data set without a `classes.txt`.
    fn classes(&self, _root: &Path) -> Result<Option<ClassTable>> {
        Ok(None)
    }

    /// Returns a note if the classes are those of the data set that the layout is named after only
    /// because nothing in the directory lists others.
    fn assumption(&self, _root: &Path) -> Option<String> {
        None
    }
}

/// How a data set arranges its files: a layout of directories, or patterns.
#[derive(Clone)]
pub struct DatasetLayout(Kind);

#[derive(Clone)]
enum Kind {
    Registered(&'static dyn Layout),
    Patterns(Patterns),
}

impl DatasetLayout {
    /// Returns all layouts, in the order of detection.
    pub fn all() -> impl Iterator<Item = Self> {
        LAYOUTS.iter().map(|&layout| Self(Kind::Registered(layout)))
    }

    pub(super) fn of_patterns(patterns: Patterns) -> Self {
        Self(Kind::Patterns(patterns))
    }

    fn layout(&self) -> &dyn Layout {
        match &self.0 {
            Kind::Registered(layout) => *layout,
            Kind::Patterns(patterns) => patterns,
        }
    }

    /// Detects the layout of a directory.
    ///
    /// # Errors
    /// Returns an error if it has none of the layouts, or if it cannot be listed.
    pub fn of(root: impl AsRef<Path>) -> Result<Self> {
        let root = root.as_ref();
        if !root.is_dir() {
            return Err(error!(Data, "is not a directory").file(root));
        }
        for layout in Self::all() {
            if layout.layout().detect(root)? {
                return Ok(layout);
            }
        }
        Err(unrecognized(root))
    }

    /// Returns the titles of all layouts, separated by commas.
    pub fn titles() -> String {
        Self::all().map(|layout| layout.title()).collect::<Vec<_>>().join(", ")
    }

    /// Returns the name in reports, such as `voc`.
    pub fn name(&self) -> &'static str {
        self.layout().name()
    }

    /// Returns the title of the data set that has this layout, or of the layout.
    pub fn title(&self) -> &'static str {
        self.layout().title()
    }

    /// Returns the directories that identify the layout, for people.
    pub fn directories(&self) -> &'static str {
        self.layout().directories()
    }

    pub(super) fn splits(&self, root: &Path) -> Result<Vec<String>> {
        self.layout().splits(root)
    }

    /// Returns the name of the split to list: `requested`, or the default. `None` if the data set
    /// has no splits.
    pub(super) fn split(&self, root: &Path, requested: Option<&str>) -> Result<Option<String>> {
        let splits = self.splits(root)?;
        match (self.layout().undivided().filter(|_| splits.is_empty()), requested) {
            (Some(_), None) => Ok(None),
            (Some(files), Some(split)) => {
                Err(error!(Data, "no split `{split}`: {files} are not divided").file(root))
            }
            (None, requested) => choose_split(root, requested, splits).map(Some),
        }
    }

    pub(super) fn contents(&self, root: &Path, split: Option<&str>) -> Result<Contents> {
        self.layout().contents(root, split)
    }

    /// Returns a note if the classes are the standard ones because nothing lists others.
    pub(super) fn assumption(&self, root: &Path) -> Option<String> {
        self.layout().assumption(root).filter(|_| !root.join("classes.txt").exists())
    }
}

impl PartialEq for DatasetLayout {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for DatasetLayout {}

impl fmt::Debug for DatasetLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Returns whether a split is called `name`. Tools also call the split for training `training`, and
/// the one for validation `valid` or `validation`.
pub(crate) fn is_split_named(split: &str, name: &str) -> bool {
    let others: &[&str] = match name {
        "train" => &["training"],
        "val" => &["validation", "valid"],
        _ => &[],
    };
    others.iter().chain([&name]).any(|other| split.eq_ignore_ascii_case(other))
}

fn choose_split(root: &Path, requested: Option<&str>, splits: Vec<String>) -> Result<String> {
    let default = match splits.as_slice() {
        [only] => only,
        _ => "val",
    };
    let requested = requested.unwrap_or(default);
    let named = |name: &str| splits.iter().find(|split| *split == name);
    let found = named(requested).or_else(|| splits.iter().find(|s| is_split_named(s, requested)));
    if let Some(split) = found {
        return Ok(split.clone());
    }
    let list = if splits.is_empty() { "none".to_string() } else { splits.join(", ") };
    Err(error!(Data, "no split `{requested}`; available splits: {list}").file(root))
}
