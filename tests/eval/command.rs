//! Scores of `atrous eval`.

pub(crate) use super::support::command::atrous;
use crate::{image, support};
use atrous::image::{ClassTable, LabelMap, SizeRule};
use atrous::{DeviceChoice, Model, Segmenter};
use predicates::str::contains;
use serde_json::Value;
use std::path::Path;
use support::models::write_seeded;

/// A directory with `tiny.safetensors` and `set/`, whose masks are the predictions of the network,
/// except for a column of class 0 and one of void.
pub(crate) fn data_set() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let weights = directory.path().join("tiny.safetensors");
    write_seeded(&weights, 7);
    let segmenter = Segmenter::new(Model::open(&weights).unwrap(), &DeviceChoice::Cpu).unwrap();
    for name in ["images", "masks"] {
        std::fs::create_dir_all(directory.path().join("set").join(name)).unwrap();
    }
    for i in 0..3 {
        let image = image(60 + i, 44, 20 + i as u64);
        let mut labels = segmenter.segment(&image, SizeRule::Native).unwrap().labels;
        let width = labels.width;
        for row in labels.labels.chunks_exact_mut(width) {
            row[..2].copy_from_slice(&[0, 255]);
        }
        image.save(directory.path().join(format!("set/images/{i}.png"))).unwrap();
        labels
            .write(directory.path().join(format!("set/masks/{i}.png")), &ClassTable::generic(5))
            .unwrap();
    }
    directory
}

pub(crate) const EVAL: [&str; 7] =
    ["eval", "--weights", "tiny.safetensors", "--data", "set", "--size", "native"];

pub(crate) fn json(directory: &Path, flags: &[&str]) -> Value {
    let run = atrous(directory).args(EVAL).args(flags).arg("--json").assert().success();
    serde_json::from_slice(&run.get_output().stdout).expect("JSON on standard output")
}

#[test]
fn eval_scores_a_data_set_and_writes_the_requested_files() {
    let directory = data_set();
    let report = json(
        directory.path(),
        &["--trimap", "1,4", "--trimap-plot", "bands.png", "--confusion", "matrix.png"],
    );
    // Everything is correct except for the column of class 0.
    let scores = &report["scores"];
    let matrix: Vec<Vec<u64>> = serde_json::from_value(scores["confusion"].clone()).unwrap();
    let wrong: u64 = matrix
        .iter()
        .enumerate()
        .flat_map(|(t, row)| row.iter().enumerate().filter(move |(p, _)| *p != t))
        .map(|(_, n)| n)
        .sum();
    let pixels = (60 + 61 + 62 - 3) * 44;
    assert_eq!(
        (scores["pixels"].as_u64(), scores["ignored_pixels"].as_u64()),
        (Some(pixels), Some(3 * 44))
    );
    assert!(wrong > 0 && wrong <= 3 * 44, "{wrong}");
    let accuracy = scores["pixel_accuracy"].as_f64().unwrap();
    assert!((accuracy - (1.0 - wrong as f64 / pixels as f64)).abs() < 1e-9);
    assert_eq!(report["trimap"][0]["width"], 1.0);
    assert!(
        report["trimap"][0]["pixel_accuracy"].as_f64().unwrap() < accuracy,
        "the errors are at a border"
    );
    for (name, at_least) in [("matrix.png", 100), ("bands.png", 400)] {
        assert!(
            image::image_dimensions(directory.path().join(name)).unwrap().0 > at_least,
            "{name}"
        );
    }
    let classes = ["background", "road", "tree", "car", "person"];
    let mut text = atrous(directory.path())
        .args(EVAL)
        .assert()
        .success()
        .stdout(contains("mIoU"))
        .stdout(contains("pixel accuracy"));
    for class in classes {
        text = text.stdout(contains(class));
    }
    let both = json(
        directory.path(),
        &["--scales", "0.5,1", "--flip", "--window", "48", "--stride", "24x40"],
    );
    assert_eq!(
        (&both["scales"], &both["flip"], &both["window"]),
        (&serde_json::json!([0.5, 1.0]), &true.into(), &serde_json::json!([48, 48, 24, 40]))
    );
    assert_eq!(both["scores"]["pixels"].as_u64(), Some(pixels));
}

#[test]
fn ablation_has_a_row_for_each_combination_of_options() {
    let directory = data_set();
    let rows = json(directory.path(), &["--ablation", "--scales", "0.5,1"]);
    let combinations: Vec<_> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|r| {
            (r["output_stride"].as_u64().unwrap(), r["multi_scale"] == true, r["flip"] == true)
        })
        .collect();
    let stride = |s| [(s, false, false), (s, true, false), (s, true, true)];
    assert_eq!(combinations, [stride(16), stride(8)].concat());
    let cost = |i: usize| rows[i]["multi_adds"].as_u64().unwrap();
    assert!(cost(1) > cost(0) && cost(2).abs_diff(2 * cost(1)) <= 1 && cost(3) > cost(0), "{rows}");
    // (The costs are rounded means.) The masks are the plain labels at stride 16.
    let score = |i: usize| rows[i]["mean_iou"].as_f64().unwrap();
    assert!((1..6).all(|i| score(0) > score(i)), "{rows}");
    atrous(directory.path())
        .args(EVAL)
        .args(["--ablation", "--scales", "1"])
        .assert()
        .success()
        .stdout(contains("Multi-Adds"));
}

#[test]
fn eval_refuses_other_classes_and_missing_splits() {
    let directory = data_set();
    atrous(directory.path())
        .args(EVAL)
        .args(["--split", "test"])
        .assert()
        .code(1)
        .stderr(contains("no split `test`"));
    atrous(directory.path())
        .args(EVAL)
        .args(["--window", "native"])
        .assert()
        .code(2)
        .stderr(contains("expected a size, such as 513 or 640x480"));
    atrous(directory.path())
        .args(EVAL)
        .args(["--trimap", "0"])
        .assert()
        .code(2)
        .stderr(contains("at least 1 pixel wide"));
    std::fs::write(directory.path().join("set/classes.txt"), "0 sky 1 2 3\n1 road 4 5 6\n")
        .unwrap();
    atrous(directory.path())
        .args(EVAL)
        .assert()
        .code(1)
        .stderr(contains("2 classes, the network 5"));
}

/// Weights files do not contain ignored labels: a class table defines them again.
#[test]
fn labels_that_only_a_class_table_option_ignores_do_not_count() {
    let directory = data_set();
    let path = |name: &str| directory.path().join(name);
    // Change the void of the masks to the label after the classes, as in CamVid.
    for i in 0..3 {
        let mask = path(&format!("set/masks/{i}.png"));
        let mut map = LabelMap::read(&mask, None).unwrap();
        for label in map.labels.iter_mut().filter(|l| **l == 255) {
            *label = 5;
        }
        map.write(&mask, &ClassTable::generic(5)).unwrap();
    }
    atrous(directory.path()).args(EVAL).assert().code(1).stderr(contains("true label 5"));
    let classes = "0 sky 1 2 3\n1 road 4 5 6\n2 tree 7 8 9\n3 car 1 1 1\n4 person 2 2 2\n";
    std::fs::write(path("given.txt"), format!("{classes}5 void 0 0 0\n")).unwrap();
    // The option overrides the data set's own table.
    std::fs::write(path("set/classes.txt"), "0 sky 1 2 3\n1 road 4 5 6\n").unwrap();
    let report = json(directory.path(), &["--class-table", "given.txt"]);
    let scores = &report["scores"];
    let pixels = (60 + 61 + 62 - 3) * 44;
    assert_eq!(
        (scores["pixels"].as_u64(), scores["ignored_pixels"].as_u64()),
        (Some(pixels), Some(3 * 44))
    );
    let given = ["--class-table", "set/classes.txt"];
    let refused = atrous(directory.path()).args(EVAL).args(given).assert().code(1);
    refused.stderr(contains("classes.txt: has 2 classes, the network 5"));
}

/// 13 photographs and 14 crops; tests/golden/voc_miou.py has 0.7677 in PyTorch with images resized
/// in 8 bits.
#[test]
#[cfg_attr(not(has_data), ignore = "needs the data directory (ATROUS_DATA)")]
fn eval_gives_the_score_of_the_phone_network_on_voc_images() {
    let data = support::data();
    let weights = data.join("weights/deeplabv3_mnv2_dm05_voc21.safetensors");
    let mut matrix = vec![vec![0u64; 21]; 21];
    for (set, split) in [("voc-sample", Some("all")), ("voc-crops513", None)] {
        let mut command = atrous(Path::new("."));
        command
            .arg("eval")
            .arg("--weights")
            .arg(&weights)
            .arg("--data")
            .arg(data.join("data").join(set))
            .arg("--json");
        command.args(split.map(|name| ["--split", name]).into_iter().flatten());
        let run = command.assert().success();
        let report: Value = serde_json::from_slice(&run.get_output().stdout).unwrap();
        let counts: Vec<Vec<u64>> =
            serde_json::from_value(report["scores"]["confusion"].clone()).unwrap();
        for (sum, n) in matrix.iter_mut().flatten().zip(counts.into_iter().flatten()) {
            *sum += n;
        }
    }
    let truth = |c: usize| matrix[c].iter().sum::<u64>();
    let iou = |c: usize| {
        let predicted: u64 = matrix.iter().map(|row| row[c]).sum();
        matrix[c][c] as f64 / (truth(c) + predicted - matrix[c][c]) as f64
    };
    let classes: Vec<usize> = (0..21).filter(|&c| truth(c) > 0).collect();
    let miou = classes.iter().map(|&c| iou(c)).sum::<f64>() / classes.len() as f64;
    let accuracy =
        (0..21).map(|c| matrix[c][c]).sum::<u64>() as f64 / (0..21).map(truth).sum::<u64>() as f64;
    println!("mIoU {miou:.4}, pixel accuracy {accuracy:.4}");
    assert!(
        (miou - 0.768).abs() <= 0.001 && (accuracy - 0.967).abs() <= 0.0005,
        "mIoU {miou:.4}, pixel accuracy {accuracy:.4}"
    );
}
