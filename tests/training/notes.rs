//! Warnings of a run: no pixel counts, or its settings were changed before it was resumed.

use crate::run::{begin, data_set, resume, train};
use atrous::report::{Record, read};
use std::fs;
use std::path::Path;

fn with(mut args: Vec<String>, extra: &[&str]) -> Vec<String> {
    args.extend(extra.iter().map(|&s| s.to_owned()));
    args
}

fn stderr(done: &assert_cmd::assert::Assert) -> String {
    String::from_utf8_lossy(&done.get_output().stderr).into_owned()
}

fn notes(out: &Path) -> Vec<String> {
    read(out)
        .unwrap()
        .into_iter()
        .filter_map(|r| if let Record::Note(note) = r { Some(note.text) } else { None })
        .collect()
}

/// Sets every pixel of the masks in a directory to the ignored label.
fn ignore_all(directory: &Path) {
    for mask in fs::read_dir(directory).unwrap().map(|e| e.unwrap().path()) {
        let (width, height) = image::image_dimensions(&mask).unwrap();
        image::GrayImage::from_pixel(width, height, image::Luma([255])).save(&mask).unwrap();
    }
}

#[test]
fn a_training_of_which_no_pixel_counts_is_warned_of_and_refused_after_an_epoch() {
    let root = data_set();
    ignore_all(&root.path().join("trainannot"));
    for (name, steps, batches) in [("epoch", "12", 4), ("short", "2", 2)] {
        let out = root.path().join(name);
        // Seven images in batches of two: the first epoch ends in the fourth step.
        let text = stderr(
            &train(&with(begin(root.path(), &out), &["--no-check", "--steps", steps])).failure(),
        );
        assert!(text.contains("step 1: no pixel of a batch counts"), "{text}");
        assert!(
            text.contains(&format!("no pixel of the first {batches} batches counts"))
                && text.contains("atrous doctor"),
            "{text}"
        );
        assert!(!out.join("best.safetensors").exists());
        assert!(notes(&out)[0].contains("no pixel of a batch counts"));
    }
}

#[test]
fn an_evaluation_of_which_no_pixel_counts_is_never_the_best() {
    let root = data_set();
    let out = root.path().join("run");
    ignore_all(&root.path().join("valannot"));
    let args = with(begin(root.path(), &out), &["--no-check", "--steps", "1"]);
    let text = stderr(&train(&args).success());
    assert!(text.contains("no score") && !text.contains("best"), "{text}");
    assert!(!out.join("best.safetensors").exists());
    assert!(notes(&out)[0].contains("validation images are ignored"));
}

#[test]
fn a_run_resumed_after_its_recipe_was_edited_reports_the_effect() {
    let root = data_set();
    let out = root.path().join("run");
    train(&with(begin(root.path(), &out), &["--steps", "4"])).success();
    fs::remove_file(out.join("best.safetensors")).unwrap();
    let recipe = fs::read_to_string(out.join("recipe.toml")).unwrap();
    let edited = recipe.replace("steps = 4\n", "steps = 5\n").replace("batch = 2\n", "batch = 3\n");
    fs::write(out.join("recipe.toml"), edited.replace("mobilenet_v2_0.1", "resnet18")).unwrap();
    let text = stderr(&train(&resume(&out)).success());
    for phrase in [
        "`network.backbone` from mobilenet_v2_0.1 to resnet18",
        "is ignored",
        "`batch` from 2 to 3",
        "will not be bit-identical to an uninterrupted run",
        "best.safetensors is missing",
        "resuming after step 4 of 5",
    ] {
        assert!(text.contains(phrase), "{phrase}: {text}");
    }
    assert_eq!(notes(&out).len(), 3);
    assert!(out.join("best.safetensors").exists());
    assert!(fs::read_to_string(out.join("report.html")).unwrap().contains("`batch` from 2 to 3"));
    // Reported once: the checkpoint now has the new recipe.
    let text = stderr(&train(&resume(&out)).success());
    assert!(!text.contains("was changed") && text.contains("all 5 steps are done"), "{text}");

    fs::write(out.join("recipe.toml"), recipe.replace("steps = 4\n", "steps = 2\n")).unwrap();
    let text = stderr(&train(&resume(&out)).success());
    assert!(text.contains("5 steps are done, more than the 2 in recipe.toml"), "{text}");
}

#[test]
fn three_hundred_classes_need_no_other_label_to_ignore() {
    let root = data_set();
    let out = root.path().join("run");
    let text = stderr(
        &train(&with(begin(root.path(), &out), &["--classes", "300", "--steps", "1"])).success(),
    );
    assert!(text.contains("label 255 is one of 300 classes"), "{text}");
    assert!(fs::read_to_string(out.join("recipe.toml")).unwrap().contains("ignore = 65535"));
}

#[test]
fn the_cost_of_accumulation_is_reported_and_too_much_of_it_refused() {
    let root = data_set();
    let out = root.path().join("run");
    let text = stderr(
        &train(&with(begin(root.path(), &out), &["--accumulate", "70", "--dry-run"])).success(),
    );
    assert!(text.contains("140 images, 20.0 times the training set"), "{text}");
    let text =
        stderr(&train(&with(begin(root.path(), &out), &["--accumulate", "100000"])).failure());
    assert!(text.contains("100000 is not in 1..=65536") && !out.exists(), "{text}");
}

#[cfg(unix)]
#[test]
fn a_data_set_and_a_run_whose_names_are_no_utf8_are_trained_and_resumed() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    let root = data_set();
    let odd = |name: &[u8]| root.path().join(OsString::from_vec(name.to_vec()));
    let (data, out) = (odd(b"ds_\xff"), odd(b"run_\xfe"));
    fs::create_dir(&data).unwrap();
    for name in ["train", "trainannot", "val", "valannot", "classes.txt"] {
        fs::rename(root.path().join(name), data.join(name)).unwrap();
    }
    let program = || assert_cmd::Command::new(assert_cmd::cargo::cargo_bin("atrous"));
    let recipe = root.path().join("recipe.toml");
    let args = ["train", "--device", "cpu", "--steps", "2", "--recipe"];
    program()
        .args(args)
        .arg(&recipe)
        .arg("--data")
        .arg(&data)
        .arg("--out")
        .arg(&out)
        .assert()
        .success();
    let steps =
        fs::read_to_string(out.join("recipe.toml")).unwrap().replace("steps = 2\n", "steps = 3\n");
    fs::write(out.join("recipe.toml"), steps).unwrap();
    let resumed = program()
        .args(["train", "--device", "cpu", "--resume", "--out"])
        .arg(&out)
        .assert()
        .success();
    assert!(stderr(&resumed).contains("resuming after step 2 of 3"));
}

/// 255 is the ignored label, so that a network learned that everything is background.
#[test]
fn masks_of_0_and_255_are_refused_before_the_first_step() {
    let root = data_set();
    for mask in fs::read_dir(root.path().join("trainannot")).unwrap().map(|e| e.unwrap().path()) {
        let mut labels = image::open(&mask).unwrap().to_luma8();
        labels.pixels_mut().for_each(|p| p.0[0] = if p.0[0] == 1 { 255 } else { 0 });
        labels.save(&mask).unwrap();
    }
    let out = root.path().join("run");
    let text = stderr(&train(&with(begin(root.path(), &out), &["--steps", "1"])).failure());
    assert!(
        text.contains("masks with only 0 and 255") && text.contains("use 1 for the foreground"),
        "{text}"
    );
    assert!(!out.exists());
}
