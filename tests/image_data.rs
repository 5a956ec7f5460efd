//! The project's sample data, where it is present (`ATROUS_DATA`): lists, masks and class tables.

use atrous::data::{self, Layout};
use atrous::eval::Confusion;
use atrous::image::{ClassTable, LabelMap, legend};
use std::path::PathBuf;

/// The data folder: `ATROUS_DATA`, or `../shared` beside the repository.
fn data_folder() -> Option<PathBuf> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let root = std::env::var_os("ATROUS_DATA").map_or_else(beside, PathBuf::from).join("data");
    if !root.is_dir() {
        println!("skipped: no data");
        return None;
    }
    Some(root)
}

#[test]
fn the_voc_samples_are_listed_and_their_masks_hold_classes() {
    let Some(root) = data_folder() else { return };
    for (name, layout, count) in [("voc-sample", Layout::Voc, 13), ("voc-crops513", Layout::Folders, 14)] {
        let listing = data::open(root.join(name), None).unwrap();
        assert_eq!((listing.layout, listing.pairs.len()), (layout, count), "{name}");
        assert_eq!(listing.classes, Some(ClassTable::voc()), "{name}: classes.txt is VOC's colour map");
        for pair in &listing.pairs {
            let (picture, mask) = pair.load(None).unwrap();
            assert!(picture.notes.is_empty(), "{}: {:?}", pair.name, picture.notes);
            assert!(mask.labels.iter().all(|&l| l < 21 || l == 255), "{}", pair.name);
            assert!(legend(&mask, &ClassTable::voc()).len() >= 2, "{}", pair.name);
        }
    }
    let listing = data::open(root.join("voc-sample"), Some("all")).unwrap();
    let first = LabelMap::read(&listing.pairs[0].mask, None).unwrap();
    let mut names: Vec<_> = legend(&first, &ClassTable::voc()).into_iter().map(|e| e.name).collect();
    names.sort();
    assert_eq!(
        (listing.pairs[0].name.as_str(), names),
        ("2007_000032", ["aeroplane", "background", "ignore", "person"].map(String::from).into())
    );
}

#[test]
fn camvids_masks_have_the_shares_of_classes_that_its_readme_states() {
    let Some(root) = data_folder() else { return };
    let stated = [0.1685, 0.2326, 0.0098, 0.3166, 0.0449, 0.0972, 0.0117, 0.0113, 0.0587, 0.0064, 0.0029, 0.0395];
    let listing = data::open(root.join("camvid"), Some("train")).unwrap();
    assert_eq!((listing.layout, listing.pairs.len()), (Layout::Split, 367));
    assert_eq!(listing.classes, Some(ClassTable::camvid()));
    let mut confusion = Confusion::new(12, &[]).unwrap();
    for pair in &listing.pairs {
        let mask = LabelMap::read(&pair.mask, None).unwrap();
        confusion.add(&mask.labels, &mask.labels).unwrap();
    }
    assert_eq!(confusion.pixels(), 367 * 480 * 360);
    for (class, stated) in stated.into_iter().enumerate() {
        let share = confusion.truth_pixels(class) as f64 / confusion.pixels() as f64;
        assert!((share - stated).abs() < 6e-5, "class {class}: {share:.5}, stated {stated}");
    }
    assert_eq!(data::open(root.join("camvid"), None).unwrap().pairs.len(), 101, "val where nothing is said");
}

#[test]
fn a_written_mask_shows_the_class_colours_to_every_other_program() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mask.png");
    LabelMap::new(3, 1, vec![0, 15, 255]).unwrap().write(&path, &ClassTable::voc()).unwrap();
    let shown = image::open(&path).unwrap().into_rgb8();
    assert_eq!(shown.as_raw(), &[0, 0, 0, 192, 128, 128, 224, 224, 192]);
}

#[test]
fn a_mask_of_another_size_than_its_picture_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    for (name, width) in [("images", 4), ("masks", 5)] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        let map = LabelMap::new(width, 2, vec![1; 2 * width]).unwrap();
        map.write(folder.path().join(name).join("a.png"), &ClassTable::voc()).unwrap();
    }
    let listing = data::open(folder.path(), None).unwrap();
    let text = listing.pairs[0].load(None).unwrap_err().to_string();
    assert!(text.contains("masks/a.png: the mask has 5 x 2 pixels, its picture 4 x 2"), "{text}");
}
