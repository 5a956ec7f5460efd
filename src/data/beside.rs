//! Directories with images and masks side by side, as Roboflow exports them ("Semantic Segmentation
//! Masks").

use super::MaskValues;
use super::layout::Layout;
use super::pairing::{Directories, Matched, directories};
use crate::error::{Result, error};
use crate::files::read_text;
use crate::image::{ClassTable, voc_color};
use crate::text::{self, excerpt};
use std::path::{Path, PathBuf};

/// The file in which Roboflow lists the classes of a split.
const CLASSES: &str = "_classes.csv";

/// `NAME.jpg` with `NAME_mask.png` in a directory for each split, or in one.
pub(super) struct Beside;

impl Layout for Beside {
    fn name(&self) -> &'static str {
        "beside"
    }

    fn title(&self) -> &'static str {
        "NAME.jpg with NAME_mask.png (Roboflow)"
    }

    fn directories(&self) -> &'static str {
        "NAME.jpg beside NAME_mask.png (in train/ and valid/, or in one directory)"
    }

    fn detect(&self, root: &Path) -> Result<bool> {
        Ok(has_list(root) || has_pairs(root)? || !self.splits(root)?.is_empty())
    }

    /// The directories with a list, which a stray pair beside them must not hide; else those with
    /// pairs, unless they are without splits.
    fn splits(&self, root: &Path) -> Result<Vec<String>> {
        let mut splits = directories(root)?;
        if splits.iter().any(|name| has_list(&root.join(name))) {
            splits.retain(|name| has_list(&root.join(name)));
        } else if has_pairs(root)? {
            splits.clear();
        } else {
            splits.retain(|name| has_pairs(&root.join(name)).unwrap_or(false));
        }
        Ok(splits)
    }

    fn undivided(&self) -> Option<&'static str> {
        Some("images and masks")
    }

    fn matched(&self, root: &Path, split: Option<&str>) -> Result<Matched> {
        let directory = root.join(split.unwrap_or_default());
        Directories::in_one(&directory)?.all(MaskValues::CLASSES)
    }

    /// Those of the lists, which must be the same in all splits.
    fn classes(&self, root: &Path) -> Result<Option<ClassTable>> {
        let mut directories: Vec<_> = self.splits(root)?.iter().map(|s| root.join(s)).collect();
        if directories.is_empty() {
            directories.push(root.to_owned());
        }
        let mut found: Option<(ClassTable, PathBuf)> = None;
        for file in directories.iter().map(|d| d.join(CLASSES)).filter(|file| file.is_file()) {
            let table = parse(&read_text(&file)?).map_err(|e| e.file(&file))?;
            match &found {
                Some((first, other)) if first.names != table.names => {
                    let other = text::path(other);
                    return Err(error!(Data, "lists other classes than {other}").file(&file).advice(
                        "the same value must mean the same class in all splits: export them together",
                    ));
                }
                Some(_) => {}
                None => found = Some((table, file)),
            }
        }
        Ok(found.map(|(table, _)| table))
    }
}

fn has_list(directory: &Path) -> bool {
    directory.join(CLASSES).is_file()
}

/// Whether a directory has images with their masks beside them.
fn has_pairs(directory: &Path) -> Result<bool> {
    Ok(Directories::in_one(directory)?.has_pairs())
}

/// Parses lines of a mask's value and the name of its class, below a heading.
fn parse(text: &str) -> Result<ClassTable> {
    let mut names = Vec::new();
    for (index, line) in text.lines().enumerate().skip(1) {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let cells = line.split_once(',').map(|(value, name)| (value.trim(), name.trim()));
        match cells.and_then(|(value, name)| Some((value.parse::<usize>().ok()?, name))) {
            Some((value, name)) if value == names.len() && !name.is_empty() => {
                names.push(name.to_owned());
            }
            _ => {
                let (next, found) = (names.len(), excerpt(line));
                return Err(error!(Data, "expected `{next}, NAME`, found `{found}`")
                    .at(format!("line {}", index + 1)));
            }
        }
    }
    let colors = (0..names.len()).map(voc_color).collect();
    ClassTable::new(names, colors).map_err(|_| error!(Data, "no classes listed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::open;
    use crate::data::test_files::tree;
    use std::fs;

    #[test]
    fn masks_are_beside_their_images() {
        let csv = "Pixel Value, Class\n0, background\n1, traffic light\n";
        let root = tree(&[
            ("train/a.jpg", ""),
            ("train/a_mask.png", ""),
            ("train/_classes.csv", csv),
            ("valid/b.jpg", ""),
            ("valid/b_mask.png", ""),
            ("valid/_classes.csv", csv),
        ]);
        let listing = open(root.path(), None).unwrap();
        assert_eq!((listing.layout.name(), listing.split.as_deref()), ("beside", Some("valid")));
        assert_eq!(listing.classes.unwrap().names, ["background", "traffic light"]);
        assert_eq!(listing.pairs.len(), 1);
        assert!(listing.pairs[0].mask.path().ends_with("valid/b_mask.png"));
        assert!(listing.pairs[0].image.ends_with("valid/b.jpg"));
        fs::remove_file(root.path().join("train/_classes.csv")).unwrap();
        let alone = open(root.path().join("train"), None).unwrap();
        assert_eq!((alone.split, alone.pairs.len(), alone.classes), (None, 1, None));
        fs::write(root.path().join("valid/_classes.csv"), "V, C\n0, doc\n1, background\n").unwrap();
        fs::write(root.path().join("train/_classes.csv"), csv).unwrap();
        let error = open(root.path(), None).unwrap_err().to_string();
        assert!(error.contains("lists other classes than"), "{error}");
        fs::remove_file(root.path().join("train/_classes.csv")).unwrap();
        fs::remove_file(root.path().join("valid/b_mask.png")).unwrap();
        let error = open(root.path(), None).unwrap_err().to_string();
        assert!(error.contains("1 image without a mask of the same name: b"), "{error}");
    }

    #[test]
    fn a_damaged_list_of_classes_is_refused_with_its_line() {
        for (text, part) in [
            (
                "Pixel Value, Class\n0 background\n",
                "line 2: expected `0, NAME`, found `0 background`",
            ),
            ("Pixel Value, Class\n1, car\n", "expected `0, NAME`"),
            ("Pixel Value, Class\n", "no classes"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
