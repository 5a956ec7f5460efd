//! Folders laid out as Cityscapes'.

use super::pairing::{Matched, files, folders, match_up};
use super::{Ids, Pair};
use crate::error::{Result, error};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const PICTURES: &str = "leftImg8bit";
const MASKS: &str = "gtFine";

/// The pairs of a part ("train", "val"): `leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png` with `gtFine/SPLIT/CITY/NAME_gtFine_labelIds.png`,
/// whose labels become training numbers, or where there is none, with `NAME_gtFine_labelTrainIds.png`, whose values are taken as they are.
///
/// Errors name what is missing.
pub fn list_cityscapes(root: impl AsRef<Path>, split: &str) -> Result<Vec<Pair>> {
    matched(root.as_ref(), split)?.strict()
}

pub(super) fn matched(root: &Path, split: &str) -> Result<Matched> {
    let places = (root.join(PICTURES).join(split), root.join(MASKS).join(split));
    let pictures = with_suffix(&places.0, "_leftImg8bit.png")?;
    if pictures.is_empty() {
        return Err(error!(Data, "holds no city with pictures named *_leftImg8bit.png").file(&places.0));
    }
    let trained = with_suffix(&places.1, "_gtFine_labelTrainIds.png")?;
    let mut masks = with_suffix(&places.1, "_gtFine_labelIds.png")?;
    let from_ids: Vec<String> = masks.keys().cloned().collect();
    for (name, mask) in trained {
        masks.entry(name).or_insert(mask);
    }
    let mut out = match_up(pictures, masks, &places, Vec::new(), Ids::Classes);
    for pair in &mut out.pairs {
        if from_ids.binary_search(&pair.name).is_ok() {
            pair.ids = Ids::Cityscapes;
        }
    }
    Ok(out)
}

/// The parts that have pictures and masks, by name.
pub(super) fn splits(root: &Path) -> Result<Vec<String>> {
    let masks = root.join(MASKS);
    Ok(folders(&root.join(PICTURES))?.into_iter().filter(|split| masks.join(split).is_dir()).collect())
}

pub(super) fn is_there(root: &Path) -> bool {
    root.join(PICTURES).is_dir() && root.join(MASKS).is_dir()
}

/// The files of all cities whose names end so, by what stands before that.
fn with_suffix(folder: &Path, suffix: &str) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    for city in folders(folder)? {
        for path in files(&folder.join(city))? {
            let name = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(suffix)).map(str::to_owned);
            name.into_iter().for_each(|name| drop(found.insert(name, path.clone())));
        }
    }
    Ok(found)
}
