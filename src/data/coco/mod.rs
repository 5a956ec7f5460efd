//! Data sets with the instances of COCO: polygons and run lengths, in a JSON file for each split.

mod parse;

use super::Pair;
use super::annotations::json::{self, Kind};
use super::annotations::{Annotation, Content, DRAWN};
use super::layout::{Contents, Layout, is_split_named};
use super::mask::Mask;
use super::pairing::{Matched, Mismatch, MismatchKind, directories, files};
use crate::error::{Result, error};
use crate::text;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Name of Roboflow's file beside the images of a split.
const ROBOFLOW: &str = "_annotations.coco.json";

/// `annotations/instances_SPLIT.json` with images in `SPLIT/`, `SPLIT2017/`, `images/` or below it;
/// `SPLIT/_annotations.coco.json` beside the images; or `NAME.json` with `images/`.
///
/// Pixels of no annotation are background, class 0; the categories are the classes from 1, in the
/// order of their ids. Later annotations cover earlier ones, as in the converter of COCO-Stuff.
/// Crowds are ignored where no other annotation is.
pub(super) struct Coco;

impl Layout for Coco {
    fn name(&self) -> &'static str {
        "coco"
    }

    fn title(&self) -> &'static str {
        "COCO instances"
    }

    fn directories(&self) -> &'static str {
        "annotations/instances_NAME.json with NAME/, NAME/_annotations.coco.json beside its images, or NAME.json with images/"
    }

    fn detect(&self, root: &Path) -> Result<bool> {
        Ok(!sources(root).is_empty())
    }

    /// None for a single file that is not named like a split.
    fn splits(&self, root: &Path) -> Result<Vec<String>> {
        let names: Vec<String> = sources(root).into_iter().map(|source| source.split).collect();
        let is_split =
            |name: &String| ["train", "val", "test"].iter().any(|n| is_split_named(name, n));
        Ok(if names.len() == 1 && !is_split(&names[0]) { Vec::new() } else { names })
    }

    fn undivided(&self) -> Option<&'static str> {
        Some("the images of a single annotation file")
    }

    fn matched(&self, root: &Path, split: Option<&str>) -> Result<Matched> {
        self.contents(root, split).map(|contents| contents.matched)
    }

    fn contents(&self, root: &Path, split: Option<&str>) -> Result<Contents> {
        let named = |source: &Source| split.is_none_or(|split| source.split == split);
        match sources(root).into_iter().find(named) {
            Some(source) => source.contents(),
            None => Err(error!(Data, "has no annotation file of this split").file(root)),
        }
    }
}

/// An annotation file.
struct Source {
    file: PathBuf,
    split: String,
    /// Directories that may have its images, the first ones first.
    images: Vec<PathBuf>,
}

/// Returns the annotation files of a data set.
fn sources(root: &Path) -> Vec<Source> {
    let roboflow: Vec<Source> = directories(root)
        .unwrap_or_default()
        .into_iter()
        .map(|split| (root.join(&split), split))
        .filter(|(directory, _)| directory.join(ROBOFLOW).is_file())
        .map(|(directory, split)| {
            let (file, images) = (directory.join(ROBOFLOW), vec![directory]);
            Source { file, split, images }
        })
        .collect();
    if !roboflow.is_empty() {
        return roboflow;
    }
    if root.join(ROBOFLOW).is_file() {
        let (split, images) = (String::new(), vec![root.to_owned()]);
        return vec![Source { file: root.join(ROBOFLOW), split, images }];
    }
    let instances: Vec<PathBuf> = files(&root.join("annotations")).unwrap_or_default();
    let instances: Vec<(PathBuf, String)> = instances
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .filter_map(|path| {
            let split = json::stem(&path).strip_prefix("instances_")?.to_owned();
            Some((path, split))
        })
        .collect();
    if !instances.is_empty() {
        return named(root, instances);
    }
    if !root.join("images").is_dir() || root.join("masks").is_dir() {
        return Vec::new();
    }
    let files = json::of_kind(root, Kind::Coco).into_iter();
    named(root, files.map(|path| (path.clone(), json::stem(&path).to_owned())).collect())
}

/// Names splits without their year (`train2017`), if that leaves all names different.
fn named(root: &Path, files: Vec<(PathBuf, String)>) -> Vec<Source> {
    let short = |name: &str| {
        let bare = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let is_year = !bare.is_empty() && name.len() - bare.len() == 4;
        if is_year { bare.trim_end_matches('_').to_owned() } else { name.to_owned() }
    };
    let names: HashSet<String> = files.iter().map(|(_, name)| short(name)).collect();
    let are_unique = names.len() == files.len();
    let source = |(file, full): (PathBuf, String)| {
        let split = if are_unique { short(&full) } else { full.clone() };
        let bare = full.trim_start_matches("instances_");
        let names = [&*full, &*split, bare];
        let mut images: Vec<PathBuf> = names.iter().map(|name| root.join(name)).collect();
        images.extend(names.iter().map(|name| root.join("images").join(name)));
        images.extend([root.join("images"), root.to_owned()]);
        images.retain(|directory| directory.is_dir());
        images.dedup();
        Source { file, split, images }
    };
    files.into_iter().map(source).collect()
}

impl Source {
    fn contents(self) -> Result<Contents> {
        let parse::Instances { images, classes, notes } = parse::read(&self.file)?;
        if images.is_empty() {
            return Err(error!(Data, "lists no images").file(&self.file));
        }
        let file: Arc<Path> = self.file.as_path().into();
        let mut matched = Matched::default();
        let mut counts = HashMap::<String, usize>::new();
        for image in &images {
            *counts.entry(json::stem(&image.path).to_owned()).or_default() += 1;
        }
        let mut seen = HashSet::new();
        for image in images {
            let stem = json::stem(&image.path);
            let is_unique = counts[stem] == 1;
            let path = image.path.with_extension("");
            let name = if is_unique { stem.to_owned() } else { path.display().to_string() };
            if !seen.insert(name.clone()) {
                let twice = error!(Data, "`{}` is listed twice", text::excerpt(&name));
                return Err(twice.file(&self.file));
            }
            let candidates = self.images.iter().map(|directory| directory.join(&image.path));
            let Some(found) = candidates.into_iter().find(|path| path.is_file()) else {
                matched.mismatches.push(Mismatch {
                    kind: MismatchKind::NoImage,
                    name,
                    file: self.file.clone(),
                    partner: self.images.first().cloned().unwrap_or_default(),
                });
                continue;
            };
            let content = Content::Shapes(image.shapes);
            let (file, noun) = (file.clone(), "annotation");
            let annotation =
                Annotation { file, image: found.clone(), size: image.size, noun, content };
            let mask = Mask::Shapes(Arc::new(annotation));
            matched.pairs.push(Pair { name, image: found, mask, values: DRAWN });
        }
        Ok(Contents { matched, classes: Some(classes), notes })
    }
}
