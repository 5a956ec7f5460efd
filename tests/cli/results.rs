//! `segment`: formats, streams, masks of two values, confidence, and options that nothing uses.

use crate::support::models::{tiny_config, write_network};
use crate::{atrous, directory, size};
use atrous::engine::models::OutputActivation;
use predicates::prelude::*;
use predicates::str::contains;
use std::path::Path;

/// Returns a command that segments `a.png` with the tiny network.
fn segment(directory: &Path, arguments: &[&str]) -> assert_cmd::Command {
    let mut command = atrous(directory);
    command.args(["segment", "-w", "tiny.safetensors"]).args(arguments);
    command
}

/// Returns the label of each pixel of `a.png`.
fn labels(directory: &Path) -> Vec<u16> {
    segment(directory, &["a.png", "-s", "mask", "-o", "labels.png", "-q"]).assert().success();
    atrous::image::LabelMap::read(directory.join("labels.png"), None).unwrap().labels
}

#[test]
fn the_extension_of_the_output_is_its_format() {
    let dir = directory();
    let magic: [(&str, &[u8]); 5] = [
        ("png", b"\x89PNG"),
        ("jpg", b"\xff\xd8"),
        ("webp", b"RIFF"),
        ("tiff", b"II*\0"),
        ("bmp", b"BM"),
    ];
    for (style, refused) in [
        ("overlay", &[][..]),
        ("side-by-side", &[]),
        ("mask", &["jpg"]),
        ("cutout", &["jpg", "tiff", "bmp"]),
    ] {
        for (extension, magic) in magic {
            let out = format!("{style}.{extension}");
            let assert = segment(dir.path(), &["a.png", "-s", style, "-o", &out]).assert();
            let path = dir.path().join(&out);
            if refused.contains(&extension) {
                assert.code(2).stderr(contains(&out).and(contains("use .png, .webp")));
                assert!(!path.exists());
                continue;
            }
            assert.success();
            assert!(std::fs::read(&path).unwrap().starts_with(magic), "{out}");
        }
    }
    // The same pixels in each format.
    let png = ::image::open(dir.path().join("overlay.png")).unwrap().into_rgb8();
    for name in ["overlay.webp", "overlay.tiff", "overlay.bmp"] {
        let other = ::image::open(dir.path().join(name)).unwrap().into_rgb8();
        assert!(other == png, "{name}");
    }
    segment(dir.path(), &["a.png", "-o", "a.gif"]).assert().code(2).stderr(contains("a.gif"));
}

#[test]
fn directories_and_default_names_take_the_extension_that_is_given() {
    let dir = directory();
    segment(dir.path(), &["a.png", "-o", "out/", "--extension", "webp"]).assert().success();
    assert_eq!(size(dir.path().join("out/a.webp")), (61, 47));
    segment(dir.path(), &["a.png", "--extension", "tif"]).assert().success();
    assert!(dir.path().join("a-overlay.tiff").exists());
    for (arguments, reason) in [
        (&["a.png", "-o", "b.png", "--extension", "jpg"][..], "is PNG, but --extension is .jpg"),
        (&["a.png", "-s", "mask", "--extension", "jpg"], "unsupported output format"),
        (&["a.png", "--extension", "gif"], "use one of png, jpg"),
    ] {
        segment(dir.path(), arguments).assert().code(2).stderr(contains(reason));
    }
}

#[test]
fn an_image_passes_from_standard_input_to_standard_output() {
    let dir = directory();
    let png = std::fs::read(dir.path().join("a.png")).unwrap();
    segment(dir.path(), &["a.png", "-o", "file.png"]).assert().success();
    let file = std::fs::read(dir.path().join("file.png")).unwrap();
    let both = segment(dir.path(), &["-", "-o", "-"]).write_stdin(png.clone()).assert().success();
    let both = both.stderr(contains("- (61x47,").and(contains("-> -")));
    assert!(both.get_output().stdout == file, "the same bytes as a file");
    segment(dir.path(), &["-", "-o", "piped.png"]).write_stdin(png.clone()).assert().success();
    assert!(std::fs::read(dir.path().join("piped.png")).unwrap() == file);
    let out = segment(dir.path(), &["a.png", "-o", "-", "--json", "--extension", "jpg"]).assert();
    let out = out.success().stderr(contains("\"output\": \"-\""));
    assert!(out.get_output().stdout.starts_with(b"\xff\xd8"));
    let out = segment(dir.path(), &["a.png", "-o", "-", "-q", "-s", "mask"]).assert().success();
    assert!(out.get_output().stderr.is_empty() && out.get_output().stdout.starts_with(b"\x89PNG"));
    segment(dir.path(), &["-", "-o", "stdin/"]).write_stdin(png.clone()).assert().success();
    assert!(dir.path().join("stdin/stdin.png").exists());
    let mut jpeg = std::io::Cursor::new(Vec::new());
    ::image::RgbImage::new(9, 9).write_to(&mut jpeg, ::image::ImageFormat::Jpeg).unwrap();
    let jpeg = jpeg.into_inner();
    segment(dir.path(), &["-", "-o", "j.png"]).write_stdin(jpeg.clone()).assert().success();
    assert_eq!(size(dir.path().join("j.png")), (9, 9));
    segment(dir.path(), &["-", "-o", "j.png"])
        .write_stdin(&jpeg[..jpeg.len() / 2])
        .assert()
        .code(1)
        .stderr(contains("standard input: truncated file"));
}

#[test]
fn streams_hold_one_result_and_no_files_beside_it() {
    let dir = directory();
    let png = std::fs::read(dir.path().join("a.png")).unwrap();
    std::fs::create_dir(dir.path().join("in")).unwrap();
    for name in ["in/a.png", "in/b.png"] {
        std::fs::write(dir.path().join(name), &png).unwrap();
    }
    for (arguments, reason) in [
        (&["-"][..], "this input needs an output"),
        (&["-", "in/a.png", "-o", "-"], "only one video, or one image of a stream"),
        (&["in/a.png", "in/b.png", "-o", "-"], "only one video, or one image of a stream"),
        (&["a.png", "-o", "-", "--probabilities"], "--probabilities writes a file beside"),
        (&["a.png", "-o", "-", "--confidence"], "--confidence writes a file beside"),
        (&["a.png", "-o", "-", "-s", "cutout", "--extension", "jpg"], "unsupported output format"),
    ] {
        let refused = segment(dir.path(), arguments).write_stdin(png.clone()).assert().code(2);
        assert!(refused.stderr(contains(reason)).get_output().stdout.is_empty(), "{arguments:?}");
    }
    segment(dir.path(), &["-", "-o", "out.png"])
        .write_stdin("neither")
        .assert()
        .failure()
        .stderr(contains("out.png"));
}

#[test]
fn a_binary_mask_unites_the_kept_classes() {
    let dir = directory();
    let labels = labels(dir.path());
    let mut present = labels.clone();
    present.sort_unstable();
    present.dedup();
    assert!(present.len() > 2, "the tiny network finds {present:?}");
    for kept in [&present[..1], &present[..2]] {
        let keep = kept.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
        for out in ["binary.png", "binary.tiff", "binary.webp", "binary.bmp"] {
            segment(dir.path(), &["a.png", "-s", "mask", "--binary", "--keep", &keep, "-o", out])
                .assert()
                .success();
            let gray = ::image::open(dir.path().join(out)).unwrap().into_luma8();
            let expected = labels.iter().map(|label| if kept.contains(label) { 255 } else { 0 });
            assert!(gray.pixels().map(|p| p.0[0]).eq(expected), "{keep} {out}");
        }
    }
    segment(dir.path(), &["a.png", "-s", "mask", "--binary", "-o", "any.png"]).assert().success();
    let gray = ::image::open(dir.path().join("any.png")).unwrap().into_luma8();
    let expected = labels.iter().map(|&label| if label > 0 { 255 } else { 0 });
    assert!(gray.pixels().map(|p| p.0[0]).eq(expected), "all but the background");
    std::fs::write(dir.path().join("c.txt"), "0 sky\n1 road\n2 tree\n3 car\n4 person\n").unwrap();
    segment(dir.path(), &["a.png", "-s", "mask", "--binary", "--class-table", "c.txt"])
        .assert()
        .code(2)
        .stderr(contains("a binary mask needs --keep"));
}

#[test]
fn a_binary_mask_unites_classes_that_overlap() {
    let dir = directory();
    let mut config = tiny_config();
    let head = config.head.as_mut().unwrap();
    (head.classes, head.activation) = (3, OutputActivation::Sigmoid);
    head.class_names = ["background", "road", "rider"].map(str::to_owned).to_vec();
    write_network(&dir.path().join("tiny.safetensors"), &config, 7);
    segment(dir.path(), &["a.png", "-s", "mask", "-o", "all.png"]).assert().success();
    let gray = |name: &str| ::image::open(dir.path().join(name)).unwrap().into_luma8().into_raw();
    let (road, rider) = (gray("all.road.png"), gray("all.rider.png"));
    let united: Vec<u8> = road.iter().zip(&rider).map(|(a, b)| *a.max(b)).collect();
    for (keep, expected) in [("road", road), ("rider", rider), ("road,rider", united)] {
        let arguments = ["a.png", "-s", "mask", "--binary", "--keep", keep, "-o", "one.png"];
        segment(dir.path(), &arguments).assert().success();
        assert!(gray("one.png") == expected, "{keep}");
        assert!(!dir.path().join("one.road.png").exists());
    }
    segment(dir.path(), &["a.png", "-s", "mask", "-o", "-"])
        .assert()
        .code(2)
        .stderr(contains("classes can overlap").and(contains("--binary")));
}

#[test]
fn options_that_a_style_ignores_are_usage_errors() {
    let dir = directory();
    for (arguments, option) in [
        (&["--keep", "1"][..], "--keep"),
        (&["-s", "mask", "--keep", "1"], "--keep"),
        (&["-s", "side-by-side", "--hard-edge"], "--hard-edge"),
        (&["--hard-edge"], "--hard-edge"),
        (&["-s", "mask", "--opacity", "0.6"], "--opacity"),
        (&["-s", "cutout", "--keep", "1", "--opacity", "0.5"], "--opacity"),
        (&["--binary"], "--binary"),
        (&["-s", "cutout", "--keep", "1", "--binary"], "--binary"),
    ] {
        for input in ["a.png", "none.y4m"] {
            let reason = format!("`{option}` has no effect on the style");
            let mut command = segment(dir.path(), &[&[input, "-o", "out.png"], arguments].concat());
            command.assert().code(2).stderr(contains(reason).and(contains("it is for --style")));
            assert!(!dir.path().join("out.png").exists());
        }
    }
    segment(dir.path(), &["a.png", "--opacity", "0.2", "-o", "out.png"]).assert().success();
}

#[test]
fn a_kept_class_that_is_absent_is_named() {
    let dir = directory();
    let present = labels(dir.path());
    let absent = (0..5).find(|class| !present.contains(class));
    let Some(absent) = absent else { panic!("the tiny network finds all classes") };
    let keep = absent.to_string();
    let name = ["background", "road", "tree", "car", "person"][usize::from(absent)];
    let name = format!("no pixel is `{name}`, which --keep names");
    for style in [&["-s", "cutout", "-q"][..], &["-s", "mask", "--binary", "-q"]] {
        let arguments = [&["a.png", "--keep", &keep, "-o", "out.png"], style].concat();
        segment(dir.path(), &arguments).assert().success().stderr(contains(name.as_str()));
    }
}

#[test]
fn confidence_and_probabilities_agree() {
    let dir = directory();
    let arguments =
        ["a.png", "-s", "mask", "-o", "m.png", "--confidence", "--probabilities=npy", "--json"];
    let output = segment(dir.path(), &arguments).assert().success();
    let report: serde_json::Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    let notes = report["images"][0]["notes"].to_string();
    assert!(notes.contains("m.confidence.png") && notes.contains("m.probabilities.npy"), "{notes}");
    let npy = std::fs::read(dir.path().join("m.probabilities.npy")).unwrap();
    assert!(npy.starts_with(b"\x93NUMPY\x01\0"));
    assert!(String::from_utf8_lossy(&npy[..128]).contains("(47, 61, 5)"));
    let values: Vec<f32> =
        npy[128..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let gray = ::image::open(dir.path().join("m.confidence.png")).unwrap().into_luma8().into_raw();
    assert_eq!(values.len(), 5 * gray.len());
    for (pixel, &gray) in values.chunks_exact(5).zip(&gray) {
        let largest = pixel.iter().copied().fold(0.0, f32::max);
        assert!(
            (f32::from(gray) / 255.0 - largest).abs() <= 0.5 / 255.0 + 1e-5,
            "{pixel:?} {gray}"
        );
    }
    // Without a format it is the one that it always was.
    segment(dir.path(), &["--probabilities", "a.png", "-o", "b.png"]).assert().success();
    assert!(dir.path().join("b.probabilities.safetensors").exists());
}

#[test]
fn several_views_give_the_labels_that_eval_scores() {
    let dir = directory();
    let path = |name: &str| dir.path().join(name);
    let views = ["--scales", "0.75,1,1.5", "--flip"];
    for folder in ["data/images", "data/masks"] {
        std::fs::create_dir_all(path(folder)).unwrap();
    }
    std::fs::copy(path("a.png"), path("data/images/a.png")).unwrap();
    let mask = path("data/masks/a.png");
    let out = mask.to_str().unwrap();
    segment(dir.path(), &[&["a.png", "-s", "mask", "-o", out], &views[..]].concat())
        .assert()
        .success();
    // Beside each other the two paths compute the same labels, so every pixel is right.
    let mut command = atrous(dir.path());
    command.args(["eval", "-w", "tiny.safetensors", "--data", "data", "--json"]).args(views);
    let report = command.assert().success().get_output().stdout.clone();
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    assert!(report.to_string().contains("\"pixel_accuracy\":1.0"), "{report}");
    let plain = labels(dir.path());
    let averaged = atrous::image::LabelMap::read(&mask, None).unwrap().labels;
    assert_ne!(plain, averaged, "the views change labels");
    segment(dir.path(), &["a.png", "--scales", "0"]).assert().code(2).stderr(contains("above 0"));
}

/// Writes a gray video of two frames.
fn write_video(path: &Path) {
    let mut video = b"YUV4MPEG2 W16 H16 F4:1 C444\n".to_vec();
    for gray in [90, 200] {
        video.extend(b"FRAME\n");
        video.extend([gray; 3 * 256]);
    }
    std::fs::write(path, &video).unwrap();
}

#[test]
fn a_video_has_a_line_for_each_frame_and_masks_of_two_values() {
    let dir = directory();
    write_video(&dir.path().join("v.y4m"));
    let binary = ["-s", "mask", "--binary", "--keep", "person", "--flip"];
    let arguments = ["v.y4m", "-o", "frames/", "--json-lines", "v.jsonl"];
    segment(dir.path(), &[&arguments[..], &binary].concat()).assert().success();
    let text = std::fs::read_to_string(dir.path().join("v.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    for (line, number) in lines.iter().zip([1, 2]) {
        assert_eq!(line["frame"], number);
        assert_eq!(line["seconds"], f64::from(number - 1) / 4.0);
        let classes = line["classes"].as_array().unwrap();
        let person = classes.iter().find(|class| class["name"] == "person");
        let pixels = person.map_or(0, |class| class["pixels"].as_u64().unwrap());
        let frame = dir.path().join(format!("frames/{number:06}.png"));
        let labels = atrous::image::LabelMap::read(&frame, None).unwrap().labels;
        assert!(labels.iter().all(|&label| label == 0 || label == 255));
        assert_eq!(labels.iter().filter(|&&label| label == 255).count() as u64, pixels);
    }
    for (arguments, reason) in [
        (&["a.png", "--json-lines", "a.jsonl"][..], "is not a video"),
        (&["v.y4m", "-o", "w.y4m", "--json-lines", "v.y4m"], "is an input"),
        (&["v.y4m", "-o", "w.y4m", "--confidence"], "--confidence cannot be used with videos"),
        (&["v.y4m", "-o", "w.y4m", "--extension", "png"], "--extension cannot be used with"),
        (&["v.y4m", "--format", "coco"], "--format cannot be used with videos"),
    ] {
        segment(dir.path(), arguments).assert().code(2).stderr(contains(reason));
    }
}

#[test]
fn an_address_is_opened_by_ffmpeg_or_refused_with_advice() {
    let dir = directory();
    // Nothing listens there.
    let address = "http://127.0.0.1:9/video.mp4";
    let arguments = [address, "-o", "out.y4m"];
    let mut command = segment(dir.path(), &arguments);
    command.timeout(std::time::Duration::from_secs(60));
    let failed = command.assert().failure().stderr(contains("127.0.0.1"));
    assert!(failed.get_output().stdout.is_empty() && !dir.path().join("out.y4m").exists());
    let missing = segment(dir.path(), &arguments).env("PATH", "").assert().code(1);
    missing.stderr(contains("not installed").and(contains("yuv4mpegpipe")));
}
