//! Annotations of every tool against the pixels of the tools' own code, which
//! `tests/golden/annotations.py` ran.

use atrous::data::open;
use serde_json::{Value, json};
use std::fmt::Write;
use std::fs;
use std::path::Path;

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
