//! Directories in the layout of Cityscapes.

use super::MaskValues;
use super::layout::Layout;
use super::pairing::{Matched, common_directories, directories, files, match_up};
use crate::error::{Result, error};
use crate::image::ClassTable;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

const IMAGES: &str = "leftImg8bit";
const MASKS: &str = "gtFine";

/// The 34 labels of Cityscapes, of which 19 are training classes.
pub(super) const LABEL_IDS: MaskValues =
    MaskValues::new("cityscapes label ids", ClassTable::cityscapes_training);

/// The layout of Cityscapes: `leftImg8bit/SPLIT/CITY/` and `gtFine/SPLIT/CITY/`.
pub(super) struct Cityscapes;

impl Layout for Cityscapes {
    fn name(&self) -> &'static str {
        "cityscapes"
    }

    fn title(&self) -> &'static str {
        "Cityscapes"
    }

    fn directories(&self) -> &'static str {
        "leftImg8bit/ with gtFine/"
    }

    fn detect(&self, root: &Path) -> Result<bool> {
        Ok(root.join(IMAGES).is_dir() && root.join(MASKS).is_dir())
    }

    fn splits(&self, root: &Path) -> Result<Vec<String>> {
        common_directories(&root.join(IMAGES), &root.join(MASKS))
    }

    fn matched(&self, root: &Path, split: Option<&str>) -> Result<Matched> {
        matched(root, split.unwrap_or_default())
    }

    fn classes(&self, _root: &Path) -> Result<Option<ClassTable>> {
        Ok(Some(ClassTable::cityscapes()))
    }
}

/// Lists the pairs of a split ("train", "val"): `leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png` with
/// `gtFine/SPLIT/CITY/NAME_gtFine_labelIds.png`, whose labels are mapped to training classes, or
/// else with `NAME_gtFine_labelTrainIds.png`, whose values are class numbers. Images with the same
/// name in several cities are called `CITY/NAME`.
///
/// # Errors
/// Returns an error that names missing files.
fn matched(root: &Path, split: &str) -> Result<Matched> {
    let roots = (root.join(IMAGES).join(split), root.join(MASKS).join(split));
    let images = with_suffix(&roots.0, "_leftImg8bit.png")?;
    if images.is_empty() {
        return Err(error!(Data, "no cities with images named *_leftImg8bit.png").file(&roots.0));
    }
    let train_ids = with_suffix(&roots.1, "_gtFine_labelTrainIds.png")?;
    let label_ids = with_suffix(&roots.1, "_gtFine_labelIds.png")?;
    let shared = shared_names([&images, &train_ids, &label_ids].into_iter().flatten());
    let by_name = |files: Vec<CityFile>| -> BTreeMap<String, PathBuf> {
        let name = |f: &CityFile| {
            if shared.contains(&f.name) { format!("{}/{}", f.city, f.name) } else { f.name.clone() }
        };
        files.into_iter().map(|f| (name(&f), f.path)).collect()
    };
    let mut masks = by_name(label_ids);
    let with_label_ids: Vec<String> = masks.keys().cloned().collect();
    for (name, mask) in by_name(train_ids) {
        masks.entry(name).or_insert(mask);
    }
    let mut matched = match_up(by_name(images), masks, &roots, Vec::new(), MaskValues::CLASSES);
    for pair in &mut matched.pairs {
        if with_label_ids.binary_search(&pair.name).is_ok() {
            pair.values = LABEL_IDS;
        }
    }
    Ok(matched)
}

/// A file of a city. The name is without suffix.
struct CityFile {
    city: String,
    name: String,
    path: PathBuf,
}

/// The files of all cities with this suffix. Skips hidden files (`._a.png`, created by macOS).
fn with_suffix(directory: &Path, suffix: &str) -> Result<Vec<CityFile>> {
    let mut out = Vec::new();
    for city in directories(directory)? {
        for path in files(&directory.join(&city))? {
            let name =
                path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(suffix));
            let name = name.filter(|name| !name.starts_with('.')).map(str::to_owned);
            out.extend(name.map(|name| CityFile { city: city.clone(), name, path }));
        }
    }
    Ok(out)
}

/// Names that occur in more than one city.
fn shared_names<'a>(all: impl Iterator<Item = &'a CityFile>) -> HashSet<String> {
    let mut cities = HashMap::new();
    all.filter(|f| **cities.entry(&f.name).or_insert(&f.city) != f.city)
        .map(|f| f.name.clone())
        .collect()
}
