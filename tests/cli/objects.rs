//! `segment --format`: objects as polygons.

use crate::{atrous, directory, image};
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;
use std::path::Path;

/// Returns a command that writes objects of the tiny network: of the classes 1 to 4, since class 0 is
/// the background.
fn objects(directory: &Path, format: &str, arguments: &[&str]) -> assert_cmd::Command {
    let mut command = atrous(directory);
    command.args(["segment", "-w", "tiny.safetensors", "--format", format]).args(arguments);
    command
}

fn json(path: impl AsRef<Path>) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Returns the number of pixels of each class of an image.
fn pixels(directory: &Path, input: &str) -> Vec<u64> {
    let mut command = atrous(directory);
    command.args(["segment", input, "-w", "tiny.safetensors", "-s", "mask", "-o", "labels.png"]);
    command.assert().success();
    let labels = atrous::image::LabelMap::read(directory.join("labels.png"), None).unwrap().labels;
    (0..5).map(|class| labels.iter().filter(|&&label| label == class).count() as u64).collect()
}

#[test]
fn one_coco_file_holds_the_objects_of_all_images() {
    let dir = directory();
    image(&dir.path().join("b.png"), 40, 30);
    let arguments = ["a.png", "b.png", "--min-area", "1", "--tolerance", "0", "-o", "o.json"];
    objects(dir.path(), "coco", &arguments).assert().success().stdout(contains("-> o.json"));
    let file = json(dir.path().join("o.json"));
    let images = file["images"].as_array().unwrap();
    assert_eq!(images.len(), 2);
    assert_eq!((&images[1]["file_name"], &images[1]["width"]), (&"b.png".into(), &40.into()));
    assert_eq!(file["categories"].as_array().unwrap().len(), 4, "without the background");
    for (id, name) in [(1, "a.png"), (2, "b.png")] {
        let mut expected = pixels(dir.path(), name);
        expected[0] = 0;
        let mut areas = vec![0; 5];
        let annotations = file["annotations"].as_array().unwrap();
        for annotation in annotations.iter().filter(|a| a["image_id"] == id) {
            let area = annotation["area"].as_u64().unwrap();
            areas[annotation["category_id"].as_u64().unwrap() as usize] += area;
            let bounds: Vec<u64> = annotation["bbox"]
                .as_array()
                .unwrap()
                .iter()
                .map(|v| v.as_u64().unwrap())
                .collect();
            assert!(bounds[2] * bounds[3] >= area, "{annotation}");
        }
        assert_eq!(areas, expected, "{name}");
    }
    let output = objects(dir.path(), "coco", &["a.png", "b.png", "-o", "-"]).assert().success();
    let output = output.get_output().stdout.clone();
    let streamed: Value = serde_json::from_slice(&output).unwrap();
    assert_eq!(streamed["images"], file["images"]);
}

#[test]
fn every_other_format_has_a_file_for_each_image() {
    let dir = directory();
    std::fs::create_dir_all(dir.path().join("in/deep")).unwrap();
    image(&dir.path().join("in/one.png"), 45, 33);
    image(&dir.path().join("in/deep/two.png"), 33, 45);
    for (format, extension) in
        [("labelme", "json"), ("yolo", "txt"), ("geojson", "geojson"), ("svg", "svg")]
    {
        let out = format!("{format}/");
        objects(dir.path(), format, &["in", "-o", &out]).assert().success();
        for name in ["one", "deep/two"] {
            let path = dir.path().join(format).join(name).with_extension(extension);
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.len() > 50, "{}: {text}", path.display());
        }
        objects(dir.path(), format, &["a.png"]).assert().success();
        assert!(dir.path().join(format!("a-objects.{extension}")).exists());
    }
    let labelme = json(dir.path().join("labelme/deep/two.json"));
    assert_eq!(labelme["imagePath"], "../../in/deep/two.png");
    assert_eq!((&labelme["imageWidth"], &labelme["imageData"]), (&33.into(), &Value::Null));
    let geojson = json(dir.path().join("geojson/one.geojson"));
    for feature in geojson["features"].as_array().unwrap() {
        let rings = feature["geometry"]["coordinates"].as_array().unwrap();
        assert!(rings.iter().all(|r| r[0] == r[r.as_array().unwrap().len() - 1]), "{feature}");
    }
    let names = std::fs::read_to_string(dir.path().join("yolo/names.yaml")).unwrap();
    assert!(names.contains("names:\n  0: \"road\"\n  1: \"tree\""), "{names}");
    let labels = std::fs::read_to_string(dir.path().join("yolo/one.txt")).unwrap();
    for line in labels.lines() {
        let numbers: Vec<f64> = line.split(' ').map(|n| n.parse().unwrap()).collect();
        assert!(numbers.len() >= 7 && numbers.len() % 2 == 1, "{line}");
        assert!(numbers[1..].iter().all(|n| (0.0..=1.0).contains(n)), "{line}");
    }
}

#[test]
fn kept_classes_alone_become_objects_and_small_ones_are_left_out() {
    let dir = directory();
    let pixels = pixels(dir.path(), "a.png");
    let class = (0..5).max_by_key(|&class| pixels[class]).unwrap().to_string();
    objects(dir.path(), "coco", &["a.png", "--keep", &class, "-o", "o.json"]).assert().success();
    let file = json(dir.path().join("o.json"));
    assert_eq!(file["categories"].as_array().unwrap().len(), 1);
    let annotations = file["annotations"].as_array().unwrap();
    assert!(!annotations.is_empty());
    assert!(annotations.iter().all(|a| a["area"].as_u64().unwrap() >= 16));
    objects(dir.path(), "yolo", &["a.png", "--keep", &class, "--min-area", "9999", "-o", "y.txt"])
        .assert()
        .success()
        .stdout(contains("0 objects"));
    assert_eq!(std::fs::read(dir.path().join("y.txt")).unwrap(), b"", "an image without objects");
}

#[test]
fn options_of_images_and_objects_do_not_mix() {
    let dir = directory();
    for (arguments, reason) in [
        (&["a.png", "--format", "coco", "--style", "mask"][..], "cannot be used with"),
        (&["a.png", "--format", "svg", "--opacity", "0.4"], "cannot be used with"),
        (&["a.png", "--format", "svg", "--extension", "png"], "cannot be used with"),
        (&["a.png", "--tolerance", "2"], "--format"),
        (&["a.png", "--format", "svg", "--tolerance=-1"], "--tolerance"),
        (&["a.png", "--format", "svg", "-o", "x.png"], "is the name of a PNG image"),
        (&["a.png", "--format", "coco", "--confidence"], "one file for all images"),
        (&["none.y4m", "--format", "svg"], "none.y4m"),
    ] {
        let mut command = atrous(dir.path());
        command.args(["segment", "-w", "tiny.safetensors"]).args(arguments);
        let refused = command.assert().failure().stderr(contains(reason));
        assert!(refused.get_output().stdout.is_empty(), "{arguments:?}");
    }
    // The label file of one image would be that of the other.
    std::fs::copy(dir.path().join("a.png"), dir.path().join("a.jpg")).unwrap();
    objects(dir.path(), "yolo", &["a.png", "a.jpg", "-o", "out/"])
        .assert()
        .code(2)
        .stderr(contains("would be written twice"));
    let refused = objects(dir.path(), "labelme", &["a.png", "-o", "tiny.safetensors"]).assert();
    refused.code(2).stderr(contains("is the weight file").and(contains("the objects of a.png")));
}
