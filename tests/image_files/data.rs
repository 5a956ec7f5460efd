//! The project's sample data, if it is present (`ATROUS_DATA`): lists, masks and class tables.

use crate::support;
use atrous::Size;
use atrous::data::doctor::{Doctor, Problem};
use atrous::data::{self, Augmentation, Loader, LoaderOptions};
use atrous::engine::models::Preprocessing;
use atrous::engine::tensor::Shape;
use atrous::eval::Confusion;
use atrous::image::{ClassTable, LabelMap, legend};

#[test]
#[cfg_attr(not(has_data), ignore = "needs the data directory (ATROUS_DATA)")]
fn the_voc_samples_are_listed_and_their_masks_contain_classes() {
    let root = support::data().join("data");
    for (name, layout, count) in [("voc-sample", "voc", 13), ("voc-crops513", "directories", 14)] {
        let listing = data::open(root.join(name), None).unwrap();
        assert_eq!((listing.layout.name(), listing.pairs.len()), (layout, count), "{name}");
        assert_eq!(
            listing.classes,
            Some(ClassTable::voc()),
            "{name}: classes.txt is VOC's color map"
        );
        for pair in &listing.pairs {
            let (image, mask) = pair.load(None).unwrap();
            assert!(image.notes.is_empty(), "{}: {:?}", pair.name, image.notes);
            assert!(mask.labels.iter().all(|&l| l < 21 || l == 255), "{}", pair.name);
            assert!(legend(&mask, &ClassTable::voc()).len() >= 2, "{}", pair.name);
        }
    }
    let listing = data::open(root.join("voc-sample"), Some("all")).unwrap();
    let first = LabelMap::read(listing.pairs[0].mask.path(), None).unwrap();
    let mut names: Vec<_> =
        legend(&first, &ClassTable::voc()).into_iter().map(|e| e.name).collect();
    names.sort();
    assert_eq!(
        (listing.pairs[0].name.as_str(), names),
        ("2007_000032", ["aeroplane", "background", "ignore", "person"].map(String::from).into())
    );
}

#[test]
#[cfg_attr(not(has_data), ignore = "needs the data directory (ATROUS_DATA)")]
fn camvids_masks_have_the_shares_of_classes_that_its_readme_states() {
    let root = support::data().join("data");
    let stated = [
        0.1685, 0.2326, 0.0098, 0.3166, 0.0449, 0.0972, 0.0117, 0.0113, 0.0587, 0.0064, 0.0029,
        0.0395,
    ];
    let listing = data::open(root.join("camvid"), Some("train")).unwrap();
    assert_eq!((listing.layout.name(), listing.pairs.len()), ("annotated", 367));
    assert_eq!(listing.classes, Some(ClassTable::camvid()));
    let mut confusion = Confusion::new(12, &[]).unwrap();
    for pair in &listing.pairs {
        let mask = LabelMap::read(pair.mask.path(), None).unwrap();
        confusion.add(&mask.labels, &mask.labels).unwrap();
    }
    assert_eq!(confusion.pixels(), 367 * 480 * 360);
    for (class, stated) in stated.into_iter().enumerate() {
        let share = confusion.truth_pixels(class) as f64 / confusion.pixels() as f64;
        assert!((share - stated).abs() < 6e-5, "class {class}: {share:.5}, stated {stated}");
    }
    assert_eq!(data::open(root.join("camvid"), None).unwrap().pairs.len(), 101, "val by default");
}

#[test]
fn a_written_mask_shows_the_class_colors_to_every_other_program() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mask.png");
    LabelMap::new(Size::new(3, 1), vec![0, 15, 255])
        .unwrap()
        .write(&path, &ClassTable::voc())
        .unwrap();
    let shown = image::open(&path).unwrap().into_rgb8();
    assert_eq!(shown.as_raw(), &[0, 0, 0, 192, 128, 128, 224, 224, 192]);
}

#[test]
fn a_mask_of_another_size_than_its_image_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    for (name, width) in [("images", 4), ("masks", 5)] {
        std::fs::create_dir(directory.path().join(name)).unwrap();
        let map = LabelMap::new(Size::new(width, 2), vec![1; 2 * width]).unwrap();
        map.write(directory.path().join(name).join("a.png"), &ClassTable::voc()).unwrap();
    }
    let listing = data::open(directory.path(), None).unwrap();
    let text = listing.pairs[0].load(None).unwrap_err().to_string();
    assert!(text.contains("masks/a.png: the mask has 5x2 pixels, but the image has 4x2"), "{text}");
}

/// The recipe's augmentation on CamVid: every class occurs, values are in range, and another loader
/// that starts in the middle returns the same bits.
#[test]
#[cfg_attr(not(has_data), ignore = "needs the data directory (ATROUS_DATA)")]
fn camvid_batches_contain_every_class_and_can_be_resumed() {
    let root = support::data().join("data");
    let listing = data::open(root.join("camvid"), Some("train")).unwrap();
    let augmentation = Augmentation {
        crop: Size::new(320, 240),
        balanced: 0.5,
        jitter: 0.3,
        ..Default::default()
    };
    let options = LoaderOptions { batch: 4, workers: 2, seed: 5, ..Default::default() };
    let loader = |options| {
        let (pairs, table) = (listing.pairs.clone(), listing.classes.clone());
        Loader::new(pairs, table, 11, Preprocessing::IMAGENET, augmentation.clone(), options)
            .unwrap()
    };
    let mut batches = loader(options);
    let (mut seen, mut last) = (std::collections::BTreeSet::new(), None);
    for index in 0..12 {
        let batch = batches.next().unwrap();
        assert_eq!((batch.index, batch.names.len()), (index, 4));
        assert_eq!(batch.images.shape(), Shape::new(4, 240, 320, 3));
        assert_eq!(batch.labels.shape(), Shape::new(4, 240, 320, 1));
        seen.extend(batch.labels.u32().iter().copied());
        // The range of bytes: (0 - 0.485) / 0.229 to (1 - 0.406) / 0.225.
        assert!(batch.images.f32().iter().all(|v| (-2.2..2.7).contains(v)));
        last = Some(batch);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), (0..11).chain([255]).collect::<Vec<u32>>());
    assert!((batches.batches_per_epoch() - 367.0 / 4.0).abs() < 1e-12);
    assert_eq!(loader(LoaderOptions { start: 11, workers: 1, ..options }).next().ok(), last);
}

#[test]
#[cfg_attr(not(has_data), ignore = "needs the data directory (ATROUS_DATA)")]
fn the_doctor_has_no_findings_on_valid_masks() {
    let root = support::data().join("data");
    for (name, pairs) in [("camvid", 468), ("voc-sample", 13), ("voc-crops513", 14)] {
        let doctor = Doctor::new(root.join(name), &[], None).unwrap();
        let examination = doctor.examine(|| {});
        // Few images do not contain all classes of VOC.
        let wrong: Vec<_> =
            examination.findings.iter().filter(|f| f.problem != Problem::EmptyClass).collect();
        assert!(wrong.is_empty(), "{name}: {wrong:#?}");
        assert_eq!(
            (doctor.pairs(), examination.splits.iter().map(|p| p.pairs).sum::<usize>()),
            (pairs, pairs)
        );
    }
}
