//! A folder of pictures and a folder of masks with the same names.

use super::Pair;
use crate::error::{Error, Result, error};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// Endings of the files that count as pictures; others (`Thumbs.db`, `.txt`) are passed over.
const PICTURES: &[&str] =
    &["png", "jpg", "jpeg", "webp", "bmp", "tif", "tiff", "gif", "ppm", "pgm", "pnm", "pbm", "pam", "qoi", "tga"];
const MASKS: &[&str] = &["png"];

/// How many names an error spells out.
const SPELLED_OUT: usize = 5;

/// All pictures of a folder with the masks of the same name (ending aside) in another, by name.
///
/// Errors: a folder cannot be listed or holds no picture, two files share a name, or a picture has no mask or a mask no picture.
pub fn list_folders(pictures: impl AsRef<Path>, masks: impl AsRef<Path>) -> Result<Vec<Pair>> {
    let (pictures, masks) = (pictures.as_ref(), masks.as_ref());
    let (found, mut found_masks) = (by_name(pictures, PICTURES)?, by_name(masks, MASKS)?);
    if found.is_empty() {
        return Err(error!(Data, "holds no pictures").file(pictures));
    }
    let mut pairs = Vec::with_capacity(found.len());
    let mut lonely = Vec::new();
    for (name, picture) in found {
        match found_masks.remove(&name) {
            Some(mask) => pairs.push(Pair { name, picture, mask }),
            None => lonely.push(name),
        }
    }
    refuse(lonely, "without a mask of the same name", masks)?;
    refuse(found_masks.into_keys().collect(), "masks without a picture of the same name", pictures)?;
    Ok(pairs)
}

/// The pairs that a file of names lists, one name without ending a line, in its order.
///
/// Errors: the list cannot be read, is empty, names something twice or outside the folders, or a picture or mask is missing.
pub fn list_names(pictures: impl AsRef<Path>, masks: impl AsRef<Path>, list: impl AsRef<Path>) -> Result<Vec<Pair>> {
    let (pictures, masks, list) = (pictures.as_ref(), masks.as_ref(), list.as_ref());
    let text = std::fs::read_to_string(list).map_err(|e| Error::io(list, "could not be read", e))?;
    let (found, found_masks) = (by_name(pictures, PICTURES)?, by_name(masks, MASKS)?);
    let (mut pairs, mut seen) = (Vec::new(), std::collections::HashSet::new());
    let (mut no_picture, mut no_mask) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        let name = line.trim();
        if name.is_empty() {
            continue;
        }
        let at = |e: Error| e.at(format!("line {}", index + 1)).file(list);
        if !matches!(Path::new(name).components().collect::<Vec<_>>()[..], [Component::Normal(_)]) {
            return Err(at(error!(Data, "`{name}` is no plain file name")));
        }
        if !seen.insert(name) {
            return Err(at(error!(Data, "`{name}` is listed twice")));
        }
        match (found.get(name), found_masks.get(name)) {
            (Some(picture), Some(mask)) => {
                pairs.push(Pair { name: name.to_string(), picture: picture.clone(), mask: mask.clone() });
            }
            (None, _) => no_picture.push(name.to_string()),
            (_, None) => no_mask.push(name.to_string()),
        }
    }
    refuse(no_picture, "names that have no picture", pictures).map_err(|e| e.file(list))?;
    refuse(no_mask, "names that have no mask", masks).map_err(|e| e.file(list))?;
    if pairs.is_empty() {
        return Err(error!(Data, "lists no names").file(list));
    }
    Ok(pairs)
}

/// The parts of a folder with `NAME/` and `NAMEannot/`, by name.
pub(super) fn splits(root: &Path) -> Result<Vec<String>> {
    let unreadable = |e| Error::io(root, "could not be listed", e);
    let mut splits = Vec::new();
    for entry in std::fs::read_dir(root).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        let Some(split) = name.to_str().and_then(|name| name.strip_suffix("annot")) else { continue };
        if !split.is_empty() && root.join(split).is_dir() && root.join(&name).is_dir() {
            splits.push(split.to_string());
        }
    }
    splits.sort();
    Ok(splits)
}

fn by_name(folder: &Path, endings: &[&str]) -> Result<BTreeMap<String, PathBuf>> {
    let unreadable = |e| Error::io(folder, "could not be listed", e);
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        let Some(name) = path.file_stem().and_then(|s| s.to_str()).filter(|_| endings.contains(&ending.as_str())) else {
            continue;
        };
        if let Some(other) = found.insert(name.to_string(), path.clone()) {
            return Err(error!(Data, "and `{}` share a name", other.display()).file(&path));
        }
    }
    Ok(found)
}

fn refuse(names: Vec<String>, what: &str, place: &Path) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let more = if names.len() > SPELLED_OUT { ", ..." } else { "" };
    Err(error!(Data, "{} {what}: {}{more}", names.len(), names[..names.len().min(SPELLED_OUT)].join(", ")).file(place))
}

#[cfg(test)]
mod tests {
    use super::super::{Layout, open};
    use super::*;
    use std::fs;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    fn names(root: &Path, split: Option<&str>) -> Result<Vec<String>> {
        Ok(open(root, split)?.pairs.into_iter().map(|p| p.name).collect())
    }

    #[test]
    fn two_folders_pair_up_by_name_and_strangers_are_passed_over() {
        let root = tree(&[
            ("images/b.jpg", ""),
            ("images/a.PNG", ""),
            ("images/Thumbs.db", ""),
            ("masks/a.png", ""),
            ("masks/b.png", ""),
        ]);
        let listing = open(root.path(), None).unwrap();
        assert_eq!((listing.layout, listing.classes), (Layout::Folders, None));
        assert_eq!(names(root.path(), None).unwrap(), ["a", "b"]);
        assert!(names(root.path(), Some("val")).is_err());
    }

    #[test]
    fn voc_folders_follow_the_list_in_its_order() {
        let root = tree(&[
            ("JPEGImages/x.jpg", ""),
            ("JPEGImages/y.jpg", ""),
            ("JPEGImages/z.jpg", ""),
            ("SegmentationClass/x.png", ""),
            ("SegmentationClass/y.png", ""),
            ("ImageSets/Segmentation/train.txt", "y\r\nx\n\n"),
            ("ImageSets/Segmentation/val.txt", "x\n"),
            ("ImageSets/Segmentation/bad.txt", "x\nz\n"),
        ]);
        assert_eq!(names(root.path(), Some("train")).unwrap(), ["y", "x"]);
        assert_eq!(names(root.path(), None).unwrap(), ["x"], "val where nothing is said");
        assert_eq!(open(root.path(), None).unwrap().classes.unwrap().len(), 21);
        let error = names(root.path(), Some("bad")).unwrap_err().to_string();
        assert!(error.contains("bad.txt") && error.contains("1 names that have no mask: z"), "{error}");
        let error = names(root.path(), Some("test")).unwrap_err().to_string();
        assert!(error.contains("no part `test`; there are: bad, train, val"), "{error}");
    }

    #[test]
    fn split_folders_take_their_list_or_all() {
        let files = [("train/a.png", ""), ("train/b.png", ""), ("trainannot/a.png", ""), ("trainannot/b.png", "")];
        let root = tree(&files);
        assert_eq!(names(root.path(), None).unwrap(), ["a", "b"], "the only part");
        fs::write(root.path().join("train.txt"), "b\n").unwrap();
        fs::write(root.path().join("classes.txt"), "0 sky 1 2 3\n").unwrap();
        assert_eq!(names(root.path(), None).unwrap(), ["b"]);
        assert_eq!(open(root.path(), None).unwrap().classes.unwrap().names, ["sky"]);
    }

    #[test]
    fn what_does_not_pair_up_is_refused_by_name() {
        for (files, part) in [
            (vec![("images/a.png", ""), ("masks/b.png", "")], "1 without a mask of the same name: a"),
            (
                vec![("images/a.png", ""), ("masks/a.png", ""), ("masks/b.png", "")],
                "1 masks without a picture of the same name: b",
            ),
            (vec![("images/a.png", ""), ("images/a.jpg", ""), ("masks/a.png", "")], "share a name"),
            (vec![("images/a.txt", ""), ("masks/a.png", "")], "holds no pictures"),
            (vec![("val/a.png", ""), ("valannot/a.png", ""), ("val.txt", "../a\n")], "line 1: `../a` is no plain file name"),
            (vec![("val/a.png", ""), ("valannot/a.png", ""), ("val.txt", "a\na\n")], "line 2: `a` is listed twice"),
            (vec![("val/a.png", ""), ("valannot/a.png", ""), ("val.txt", "\n")], "lists no names"),
            (vec![("pictures/a.png", "")], "laid out in no known way"),
        ] {
            let root = tree(&files);
            let error = names(root.path(), None).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert!(open("/no/such/folder", None).unwrap_err().to_string().contains("is no folder"));
    }
}
