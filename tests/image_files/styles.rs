//! Memory use of styles, and the output of `--probabilities`.

use atrous::engine::Tensor;
use atrous::engine::weights::WeightFile;
use atrous::image::{SizeRule, decode};
use atrous::{Model, OutputOptions, Segmenter};

use crate::support::command::atrous;
use crate::support::models::write_tiny;
use atrous::DeviceChoice;
use image::{Rgb, RgbImage};
use std::path::Path;

/// Smooth color gradients in which no two rows are equal.
fn landscape(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let wave = |scale: f32, shift: f32| {
            ((x as f32 / scale + shift).sin() * (y as f32 / scale - shift).cos() * 120.0 + 127.0)
                as u8
        };
        Rgb([wave(97.0, 0.0), wave(171.0, 1.0), wave(313.0, 2.0)])
    })
}

#[test]
fn probabilities_are_written_in_strips_as_the_library_gives_them_at_once() {
    let directory = tempfile::tempdir().unwrap();
    write_tiny(&directory.path().join("tiny.safetensors"));
    // Past 16 MiB of probabilities, so that there are several strips.
    let (width, height) = (1100, 900);
    landscape(width, height).save(directory.path().join("a.png")).unwrap();
    let args = [
        "segment",
        "a.png",
        "-w",
        "tiny.safetensors",
        "--size",
        "129",
        "--style",
        "cutout",
        "-o",
        "out/a.png",
    ];
    let output = atrous(directory.path())
        .args(args)
        .arg("--probabilities")
        .assert()
        .success()
        .get_output()
        .clone();
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // It was announced before, too.
    assert!(!stderr.contains("probabilities"), "{stderr}");
    assert!(
        stdout.contains(
            "the probabilities of 5 classes are in out/a.probabilities.safetensors (19 MiB)"
        ),
        "{stdout}"
    );
    let model = Model::open(directory.path().join("tiny.safetensors")).unwrap();
    let segmenter = Segmenter::new(model, &DeviceChoice::Cpu).unwrap();
    let options = OutputOptions { probabilities: true, ..OutputOptions::default() };
    let segmentation = segmenter
        .segment_with(
            &decode(directory.path().join("a.png")).unwrap(),
            SizeRule::LongSide(129),
            options,
        )
        .unwrap();
    let file = WeightFile::open(directory.path().join("out/a.probabilities.safetensors")).unwrap();
    let (dims, data) = file.read_f32("probabilities").unwrap();
    assert_eq!(dims, [1, 5, height as usize, width as usize]);
    let written = Tensor::from_nchw(1, 5, height as usize, width as usize, &data).unwrap();
    assert!(written == segmentation.probabilities.unwrap(), "bit-identical");
    // The image is the same as without probabilities.
    let with = std::fs::read(directory.path().join("out/a.png")).unwrap();
    atrous(directory.path()).args(args).assert().success();
    assert!(with == std::fs::read(directory.path().join("out/a.png")).unwrap());
}

#[test]
fn probabilities_that_cannot_be_written_leave_no_file_and_name_it() {
    let directory = tempfile::tempdir().unwrap();
    write_tiny(&directory.path().join("tiny.safetensors"));
    landscape(60, 40).save(directory.path().join("a.png")).unwrap();
    std::fs::create_dir_all(directory.path().join("out/a.probabilities.safetensors")).unwrap();
    let args =
        ["segment", "a.png", "-w", "tiny.safetensors", "-q", "--probabilities", "-o", "out/a.png"];
    let output = atrous(directory.path()).args(args).assert().failure().get_output().clone();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("a.probabilities.safetensors") && stderr.contains("is a directory"),
        "{stderr}"
    );
    assert_eq!(
        std::fs::read_dir(directory.path().join("out")).unwrap().count(),
        1,
        "only the directory that blocks the output"
    );
}

/// A class table may list more classes than the network has; a cut-out keeps those of the network.
#[test]
fn a_cutout_with_a_longer_class_table_keeps_the_networks_own_classes() {
    let directory = tempfile::tempdir().unwrap();
    write_tiny(&directory.path().join("tiny.safetensors"));
    landscape(60, 40).save(directory.path().join("a.png")).unwrap();
    let line = |i: u8| {
        if i == 0 {
            "0 background 0 0 0\n".to_owned()
        } else {
            format!("{i} name{i} {i} {i} {i}\n")
        }
    };
    std::fs::write(directory.path().join("classes.txt"), (0..7).map(line).collect::<String>())
        .unwrap();
    let args = [
        "segment",
        "a.png",
        "-w",
        "tiny.safetensors",
        "-q",
        "--style",
        "cutout",
        "--class-table",
        "classes.txt",
        "-o",
        "b.png",
    ];
    atrous(directory.path()).args(args).assert().success();
    let output = atrous(directory.path())
        .args(args)
        .args(["--keep", "name6"])
        .assert()
        .failure()
        .get_output()
        .clone();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("class 6 is out of range: the network has 5 classes"), "{stderr}");
}

/// Without a background class, cutting out everything but the first class would be arbitrary.
#[test]
fn a_cutout_of_classes_without_a_background_asks_what_to_keep() {
    let directory = tempfile::tempdir().unwrap();
    write_tiny(&directory.path().join("tiny.safetensors"));
    landscape(60, 40).save(directory.path().join("a.png")).unwrap();
    let names = ["sky", "road", "tree", "car", "person"];
    let line = |(i, name): (usize, &&str)| format!("{i} {name} {i} {i} {i}\n");
    std::fs::write(
        directory.path().join("classes.txt"),
        names.iter().enumerate().map(line).collect::<String>(),
    )
    .unwrap();
    let args = [
        "segment",
        "a.png",
        "-w",
        "tiny.safetensors",
        "-q",
        "--style",
        "cutout",
        "--class-table",
        "classes.txt",
        "-o",
        "b.png",
    ];
    let output = atrous(directory.path()).args(args).assert().code(2).get_output().clone();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("the network has no class `background` to remove; choose among sky, road"),
        "{stderr}"
    );
    atrous(directory.path()).args(args).args(["--keep", "road,person"]).assert().success();
}

/// Only where the system reports the peak memory of a process.
#[cfg(target_os = "linux")]
mod memory {
    use super::{Path, landscape};
    use crate::support::models::{random_weights, tiny_config};
    use atrous::engine::models::{Config, Decoder};
    use atrous::engine::weights::{FloatDType, dialects, write_safetensors};

    /// Writes a tiny network with 21 classes.
    fn write_21_classes(path: &Path) {
        let tiny = tiny_config();
        let mut config = Config::deeplab_v3plus(tiny.backbone, 21);
        let head = config.head.as_mut().expect("made with a head");
        head.class_names = (0..21)
            .map(|i| if i == 0 { "background".to_owned() } else { format!("name{i}") })
            .collect();
        head.aspp.channels = 16;
        if let Decoder::Plus(plus) = &mut head.decoder {
            plus.channels = 16;
            plus.low_level_channels = 8;
        }
        let stored =
            dialects::store(&config, &random_weights(&config, 5), dialects::NATIVE).unwrap();
        write_safetensors(path, stored.tensors, &stored.metadata, FloatDType::F32).unwrap();
    }

    /// Runs the program and returns its peak memory in KiB.
    fn peak_memory(directory: &Path, args: &[&str]) -> u64 {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_atrous"));
        let mut child =
            command.current_dir(directory).env("ATROUS_DEVICE", "cpu").args(args).spawn().unwrap();
        let status = format!("/proc/{}/status", child.id());
        let mut peak = 0;
        loop {
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            let high = text.lines().find_map(|line| {
                line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?.trim().parse().ok()
            });
            peak = high.unwrap_or(0).max(peak);
            if let Some(status) = child.try_wait().unwrap() {
                assert!(status.success(), "{args:?}: {status}");
                return peak;
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }

    /// All classes at full size would be 240 MiB.
    #[test]
    fn cutouts_and_probabilities_take_no_memory_for_each_class() {
        let directory = tempfile::tempdir().unwrap();
        write_21_classes(&directory.path().join("n.safetensors"));
        landscape(2000, 1500).save(directory.path().join("a.jpg")).unwrap();
        for style in [&["cutout"][..], &["mask", "--probabilities"]] {
            let args = [
                "segment",
                "a.jpg",
                "-w",
                "n.safetensors",
                "-q",
                "--size",
                "129",
                "-o",
                "a.png",
                "--style",
            ];
            let peak = peak_memory(directory.path(), &[&args[..], style].concat()) / 1024;
            assert!(peak < 160, "{style:?}: {peak} MiB");
        }
    }

    #[test]
    #[ignore = "draws 12 megapixels five times and writes a file of 961 MiB"]
    fn no_style_takes_more_than_250_mib_at_12_megapixels_and_21_classes() {
        let directory = tempfile::tempdir().unwrap();
        write_21_classes(&directory.path().join("n.safetensors"));
        landscape(4000, 3000).save(directory.path().join("a.jpg")).unwrap();
        let mut table = String::new();
        let mut worst = 0;
        for style in ["mask", "overlay", "side-by-side", "cutout", "probabilities"] {
            let mut args = vec![
                "segment",
                "a.jpg",
                "-w",
                "n.safetensors",
                "-q",
                "--size",
                "257",
                "-o",
                "a.png",
                "--style",
            ];
            match style {
                "probabilities" => args.extend(["mask", "--probabilities"]),
                style => args.push(style),
            }
            let peak = peak_memory(directory.path(), &args) / 1024;
            table += &format!("{style}: {peak} MiB\n");
            worst = worst.max(peak);
        }
        println!("{table}");
        assert!(worst <= 250, "{table}");
    }
}
