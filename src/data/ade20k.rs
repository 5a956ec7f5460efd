//! Directories laid out as ADE20K's scene parsing challenge.

use super::pairing::{Directories, Matched, directories};
use super::{MaskValues, Pair};
use crate::error::{Result, error};
use crate::files::read_text;
use crate::image::{ClassTable, IgnoredLabel};
use std::path::Path;

const CLASSES: usize = 150;

/// The pairs of a part ("training", "validation"): `images/SPLIT/NAME.jpg` with
/// `annotations/SPLIT/NAME.png`, whose 1 to 150 become the classes 0 to 149, and whose 0 is
/// ignored. Where the directory has a `classes.txt` of another number of classes, the data is not
/// ADE20K's, and values are classes as they are.
///
/// Errors name what is missing.
pub fn list_ade20k(root: impl AsRef<Path>, split: &str) -> Result<Vec<Pair>> {
    matched(root.as_ref(), split)?.strict()
}

pub(super) fn matched(root: &Path, split: &str) -> Result<Matched> {
    Directories::read(&root.join("images").join(split), &root.join("annotations").join(split))?
        .all(ids(root)?)
}

/// Other data in the same layout has classes of its own, whose numbers must not be shifted.
fn ids(root: &Path) -> Result<MaskValues> {
    let file = root.join("classes.txt");
    let others = file.is_file() && ClassTable::read(file)?.len() != CLASSES;
    Ok(if others { MaskValues::Classes } else { MaskValues::Ade20k })
}

/// The parts that have images and masks, by name.
pub(super) fn splits(root: &Path) -> Result<Vec<String>> {
    let masks = root.join("annotations");
    Ok(directories(&root.join("images"))?
        .into_iter()
        .filter(|split| masks.join(split).is_dir())
        .collect())
}

/// Only where the parts are called as in ADE20K: masks in some other `annotations/` would be
/// shifted by one without a word.
pub(super) fn is_there(root: &Path) -> bool {
    let part = |name: &str| {
        root.join("images").join(name).is_dir() && root.join("annotations").join(name).is_dir()
    };
    part("training") || part("validation")
}

/// The 150 classes, with the names of the `objectInfo150.txt` that comes with the data where it is
/// there, in colors that can be told apart; 255 is ignored.
///
/// Errors where that file is not what it should be.
pub(super) fn classes(root: &Path) -> Result<ClassTable> {
    let mut table = ClassTable::generic(CLASSES);
    table.ignored = vec![IgnoredLabel { label: 255, name: "ignore".into(), color: [0; 3] }];
    let file = root.join("objectInfo150.txt");
    if file.is_file() {
        table.names = names(&read_text(&file)?).map_err(|e| e.file(&file))?;
    }
    Ok(table)
}

/// Lines of number, share, images in training, images in validation, and synonyms with commas
/// between, of which the first is taken.
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
            name.ok_or_else(|| error!(Data, "`{line}` does not tell of class {number}"))?
                .to_owned(),
        );
    }
    if names.len() != CLASSES {
        return Err(error!(Data, "tells of {} classes, expected {CLASSES}", names.len()));
    }
    Ok(names)
}
