//! Annotation files in every layout: what is listed and drawn, and what is refused with its place.

use crate::data::doctor::Doctor;
use crate::data::test_files::tree;
use crate::data::{Listing, open};
use crate::error::Result;
use std::fs;
use std::path::Path;

/// Writes a data set of text files, and images of 4 x 3 pixels.
fn set(images: &[&str], files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tree(files);
    for name in images {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::RgbImage::new(4, 3).save(path).unwrap();
    }
    root
}

/// Lists a data set and draws all masks.
fn labels(root: &Path, split: Option<&str>) -> Result<(Listing, Vec<Vec<u16>>)> {
    let listing = open(root, split)?;
    let maps = listing.pairs.iter().map(|pair| Ok(pair.load(None)?.1.labels));
    let maps = maps.collect::<Result<_>>()?;
    Ok((listing, maps))
}

fn refused(root: &Path) -> String {
    labels(root, None).map(|_| ()).unwrap_err().to_string()
}

/// COCO's file with an image and these annotations.
fn coco(annotations: &str) -> String {
    format!(
        r#"{{"images": [{{"id": 1, "file_name": "a.png", "width": 4, "height": 3}}], "annotations": [{annotations}], "categories": [{{"id": 9, "name": "cat"}}, {{"id": 3, "name": "dog"}}]}}"#
    )
}

#[test]
fn coco_numbers_categories_by_id_and_later_annotations_cover_crowds_and_earlier_ones() {
    let text = coco(
        r#"{"id": 5, "image_id": 1, "category_id": 9, "segmentation": [[0, 0, 2, 0, 2, 2, 0, 2]]},
        {"id": 6, "image_id": 1, "category_id": 3, "segmentation": [[1, 0, 2, 0, 2, 2, 1, 2]]},
        {"id": 7, "image_id": 1, "category_id": 3, "iscrowd": 1, "segmentation": {"size": [3, 4], "counts": [0, 6, 6]}},
        {"id": 8, "image_id": 1, "category_id": 3, "segmentation": []}"#,
    );
    for (file, image) in [
        ("annotations/instances_val2017.json", "val2017/a.png"),
        ("annotations/instances_val.json", "images/val2017/../val/a.png"),
        ("val/_annotations.coco.json", "val/a.png"),
        ("export.json", "images/a.png"),
    ] {
        let root = set(&[&image.replace("val2017/../", "")], &[(file, &text)]);
        let (listing, maps) = labels(root.path(), None).unwrap();
        assert_eq!(maps, [[2, 1, 0, 0, 2, 1, 0, 0, 255, 255, 0, 0]], "{file}");
        assert_eq!(listing.classes.unwrap().names, ["background", "dog", "cat"]);
        assert!(listing.notes[0].contains("1 annotation without a `segmentation`"), "{file}");
        let split = (file != "export.json").then_some("val");
        assert_eq!(listing.split.as_deref(), split, "{file}");
    }
}

#[test]
fn damaged_coco_annotations_are_refused_with_file_image_and_number() {
    let entry = |segmentation: &str| {
        coco(&format!(
            r#"{{"id": 7, "image_id": 1, "category_id": 3, "segmentation": {segmentation}}}"#
        ))
    };
    let runs =
        |size: &str, counts: &str| entry(&format!(r#"{{"size": {size}, "counts": {counts}}}"#));
    for (text, part) in [
        (entry("[[0, 0, 1, 1, 2]]"), "odd number of coordinates"),
        (entry("[[0, 0, 1e300, 1, 2, 2]]"), "far outside the image"),
        (entry("[1, 2, 3, 4, 5, 6]"), "not in a list of polygons"),
        (runs("[4, 3]", "[12]"), "the runs are for 3x4 pixels"),
        (runs("[3, 4]", "[6, 7]"), "cover more pixels than the image's 12"),
        (runs("[3, 4]", "[6, 5]"), "cover fewer pixels"),
        (runs("[3, 4]", "[4294967295, 4294967295]"), "cover more pixels"),
        (runs("[3, 4]", r#""6~""#), "not a valid run-length code"),
        (runs("[3, 4]", r#""PPPPPPPPPPPP""#), "not a valid run-length code"),
        (runs("[3, 4]", r#""O""#), "not a valid run-length code"),
        (coco(r#"{"id": 7, "image_id": 1, "category_id": 4}"#), "no category has the id 4"),
    ] {
        let root = set(&["images/a.png"], &[("export.json", &text)]);
        let error = refused(root.path());
        let parts = ["export.json", "a.png", "annotation 7", part];
        assert!(parts.iter().all(|part| error.contains(part)), "{part}: {error}");
    }
    for (text, part) in [
        (coco(r#"{"id": 7, "image_id": 1, "category_id": 3, "bbox": [0, 0, 1, 1]}"#), "detection"),
        (coco(r#"{"id": 7, "image_id": 2, "category_id": 3}"#), "no image has the id 2"),
        (coco("").replace("a.png", "../a.png"), "not a path inside the data set"),
        (coco("").replace("a.png", "/etc/a.png"), "not a path inside the data set"),
        (coco("").replace("a.png", "b.png"), "without an image: b"),
        (coco("").replace("\"width\": 4", "\"width\": 4000000000"), "but the image has 4x3"),
        (entry(&"[".repeat(200_000)), "not a valid annotation file"),
        (coco("{"), "line 1"),
    ] {
        let root = set(&["images/a.png"], &[("export.json", &text)]);
        let error = refused(root.path());
        assert!(error.contains("export.json") && error.contains(part), "{part}: {error}");
    }
}

#[test]
fn yolo_draws_small_polygons_over_large_ones_and_images_without_labels_are_background() {
    let lines = "1 0 0 0.5 0 0.5 0.99 0 0.99\n0 0 0 1 0 1 0.99 0 0.99\n";
    for (images, labels_directory) in
        [("images/train", "labels/train"), ("train/images", "train/labels")]
    {
        let file = format!("{labels_directory}/a.txt");
        let yaml = "train: ../train/images\nval: images/val\nnames: {0: road, 1: car}\n";
        let root = set(
            &[&format!("{images}/a.png"), &format!("{images}/b.png")],
            &[(&file, lines), ("data.yaml", yaml)],
        );
        let (listing, maps) = labels(root.path(), None).unwrap();
        assert_eq!((listing.layout.name(), listing.split.as_deref()), ("yolo", Some("train")));
        assert_eq!(maps[0], [2, 2, 2, 1, 2, 2, 2, 1, 2, 2, 2, 1]);
        assert_eq!(maps[1], [0; 12]);
        assert!(listing.notes[0].contains("1 image without a label file"), "{:?}", listing.notes);
        assert_eq!(listing.classes.unwrap().names, ["background", "road", "car"]);
    }
}

#[test]
fn damaged_yolo_labels_are_refused_with_their_line() {
    for (lines, part) in [
        ("0 0.5 0.5 0.2 0.2\n", "line 1: the line is a box, not a polygon"),
        ("\n0 0 0 1 0 1\n", "line 2: expected `CLASS X Y"),
        ("2 0 0 1 0 1 1\n", "class 2 is not one of the 2"),
        ("0 0 0 1 0 640 1\n", "coordinate 640 is not between 0 and 1"),
        ("0 0 0 1 0 NaN 1\n", "coordinate NaN"),
        ("car 0 0 1 0 1 1\n", "line 1: expected"),
    ] {
        let files = [("labels/a.txt", lines), ("data.yaml", "names: [road, car]\n")];
        let error = refused(set(&["images/a.png"], &files).path());
        assert!(error.contains("a.txt") && error.contains(part), "{part}: {error}");
    }
}

fn labelme(shapes: &str, rest: &str) -> String {
    format!(r#"{{"version": "5.8.1", "shapes": [{shapes}], "imagePath": "a.png"{rest}}}"#)
}

const RECTANGLE: &str =
    r#"{"label": "LABEL", "shape_type": "rectangle", "points": [[1.9, 2], [0, 1]]}"#;

#[test]
fn labelme_sorts_its_labels_over_all_splits_or_takes_those_of_a_list() {
    let of = |label: &str| RECTANGLE.replace("LABEL", label);
    let point = r#"{"label": "sky", "shape_type": "point", "points": [[1, 1]]}"#;
    let train = labelme(&[of("tree"), of("__ignore__"), point.into()].join(","), "");
    let val = labelme(&of("car"), r#", "imageHeight": 3, "imageWidth": 4"#);
    let root = set(
        &["train/a.png", "train/unlabeled.png", "val/a.png"],
        &[("train/a.json", &train), ("val/a.json", &val)],
    );
    let (listing, maps) = labels(root.path(), Some("val")).unwrap();
    assert_eq!(listing.classes.unwrap().names, ["background", "car", "sky", "tree"]);
    assert_eq!(maps, [[0, 0, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0]]);
    assert!(listing.notes[0].contains("alphabetical order"), "{:?}", listing.notes);
    let (listing, maps) = labels(root.path(), Some("train")).unwrap();
    assert_eq!(maps, [[0, 0, 0, 0, 255, 255, 0, 0, 255, 255, 0, 0]]);
    let notes = listing.notes.join("\n");
    assert!(notes.contains("1 shape of the type point"), "{notes}");
    assert!(notes.contains("1 image without annotations"), "{notes}");
    fs::write(root.path().join("labels.txt"), "__ignore__\n_background_\ntree\ncar\n").unwrap();
    assert_eq!(labels(root.path(), Some("val")).unwrap().1[0][4], 2);
    fs::write(root.path().join("labels.txt"), "tree\n").unwrap();
    let error = labels(root.path(), Some("val")).unwrap_err().to_string();
    assert!(error.contains("shape 1: the label `car` is not listed"), "{error}");
}

#[test]
fn damaged_labelme_shapes_are_refused_with_their_number() {
    let shape = |kind: &str, points: &str, more: &str| {
        format!(r#"{{"label": "a", "shape_type": "{kind}", "points": {points}{more}}}"#)
    };
    for (shapes, rest, part) in [
        (shape("polygon", "[[0, 0], [1, 1]]", ""), "", "shape 1: a polygon of 2 points"),
        (shape("circle", "[[0, 0]]", ""), "", "expected 2 points, found 1"),
        (shape("polygon", "[[0, 0], [1, 1], [1e9, 0]]", ""), "", "far outside"),
        (shape("mask", "[[0, 0], [1, 1]]", r#", "mask": "!""#), "", "not valid base64"),
        (shape("mask", "[[0, 0], [1, 1]]", r#", "mask": "AAAA""#), "", "not a readable PNG"),
        (shape("mask", "[[0, 0], [9, 9]]", r#", "mask": "AAAA""#), "", "not in the image"),
        (String::new(), r#", "imageHeight": 3, "imageWidth": 5"#, "annotated for 5x3 pixels"),
    ] {
        let root = set(&["a.png"], &[("a.json", &labelme(&shapes, rest)), ("labels.txt", "a\n")]);
        let error = refused(root.path());
        assert!(error.contains("a.json") && error.contains(part), "{part}: {error}");
    }
    let embedded = labelme(&RECTANGLE.replace("LABEL", "a"), r#", "imageData": "iVBORw0KGgo=""#);
    let error = refused(set(&[], &[("a.json", &embedded)]).path());
    assert!(error.contains("is missing") && error.contains("labelme_export_json"), "{error}");
}

fn label_studio(result: &str) -> String {
    format!(
        r#"[{{"id": 4, "data": {{"image": "/data/upload/1/0123abcd-a%20b.png"}}, "annotations": [{{"was_cancelled": true}}, {{"result": [{result}]}}]}}]"#
    )
}

#[test]
fn label_studio_finds_its_uploads_and_refuses_damaged_regions() {
    let region = |size: &str, value: &str| {
        label_studio(&format!(r#"{{"type": "x", {size}, "value": {value}}}"#))
    };
    let size = r#""original_width": 4, "original_height": 3"#;
    let square = r#"{"points": [[0, 0], [50, 0], [50, 100], [0, 100]], "polygonlabels": ["car"]}"#;
    let root = set(&["images/a b.png"], &[("project.json", &region(size, square))]);
    let (listing, maps) = labels(root.path(), None).unwrap();
    assert_eq!(maps, [[1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0]]);
    assert_eq!((listing.layout.name(), &*listing.pairs[0].name), ("label_studio", "a b"));
    let brush = r#"{"rle": [0, 0, 0, 9, 57, 0], "brushlabels": ["car"]}"#;
    let other = r#""original_width": 3, "original_height": 3"#;
    for (text, part) in [
        (region(size, brush), "region 1: the brush has 9 values"),
        (region(size, r#"{"rle": [], "brushlabels": ["car"]}"#), "ends early"),
        (region(other, square), "annotated for 3x3 pixels"),
        (
            region(size, r#"{"points": [[0, 0]], "polygonlabels": ["car"]}"#),
            "a polygon of 1 points",
        ),
        (r#"[{"id": 4, "image": "a.png", "label": []}]"#.to_owned(), "not as JSON-MIN"),
    ] {
        let root = set(&["images/a b.png"], &[("project.json", &text), ("labels.txt", "car\n")]);
        let error = refused(root.path());
        assert!(error.contains("project.json") && error.contains(part), "{part}: {error}");
    }
}

#[test]
fn shapes_that_would_take_forever_are_refused() {
    let mut canvas = super::canvas::Canvas::new(crate::geometry::Size::new(20_000, 100)).unwrap();
    let zigzag: Vec<[i32; 2]> = (0..400_000).map(|i| [i % 2 * 100_000, i % 500]).collect();
    let error = super::coco::polygon(&mut canvas, &zigzag, 1).unwrap_err().to_string();
    assert!(error.contains("too complex"), "{error}");
}

#[test]
fn doctor_names_the_annotation_that_cannot_be_drawn() {
    let text = coco(
        r#"{"id": 7, "image_id": 1, "category_id": 3, "segmentation": {"size": [3, 4], "counts": [1]}}"#,
    );
    let root = set(&["images/a.png"], &[("export.json", &text)]);
    let examination = Doctor::new(root.path(), &[], None).unwrap().examine(|| ());
    let finding = &examination.findings[0];
    assert!(finding.detail.contains("annotation 7: the runs cover fewer"), "{}", finding.detail);
}
