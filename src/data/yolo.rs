//! Data sets for segmentation with YOLO, in the layout of Ultralytics: polygons in a text file for
//! each image.

use super::Pair;
use super::annotations::{Annotation, Content, DRAWN, names};
use super::data_yaml;
use super::layout::{Contents, Layout};
use super::mask::Mask;
use super::pairing::{Matched, Mismatch, MismatchKind, image_files};
use crate::error::{Result, error};
use crate::text::count;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// Splits of `data.yaml`, and what their directories are also called.
const SPLITS: [(&str, &[&str]); 3] = [
    ("train", &["train", "training"]),
    ("val", &["val", "valid", "validation"]),
    ("test", &["test"]),
];

/// `data.yaml`, with images in `images/SPLIT/` or `SPLIT/images/` and lines of a class and the
/// points of a polygon in `labels/SPLIT/` or `SPLIT/labels/`.
///
/// Pixels of no polygon are background, class 0; class k is class k + 1. Polygons are drawn by
/// `cv2.fillPoly` with points truncated to pixels, smaller ones over larger ones.
pub(super) struct Yolo;

impl Layout for Yolo {
    fn name(&self) -> &'static str {
        "yolo"
    }

    fn title(&self) -> &'static str {
        "YOLO segmentation"
    }

    fn directories(&self) -> &'static str {
        "data.yaml with images/NAME/ and labels/NAME/, or NAME/images/ and NAME/labels/"
    }

    /// Labels must be text files: `data.yaml` can also describe masks.
    fn detect(&self, root: &Path) -> Result<bool> {
        let has_text = |split: &Split| has_labels(&split.labels);
        Ok(data_yaml::path(root).is_some() && splits(root)?.iter().any(has_text))
    }

    fn splits(&self, root: &Path) -> Result<Vec<String>> {
        let names = splits(root)?.into_iter().map(|split| split.name);
        Ok(names.filter(|name| !name.is_empty()).collect())
    }

    fn undivided(&self) -> Option<&'static str> {
        Some("images and labels")
    }

    fn matched(&self, root: &Path, split: Option<&str>) -> Result<Matched> {
        self.contents(root, split).map(|contents| contents.matched)
    }

    fn contents(&self, root: &Path, split: Option<&str>) -> Result<Contents> {
        let file = data_yaml::path(root).unwrap_or_else(|| root.join("data.yaml"));
        let listed = data_yaml::read(root)?.and_then(|yaml| yaml.names);
        let listed = listed.ok_or_else(|| error!(Data, "has no `names`").file(&file))?;
        let classes = names::table(&listed).map_err(|e| e.file(&file))?;
        let name = split.unwrap_or_default();
        let split = splits(root)?.into_iter().find(|split| split.name == name);
        let split = split.ok_or_else(|| error!(Data, "has no images of this split").file(&file))?;
        let (matched, notes) = split.matched(listed.len())?;
        Ok(Contents { matched, classes: Some(classes), notes })
    }
}

/// The directories of a split; its name is empty if there is only one.
struct Split {
    name: String,
    images: PathBuf,
    labels: PathBuf,
}

/// Returns the splits that have images and labels.
fn splits(root: &Path) -> Result<Vec<Split>> {
    // What is damaged is reported when the classes are read.
    let yaml = data_yaml::read(root).ok().flatten().unwrap_or_default();
    let base =
        yaml.path.as_deref().and_then(inside).map_or(root.to_owned(), |path| root.join(path));
    let stated = [&yaml.train, &yaml.val, &yaml.test];
    let mut found = Vec::new();
    for ((name, others), path) in SPLITS.into_iter().zip(stated) {
        // Roboflow writes `../train/images` for a directory beside the file.
        let path = path.as_deref().and_then(inside);
        let stated = path.iter().flat_map(|path| [base.join(path), root.join(path)]);
        let usual = others
            .iter()
            .flat_map(|other| [root.join("images").join(other), root.join(other).join("images")]);
        let split = stated.chain(usual).find_map(|images| {
            let labels = labels_of(root, &images)?;
            let is_split = images.is_dir() && labels.is_dir();
            is_split.then(|| Split { name: name.to_owned(), images, labels })
        });
        found.extend(split);
    }
    let is_same = |split: &Split| split.images == root.join("images");
    let (images, labels) = (root.join("images"), root.join("labels"));
    if (found.is_empty() || found.iter().all(is_same)) && images.is_dir() && labels.is_dir() {
        return Ok(vec![Split { name: String::new(), images, labels }]);
    }
    Ok(found)
}

/// Returns a path of `data.yaml` that is inside a directory, without leading `..`.
fn inside(path: &str) -> Option<PathBuf> {
    let path = path.trim_start_matches("./");
    let path = PathBuf::from(path.trim_start_matches("../"));
    path.components().all(|c| matches!(c, Component::Normal(_))).then_some(path)
}

/// Returns the directory of the labels: that of the images, with `labels` for the last `images`.
fn labels_of(root: &Path, images: &Path) -> Option<PathBuf> {
    let parts: Vec<Component> = images.strip_prefix(root).ok()?.components().collect();
    let at = parts.iter().rposition(|part| part.as_os_str() == "images")?;
    let labels = |(i, part): (usize, &Component)| {
        if i == at { "labels".into() } else { part.as_os_str().to_owned() }
    };
    Some(root.join(parts.iter().enumerate().map(labels).collect::<PathBuf>()))
}

fn has_labels(directory: &Path) -> bool {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.path().extension().is_some_and(|e| e == "txt"))
}

impl Split {
    fn matched(&self, classes: usize) -> Result<(Matched, Vec<String>)> {
        let mut matched = Matched::default();
        let images: BTreeMap<String, PathBuf> = image_files(&self.images, &mut matched.mismatches)?;
        if images.is_empty() {
            return Err(error!(Data, "contains no images").file(&self.images));
        }
        let mut without = 0;
        for (name, image) in &images {
            let labels = self.labels.join(format!("{name}.txt"));
            without += usize::from(!labels.is_file());
            let content = Content::YoloLines { classes };
            let (file, image) = (labels.as_path().into(), image.clone());
            let annotation =
                Annotation { file, image: image.clone(), size: None, noun: "line", content };
            let mask = Mask::Shapes(Arc::new(annotation));
            matched.pairs.push(Pair { name: name.clone(), image, mask, values: DRAWN });
        }
        let strays = super::pairing::files(&self.labels)?;
        for file in strays.into_iter().filter(|path| path.extension().is_some_and(|e| e == "txt")) {
            let name =
                file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
            // A list of classes may be beside the labels.
            if !images.contains_key(&name) && name != "classes" {
                let (kind, partner) = (MismatchKind::NoImage, self.images.clone());
                matched.mismatches.push(Mismatch { kind, name, file, partner });
            }
        }
        let note = (without > 0).then(|| {
            format!("{} without a label file are background only", count(without, "image"))
        });
        Ok((matched, note.into_iter().collect()))
    }
}
