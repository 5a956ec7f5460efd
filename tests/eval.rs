//! Evaluation: how a network is asked about an image, and `atrous eval` as a process.

mod support;

use assert_cmd::Command;
use atrous::eval::{Method, Predictor, Windows};
use atrous::exec::{Device, Runner};
use atrous::image::{ClassTable, Image, LabelMap, SizeRule};
use atrous::models::{Config, Outputs};
use atrous::{DeviceChoice, Model, Segmenter, Shape, Tensor};
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;
use std::path::Path;
use support::Rng;
use support::models::{random_weights, tiny_config, write_seeded};

fn model(change: impl FnOnce(&mut Config)) -> Model {
    let mut config = tiny_config();
    change(&mut config);
    let weights = random_weights(&config, 7);
    Model { config, weights, dialect: "atrous", path: "tiny.safetensors".into() }
}

fn choices() -> Vec<DeviceChoice> {
    let gpu = support::gpu().map(|_| {
        std::env::var("ATROUS_DEVICE").map_or(DeviceChoice::Gpu, |text| text.parse().unwrap())
    });
    std::iter::once(DeviceChoice::Cpu).chain(gpu).collect()
}

/// Blobs of color.
fn image(w: usize, h: usize, seed: u64) -> Image {
    let mut rng = Rng(seed);
    let blobs: Vec<(usize, usize, [u8; 3])> = (0..12)
        .map(|_| {
            (
                rng.range(0, w - 1),
                rng.range(0, h - 1),
                std::array::from_fn(|_| rng.range(0, 255) as u8),
            )
        })
        .collect();
    let nearest = |x: usize, y: usize| {
        blobs.iter().min_by_key(|b| b.0.abs_diff(x).pow(2) + b.1.abs_diff(y).pow(2)).unwrap().2
    };
    Image::new(w, h, (0..w * h).flat_map(|i| nearest(i % w, i / w)).collect()).unwrap()
}

fn ask(segmenter: &Segmenter, method: Method, image: &Image) -> LabelMap {
    Predictor::new(segmenter, method).unwrap().predict(image).unwrap().labels
}

fn native() -> Method {
    Method { size: Some(SizeRule::Native), ..Method::default() }
}

#[track_caller]
fn agree(what: &str, a: &LabelMap, b: &LabelMap, at_least: f64) {
    assert_eq!((a.width, a.height), (b.width, b.height), "{what}");
    let classes: std::collections::BTreeSet<u16> = a.labels.iter().copied().collect();
    assert!(classes.len() > 1, "{what}: an image of one class shows nothing");
    let same = a.labels.iter().zip(&b.labels).filter(|(a, b)| a == b).count() as f64
        / a.labels.len() as f64;
    assert!(same >= at_least, "{what}: {same:.4} of the labels agree");
}

/// A view counted twice is that view: the way over averaged probabilities, where nothing is
/// averaged.
#[test]
fn several_scales_that_are_all_one_give_the_plain_labels() {
    for choice in choices() {
        for align_corners in [false, true] {
            let model = model(|c| c.head.as_mut().unwrap().align_corners = align_corners);
            let segmenter = Segmenter::new(model, &choice).unwrap();
            for size in [SizeRule::Native, SizeRule::LongSide(65), SizeRule::Exact { w: 80, h: 49 }]
            {
                let image = image(71, 53, 3);
                let plain = segmenter.segment(&image, size).unwrap().labels;
                let method = |scales| Method { size: Some(size), scales, ..Method::default() };
                let what = format!("{choice:?}, {size}, align_corners {align_corners}");
                assert_eq!(ask(&segmenter, method(vec![1.0]), &image), plain, "{what}");
                // Probabilities that are equal in f32 can hide a difference of scores.
                agree(&what, &ask(&segmenter, method(vec![1.0, 1.0]), &image), &plain, 0.998);
            }
        }
    }
}

fn flipped(tensor: &Tensor) -> Tensor {
    let s = tensor.shape();
    Tensor::from_fn(s, |n, y, x, c| tensor.f32()[s.index(n, y, s.w - 1 - x, c)])
}

/// The same by hand: one graph at a time on the processor, mirrored and added up here.
#[test]
fn scales_and_the_mirror_average_probabilities() {
    let image = image(65, 49, 5);
    let model = model(|_| {});
    let how = model.config.preprocess;
    let x = Tensor::from_fn(Shape::new(1, 49, 65, 3), |_, y, x, c| {
        (f32::from(image.rgb[3 * (y * 65 + x) + c]) / 255.0 - how.mean[c]) / how.std[c]
    });
    let resized = |x: &Tensor, size: (usize, usize)| {
        let mut graph = atrous::graph::Graph::new();
        let input = graph.input("x", x.ty());
        let op = atrous::ops::Resize { h: size.0, w: size.1, align_corners: false, window: None };
        let y = graph.root().op("y", op, &[input]).unwrap();
        graph.output("y", y);
        Runner::new(&Device::Cpu, graph).unwrap().run(&[("x", x)]).unwrap().swap_remove(0)
    };
    let mut sum = vec![0.0f64; 65 * 49 * 5];
    for size in [(25, 33), (49, 65), (74, 98)] {
        let seen = resized(&x, size);
        let graph = model.graph(seen.shape(), &Outputs::default()).unwrap();
        let network = Runner::new(&Device::Cpu, graph).unwrap();
        for mirror in [false, true] {
            let input = if mirror { flipped(&seen) } else { seen.clone() };
            let logits = network.run(&[("input", &input)]).unwrap().swap_remove(0);
            let logits = if mirror { flipped(&logits) } else { logits };
            for (sum, logits) in
                sum.chunks_exact_mut(5).zip(resized(&logits, (49, 65)).f32().chunks_exact(5))
            {
                let whole: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
                sum.iter_mut().zip(logits).for_each(|(s, &l)| *s += f64::from(l).exp() / whole);
            }
        }
    }
    let largest = |p: &[f64]| {
        (0..5u16).max_by(|&a, &b| p[usize::from(a)].total_cmp(&p[usize::from(b)])).unwrap()
    };
    let expected = LabelMap::new(65, 49, sum.chunks_exact(5).map(largest).collect()).unwrap();
    for choice in choices() {
        let segmenter = Segmenter::new(model.clone(), &choice).unwrap();
        let method = Method { scales: vec![0.5, 1.0, 1.5], flip: true, ..native() };
        agree(&format!("{choice:?}"), &ask(&segmenter, method, &image), &expected, 0.998);
    }
}

#[test]
fn with_the_mirror_a_mirrored_image_has_mirrored_labels() {
    let image = image(60, 44, 6);
    let mirror = |row: &[u8]| row.chunks_exact(3).rev().flatten().copied().collect::<Vec<u8>>();
    let mirrored =
        Image::new(60, 44, image.rgb.chunks_exact(3 * 60).flat_map(mirror).collect()).unwrap();
    for choice in choices() {
        let segmenter = Segmenter::new(model(|_| {}), &choice).unwrap();
        let method = Method { flip: true, ..native() };
        let labels = ask(&segmenter, method.clone(), &image);
        let turned =
            labels.labels.chunks_exact(60).flat_map(|row| row.iter().rev().copied()).collect();
        let turned = LabelMap::new(60, 44, turned).unwrap();
        agree(&format!("{choice:?}"), &ask(&segmenter, method, &mirrored), &turned, 0.998);
    }
}

#[test]
fn windows_that_do_not_overlap_are_images_of_their_own() {
    let (left, right) = (image(33, 33, 8), image(33, 33, 9));
    let rows = left.rgb.chunks_exact(99).zip(right.rgb.chunks_exact(99));
    let both = Image::new(66, 33, rows.flat_map(|(l, r)| [l, r].concat()).collect()).unwrap();
    let windows = |size, stride| Method { windows: Some(Windows { size, stride }), ..native() };
    for choice in choices() {
        let segmenter = Segmenter::new(model(|_| {}), &choice).unwrap();
        let found = ask(&segmenter, windows((33, 33), (33, 33)), &both);
        let half = |x: usize| {
            let labels =
                found.labels.chunks_exact(66).flat_map(|row| row[x..x + 33].to_vec()).collect();
            LabelMap::new(33, 33, labels).unwrap()
        };
        agree("left", &half(0), &ask(&segmenter, native(), &left), 0.998);
        agree("right", &half(33), &ask(&segmenter, native(), &right), 0.998);
        // One window that is as large as the image.
        agree(
            "whole",
            &ask(&segmenter, windows((66, 33), (66, 33)), &both),
            &ask(&segmenter, native(), &both),
            0.998,
        );
        // Windows that are larger are padded; those that overlap leave no pixel out.
        for (size, stride) in [((70, 40), (70, 40)), ((40, 25), (13, 9)), ((66, 16), (1, 7))] {
            assert_eq!(
                ask(&segmenter, windows(size, stride), &both).labels.len(),
                66 * 33,
                "{size:?}"
            );
        }
    }
}

#[test]
fn methods_that_make_no_sense_are_refused() {
    let segmenter = Segmenter::new(model(|_| {}), &DeviceChoice::Cpu).unwrap();
    let windows = |size, stride| Method { windows: Some(Windows { size, stride }), ..native() };
    for (method, part) in [
        (Method { scales: vec![], ..native() }, "no scale"),
        (Method { scales: vec![1.0, 0.0], ..native() }, "scale of 0"),
        (Method { scales: vec![f64::NAN], ..native() }, "scale of NaN"),
        (windows((33, 33), (34, 33)), "do not cover"),
        (windows((33, 0), (1, 1)), "do not cover"),
    ] {
        let error = Predictor::new(&segmenter, method).err().expect("must be refused").to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn multi_adds_are_those_of_all_forward_passes() {
    let segmenter = Segmenter::new(model(|_| {}), &DeviceChoice::Cpu).unwrap();
    let count =
        |method: Method| Predictor::new(&segmenter, method).unwrap().multi_adds(66, 33).unwrap();
    let once = count(native());
    assert!(once > 1_000_000, "{once}");
    assert_eq!(count(Method { flip: true, ..native() }), 2 * once);
    let halves =
        |stride| count(Method { windows: Some(Windows { size: (33, 33), stride }), ..native() });
    assert_eq!(halves((11, 33)), 2 * halves((33, 33)), "four windows instead of two");
    let scales = count(Method { scales: vec![0.5, 1.0], ..native() });
    assert!(scales > once && scales < 2 * once, "{scales} against {once}");
}

fn atrous(directory: &Path) -> Command {
    let mut command = Command::cargo_bin("atrous").expect("the program is built with the tests");
    command
        .current_dir(directory)
        .env("ATROUS_DEVICE", "cpu")
        .env("NO_COLOR", "1")
        .env_remove("ATROUS_LOG");
    command
}

/// A directory with `tiny.safetensors` and `set/`, whose masks are what the network itself finds,
/// but for a column of class 0 and one of void.
fn data_set() -> tempfile::TempDir {
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
        labels.labels.iter_mut().step_by(width).for_each(|l| *l = 0);
        labels.labels.iter_mut().skip(1).step_by(width).for_each(|l| *l = 255);
        image.save(directory.path().join(format!("set/images/{i}.png"))).unwrap();
        labels
            .write(directory.path().join(format!("set/masks/{i}.png")), &ClassTable::generic(5))
            .unwrap();
    }
    directory
}

const EVAL: [&str; 7] =
    ["eval", "--weights", "tiny.safetensors", "--data", "set", "--size", "native"];

fn json(directory: &Path, more: &[&str]) -> Value {
    let run = atrous(directory).args(EVAL).args(more).arg("--json").assert().success();
    serde_json::from_slice(&run.get_output().stdout).expect("JSON on standard output")
}

#[test]
fn eval_scores_a_data_set_and_writes_what_is_asked_for() {
    let directory = data_set();
    let report = json(
        directory.path(),
        &["--trimap", "1,4", "--trimap-plot", "bands.png", "--confusion", "matrix.png"],
    );
    // All is right but for the column that was made class 0, where the network says something else.
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
        "the faults lie at a border"
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
fn ablation_has_a_row_for_each_way_of_asking() {
    let directory = data_set();
    let rows = json(directory.path(), &["--ablation", "--scales", "0.5,1"]);
    let ways: Vec<_> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|r| {
            (r["output_stride"].as_u64().unwrap(), r["multi_scale"] == true, r["flip"] == true)
        })
        .collect();
    let stride = |s| [(s, false, false), (s, true, false), (s, true, true)];
    assert_eq!(ways, [stride(16), stride(8)].concat());
    let cost = |i: usize| rows[i]["multi_adds"].as_u64().unwrap();
    assert!(cost(1) > cost(0) && cost(2).abs_diff(2 * cost(1)) <= 1 && cost(3) > cost(0), "{rows}");
    // (The costs are means, rounded.) The masks are the plain labels at stride 16.
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
fn eval_refuses_other_classes_and_parts_that_are_not_there() {
    let directory = data_set();
    atrous(directory.path())
        .args(EVAL)
        .args(["--part", "test"])
        .assert()
        .code(1)
        .stderr(contains("no part `test`"));
    atrous(directory.path())
        .args(EVAL)
        .args(["--window", "native"])
        .assert()
        .code(2)
        .stderr(contains("a window has a size"));
    atrous(directory.path())
        .args(EVAL)
        .args(["--trimap", "0"])
        .assert()
        .code(2)
        .stderr(contains("1 and more"));
    std::fs::write(directory.path().join("set/classes.txt"), "0 sky 1 2 3\n1 road 4 5 6\n")
        .unwrap();
    atrous(directory.path())
        .args(EVAL)
        .assert()
        .code(1)
        .stderr(contains("2 classes, the network 5"));
}

/// A network's file keeps no ignored labels: those of the table that it was trained with are given
/// again.
#[test]
fn labels_that_only_a_given_table_ignores_can_be_left_out() {
    let directory = data_set();
    let path = |name: &str| directory.path().join(name);
    // The void of the masks becomes the label behind the classes, as CamVid has it.
    for i in 0..3 {
        let mask = path(&format!("set/masks/{i}.png"));
        let mut map = LabelMap::read(&mask, None).unwrap();
        map.labels.iter_mut().filter(|l| **l == 255).for_each(|l| *l = 5);
        map.write(&mask, &ClassTable::generic(5)).unwrap();
    }
    atrous(directory.path()).args(EVAL).assert().code(1).stderr(contains("true label 5"));
    let classes = "0 sky 1 2 3\n1 road 4 5 6\n2 tree 7 8 9\n3 car 1 1 1\n4 person 2 2 2\n";
    std::fs::write(path("given.txt"), format!("{classes}5 void 0 0 0\n")).unwrap();
    // The data set's own table gives way.
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

#[test]
fn charts_that_cannot_be_written_are_refused_before_anything_is_scored() {
    let directory = data_set();
    std::fs::create_dir(directory.path().join("directory.png")).unwrap();
    for (flags, code, part) in [
        (vec!["--confusion", "matrix.pdf"], 2, "matrix.pdf: images are written as .png"),
        (vec!["--confusion", "matrix"], 2, "matrix: images are written as .png"),
        (vec!["--confusion", "directory.png"], 1, "directory.png: is a directory"),
        (vec!["--trimap", "1", "--trimap-plot", "none/bands.png"], 1, "create it first"),
    ] {
        let run = atrous(directory.path())
            .args(EVAL)
            .args(&flags)
            .assert()
            .code(code)
            .stderr(contains(part))
            .stdout("");
        let said = String::from_utf8_lossy(&run.get_output().stderr).into_owned();
        assert!(!said.contains("running on"), "{flags:?} are looked at too late: {said}");
    }
    // Looking leaves nothing behind.
    atrous(directory.path())
        .args(EVAL)
        .args(["--confusion", "a.png", "--part", "none"])
        .assert()
        .code(1);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 3);
}

#[test]
fn the_trimap_surrounds_void_where_masks_contain_it_and_says_so() {
    let directory = data_set();
    let bands = |more: &[&str]| json(directory.path(), &[&["--trimap", "1"], more].concat());
    let pixels = |report: &Value| report["trimap"][0]["pixels"].as_u64().unwrap();
    let (default, void, boundary) =
        (bands(&[]), bands(&["--trimap-around", "void"]), bands(&["--trimap-around", "boundary"]));
    assert_eq!(
        (&default["trimap_around"], &boundary["trimap_around"]),
        (&"void".into(), &"boundary".into())
    );
    // The void column is the second one: a column of 44 pixels on each side of it, in three images.
    assert_eq!((pixels(&default), pixels(&void)), (3 * 2 * 44, 3 * 2 * 44));
    assert!(pixels(&boundary) > pixels(&default), "there are other borders");
    assert!(default["trimap_around_reason"].as_str().unwrap().contains("the masks contain void"));
    let text = atrous(directory.path()).args(EVAL).args(["--trimap", "1"]).assert().success();
    text.stdout(
        contains("around void (the default: the masks contain void")
            .and(contains("--trimap-around")),
    );
    // Without void: borders.
    for i in 0..3 {
        let path = directory.path().join(format!("set/masks/{i}.png"));
        let mask = LabelMap::new(
            60 + i,
            44,
            (0..(60 + i) * 44).map(|at| u16::from(at % (60 + i) > 30)).collect(),
        )
        .unwrap();
        mask.write(path, &ClassTable::generic(5)).unwrap();
    }
    let report = bands(&[]);
    assert_eq!((&report["trimap_around"], pixels(&report)), (&"boundary".into(), 3 * 2 * 44));
    assert!(report["trimap_around_reason"].as_str().unwrap().contains("no void"));
    atrous(directory.path())
        .args(EVAL)
        .args(["--trimap-around", "void"])
        .assert()
        .code(2)
        .stderr(contains("--trimap"));
    let bad = ["--trimap", "1", "--trimap-around", "edge"];
    atrous(directory.path())
        .args(EVAL)
        .args(bad)
        .assert()
        .code(2)
        .stderr(contains("void or boundary"));
}

#[test]
fn scores_are_told_where_a_chart_cannot_be_drawn() {
    let directory = data_set();
    for i in 0..3 {
        // One class, and so no border.
        let mask = LabelMap::new(60 + i, 44, vec![0; (60 + i) * 44]).unwrap();
        mask.write(directory.path().join(format!("set/masks/{i}.png")), &ClassTable::generic(5))
            .unwrap();
    }
    let flags = ["--trimap", "1", "--trimap-plot", "bands.png", "--confusion", "matrix.png"];
    let run = atrous(directory.path()).args(EVAL).args(flags).assert().failure();
    run.stdout(contains("mIoU")).stderr(contains("bands without a pixel"));
    assert!(
        directory.path().join("matrix.png").is_file()
            && !directory.path().join("bands.png").exists()
    );
}

#[test]
fn windows_over_a_size_that_no_machine_holds_are_refused() {
    let segmenter = Segmenter::new(model(|_| {}), &DeviceChoice::Cpu).unwrap();
    // Whatever the machine has. It holds for the whole process, and is far above what the other
    // tests take.
    atrous::memory::set_limit(Some(16 << 30));
    // Few enough to be computed, of an image that is too large to be added up.
    let windows = Some(Windows { size: (513, 513), stride: (513, 513) });
    let method = Method {
        size: Some(SizeRule::Exact { w: 65_535, h: 65_535 }),
        windows,
        ..Method::default()
    };
    let error = Predictor::new(&segmenter, method).unwrap().predict(&image(8, 8, 1)).unwrap_err();
    assert!(
        error.kind() == atrous::ErrorKind::OutOfMemory
            && error.to_string().contains("[1, 65535, 65535, 5]"),
        "{error}"
    );
}

/// 13 photographs and 14 crops; tests/golden/voc_miou.py gives 0.7677 in PyTorch with images scaled
/// in 8 bits.
#[test]
fn eval_gives_the_score_of_the_phone_network_on_voc_images() {
    let Some(data) = support::data() else { return };
    let weights = data.join("weights/deeplabv3_mnv2_dm05_voc21.safetensors");
    let mut matrix = vec![vec![0u64; 21]; 21];
    for (set, part) in [("voc-sample", Some("all")), ("voc-crops513", None)] {
        let mut command = atrous(Path::new("."));
        command
            .arg("eval")
            .arg("--weights")
            .arg(&weights)
            .arg("--data")
            .arg(data.join("data").join(set))
            .arg("--json");
        command.args(part.map(|p| ["--part", p]).into_iter().flatten());
        let run = command.assert().success();
        let report: Value = serde_json::from_slice(&run.get_output().stdout).unwrap();
        let part: Vec<Vec<u64>> =
            serde_json::from_value(report["scores"]["confusion"].clone()).unwrap();
        matrix.iter_mut().flatten().zip(part.into_iter().flatten()).for_each(|(sum, n)| *sum += n);
    }
    let truth = |c: usize| matrix[c].iter().sum::<u64>();
    let iou = |c: usize| {
        let found: u64 = matrix.iter().map(|row| row[c]).sum();
        matrix[c][c] as f64 / (truth(c) + found - matrix[c][c]) as f64
    };
    let classes: Vec<usize> = (0..21).filter(|&c| truth(c) > 0).collect();
    let miou = classes.iter().map(|&c| iou(c)).sum::<f64>() / classes.len() as f64;
    let right =
        (0..21).map(|c| matrix[c][c]).sum::<u64>() as f64 / (0..21).map(truth).sum::<u64>() as f64;
    println!("mIoU {miou:.4}, pixel accuracy {right:.4}");
    assert!(
        (miou - 0.768).abs() <= 0.001 && (right - 0.967).abs() <= 0.0005,
        "mIoU {miou:.4}, pixel accuracy {right:.4}"
    );
}
