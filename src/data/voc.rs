//! Directories in the layout of PASCAL VOC, optionally with the masks of the Semantic Boundaries
//! Dataset (SBD).

use super::MaskValues;
use super::layout::Layout;
use super::pairing::{Directories, Matched, files};
use crate::error::{Result, error};
use crate::files::{BYTE_ORDER_MARK, read_text};
use crate::image::{ClassTable, IgnoredLabel, voc_color};
use crate::models::BACKGROUND;
use crate::text::excerpt;
use std::path::{Path, PathBuf};

/// Directories of masks in order of preference: labelme's, of which those in `SegmentationClass` are
/// arrays without a palette; the official ones; and SBD's, which has more.
const MASKS: [&str; 3] = ["SegmentationClassPNG", "SegmentationClass", "SegmentationClassAug"];

/// The layout of PASCAL VOC: `JPEGImages/`, `SegmentationClass/` (or `SegmentationClassAug/`),
/// `ImageSets/Segmentation/SPLIT.txt`; also as CVAT ("Segmentation mask 1.1") and labelme write it,
/// with their lists of classes, and without lists of images.
pub(super) struct Voc;

impl Layout for Voc {
    fn name(&self) -> &'static str {
        "voc"
    }

    fn title(&self) -> &'static str {
        "PASCAL VOC"
    }

    fn directories(&self) -> &'static str {
        "JPEGImages/ with SegmentationClass/"
    }

    fn detect(&self, root: &Path) -> Result<bool> {
        let masks = MASKS.iter().any(|name| root.join(name).is_dir());
        Ok(root.join("JPEGImages").is_dir() && masks)
    }

    /// The splits that have a list.
    fn splits(&self, root: &Path) -> Result<Vec<String>> {
        let directory = lists(root);
        if !directory.is_dir() {
            return Ok(Vec::new());
        }
        let lists = files(&directory)?
            .into_iter()
            .filter(|path| path.extension().is_some_and(|e| e == "txt"));
        let names =
            lists.filter_map(|path| path.file_stem().and_then(|s| s.to_str()).map(String::from));
        // Skip hidden files (`._train.txt`, created by macOS).
        Ok(names.filter(|name| !name.starts_with('.')).collect())
    }

    fn undivided(&self) -> Option<&'static str> {
        Some("JPEGImages/ and the masks")
    }

    fn matched(&self, root: &Path, split: Option<&str>) -> Result<Matched> {
        matched(root, split)
    }

    fn classes(&self, root: &Path) -> Result<Option<ClassTable>> {
        for (name, parse) in [
            ("labelmap.txt", label_map as fn(&str) -> Result<ClassTable>),
            ("class_names.txt", class_names),
        ] {
            let file = root.join(name);
            if file.is_file() {
                return parse(&read_text(&file)?).map(Some).map_err(|e| e.file(&file));
            }
        }
        Ok(Some(ClassTable::voc()))
    }

    fn assumption(&self, root: &Path) -> Option<String> {
        let listed = ["labelmap.txt", "class_names.txt"].iter().any(|n| root.join(n).is_file());
        (!listed).then(|| {
            "the classes are PASCAL VOC's 21, since no classes.txt lists others".to_owned()
        })
    }
}

/// Parses CVAT's list: lines `NAME:R,G,B:PARTS:ACTIONS`, whose order is that of the classes.
fn label_map(text: &str) -> Result<ClassTable> {
    let (mut names, mut colors) = (Vec::new(), Vec::new());
    for (index, line) in lines_of(text) {
        let parsed = line.split_once(':').and_then(|(name, rest)| {
            let color = rest.split(':').next()?.split(',').map(|n| n.trim().parse::<u8>().ok());
            let color: [u8; 3] = color.collect::<Option<Vec<_>>>()?.try_into().ok()?;
            Some((name, color))
        });
        let Some((name, color)) = parsed else {
            let found = excerpt(line);
            return Err(error!(Data, "expected `NAME:R,G,B:PARTS:ACTIONS`, found `{found}`")
                .at(format!("line {}", index + 1)));
        };
        names.push(name.to_owned());
        colors.push(color);
    }
    ClassTable::new(names, colors).map_err(|_| error!(Data, "no classes listed"))
}

/// The name that labelme gives to what it writes as 255.
const IGNORE: &str = "__ignore__";

/// Parses labelme's list: names, of which `__ignore__` has the value 255 in masks, and
/// `_background_` is the background.
fn class_names(text: &str) -> Result<ClassTable> {
    let ignores = lines_of(text).any(|(_, line)| line == IGNORE);
    let names = lines_of(text).map(|(_, line)| line).filter(|name| *name != IGNORE);
    let name = |name: &str| if name == "_background_" { BACKGROUND } else { name }.to_owned();
    let names: Vec<String> = names.map(name).collect();
    let colors = (0..names.len()).map(voc_color).collect();
    let table = ClassTable::new(names, colors).map_err(|_| error!(Data, "no classes listed"))?;
    let ignored = IgnoredLabel { label: 255, name: "ignore".to_owned(), color: voc_color(255) };
    Ok(ClassTable { ignored: ignores.then_some(ignored).into_iter().collect(), ..table })
}

/// Returns the lines that are neither empty nor comments, with their indices.
fn lines_of(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.trim_start_matches(BYTE_ORDER_MARK).lines().map(str::trim).enumerate();
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

fn lists(root: &Path) -> PathBuf {
    root.join("ImageSets").join("Segmentation")
}

/// Lists the pairs of a split ("train", "val", "trainval", "trainaug"): the names of
/// `ImageSets/Segmentation/SPLIT.txt`, their images in `JPEGImages/`, and their masks in
/// `SegmentationClass/` or else `SegmentationClassAug/`. Lines with two paths
/// (`/JPEGImages/x.jpg /SegmentationClassAug/x.png`) name image and mask explicitly. Without lists
/// all images are listed.
///
/// # Errors
/// Returns an error that names the list and the missing files.
fn matched(root: &Path, split: Option<&str>) -> Result<Matched> {
    let masks: Vec<PathBuf> =
        MASKS.iter().map(|name| root.join(name)).filter(|directory| directory.is_dir()).collect();
    let first = masks.first().cloned().unwrap_or_else(|| root.join(MASKS[0]));
    let mut directories = Directories::read(&root.join("JPEGImages"), &first)?;
    for directory in masks.iter().skip(1) {
        directories.add_masks(directory)?;
    }
    match split {
        Some(split) => directories.listed(&lists(root).join(format!("{split}.txt")), root),
        None => directories.all(MaskValues::CLASSES),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::open;
    use crate::data::test_files::tree;
    use std::fs;

    #[test]
    fn cvats_export_has_its_own_classes_and_may_lack_lists() {
        let labels = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ndoc:250,50,83::\n";
        let files = [
            ("JPEGImages/a.png", ""),
            ("SegmentationClass/a.png", ""),
            ("SegmentationObject/a.png", ""),
            ("labelmap.txt", labels),
        ];
        let root = tree(&files);
        let listing = open(root.path(), None).unwrap();
        let table = listing.classes.unwrap();
        assert_eq!((listing.split, listing.pairs.len()), (None, 1));
        assert_eq!(
            (&table.names[..], table.colors[1]),
            (&["background".to_owned(), "doc".to_owned()][..], [250, 50, 83])
        );
        fs::create_dir_all(lists(root.path())).unwrap();
        fs::write(lists(root.path()).join("default.txt"), "a\n").unwrap();
        assert_eq!(open(root.path(), None).unwrap().split.as_deref(), Some("default"));
        let error = label_map("doc:250,50::").unwrap_err().to_string();
        assert!(error.contains("line 1") && error.contains("NAME:R,G,B"), "{error}");
    }

    #[test]
    fn labelmes_export_has_its_own_classes() {
        let root = tree(&[
            ("JPEGImages/a.jpg", ""),
            ("SegmentationClass/a.npy", ""),
            ("SegmentationClassPNG/a.png", ""),
            ("class_names.txt", "__ignore__\n_background_\ndoc\n"),
        ]);
        let listing = open(root.path(), None).unwrap();
        assert_eq!(listing.classes.unwrap().names, ["background", "doc"]);
        assert!(listing.pairs[0].mask.path().ends_with("SegmentationClassPNG/a.png"));
    }
}
