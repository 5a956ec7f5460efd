//! Output of `atrous segment`, compared with images in `tests/golden/styles`. After an intended
//! change, update them with `ATROUS_UPDATE_GOLDEN=1 cargo test --test image_files segmented` and review
//! the new images.

use crate::support;
use crate::support::models::write_seeded;
use assert_cmd::Command;
use image::{DynamicImage, Rgb, RgbImage};
use std::path::{Path, PathBuf};

/// Fraction of pixels that may differ: labels may change where two classes are equally likely, and
/// executors round differently.
const MAX_DIFFERENT: f64 = 0.005;
/// Tolerance of a channel. PNG is lossless, but blended colors are rounded.
const TOLERANCE: u8 = 2;

/// A house on a meadow under a sky: 96 x 64.
fn scene() -> RgbImage {
    RgbImage::from_fn(96, 64, |x, y| {
        let (fx, fy) = (x as f32, y as f32);
        let sun = (fx - 78.0).hypot(fy - 12.0) < 7.0;
        let wall = (24..60).contains(&x) && (28..54).contains(&y);
        let door = (38..46).contains(&x) && (40..54).contains(&y);
        let roof = (14..28).contains(&y) && (fx - 42.0).abs() < 1.6 * (fy - 14.0);
        match (sun, door, wall, roof) {
            (true, ..) => Rgb([255, 230, 90]),
            (_, true, ..) => Rgb([90, 50, 30]),
            (_, _, true, _) => Rgb([225, 205, 180]),
            (_, _, _, true) => Rgb([170, 50, 40]),
            _ if y < 46 => Rgb([120 + y as u8, 170 + y as u8, 235]),
            _ => Rgb([70, 130 + (x % 7) as u8 * 4, 60]),
        }
    })
}

fn golden(style: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/styles").join(format!("{style}.png"))
}

/// Returns the fraction of pixels that differ, or an error if size or color type differ.
fn difference(got: &DynamicImage, expected: &DynamicImage) -> Result<f64, String> {
    let kind = |i: &DynamicImage| (i.width(), i.height(), i.color());
    if kind(got) != kind(expected) {
        return Err(format!("{:?} instead of {:?}", kind(got), kind(expected)));
    }
    let (got, expected) = (got.to_rgba8(), expected.to_rgba8());
    let differ = |a: &[u8], b: &[u8]| a.iter().zip(b).any(|(a, b)| a.abs_diff(*b) > TOLERANCE);
    let count = got.pixels().zip(expected.pixels()).filter(|(a, b)| differ(&a.0, &b.0)).count();
    Ok(count as f64 / got.pixels().len() as f64)
}

#[test]
fn every_style_looks_as_it_did() {
    let directory = tempfile::tempdir().unwrap();
    // With these weights every class covers at least a tenth of the scene.
    write_seeded(&directory.path().join("tiny.safetensors"), 39);
    scene().save(directory.path().join("scene.png")).unwrap();
    let gpu =
        support::gpu().map(|_| std::env::var("ATROUS_DEVICE").unwrap_or_else(|_| "gpu".to_owned()));
    let update = std::env::var("ATROUS_UPDATE_GOLDEN").is_ok_and(|v| v == "1");
    let mut problems = Vec::new();
    for device in ["cpu".to_owned()].into_iter().chain(gpu) {
        for style in ["mask", "overlay", "side-by-side", "cutout"] {
            let out = directory.path().join(format!("{style}.png"));
            let mut command = Command::cargo_bin("atrous").unwrap();
            command.current_dir(&directory).env("ATROUS_DEVICE", &device).env("NO_COLOR", "1");
            command
                .args([
                    "segment",
                    "scene.png",
                    "-w",
                    "tiny.safetensors",
                    "--style",
                    style,
                    "-q",
                    "-o",
                ])
                .arg(&out);
            command.assert().success();
            if update && device == "cpu" {
                std::fs::create_dir_all(golden(style).parent().unwrap()).unwrap();
                std::fs::copy(&out, golden(style)).unwrap();
            }
            let open = |path: &Path| {
                image::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
            };
            match difference(&open(&out), &open(&golden(style))) {
                Ok(share) if share <= MAX_DIFFERENT => {}
                Ok(share) => problems.push(format!(
                    "{style} on {device}: {:.2} % of the pixels differ",
                    100.0 * share
                )),
                Err(problem) => problems.push(format!("{style} on {device}: {problem}")),
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn a_changed_image_is_noticed() {
    let scene = DynamicImage::ImageRgb8(scene());
    assert_eq!(difference(&scene, &scene), Ok(0.0));
    assert!(difference(&scene, &scene.fliph()).unwrap() > MAX_DIFFERENT);
    assert!(difference(&scene, &scene.crop_imm(0, 0, 95, 64)).is_err());
    assert!(difference(&scene, &DynamicImage::ImageLuma8(scene.to_luma8())).is_err());
}
