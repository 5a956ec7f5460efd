//! Annotations of every tool against the pixels of the tools' own code, which
//! `tests/golden/annotations.py` ran.

use assert_cmd::Command;
use atrous::data::convert::Conversion;
use atrous::data::doctor::{Doctor, Finding, Severity};
use atrous::data::{Pair, open};
use serde_json::{Value, json};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

struct Case {
    entry: Value,
    width: usize,
    height: usize,
    runs: Vec<usize>,
}

/// Returns the cases of a tool.
fn cases(tool: &str) -> Vec<Case> {
    let text = include_str!("../golden/annotations/shapes.json");
    let all: Vec<Value> = serde_json::from_str(text).unwrap();
    let number = |value: &Value| value.as_u64().unwrap() as usize;
    let case = |case: &Value| Case {
        entry: case["entry"].clone(),
        width: number(&case["width"]),
        height: number(&case["height"]),
        runs: case["runs"].as_array().unwrap().iter().map(number).collect(),
    };
    all.iter().filter(|entry| entry["tool"] == tool).map(case).collect()
}

fn images(directory: &Path, cases: &[Case]) {
    fs::create_dir_all(directory).unwrap();
    for (i, case) in cases.iter().enumerate() {
        let image = image::RgbImage::new(case.width as u32, case.height as u32);
        image.save(directory.join(format!("{i:03}.png"))).unwrap();
    }
}

/// Fails if a pixel of the data set differs from the cases, whose areas have class 1.
fn compare(root: &Path, layout: &str, cases: &[Case]) {
    let listing = open(root, None).unwrap();
    assert_eq!((listing.layout.name(), listing.pairs.len()), (layout, cases.len()));
    let mut report = String::new();
    for (pair, case) in listing.pairs.iter().zip(cases) {
        let (_, map) = pair.load(listing.classes.as_ref()).unwrap();
        let values = case.runs.iter().zip([0, 1].into_iter().cycle());
        let columns: Vec<u16> =
            values.flat_map(|(&run, value)| std::iter::repeat_n(value, run)).collect();
        let expected = |at: usize| columns[at % case.width * case.height + at / case.width];
        let differs = (0..map.labels.len()).filter(|&at| map.labels[at] != expected(at));
        let differs: Vec<(usize, usize)> =
            differs.map(|at| (at % case.width, at / case.width)).collect();
        if !differs.is_empty() {
            let few = &differs[..differs.len().min(6)];
            writeln!(report, "{} differ in {}: {few:?} {}", differs.len(), pair.name, case.entry)
                .unwrap();
        }
    }
    assert!(report.is_empty(), "{report}");
    convert(root, layout, cases.len());
}

/// Fails if the data set has other images, labels or classes in the plain layout.
fn convert(root: &Path, layout: &str, pairs: usize) {
    let other = tempfile::tempdir().unwrap();
    let output = other.path().join("plain");
    let conversion = Conversion::new(root, &[], None).unwrap();
    let converted = conversion.write(&output, false, &AtomicBool::new(false), || ()).unwrap();
    assert_eq!((converted.layout, converted.splits[0].pairs), (layout, pairs));
    let (before, after) = (open(root, None).unwrap(), open(&output, None).unwrap());
    assert_eq!((after.layout.name(), &after.classes), ("directories", &before.classes));
    for (pair, plain) in before.pairs.iter().zip(&after.pairs) {
        assert_eq!(fs::read(&pair.image).unwrap(), fs::read(&plain.image).unwrap());
        let labels = |pair: &Pair| pair.load(before.classes.as_ref()).unwrap().1;
        assert!(labels(pair) == labels(plain), "{}", pair.name);
    }
    let examination = Doctor::new(&output, &[], None).unwrap().examine(|| ());
    let is_fault = |finding: &&Finding| finding.severity == Severity::Fault;
    assert_eq!(examination.findings.iter().find(is_fault), None);
}

#[test]
fn coco_polygons_and_runs_have_the_pixels_of_pycocotools() {
    let (cases, root) = (cases("coco"), tempfile::tempdir().unwrap());
    images(&root.path().join("images"), &cases);
    let record = |(i, case): (usize, &Case)| json!({"id": i, "file_name": format!("{i:03}.png"), "width": case.width, "height": case.height});
    let entry = |(i, case): (usize, &Case)| json!({"id": i, "image_id": i, "category_id": 7, "iscrowd": 0, "segmentation": case.entry});
    let file = json!({
        "images": cases.iter().enumerate().map(record).collect::<Vec<_>>(),
        "annotations": cases.iter().enumerate().map(entry).collect::<Vec<_>>(),
        "categories": [{"id": 7, "name": "thing"}],
    });
    fs::write(root.path().join("export.json"), file.to_string()).unwrap();
    compare(root.path(), "coco", &cases);
}

#[test]
fn yolo_polygons_have_the_pixels_of_opencv() {
    let (cases, root) = (cases("yolo"), tempfile::tempdir().unwrap());
    images(&root.path().join("images"), &cases);
    fs::create_dir(root.path().join("labels")).unwrap();
    fs::write(root.path().join("data.yaml"), "names: [thing]\n").unwrap();
    for (i, case) in cases.iter().enumerate() {
        let line = format!("0 {}\n", case.entry.as_str().unwrap());
        fs::write(root.path().join(format!("labels/{i:03}.txt")), line).unwrap();
    }
    compare(root.path(), "yolo", &cases);
}

#[test]
fn labelme_shapes_have_the_pixels_of_pillow() {
    let (cases, root) = (cases("labelme"), tempfile::tempdir().unwrap());
    images(root.path(), &cases);
    for (i, case) in cases.iter().enumerate() {
        let mut shape = case.entry.clone();
        shape["label"] = "thing".into();
        let file = json!({"version": "5.8.1", "shapes": [shape], "imagePath": format!("{i:03}.png"), "imageData": null, "imageHeight": case.height, "imageWidth": case.width});
        fs::write(root.path().join(format!("{i:03}.json")), file.to_string()).unwrap();
    }
    compare(root.path(), "labelme", &cases);
}

#[test]
fn label_studio_regions_have_the_pixels_of_its_converter() {
    let (cases, root) = (cases("label_studio"), tempfile::tempdir().unwrap());
    images(&root.path().join("images"), &cases);
    let task = |(i, case): (usize, &Case)| {
        let region = json!({"type": "polygonlabels", "original_width": case.width, "original_height": case.height, "value": case.entry});
        json!({"id": i, "data": {"image": format!("/data/upload/1/0123abcd-{i:03}.png")}, "annotations": [{"result": [region]}]})
    };
    let tasks: Vec<Value> = cases.iter().enumerate().map(task).collect();
    fs::write(root.path().join("project.json"), Value::from(tasks).to_string()).unwrap();
    compare(root.path(), "label_studio", &cases);
}

/// Writes a data set of YOLO with two splits and an ignored area in neither.
fn yolo(root: &Path) {
    for split in ["train", "val"] {
        let [images, labels] = ["images", "labels"].map(|part| root.join(part).join(split));
        fs::create_dir_all(&images).unwrap();
        fs::create_dir_all(&labels).unwrap();
        image::RgbImage::new(8, 8).save(images.join("a.png")).unwrap();
        fs::write(labels.join("a.txt"), "1 0 0 0.5 0 0.5 0.5 0 0.5\n").unwrap();
    }
    fs::write(root.join("data.yaml"), "names: [void, class 7]\n").unwrap();
}

#[test]
fn convert_data_writes_splits_and_reports_them_and_refuses_to_replace_anything() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    yolo(&root.join("in"));
    let run = |arguments: &[&str]| {
        let mut command = Command::cargo_bin("atrous").unwrap();
        command.current_dir(root).arg("convert-data").args(arguments).output().unwrap()
    };
    let output = run(&["in", "out", "--json", "--link"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        report["splits"],
        json!([{"name": "train", "pairs": 1}, {"name": "val", "pairs": 1}])
    );
    let classes = fs::read_to_string(root.join("out/classes.txt")).unwrap();
    let names: Vec<&str> = classes.lines().map(|l| l.split(' ').nth(1).unwrap()).collect();
    assert_eq!(names, ["background", "class_1", "class_7", "ignore"], "{classes}");
    let listing = open(root.join("out"), Some("val")).unwrap();
    assert_eq!(listing.pairs[0].load(None).unwrap().1.max(), 2);
    for (arguments, part) in [
        (["in", "out"], "already exists and is not an empty directory"),
        (["in", "in/plain"], "is in the data set that is read"),
        (["in", "no/where"], "create it first"),
        (["out/images", "new"], "unrecognized data set layout"),
    ] {
        let output = run(&arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(part), "{part}: {error}");
    }
    fs::write(root.join("in/labels/val/a.txt"), "1 0 0 0.5 0.5\n").unwrap();
    assert!(!run(&["in", "new"]).status.success());
    let left: Vec<_> = fs::read_dir(root).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "nothing is half-written: {left:?}");
}

/// They were written as they were, and training on them failed later.
#[test]
fn labels_that_are_no_class_are_not_converted() {
    let (root, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (directory, value) in [("images", 9), ("masks", 2)] {
        fs::create_dir(root.path().join(directory)).unwrap();
        let image = image::GrayImage::from_pixel(4, 4, image::Luma([value]));
        image.save(root.path().join(directory).join("a.png")).unwrap();
    }
    let output = other.path().join("out");
    for (classes, is_converted) in [("0 a\n1 b\n", false), ("0 a\n1 b\n2 c\n", true)] {
        fs::write(root.path().join("classes.txt"), classes).unwrap();
        let conversion = Conversion::new(root.path(), &[], None).unwrap();
        match conversion.write(&output, false, &AtomicBool::new(false), || ()) {
            Ok(_) => assert!(is_converted && output.is_dir()),
            Err(e) => assert!(!is_converted && e.to_string().contains("the value 2"), "{e}"),
        }
    }
}
