//! `segment --style cutout`: edges and backgrounds.

use crate::{atrous, directory, size};
use assert_cmd::assert::Assert;
use atrous::image::{BACKDROP, Background, CutOut, Edge, Image, decode};
use atrous::{DeviceChoice, Model, OutputOptions, Segmenter};
use predicates::prelude::*;
use predicates::str::contains;
use std::path::Path;

fn cut_out(directory: &Path, arguments: &[&str]) -> Assert {
    let mut command = atrous(directory);
    command.args(["segment", "a.png", "-w", "tiny.safetensors", "-s", "cutout"]);
    command.args(arguments).assert()
}

/// Cuts `a.png` out with the library, with the classes `tree` and `person`.
fn with_library(directory: &Path, edge: Edge, background: Option<&Background>) -> Image {
    let model = Model::open(directory.join("tiny.safetensors")).unwrap();
    let segmenter = Segmenter::new(model, &DeviceChoice::Cpu).unwrap();
    let (image, table) =
        (decode(directory.join("a.png")).unwrap(), segmenter.model().class_table());
    let keep = [2, 4];
    let options = OutputOptions { foreground: Some(keep.to_vec()), ..OutputOptions::default() };
    let segmentation = segmenter.segment_with(&image, segmenter.default_size(), options).unwrap();
    let cut_out = CutOut { table: &table, keep: &keep, edge, background, backdrop: BACKDROP };
    segmentation.cut_out(image, &cut_out).unwrap()
}

#[test]
fn the_library_cuts_out_what_the_command_line_does() {
    let dir = directory();
    let (blur, color) = (Background::blur(), Background::color([0, 128, 255]));
    let photo = Background::image(decode(dir.path().join("a.png")).unwrap());
    for (arguments, edge, background) in [
        (&[][..], Edge::Refined, None),
        (&["--no-refine"], Edge::Soft, None),
        (&["--hard-edge"], Edge::Hard, None),
        (&["--background", "blur"], Edge::Refined, Some(&blur)),
        (&["--background", "#0080ff"], Edge::Refined, Some(&color)),
        (&["--background", "a.png", "--no-refine"], Edge::Soft, Some(&photo)),
    ] {
        let arguments = [arguments, &["--keep", "tree,person", "-o", "out.png"]].concat();
        cut_out(dir.path(), &arguments).success();
        let expected = with_library(dir.path(), edge, background);
        let written = decode(dir.path().join("out.png")).unwrap();
        assert_eq!(written.alpha, expected.alpha, "{arguments:?}");
        let rgb = ::image::open(dir.path().join("out.png")).unwrap().into_rgb8().into_raw();
        assert!(rgb == expected.rgb, "{arguments:?}");
    }
}

#[test]
fn with_a_background_cut_outs_go_into_every_format() {
    let dir = directory();
    for name in ["a.png", "b.jpg", "b.webp"] {
        let out = format!("out/{name}");
        cut_out(dir.path(), &["--background", "white", "-o", &out]).success();
        let image = ::image::open(dir.path().join(&out)).unwrap();
        assert!(!image.color().has_alpha(), "{name}");
        assert_eq!(size(dir.path().join(&out)), (61, 47), "{name}");
    }
    cut_out(dir.path(), &["-o", "c.jpg"]).code(2).stderr(contains("use .png, .webp"));
}

#[test]
fn backgrounds_that_cannot_be_used_are_refused_before_the_network_runs() {
    let dir = directory();
    std::fs::write(dir.path().join("broken.png"), b"\x89PNG\r\n\x1a\n and no more").unwrap();
    let refused = |value: &str| cut_out(dir.path(), &["-o", "b.png", "--background", value]);
    refused("nothing.jpg")
        .code(2)
        .stderr(contains("`nothing.jpg` is neither a color nor an existing file"))
        .stderr(contains("#20a0ff").and(contains("black, white, gray")));
    refused("#12345").code(2).stderr(contains("neither a color nor"));
    refused("").code(2).stderr(contains("--background is empty"));
    refused("broken.png").failure().stderr(contains("broken.png"));
    refused(".").failure().stderr(contains("directory"));
    refused("b.png").code(2);
    assert!(!dir.path().join("b.png").exists());
    // The background is read, so it is not replaced.
    std::fs::copy(dir.path().join("a.png"), dir.path().join("b.png")).unwrap();
    refused("b.png").code(2).stderr(contains("the background").and(contains("b.png")));
    let mut command = atrous(dir.path());
    command.args(["segment", "a.png", "-w", "tiny.safetensors", "--background", "white"]);
    command.assert().code(2).stderr(contains("--background applies to cut-outs only"));
    cut_out(dir.path(), &["--hard-edge", "--no-refine"]).code(2);
}

/// Also for videos and with a background, a cut-out of a network without the class `background` would
/// lose its first class.
#[test]
fn without_a_background_class_keep_is_required_everywhere() {
    let dir = directory();
    let names = ["sky", "road", "tree", "car", "person"];
    let table: String = (0..).zip(names).map(|(i, name)| format!("{i} {name}\n")).collect();
    std::fs::write(dir.path().join("classes.txt"), table).unwrap();
    let mut video = b"YUV4MPEG2 W40 H32 F25:1 C444\nFRAME\n".to_vec();
    video.extend((0..3 * 40 * 32).map(|i| (i * 7 % 200 + 20) as u8));
    std::fs::write(dir.path().join("a.y4m"), video).unwrap();
    let run = |input: &str, more: &[&str]| {
        let mut command = atrous(dir.path());
        command.args(["segment", input, "-w", "tiny.safetensors", "-s", "cutout"]);
        command.args(["--class-table", "classes.txt"]).args(more).assert()
    };
    let needed = || contains("a cut-out needs --keep").and(contains("choose among sky, road"));
    for more in [&[][..], &["--background", "blur"], &["--background", "red"]] {
        let out = [more, &["-o", "out.png"]].concat();
        run("a.png", &out).code(2).stderr(needed());
        let out = [more, &["-o", "out.y4m"]].concat();
        run("a.y4m", &out).code(2).stderr(needed());
        run("a.y4m", &[&out[..], &["--keep", "road,3"]].concat()).success();
        let written = std::fs::read(dir.path().join("out.y4m")).unwrap();
        assert!(written.starts_with(b"YUV4MPEG2 W40 H32 F25:1"), "{more:?}");
    }
}
