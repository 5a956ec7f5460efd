//! Charts and trimaps of `atrous eval`.

use crate::command::{EVAL, atrous, data_set, json};
use atrous::Size;
use atrous::image::{ClassTable, LabelMap};
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;

#[test]
fn charts_that_cannot_be_written_are_refused_before_anything_is_scored() {
    let directory = data_set();
    std::fs::create_dir(directory.path().join("directory.png")).unwrap();
    for (flags, code, message) in [
        (vec!["--confusion", "matrix.pdf"], 2, "matrix.pdf: unsupported image format; use .png"),
        (vec!["--confusion", "matrix"], 2, "matrix: unsupported image format; use .png"),
        (vec!["--confusion", "directory.png"], 1, "directory.png: is a directory"),
        (vec!["--trimap", "1", "--trimap-plot", "none/bands.png"], 1, "create it first"),
    ] {
        let run = atrous(directory.path())
            .args(EVAL)
            .args(&flags)
            .assert()
            .code(code)
            .stderr(contains(message))
            .stdout("");
        let text = String::from_utf8_lossy(&run.get_output().stderr).into_owned();
        assert!(!text.contains("running on"), "{flags:?} are checked too late: {text}");
    }
    // The checks leave no files behind.
    atrous(directory.path())
        .args(EVAL)
        .args(["--confusion", "a.png", "--split", "none"])
        .assert()
        .code(1);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 3);
}

#[test]
fn the_trimap_surrounds_void_if_masks_contain_it_and_states_so() {
    let directory = data_set();
    let bands = |more: &[&str]| json(directory.path(), &[&["--trimap", "1"], more].concat());
    let pixels = |report: &Value| report["trimap"][0]["pixels"].as_u64().unwrap();
    let (default, void, boundary) =
        (bands(&[]), bands(&["--trimap-around", "void"]), bands(&["--trimap-around", "boundary"]));
    assert_eq!(
        (&default["trimap_around"], &boundary["trimap_around"]),
        (&"void".into(), &"boundary".into())
    );
    // The second column is void: one column of 44 pixels on each side of it, in three images.
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
            Size::new(60 + i, 44),
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
fn scores_are_printed_if_a_chart_cannot_be_drawn() {
    let directory = data_set();
    for i in 0..3 {
        // One class, so there is no border.
        let mask = LabelMap::new(Size::new(60 + i, 44), vec![0; (60 + i) * 44]).unwrap();
        mask.write(directory.path().join(format!("set/masks/{i}.png")), &ClassTable::generic(5))
            .unwrap();
    }
    let flags = ["--trimap", "1", "--trimap-plot", "bands.png", "--confusion", "matrix.png"];
    let run = atrous(directory.path()).args(EVAL).args(flags).assert().failure();
    run.stdout(contains("mIoU")).stderr(contains("cannot draw trimap bands"));
    assert!(
        directory.path().join("matrix.png").is_file()
            && !directory.path().join("bands.png").exists()
    );
}
