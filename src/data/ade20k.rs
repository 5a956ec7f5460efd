//! Directories in the layout of ADE20K's scene parsing challenge.

use super::MaskValues;
use super::layout::Layout;
use super::pairing::{Directories, Matched, common_directories};
use crate::error::{Result, error};
use crate::files::read_text;
use crate::image::{ClassTable, IgnoredLabel};
use std::path::Path;

const CLASSES: usize = 150;

/// Values 1 to 150 are the classes 0 to 149; 0 is no class.
pub(super) const VALUES: MaskValues = MaskValues::new("ade20k", |value| match value {
    0 | 255 => 255,
    1..=150 => value - 1,
    _ => value,
});

/// The layout of ADE20K: `images/SPLIT/` and `annotations/SPLIT/`, with the splits `training` and
/// `validation`. With a `classes.txt` that does not have 150 classes, it is other data in the same
/// layout.
pub(super) struct Ade20k;

impl Layout for Ade20k {
    fn name(&self) -> &'static str {
        "ade20k"
    }

    fn title(&self) -> &'static str {
        "ADE20K"
    }

    fn directories(&self) -> &'static str {
        "images/training/ with annotations/training/"
    }

    /// Requires splits named as in ADE20K: the values of masks in some other `annotations/` would be
    /// shifted by one silently.
    fn detect(&self, root: &Path) -> Result<bool> {
        let has_split = |name: &str| {
            root.join("images").join(name).is_dir() && root.join("annotations").join(name).is_dir()
        };
        Ok(has_split("training") || has_split("validation"))
    }

    fn splits(&self, root: &Path) -> Result<Vec<String>> {
        common_directories(&root.join("images"), &root.join("annotations"))
    }

    fn matched(&self, root: &Path, split: Option<&str>) -> Result<Matched> {
        matched(root, split.unwrap_or_default())
    }

    fn classes(&self, root: &Path) -> Result<Option<ClassTable>> {
        classes(root).map(Some)
    }
}

/// Lists the pairs of a split ("training", "validation"): `images/SPLIT/NAME.jpg` with
/// `annotations/SPLIT/NAME.png`, whose values 1 to 150 become the classes 0 to 149, and whose 0 is
/// ignored. If the directory has a `classes.txt` with a different number of classes, the data is
/// not ADE20K, and values are class numbers.
///
/// # Errors
/// Returns an error that names missing files.
fn matched(root: &Path, split: &str) -> Result<Matched> {
    Directories::read(&root.join("images").join(split), &root.join("annotations").join(split))?
        .all(mask_values(root)?)
}

/// Other data in the same layout has its own class numbers, which must not be shifted.
fn mask_values(root: &Path) -> Result<MaskValues> {
    let file = root.join("classes.txt");
    let is_other = file.exists() && ClassTable::read(file)?.len() != CLASSES;
    Ok(if is_other { MaskValues::CLASSES } else { VALUES })
}

/// The 150 classes, in distinct colors, with the names of the data set's `objectInfo150.txt` if it
/// is present; 255 is ignored.
///
/// # Errors
/// Returns an error if that file is invalid.
fn classes(root: &Path) -> Result<ClassTable> {
    let mut table = ClassTable::generic(CLASSES);
    table.ignored = vec![IgnoredLabel { label: 255, name: "ignore".into(), color: [0; 3] }];
    let file = root.join("objectInfo150.txt");
    if file.exists() {
        table.names = names(&read_text(&file)?).map_err(|e| e.file(&file))?;
    }
    Ok(table)
}

/// Parses tab-separated lines of class number, fraction, training images, validation images, and
/// comma-separated synonyms, of which the first is the name.
fn names(text: &str) -> Result<Vec<String>> {
    let mut names = Vec::with_capacity(CLASSES);
    for line in text.lines().skip(1).filter(|line| !line.trim().is_empty()) {
        let cells: Vec<&str> = line.split('\t').map(str::trim).collect();
        let number = names.len() + 1;
        let name = match cells[..] {
            [n, .., synonyms] if n.parse() == Ok(number) => {
                synonyms.split(',').next().map(str::trim).filter(|n| !n.is_empty())
            }
            _ => None,
        };
        names.push(
            name.ok_or_else(|| error!(Data, "`{line}` is not a line for class {number}"))?
                .to_owned(),
        );
    }
    if names.len() != CLASSES {
        return Err(error!(Data, "expected {CLASSES} classes, got {}", names.len()));
    }
    Ok(names)
}
