//! Files of small data sets, for the tests of this module.

use super::{MaskValues, Pair};
use std::fs;
use std::path::Path;

/// Writes files by name and content.
pub(super) fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    root
}

/// Writes masks of two pixels, which are their own images.
pub(super) fn pairs(directory: &Path, masks: &[[u8; 2]]) -> Vec<Pair> {
    let write = |(i, mask): (usize, &[u8; 2])| {
        let path = directory.join(format!("{i}.png"));
        image::GrayImage::from_raw(2, 1, mask.to_vec()).unwrap().save(&path).unwrap();
        let values = MaskValues::CLASSES;
        Pair { name: i.to_string(), image: path.clone(), mask: path.into(), values }
    };
    masks.iter().enumerate().map(write).collect()
}
