//! What a run says where nothing can be learned, or where it is resumed as another than it was.

use crate::run::{begin, data_set, resume, train};
use atrous::report::{Record, read};
use std::fs;
use std::path::Path;

fn with(mut args: Vec<String>, extra: &[&str]) -> Vec<String> {
    args.extend(extra.iter().map(|&s| s.to_owned()));
    args
}

fn text(done: &assert_cmd::assert::Assert) -> String {
    String::from_utf8_lossy(&done.get_output().stderr).into_owned()
}

fn notes(out: &Path) -> Vec<String> {
    read(out)
        .unwrap()
        .into_iter()
        .filter_map(|r| if let Record::Note(note) = r { Some(note.text) } else { None })
        .collect()
}

/// Gives every pixel of some masks the label that is ignored.
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
    for (name, steps, made) in [("epoch", "12", 4), ("short", "2", 2)] {
        let out = root.path().join(name);
        // Seven images in batches of two: the fourth step ends the first epoch.
        let told = text(&train(&with(begin(root.path(), &out), &["--steps", steps])).failure());
        assert!(told.contains("step 1: no pixel of a batch counts"), "{told}");
        assert!(
            told.contains(&format!("no pixel of the {made} batches so far counts"))
                && told.contains("atrous doctor"),
            "{told}"
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
    let told = text(&train(&with(begin(root.path(), &out), &["--steps", "1"])).success());
    assert!(told.contains("no score") && !told.contains("best"), "{told}");
    assert!(!out.join("best.safetensors").exists());
    assert!(notes(&out)[0].contains("validation images counts"));
}

#[test]
fn a_run_that_is_resumed_after_its_recipe_was_edited_says_what_becomes_of_it() {
    let root = data_set();
    let out = root.path().join("run");
    train(&with(begin(root.path(), &out), &["--steps", "4"])).success();
    fs::remove_file(out.join("best.safetensors")).unwrap();
    let recipe = fs::read_to_string(out.join("recipe.toml")).unwrap();
    let edited = recipe.replace("steps = 4\n", "steps = 5\n").replace("batch = 2\n", "batch = 3\n");
    fs::write(out.join("recipe.toml"), edited.replace("mobilenet_v2_0.1", "resnet18")).unwrap();
    let told = text(&train(&resume(&out)).success());
    for part in [
        "`network.backbone` from mobilenet_v2_0.1 to resnet18",
        "is ignored",
        "`batch` from 2 to 3",
        "will not be the bits of an unbroken run",
        "best.safetensors is gone",
        "going on after step 4 of 5",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert_eq!(notes(&out).len(), 3);
    assert!(out.join("best.safetensors").exists());
    assert!(fs::read_to_string(out.join("report.html")).unwrap().contains("`batch` from 2 to 3"));
    // Said once: the checkpoint is of the new recipe now.
    let told = text(&train(&resume(&out)).success());
    assert!(!told.contains("was changed") && told.contains("all 5 steps are made"), "{told}");

    fs::write(out.join("recipe.toml"), recipe.replace("steps = 4\n", "steps = 2\n")).unwrap();
    let told = text(&train(&resume(&out)).success());
    assert!(told.contains("5 steps are made, more than the 2 that recipe.toml asks for"), "{told}");
}

#[test]
fn three_hundred_classes_need_no_other_label_to_ignore() {
    let root = data_set();
    let out = root.path().join("run");
    let told = text(
        &train(&with(begin(root.path(), &out), &["--classes", "300", "--steps", "1"])).success(),
    );
    assert!(told.contains("label 255 is one of 300 classes"), "{told}");
    assert!(fs::read_to_string(out.join("recipe.toml")).unwrap().contains("ignore = 65535"));
}

#[test]
fn what_accumulation_costs_is_said_and_too_much_of_it_refused() {
    let root = data_set();
    let out = root.path().join("run");
    let told = text(
        &train(&with(begin(root.path(), &out), &["--accumulate", "70", "--dry-run"])).success(),
    );
    assert!(told.contains("140 images, 20.0 times all there are"), "{told}");
    let told = text(&train(&with(begin(root.path(), &out), &["--accumulate", "100000"])).failure());
    assert!(told.contains("more than 65536") && !out.exists(), "{told}");
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
    let begun = ["train", "--device", "cpu", "--steps", "2", "--recipe"];
    program()
        .args(begun)
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
    assert!(text(&resumed).contains("going on after step 2 of 3"));
}
