//! Plain directories: images and masks with the same names.

use super::layout::Layout;
use super::pairing::{Directories as Files, Matched, common_directories, directories, has_images};
use super::{MaskValues, Pair};
use crate::error::Result;
use std::path::Path;

/// Names of lists that may be next to `images/` and `masks/`.
const LISTS: [&str; 4] = ["train", "val", "test", "trainval"];

/// Lists all images of a directory with the masks of the same name (except for the extension) in
/// another directory, by name.
///
/// # Errors
/// Returns an error if a directory cannot be listed or contains no images, two files have the same
/// name, an image has no mask, or a mask has no image.
pub fn list_directories(images: impl AsRef<Path>, masks: impl AsRef<Path>) -> Result<Vec<Pair>> {
    Files::read(images.as_ref(), masks.as_ref())?.all(MaskValues::CLASSES)?.strict()
}

/// Two directories for images and masks, optionally with `SPLIT/` in both or `SPLIT.txt` next to them.
pub(super) struct Directories {
    name: &'static str,
    title: &'static str,
    /// Names of the directories.
    images: &'static str,
    masks: &'static str,
}

/// `images/` and `masks/`.
pub(super) static IMAGES_AND_MASKS: Directories = Directories {
    name: "directories",
    title: "images/ with masks/",
    images: "images",
    masks: "masks",
};

/// `img_dir/` and `ann_dir/`, as mmsegmentation's documentation has them.
pub(super) static IMG_AND_ANN: Directories = Directories {
    name: "mmsegmentation",
    title: "img_dir/ with ann_dir/",
    images: "img_dir",
    masks: "ann_dir",
};

impl Layout for Directories {
    fn name(&self) -> &'static str {
        self.name
    }

    fn title(&self) -> &'static str {
        self.title
    }

    fn directories(&self) -> &'static str {
        self.title
    }

    fn detect(&self, root: &Path) -> Result<bool> {
        Ok(root.join(self.images).is_dir() && root.join(self.masks).is_dir())
    }

    /// Empty if the images are directly in their directory and there are no lists.
    fn splits(&self, root: &Path) -> Result<Vec<String>> {
        let (images, masks) = (root.join(self.images), root.join(self.masks));
        if has_images(&images)? {
            let listed = LISTS.iter().filter(|name| root.join(format!("{name}.txt")).is_file());
            return Ok(listed.map(|name| (*name).to_owned()).collect());
        }
        common_directories(&images, &masks)
    }

    fn undivided(&self) -> Option<&'static str> {
        Some("images and masks")
    }

    /// A split is a directory in both, or a list of names next to them.
    fn matched(&self, root: &Path, split: Option<&str>) -> Result<Matched> {
        let (images, masks) = (root.join(self.images), root.join(self.masks));
        let Some(split) = split else {
            return Files::read(&images, &masks)?.all(MaskValues::CLASSES);
        };
        if images.join(split).is_dir() {
            return Files::read(&images.join(split), &masks.join(split))?.all(MaskValues::CLASSES);
        }
        Files::read(&images, &masks)?.listed(&root.join(format!("{split}.txt")), root)
    }
}

/// `SPLIT/images/` and `SPLIT/masks/`.
pub(super) struct SplitFirst;

impl Layout for SplitFirst {
    fn name(&self) -> &'static str {
        "split_first"
    }

    fn title(&self) -> &'static str {
        "NAME/images/ with NAME/masks/"
    }

    fn directories(&self) -> &'static str {
        "NAME/images/ with NAME/masks/ (such as train/images/ and train/masks/)"
    }

    fn detect(&self, root: &Path) -> Result<bool> {
        Ok(!self.splits(root)?.is_empty())
    }

    fn splits(&self, root: &Path) -> Result<Vec<String>> {
        let is_split = |name: &String| IMAGES_AND_MASKS.detect(&root.join(name)).unwrap_or(false);
        Ok(directories(root)?.into_iter().filter(is_split).collect())
    }

    fn matched(&self, root: &Path, split: Option<&str>) -> Result<Matched> {
        IMAGES_AND_MASKS.matched(&root.join(split.unwrap_or_default()), None)
    }
}

/// `SPLIT/` and `SPLITannot/`, restricted to the names of `SPLIT.txt` if it exists.
pub(super) struct Annotated;

impl Layout for Annotated {
    fn name(&self) -> &'static str {
        "annotated"
    }

    fn title(&self) -> &'static str {
        "NAME/ with NAMEannot/ (CamVid)"
    }

    fn directories(&self) -> &'static str {
        "NAME/ with NAMEannot/ (such as val/ and valannot/)"
    }

    fn detect(&self, root: &Path) -> Result<bool> {
        Ok(!self.splits(root)?.is_empty())
    }

    fn splits(&self, root: &Path) -> Result<Vec<String>> {
        let names = directories(root)?;
        let split = |name: &String| {
            name.strip_suffix("annot").filter(|split| !split.is_empty()).map(str::to_owned)
        };
        Ok(names.iter().filter_map(split).filter(|split| root.join(split).is_dir()).collect())
    }

    fn matched(&self, root: &Path, split: Option<&str>) -> Result<Matched> {
        let split = split.unwrap_or_default();
        let files = Files::read(&root.join(split), &root.join(format!("{split}annot")))?;
        let list = root.join(format!("{split}.txt"));
        if list.is_file() { files.listed(&list, root) } else { files.all(MaskValues::CLASSES) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::open;
    use super::*;
    use crate::data::test_files::tree;
    use std::fs;

    fn names(root: &Path, split: Option<&str>) -> Result<Vec<String>> {
        Ok(open(root, split)?.pairs.into_iter().map(|p| p.name).collect())
    }

    #[test]
    fn two_directories_pair_up_by_name_and_strangers_are_passed_over() {
        let root = tree(&[
            ("images/b.jpg", ""),
            ("images/a.PNG", ""),
            ("images/Thumbs.db", ""),
            ("masks/a.png", ""),
            ("masks/b.png", ""),
        ]);
        let listing = open(root.path(), None).unwrap();
        assert_eq!((listing.layout.name(), listing.classes), ("directories", None));
        assert_eq!(names(root.path(), None).unwrap(), ["a", "b"]);
        assert!(names(root.path(), Some("val")).is_err());
    }

    #[test]
    fn masks_may_have_a_suffix_and_splits_may_come_first() {
        let root = tree(&[
            ("train/images/a.jpg", ""),
            ("train/images/b.jpg", ""),
            ("train/masks/a_mask.png", ""),
            ("train/masks/b.png", ""),
            ("valid/images/c_mask.jpg", ""),
            ("valid/masks/c_mask.png", ""),
        ]);
        assert_eq!(open(root.path(), None).unwrap().layout.name(), "split_first");
        assert_eq!(names(root.path(), Some("train")).unwrap(), ["a", "b"]);
        assert_eq!(names(root.path(), Some("val")).unwrap(), ["c_mask"]);
        fs::write(root.path().join("train/masks/b_mask.png"), "").unwrap();
        let error = names(root.path(), Some("train")).unwrap_err().to_string();
        assert!(error.contains("1 mask without an image of the same name: b_mask"), "{error}");
        let root = tree(&[("img_dir/train/a.jpg", ""), ("ann_dir/train/a.png", "")]);
        assert_eq!(open(root.path(), None).unwrap().layout.name(), "mmsegmentation");
        assert_eq!(names(root.path(), None).unwrap(), ["a"]);
    }

    #[test]
    fn voc_directories_follow_the_list_in_its_order() {
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
        assert_eq!(names(root.path(), None).unwrap(), ["x"], "val by default");
        assert_eq!(open(root.path(), None).unwrap().classes.unwrap().len(), 21);
        let error = names(root.path(), Some("bad")).unwrap_err().to_string();
        assert!(
            error.contains("bad.txt") && error.contains("1 listed name without a mask: z"),
            "{error}"
        );
        let error = names(root.path(), Some("test")).unwrap_err().to_string();
        assert!(error.contains("no split `test`; available splits: bad, train, val"), "{error}");
    }

    #[test]
    fn split_directories_take_their_list_or_all() {
        let files = [
            ("train/a.png", ""),
            ("train/b.png", ""),
            ("trainannot/a.png", ""),
            ("trainannot/b.png", ""),
        ];
        let root = tree(&files);
        assert_eq!(names(root.path(), None).unwrap(), ["a", "b"], "the only split");
        fs::write(root.path().join("train.txt"), "b\n").unwrap();
        fs::write(root.path().join("classes.txt"), "0 sky 1 2 3\n").unwrap();
        assert_eq!(names(root.path(), None).unwrap(), ["b"]);
        assert_eq!(open(root.path(), None).unwrap().classes.unwrap().names, ["sky"]);
    }

    #[test]
    fn what_does_not_pair_up_is_refused_by_name() {
        for (files, message) in [
            (
                vec![("images/a.png", ""), ("masks/b.png", "")],
                "1 image without a mask of the same name: a",
            ),
            (
                vec![("images/a.png", ""), ("masks/a.png", ""), ("masks/b.png", "")],
                "1 mask without an image of the same name: b",
            ),
            (
                vec![("images/a.png", ""), ("images/a.jpg", ""), ("masks/a.png", "")],
                "have the same name",
            ),
            (
                vec![("images/a.jpg", ""), ("masks/a.jpg", "")],
                "masks are PNG, TIFF, BMP, GIF or .npy files, but this is none",
            ),
            (vec![("images/a.txt", ""), ("masks/a.png", "")], "contains no images"),
            (
                vec![("val/a.png", ""), ("valannot/a.png", ""), ("val.txt", "../a\n")],
                "line 1: `../a` is neither a file name",
            ),
            (
                vec![("val/a.png", ""), ("valannot/a.png", ""), ("val.txt", "a\na\n")],
                "line 2: `a` is listed twice",
            ),
            (
                vec![("val/a.png", ""), ("valannot/a.png", ""), ("val.txt", "\n")],
                "contains no names",
            ),
            (vec![("images/a.png", "")], "unrecognized data set layout"),
        ] {
            let root = tree(&files);
            let error = names(root.path(), None).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        assert!(
            open("/no/such/directory", None).unwrap_err().to_string().contains("not a directory")
        );
    }
}
