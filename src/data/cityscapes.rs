//! Directories laid out as Cityscapes'.

use super::pairing::{Matched, directories, files, match_up};
use super::{MaskValues, Pair};
use crate::error::{Result, error};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

const IMAGES: &str = "leftImg8bit";
const MASKS: &str = "gtFine";

/// The pairs of a part ("train", "val"): `leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png` with
/// `gtFine/SPLIT/CITY/NAME_gtFine_labelIds.png`, whose labels become training numbers, or where
/// there is none, with `NAME_gtFine_labelTrainIds.png`, whose values are taken as they are. Images
/// of one name in several cities are called `CITY/NAME`.
///
/// Errors name what is missing.
pub fn list_cityscapes(root: impl AsRef<Path>, split: &str) -> Result<Vec<Pair>> {
    matched(root.as_ref(), split)?.strict()
}

pub(super) fn matched(root: &Path, split: &str) -> Result<Matched> {
    let places = (root.join(IMAGES).join(split), root.join(MASKS).join(split));
    let images = with_suffix(&places.0, "_leftImg8bit.png")?;
    if images.is_empty() {
        return Err(
            error!(Data, "holds no city with images named *_leftImg8bit.png").file(&places.0)
        );
    }
    let trained = with_suffix(&places.1, "_gtFine_labelTrainIds.png")?;
    let labeled = with_suffix(&places.1, "_gtFine_labelIds.png")?;
    let shared = shared([&images, &trained, &labeled].into_iter().flatten());
    let by_name = |found: Vec<Found>| -> BTreeMap<String, PathBuf> {
        let name = |f: &Found| {
            if shared.contains(&f.name) { format!("{}/{}", f.city, f.name) } else { f.name.clone() }
        };
        found.into_iter().map(|f| (name(&f), f.path)).collect()
    };
    let mut masks = by_name(labeled);
    let from_ids: Vec<String> = masks.keys().cloned().collect();
    for (name, mask) in by_name(trained) {
        masks.entry(name).or_insert(mask);
    }
    let mut out = match_up(by_name(images), masks, &places, Vec::new(), MaskValues::Classes);
    for pair in &mut out.pairs {
        if from_ids.binary_search(&pair.name).is_ok() {
            pair.ids = MaskValues::Cityscapes;
        }
    }
    Ok(out)
}

/// The parts that have images and masks, by name.
pub(super) fn splits(root: &Path) -> Result<Vec<String>> {
    let masks = root.join(MASKS);
    Ok(directories(&root.join(IMAGES))?
        .into_iter()
        .filter(|split| masks.join(split).is_dir())
        .collect())
}

pub(super) fn is_there(root: &Path) -> bool {
    root.join(IMAGES).is_dir() && root.join(MASKS).is_dir()
}

/// A file of a city; its name is what stands before the ending.
struct Found {
    city: String,
    name: String,
    path: PathBuf,
}

/// The files of all cities whose names end so. Hidden files (`._a.png` of a Mac) are none of ours.
fn with_suffix(directory: &Path, suffix: &str) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for city in directories(directory)? {
        for path in files(&directory.join(&city))? {
            let name =
                path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(suffix));
            let name = name.filter(|name| !name.starts_with('.')).map(str::to_owned);
            found.extend(name.map(|name| Found { city: city.clone(), name, path }));
        }
    }
    Ok(found)
}

/// Names that more than one city has.
fn shared<'a>(all: impl Iterator<Item = &'a Found>) -> HashSet<String> {
    let mut cities = HashMap::new();
    all.filter(|f| **cities.entry(&f.name).or_insert(&f.city) != f.city)
        .map(|f| f.name.clone())
        .collect()
}
