//! Complete runs of `atrous train` on a synthetic data set, killed and resumed.

use crate::support::Rng;
use assert_cmd::Command;
use atrous::report::{EvaluationRecord, Record, read};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

const CLASSES: &str = "0 ground 90 60 30\n1 sky 60 120 220\n2 tree 30 140 50\n255 ignore 0 0 0\n";
const SIZE: (u32, u32) = (48, 40);

/// A recipe of twelve steps, which take a second or two, with all kinds of randomness.
const RECIPE: &str = r#"
steps = 12
batch = 2
learning_rate = 0.02
max_norm = 5.0
evaluate_every = 6
checkpoint_every = 2
decay = { poly = { power = 0.9 } }

[network]
backbone = "mobilenet_v2_0.1"
dropout = 0.5

[augmentation]
crop = [33, 33]
jitter = 0.2
blur = 0.2
balanced = 0.5
"#;

fn class(n: u32, x: u32, y: u32) -> u8 {
    let tree = 5 + 5 * n % 30;
    match () {
        () if x == 0 => 255,
        () if (tree..tree + 9).contains(&x) && (10..30).contains(&y) => 2,
        () if y < 15 + n % 5 => 1,
        () => 0,
    }
}

/// `train/` with seven images and `val/` with three, and the recipe.
pub(crate) fn data_set() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for directory in ["train", "trainannot", "val", "valannot"] {
        fs::create_dir(root.path().join(directory)).unwrap();
    }
    fs::write(root.path().join("classes.txt"), CLASSES).unwrap();
    fs::write(root.path().join("recipe.toml"), RECIPE).unwrap();
    let colors = [[90u8, 60, 30], [60, 120, 220], [30, 140, 50], [0; 3]];
    for n in 0..10 {
        let split = if n < 7 { "train" } else { "val" };
        let color = |x, y| {
            colors[usize::from(class(n, x, y)).min(3)]
                .map(|v| v.saturating_add(((x * 7 + y * 13 + n) % 23) as u8))
        };
        let file = |directory: &str| root.path().join(format!("{directory}/p{n:02}.png"));
        image::RgbImage::from_fn(SIZE.0, SIZE.1, |x, y| image::Rgb(color(x, y)))
            .save(file(split))
            .unwrap();
        let mask = image::GrayImage::from_fn(SIZE.0, SIZE.1, |x, y| image::Luma([class(n, x, y)]));
        mask.save(file(&format!("{split}annot"))).unwrap();
    }
    root
}

fn program() -> PathBuf {
    assert_cmd::cargo::cargo_bin("atrous")
}

pub(crate) fn begin(root: &Path, out: &Path) -> Vec<String> {
    begin_on("cpu", root, out)
}

fn begin_on(device: &str, root: &Path, out: &Path) -> Vec<String> {
    let path = |p: &Path| p.to_str().unwrap().to_owned();
    let args = [
        "train",
        "--device",
        device,
        "--data",
        &path(root),
        "--recipe",
        &path(&root.join("recipe.toml")),
        "--out",
        &path(out),
    ];
    args.map(str::to_owned).to_vec()
}

pub(crate) fn resume(out: &Path) -> Vec<String> {
    resume_on("cpu", out)
}

fn resume_on(device: &str, out: &Path) -> Vec<String> {
    ["train", "--device", device, "--resume", "--out", out.to_str().unwrap()]
        .map(str::to_owned)
        .to_vec()
}

pub(crate) fn train(args: &[String]) -> assert_cmd::assert::Assert {
    Command::new(program()).env("NO_COLOR", "1").args(args).assert()
}

/// Final and best weights of a run.
pub(crate) fn ending(out: &Path) -> [Vec<u8>; 2] {
    ["last.safetensors", "best.safetensors"].map(|name| without_command(&out.join(name)))
}

/// The bytes of a weight file, except for the command that its model card names.
fn without_command(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).unwrap();
    let (length, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().clone().unwrap();
    let mut card: serde_json::Value = serde_json::from_str(&metadata["atrous.card"]).unwrap();
    card.as_object_mut().unwrap().remove("command");
    let mut rest: Vec<_> = metadata.into_iter().filter(|(key, _)| key != "atrous.card").collect();
    rest.sort();
    let mut kept = format!("{card} {rest:?}").into_bytes();
    kept.extend(&bytes[8 + length..]);
    kept
}

/// The evaluations in a log, without their durations.
fn evaluations(out: &Path) -> Vec<EvaluationRecord> {
    let evaluation = |record| match record {
        Record::Evaluation(r) => Some(EvaluationRecord { seconds: 0.0, ..r }),
        _ => None,
    };
    read(out).unwrap().into_iter().filter_map(evaluation).collect()
}

#[test]
fn a_run_that_is_killed_again_and_again_ends_with_the_bits_of_an_unbroken_one() {
    kill_again_and_again("cpu");
}

#[test]
fn a_run_on_a_gpu_that_is_killed_again_and_again_ends_with_the_bits_of_an_unbroken_one() {
    if crate::support::gpu().is_some() {
        kill_again_and_again("gpu");
    }
}

fn kill_again_and_again(device: &str) {
    let root = data_set();
    let whole = root.path().join("whole");
    let start = Instant::now();
    let done = train(&begin_on(device, root.path(), &whole)).success();
    let time = start.elapsed();
    let text = String::from_utf8_lossy(&done.get_output().stderr).into_owned();
    assert!(
        text.contains("memory:")
            && text.contains("step 12: mIoU")
            && text.contains("done: 12 steps"),
        "{text}"
    );

    let broken = root.path().join("broken");
    let mut rng = Rng(9);
    let mut kills = 0;
    let mut args = begin_on(device, root.path(), &broken);
    while kills < 10 {
        let mut child = std::process::Command::new(program())
            .args(&args)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(time * rng.range(2, 60) as u32 / 100);
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        if broken.join("checkpoint.safetensors").exists() {
            args = resume_on(device, &broken);
        }
    }
    train(&args).success();
    assert_eq!(ending(&whole), ending(&broken));
    assert_eq!(evaluations(&whole), evaluations(&broken));
    assert_eq!(evaluations(&whole).len(), 2);
    let names: Vec<String> = fs::read_dir(&broken)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(names.iter().all(|name| !name.ends_with(".tmp")), "{names:?}");
}

#[test]
fn the_network_of_a_run_segments_and_has_the_score_of_its_log() {
    let root = data_set();
    let out = root.path().join("run");
    train(&begin(root.path(), &out)).success();
    let weights = out.join("best.safetensors");
    let image = root.path().join("val/p08.png");
    let segment = [
        "segment",
        "--device",
        "cpu",
        "--weights",
        weights.to_str().unwrap(),
        image.to_str().unwrap(),
        "--json",
    ];
    let json = Command::new(program())
        .current_dir(root.path())
        .args(segment)
        .assert()
        .success()
        .get_output()
        .stdout
        .clone();
    assert!(
        String::from_utf8_lossy(&json).contains("tree")
            || String::from_utf8_lossy(&json).contains("ground")
    );

    let eval = [
        "eval",
        "--device",
        "cpu",
        "--weights",
        weights.to_str().unwrap(),
        "--data",
        root.path().to_str().unwrap(),
        "--json",
    ];
    let json = Command::new(program()).args(eval).assert().success().get_output().stdout.clone();
    let scores: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let best = evaluations(&out).into_iter().rev().find(|e| e.best).unwrap().mean_iou.unwrap();
    let text = scores.to_string();
    assert!(text.contains(&format!("{best}")), "{best} is not in {text}");
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("tree") && page.contains("data:image/png"));
}

#[test]
fn bad_settings_are_refused_before_anything_is_written() {
    let root = data_set();
    let out = root.path().join("run");
    let with = |extra: &[&str]| {
        let mut args = begin(root.path(), &out);
        args.extend(extra.iter().map(|&s| s.to_owned()));
        let text =
            String::from_utf8_lossy(&train(&args).failure().get_output().stderr).into_owned();
        assert!(!out.exists(), "{text}");
        text
    };
    for (extra, message) in [
        (&["--steps", "0"][..], "'--steps <N>': 0 is not in 1.."),
        (&["--steps", "5", "--warmup", "5"][..], "shorter than the run of 5 steps"),
        (&["--rate", "0"][..], "'--learning-rate <X>': expected a number above 0"),
        (&["--backbone", "vgg16"][..], "vgg16"),
        (&["--crop", "0"][..], "one side"),
        (&["--split", "nowhere"][..], "nowhere"),
        (&["--batch", "0"][..], "from 1 to 65536"),
        (&["--init", "no.safetensors"][..], "no.safetensors"),
        (&["--output-stride", "7"][..], "invalid value '7'"),
        (&["--val-split", "vla"][..], "available splits: train, val"),
        (&["--batch", "1000000000000"][..], "from 1 to 65536"),
        (&["--batch", "65536", "--crop", "16384"][..], "exceeds the memory of any device"),
        (&["--classes", "18446744073709551615"][..], "from 1 to 4096"),
        (&["--workers", "18446744073709551615"][..], "from 0 to 1024"),
    ] {
        let text = with(extra);
        assert!(text.contains(message), "{extra:?}: {text}");
    }
    for (line, message) in [
        ("setps = 3", "setps"),
        ("aux = nan", "auxiliary"),
        ("learning_rate_floor = 1.0", "lowest learning rate"),
        ("optimizer = { kind = \"adam_w\", betas = [0.9, 0.999], eps = 0.0 }", "`eps`"),
        ("loss = { ignore = 1 }", "label 1 cannot be ignored"),
    ] {
        fs::write(root.path().join("recipe.toml"), format!("{line}\n{RECIPE}")).unwrap();
        let text = with(&[]);
        assert!(text.contains(message), "{line}: {text}");
    }
}

#[test]
fn a_directory_contains_one_run() {
    let root = data_set();
    let out = root.path().join("run");
    let short = |mut args: Vec<String>| {
        args.extend(["--steps", "1"].map(str::to_owned));
        args
    };
    let text = |assert: assert_cmd::assert::Assert| {
        String::from_utf8_lossy(&assert.get_output().stderr).into_owned()
    };
    assert!(text(train(&resume(&out)).failure()).contains("no run to resume"));
    train(&short(begin(root.path(), &out))).success();
    assert!(
        text(train(&short(begin(root.path(), &out))).failure()).contains("already contains a run")
    );
    // The settings of a resumed run are those of its recipe.
    let other = [resume(&out), ["--batch", "1"].map(str::to_owned).to_vec()].concat();
    let refused = text(train(&other).code(2));
    assert!(refused.contains("cannot be used with") && refused.contains("--resume"), "{refused}");
    // A start without steps keeps the report of the previous one.
    let page = || fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page().contains("data:image/png"));
    assert!(text(train(&resume(&out)).success()).contains("done: 1 steps"));
    assert!(page().contains("data:image/png"));
    // Without its checkpoint a run cannot be resumed; its other files are not overwritten.
    fs::remove_file(out.join("checkpoint.safetensors")).unwrap();
    let log = fs::read(out.join("log.jsonl")).unwrap();
    assert!(
        text(train(&short(begin(root.path(), &out))).failure())
            .contains("belongs to an earlier run")
    );
    assert_eq!(log, fs::read(out.join("log.jsonl")).unwrap());
}

#[test]
fn files_of_others_in_the_directory_of_a_run_stay() {
    let root = data_set();
    let out = root.path().join("run");
    fs::create_dir_all(out.join(".cache.tmp")).unwrap();
    let [theirs, ours] = [".notes-7.tmp", ".last.safetensors.x1.tmp"].map(|name| out.join(name));
    [&theirs, &ours].iter().for_each(|file| fs::write(file, "").unwrap());
    let mut args = begin(root.path(), &out);
    args.extend(["--steps", "1"].map(str::to_owned));
    train(&args).success();
    assert!(theirs.exists() && !ours.exists());
}

#[test]
fn an_evaluation_that_fails_costs_no_steps_and_is_made_up_for() {
    let root = data_set();
    let [whole, broken] = ["whole", "broken"].map(|name| root.path().join(name));
    train(&begin(root.path(), &whole)).success();
    let image = root.path().join("val/p08.png");
    let good = fs::read(&image).unwrap();
    fs::write(&image, &good[..good.len() / 2]).unwrap();
    let text =
        String::from_utf8_lossy(&train(&begin(root.path(), &broken)).failure().get_output().stderr)
            .into_owned();
    assert!(text.contains("p08.png"), "{text}");
    fs::write(&image, &good).unwrap();
    let text = String::from_utf8_lossy(&train(&resume(&broken)).success().get_output().stderr)
        .into_owned();
    assert!(text.contains("resuming after step 6 of 12"), "{text}");
    assert_eq!(ending(&whole), ending(&broken));
    assert_eq!(evaluations(&whole), evaluations(&broken));
}

#[test]
fn a_run_does_not_go_on_with_other_classes() {
    let root = data_set();
    let out = root.path().join("run");
    let mut args = begin(root.path(), &out);
    args.extend(["--steps", "1"].map(str::to_owned));
    train(&args).success();
    fs::write(root.path().join("classes.txt"), CLASSES.replace("sky", "cloud")).unwrap();
    let text =
        String::from_utf8_lossy(&train(&resume(&out)).failure().get_output().stderr).into_owned();
    assert!(text.contains("ground, cloud, tree") && text.contains("ground, sky, tree"), "{text}");
}

#[test]
fn labels_that_are_no_class_count_neither_in_training_nor_when_it_scores() {
    let root = data_set();
    let mask = root.path().join("valannot/p08.png");
    let mut labels = image::open(&mask).unwrap().into_luma8();
    labels.put_pixel(4, 4, image::Luma([77]));
    labels.save(&mask).unwrap();
    let mut args = begin(root.path(), &root.path().join("run"));
    args.extend(["--no-check", "--steps", "1"].map(str::to_owned));
    train(&args).success();
}

#[test]
fn a_dry_run_prints_the_memory_and_writes_nothing() {
    let root = data_set();
    let out = root.path().join("run");
    let mut args = begin(root.path(), &out);
    args.push("--dry-run".to_owned());
    let done = train(&args).success();
    let text = String::from_utf8_lossy(&done.get_output().stderr).into_owned();
    assert!(
        text.contains("MobileNetV2") && text.contains("activations") && !out.exists(),
        "{text}"
    );
}
