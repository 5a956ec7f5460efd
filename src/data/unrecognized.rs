//! The error about a directory of no known layout: what was seen there, and what is nearest.

use super::layout::DatasetLayout;
use super::pairing::{count_images, directories, files};
use crate::error::{Error, error};
use crate::text::{self, excerpt};
use std::path::Path;

/// Entries of a directory that the error lists.
const LISTED: usize = 6;
/// What directories of images and of masks are called elsewhere.
const IMAGES: &[&str] =
    &["image", "img", "imgs", "photos", "rgb", "input", "inputs", "x", "jpegimages"];
const MASKS: &[&str] = &[
    "mask",
    "label",
    "labels",
    "annotations",
    "annotation",
    "ann",
    "anns",
    "gt",
    "seg",
    "segmentation",
    "segmentations",
    "target",
    "targets",
    "y",
    "segmentationclass",
];

/// Returns the error about a directory of no known layout.
pub(super) fn unrecognized(root: &Path) -> Error {
    let known: Vec<&str> = DatasetLayout::all().map(|layout| layout.directories()).collect();
    let mut lines = vec![format!("found: {}", seen(root))];
    lines.extend(known.iter().map(|layout| format!("known: {layout}")));
    let advice = nearest(root).unwrap_or_else(|| {
        "arrange the files in one of these layouts, masks with the names of their images".to_owned()
    });
    error!(Data, "unrecognized data set layout").file(root).detail(lines.join("\n")).advice(advice)
}

/// Describes the contents of a directory.
fn seen(root: &Path) -> String {
    let mut parts = Vec::new();
    let names = directories(root).unwrap_or_default();
    let shown = names.iter().filter(|name| !name.starts_with('.'));
    for name in shown.clone().take(LISTED) {
        let inside = match count_images(&root.join(name)) {
            0 => String::new(),
            n => format!(" ({})", text::count(n, "image")),
        };
        parts.push(format!("{}/{inside}", excerpt(name)));
    }
    let more = shown.count().saturating_sub(LISTED);
    if more > 0 {
        parts.push(format!("{more} more directories"));
    }
    let (images, others) = (count_images(root), files(root).map_or(0, |files| files.len()));
    if images > 0 {
        parts.push(text::count(images, "image"));
    }
    if others > images {
        parts.push(format!("{} besides", text::count(others - images, "file")));
    }
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
}

/// Returns how to change the directory into the nearest layout, if it is near one.
fn nearest(root: &Path) -> Option<String> {
    let found = |directory: &Path| {
        let names = directories(directory).ok()?;
        let called = |word: &str, others: &[&str]| {
            let is = |name: &&String| {
                let name = name.to_ascii_lowercase();
                name == word || others.contains(&name.as_str())
            };
            names.iter().find(is).cloned()
        };
        Some((called("images", IMAGES)?, called("masks", MASKS)?))
    };
    let rename = |(images, masks): (String, String)| {
        let renamed: Vec<String> = [(images, "images"), (masks, "masks")]
            .into_iter()
            .filter(|(name, word)| name != word)
            .map(|(name, word)| format!("`{}` to `{word}`", excerpt(&name)))
            .collect();
        renamed.join(" and ")
    };
    if let Some(names) = found(root) {
        return Some(format!("nearest is images/ with masks/: rename {}", rename(names)));
    }
    let split = directories(root).ok()?.into_iter().find_map(|name| {
        let names = found(&root.join(&name))?;
        Some((name, names))
    });
    split.map(|(split, names)| {
        let split = excerpt(&split);
        format!("nearest is NAME/images/ with NAME/masks/: in {split}/ rename {}", rename(names))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn text(files: &[&str]) -> String {
        let root = tempfile::tempdir().unwrap();
        for name in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        unrecognized(root.path()).to_string()
    }

    #[test]
    fn what_was_found_and_the_nearest_layout_are_named() {
        for (files, parts) in [
            (
                &["imgs/a.jpg", "imgs/b.jpg", "labels/a.png", "notes.txt"][..],
                &[
                    "imgs/ (2 images), labels/ (1 image), 1 file besides",
                    "`imgs` to `images` and `labels` to `masks`",
                ][..],
            ),
            (&["train/images/a.jpg", "train/gt/a.png"], &["in train/ rename `gt` to `masks`"]),
            (
                &["a.jpg"],
                &["found: 1 image", "JPEGImages/ with SegmentationClass/", "names of their images"],
            ),
            (&[], &["found: nothing"]),
        ] {
            let text = text(files);
            for part in parts {
                assert!(text.contains(part), "{part}: {text}");
            }
        }
    }
}
