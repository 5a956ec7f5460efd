//! Layouts of well-known data sets, as trees of empty files.

use super::*;
use crate::geometry::Size;
use std::fs;
use std::path::Path;

fn tree(files: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for file in files {
        put(root.path(), file, "");
    }
    root
}

fn put(root: &Path, file: &str, content: &str) {
    let path = root.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// Names, images and masks relative to the root, and meaning of the masks.
fn listed_pairs(root: &Path, split: Option<&str>) -> Vec<(String, String, String, MaskValues)> {
    let relative =
        |path: &Path| path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
    let pairs = open(root, split).unwrap().pairs.into_iter();
    pairs.map(|p| (p.name, relative(&p.image), relative(p.mask.path()), p.values)).collect()
}

#[test]
fn cityscapes_pairs_its_cities_and_maps_its_labels() {
    let root = tree(&[
        "leftImg8bit/train/ulm/ulm_000_leftImg8bit.png",
        "leftImg8bit/train/aachen/aachen_001_leftImg8bit.png",
        "leftImg8bit/val/bonn/bonn_002_leftImg8bit.png",
        "gtFine/train/ulm/ulm_000_gtFine_labelIds.png",
        "gtFine/train/ulm/ulm_000_gtFine_color.png",
        "gtFine/train/ulm/ulm_000_gtFine_labelTrainIds.png",
        "gtFine/train/aachen/aachen_001_gtFine_labelTrainIds.png",
        "gtFine/train/aachen/aachen_001_gtFine_polygons.json",
        "gtFine/val/bonn/bonn_002_gtFine_labelIds.png",
    ]);
    let pairs = listed_pairs(root.path(), Some("train"));
    let of = |name: &str, city: &str, mask: &str, ids| {
        let image = format!("leftImg8bit/train/{city}/{name}_leftImg8bit.png");
        (name.to_owned(), image, format!("gtFine/train/{city}/{name}_gtFine_{mask}.png"), ids)
    };
    let expected = [
        of("aachen_001", "aachen", "labelTrainIds", MaskValues::CLASSES),
        of("ulm_000", "ulm", "labelIds", cityscapes::LABEL_IDS),
    ];
    assert_eq!(pairs, expected);
    let listing = open(root.path(), None).unwrap();
    assert_eq!((listing.layout.name(), listing.split.as_deref()), ("cityscapes", Some("val")));
    assert_eq!(listing.classes, Some(ClassTable::cityscapes()));
    fs::remove_file(root.path().join("gtFine/val/bonn/bonn_002_gtFine_labelIds.png")).unwrap();
    let error = open(root.path(), None).unwrap_err().to_string();
    assert!(error.contains("1 image without a mask of the same name: bonn_002"), "{error}");
    // From the label table of the data set: road 7, building 11, parking 9, car 26, bicycle 33.
    assert_eq!(
        [7, 11, 9, 26, 33, 255].map(|v| cityscapes::LABEL_IDS.class(v)),
        [0, 2, 255, 13, 18, 255]
    );
}

#[test]
fn images_of_one_name_in_two_cities_are_two_and_hidden_files_are_none() {
    let root = tree(&[
        "leftImg8bit/val/ulm/x_leftImg8bit.png",
        "leftImg8bit/val/bonn/x_leftImg8bit.png",
        "leftImg8bit/val/bonn/y_leftImg8bit.png",
        "leftImg8bit/val/bonn/._y_leftImg8bit.png",
        "gtFine/val/ulm/x_gtFine_labelIds.png",
        "gtFine/val/bonn/x_gtFine_labelTrainIds.png",
        "gtFine/val/bonn/y_gtFine_labelIds.png",
        "gtFine/val/bonn/._y_gtFine_labelIds.png",
    ]);
    let masks: Vec<_> =
        listed_pairs(root.path(), None).into_iter().map(|p| (p.0, p.2, p.3)).collect();
    let of = |name: &str, mask: &str, ids| (name.to_owned(), format!("gtFine/val/{mask}.png"), ids);
    let expected = [
        of("bonn/x", "bonn/x_gtFine_labelTrainIds", MaskValues::CLASSES),
        of("ulm/x", "ulm/x_gtFine_labelIds", cityscapes::LABEL_IDS),
        of("y", "bonn/y_gtFine_labelIds", cityscapes::LABEL_IDS),
    ];
    assert_eq!(masks, expected);
    fs::remove_file(root.path().join("gtFine/val/bonn/x_gtFine_labelTrainIds.png")).unwrap();
    let error = open(root.path(), None).unwrap_err().to_string();
    assert!(
        error.contains("1 image without a mask of the same name: bonn/x"),
        "not with the mask of another city: {error}"
    );
}

#[test]
fn other_data_in_the_layout_of_ade20k_keeps_its_numbers() {
    let root = tree(&["images/training/a.jpg", "annotations/training/a.png"]);
    let values = || listed_pairs(root.path(), None)[0].3;
    assert_eq!(values(), ade20k::VALUES);
    put(root.path(), "classes.txt", "0 sky 1 2 3\n1 car 4 5 6\n");
    assert_eq!(values(), MaskValues::CLASSES);
    let line = |n: usize| format!("{n} thing{n} 1 2 3\n");
    put(root.path(), "classes.txt", &(0..150).map(line).collect::<String>());
    assert_eq!(values(), ade20k::VALUES, "its classes by other names");
}

#[test]
fn classes_that_were_found_by_their_colors_are_not_renumbered() {
    let directory = tempfile::tempdir().unwrap();
    let pair = super::tests::write_pair(directory.path(), "a", (2, 1), |_, _| 0);
    Image::new(Size::new(2, 1), vec![4, 5, 6, 1, 2, 3]).unwrap().save(pair.mask.path()).unwrap();
    let table = ClassTable::parse("0 sky 1 2 3\n1 car 4 5 6\n").unwrap();
    for values in [MaskValues::CLASSES, ade20k::VALUES, cityscapes::LABEL_IDS] {
        let (_, mask) = Pair { values, ..pair.clone() }.load(Some(&table)).unwrap();
        assert_eq!(mask.labels, [1, 0], "{values:?}");
    }
}

#[test]
fn ade20k_shifts_its_labels_and_reads_their_names() {
    let root = tree(&[
        "images/training/a.jpg",
        "images/validation/b.jpg",
        "annotations/training/a.png",
        "annotations/validation/b.png",
    ]);
    for split in [Some("val"), Some("validation")] {
        let expected = (
            "b".to_owned(),
            "images/validation/b.jpg".to_owned(),
            "annotations/validation/b.png".to_owned(),
        );
        let pairs = listed_pairs(root.path(), split);
        assert_eq!(pairs, [(expected.0, expected.1, expected.2, ade20k::VALUES)]);
    }
    assert_eq!([0, 1, 150, 151, 255].map(|v| ade20k::VALUES.class(v)), [255, 0, 149, 151, 255]);
    let names = || open(root.path(), Some("train")).map(|l| l.classes.unwrap().names);
    assert_eq!(names().unwrap()[149], "class 149");
    let line = |n: usize| format!("{n}\t0.1\t10\t1\tthing{n}, matter{n} \n");
    let info: String = std::iter::once("Idx\tRatio\tTrain\tVal\tName\n".to_owned())
        .chain((1..=150).map(line))
        .collect();
    put(root.path(), "objectInfo150.txt", &info);
    assert_eq!(
        (names().unwrap()[0].as_str(), names().unwrap()[149].as_str()),
        ("thing1", "thing150")
    );
    put(root.path(), "objectInfo150.txt", &info.replace("\n77\t", "\n78\t"));
    let error = names().unwrap_err().to_string();
    assert!(error.contains("objectInfo150.txt") && error.contains("class 77"), "{error}");
}

#[test]
fn masks_are_mapped_to_classes_when_they_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let load = |values, labels: [u16; 5]| {
        let pair = super::tests::write_pair(directory.path(), "a", (5, 1), |x, _| labels[x]);
        Pair { values, ..pair }.load(None).unwrap().1.labels
    };
    assert_eq!(load(ade20k::VALUES, [0, 1, 150, 151, 7]), [255, 0, 149, 151, 6]);
    assert_eq!(load(cityscapes::LABEL_IDS, [0, 7, 8, 33, 29]), [255, 0, 1, 18, 255]);
    assert_eq!(load(MaskValues::CLASSES, [0, 7, 8, 33, 255]), [0, 7, 8, 33, 255]);
}

#[test]
fn voc_takes_the_masks_of_sbd_where_it_has_none() {
    let root = tree(&[
        "JPEGImages/x.jpg",
        "JPEGImages/y.jpg",
        "SegmentationClass/x.png",
        "SegmentationClassAug/x.png",
        "SegmentationClassAug/y.png",
    ]);
    put(root.path(), "ImageSets/Segmentation/trainaug.txt", "y\nx\n");
    put(
        root.path(),
        "ImageSets/Segmentation/val.txt",
        "/JPEGImages/x.jpg /SegmentationClassAug/x.png\n",
    );
    let masks = |split| {
        listed_pairs(root.path(), Some(split)).into_iter().map(|p| (p.0, p.2)).collect::<Vec<_>>()
    };
    let pair = |name: &str, mask: &str| (name.to_owned(), mask.to_owned());
    let both = [pair("y", "SegmentationClassAug/y.png"), pair("x", "SegmentationClass/x.png")];
    assert_eq!(masks("trainaug"), both);
    assert_eq!(masks("val"), [pair("x", "SegmentationClassAug/x.png")]);
    fs::remove_dir_all(root.path().join("SegmentationClass")).unwrap();
    assert_eq!(masks("trainaug")[1].1, "SegmentationClassAug/x.png");
    for line in ["/JPEGImages/../../x.jpg /SegmentationClassAug/x.png", "/JPEGImages/x.jpg"] {
        put(root.path(), "ImageSets/Segmentation/val.txt", line);
        let error = open(root.path(), None).unwrap_err().to_string();
        assert!(error.contains("line 1") && error.contains("neither a file name"), "{error}");
    }
    put(
        root.path(),
        "ImageSets/Segmentation/val.txt",
        "/JPEGImages/x.jpg /SegmentationClassAug/gone.png\n",
    );
    let error = open(root.path(), None).unwrap_err().to_string();
    assert!(error.contains("val.txt") && error.contains("name without a mask: x"), "{error}");
}

#[test]
fn lists_with_paths_of_another_machine_find_the_images_by_name() {
    let root = tree(&["train/x.png", "train/y.png", "trainannot/x.png", "trainannot/y.png"]);
    let listed = |list: &str| {
        put(root.path(), "train.txt", list);
        listed_pairs(root.path(), None).remove(0)
    };
    let pair = |name: &str| {
        (
            name.to_owned(),
            format!("train/{name}.png"),
            format!("trainannot/{name}.png"),
            MaskValues::CLASSES,
        )
    };
    // As in SegNet's CamVid.
    assert_eq!(listed("/SegNet/CamVid/train/y.png /SegNet/CamVid/trainannot/y.png\n"), pair("y"));
    // Other directory names, another image format, and a byte order mark.
    assert_eq!(listed("set/images/x.jpg set/masks/x.png\n"), pair("x"));
    assert_eq!(listed("\u{feff}y\n"), pair("y"));
    for (list, message) in [
        ("/set/train/z.png /set/trainannot/z.png", "1 listed name without an image: z"),
        (
            "/a/train/x.png /a/trainannot/x.png\n/b/train/x.png /b/trainannot/x.png",
            "line 2: `b/train/x` is listed twice",
        ),
    ] {
        put(root.path(), "train.txt", list);
        let error = open(root.path(), None).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn listed_images_of_one_name_in_two_directories_are_called_by_their_paths() {
    let root = tree(&[
        "train/x.png",
        "train/y.png",
        "trainannot/x.png",
        "trainannot/y.png",
        "more/x.png",
        "masks/x.png",
    ]);
    put(
        root.path(),
        "train.txt",
        "train/x.png trainannot/x.png\nmore/x.png masks/x.png\ntrain/y.png trainannot/y.png\n",
    );
    let names: Vec<_> = listed_pairs(root.path(), None).into_iter().map(|p| (p.0, p.2)).collect();
    let pair = |name: &str, mask: &str| (name.to_owned(), mask.to_owned());
    assert_eq!(
        names,
        [
            pair("train/x", "trainannot/x.png"),
            pair("more/x", "masks/x.png"),
            pair("y", "trainannot/y.png")
        ]
    );
    put(root.path(), "train.txt", "train/x.png trainannot/x.png\n/train/x.png masks/x.png\n");
    let error = open(root.path(), None).unwrap_err().to_string();
    assert!(error.contains("line 2: `train/x` is listed twice"), "{error}");
}

#[test]
fn plain_directories_may_have_splits_as_directories_or_as_lists() {
    let root = tree(&[
        "images/train/a.jpg",
        "images/val/b.png",
        "images/val/._b.png",
        "images/more/c.png",
        "masks/train/a.png",
        "masks/val/b.png",
    ]);
    assert_eq!(splits(&root.path().into()).unwrap(), ["train", "val"]);
    assert_eq!(listed_pairs(root.path(), None)[0].2, "masks/val/b.png");
    assert_eq!(listed_pairs(root.path(), Some("train"))[0].1, "images/train/a.jpg");
    let error = open(root.path(), Some("test")).unwrap_err().to_string();
    assert!(error.contains("no split `test`; available splits: train, val"), "{error}");

    let root = tree(&["images/a.jpg", "images/b.jpg", "masks/a.png", "masks/b.png"]);
    assert_eq!(splits(&root.path().into()).unwrap(), [""; 0]);
    put(root.path(), "train.txt", "b\n");
    put(root.path(), "val.txt", "a\n");
    assert_eq!(listed_pairs(root.path(), Some("train"))[0].1, "images/b.jpg");
    assert_eq!(splits(&root.path().into()).unwrap(), ["train", "val"]);
}

#[test]
fn a_lenient_listing_returns_all_mismatches_and_the_remaining_pairs() {
    let root = tree(&[
        "images/a.jpg",
        "images/a.png",
        "images/b.jpg",
        "images/c.jpg",
        "masks/a.png",
        "masks/d.png",
    ]);
    let (listing, mismatches) = open_lenient(&root.path().into(), None, None).unwrap();
    assert_eq!(listing.pairs.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["a"]);
    let kinds: Vec<_> = mismatches.iter().map(|m| (m.kind, m.name.as_str())).collect();
    use MismatchKind::*;
    assert_eq!(kinds, [(SameName, "a"), (NoMask, "b"), (NoMask, "c"), (NoImage, "d")]);
    assert!(mismatches[3].file.ends_with("masks/d.png"));
}

#[test]
fn what_is_held_out_depends_on_names_alone() {
    let listing = |names: &[usize]| {
        let pair = |n: &usize| Pair {
            name: format!("n{n}"),
            image: "p".into(),
            mask: PathBuf::from("m").into(),
            values: MaskValues::CLASSES,
        };
        let pairs = names.iter().map(pair).collect();
        Listing {
            root: "data".into(),
            layout: DatasetLayout::all().next().unwrap(),
            split: None,
            pairs,
            classes: None,
            notes: Vec::new(),
        }
    };
    let names = |l: &Listing| l.pairs.iter().map(|p| p.name.clone()).collect::<Vec<_>>();
    let all: Vec<usize> = (0..200).collect();
    let (training, validation) = listing(&all).hold_out(0.1, 3).unwrap();
    assert_eq!((training.pairs.len(), validation.pairs.len()), (180, 20));
    let mut both = [names(&training), names(&validation)].concat();
    both.sort();
    both.dedup();
    assert_eq!(both.len(), 200);
    let backwards: Vec<usize> = (0..200).rev().collect();
    let (_, mut same) = listing(&backwards).hold_out(0.1, 3).unwrap();
    same.pairs.reverse();
    assert_eq!(names(&same), names(&validation), "in the listing's order");
    let (_, other) = listing(&all).hold_out(0.1, 4).unwrap();
    assert_ne!(names(&other), names(&validation), "another seed");
    // With one more pair, at most one of the held-out pairs changes.
    let (_, more) = listing(&(0..201).collect::<Vec<_>>()).hold_out(0.1, 3).unwrap();
    assert!(names(&validation).iter().filter(|n| !names(&more).contains(n)).count() <= 1);
    assert_eq!(listing(&[1, 2]).hold_out(0.01, 0).unwrap().1.pairs.len(), 1);
    for (names, fraction) in
        [(vec![1], 0.1), (vec![1, 2], 0.9), (vec![1, 2], 0.0), (vec![1, 2], f64::NAN)]
    {
        assert!(listing(&names).hold_out(fraction, 0).is_err(), "{fraction} of {names:?}");
    }
}
