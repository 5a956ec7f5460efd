//! Augmentation and loader, on synthetic images.

use super::augment::{IGNORED, Sample, ScaleRange};
use super::rng::{KeyedRng, Purpose};
use super::*;
use crate::geometry::Size;
use crate::models::Preprocessing;
use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

/// Normalization that keeps bytes as they are; the padding is outside the range of bytes.
const BYTES: Preprocessing = Preprocessing {
    mean: [0.0; 3],
    std: [1.0 / 255.0; 3],
    pad_value: [-1.0, -2.0, -3.0],
    ..Preprocessing::IMAGENET
};

/// Writes a gray image and its mask as PNG: the mask has the value `label(x, y)`, the image ten
/// times that.
pub(super) fn write_pair(
    directory: &Path,
    name: &str,
    (w, h): (usize, usize),
    label: impl Fn(usize, usize) -> u16,
) -> Pair {
    let labels: Vec<u16> = (0..w * h).map(|at| label(at % w, at / w)).collect();
    let rgb = labels.iter().flat_map(|&l| [(l * 10) as u8; 3]).collect();
    let (image, mask) =
        (directory.join(format!("{name}-image.png")), directory.join(format!("{name}-mask.png")));
    Image::new(Size::new(w, h), rgb).unwrap().save(&image).unwrap();
    LabelMap::new(Size::new(w, h), labels).unwrap().write(&mask, &ClassTable::voc()).unwrap();
    Pair { name: name.into(), image, mask: mask.into(), values: MaskValues::CLASSES }
}

fn pairs(directory: &Path, n: usize) -> Vec<Pair> {
    // Images differ in the values of their corners.
    (0..n)
        .map(|i| {
            write_pair(directory, &format!("p{i}"), (24, 18), move |x, y| {
                ((x / 5 + y / 4 + i) % 9) as u16
            })
        })
        .collect()
}

fn busy() -> Augmentation {
    Augmentation {
        crop: Size::new(20, 16),
        jitter: 0.4,
        blur: 0.5,
        balanced: 0.3,
        ..Default::default()
    }
}

fn loader(pairs: &[Pair], augmentation: Augmentation, options: LoaderOptions) -> Loader {
    Loader::new(pairs.to_vec(), None, 9, Preprocessing::IMAGENET, augmentation, options).unwrap()
}

#[test]
fn batches_are_the_same_for_any_number_of_workers_and_any_start() {
    let directory = tempfile::tempdir().unwrap();
    let pairs = pairs(directory.path(), 7);
    let options =
        LoaderOptions { batch: 3, workers: 1, prefetch: 1, seed: 11, ..Default::default() };
    let mut unbroken = loader(&pairs, busy(), options);
    let expected: Vec<Batch> = (0..9).map(|_| unbroken.next().unwrap()).collect();
    for (workers, prefetch, start) in [(4, 3, 0), (2, 1, 4), (3, 5, 8)] {
        let mut other =
            loader(&pairs, busy(), LoaderOptions { workers, prefetch, start, ..options });
        for batch in &expected[start as usize..] {
            assert_eq!(&other.next().unwrap(), batch, "{workers} workers, from batch {start}");
        }
    }
    let mut other = loader(&pairs, busy(), LoaderOptions { seed: 12, ..options });
    assert_ne!(other.next().unwrap().images, expected[0].images, "another seed");
    assert_eq!(expected.iter().map(|b| b.index).collect::<Vec<_>>(), (0..9).collect::<Vec<_>>());
    assert!((unbroken.batches_per_epoch() - 7.0 / 3.0).abs() < 1e-12);
}

#[test]
fn every_epoch_sees_every_image_once_in_another_order() {
    let directory = tempfile::tempdir().unwrap();
    let pairs = pairs(directory.path(), 6);
    let mut loader =
        loader(&pairs, busy(), LoaderOptions { batch: 4, workers: 2, ..Default::default() });
    let names: Vec<String> = (0..6).flat_map(|_| loader.next().unwrap().names).collect();
    let epochs: Vec<&[String]> = names.chunks(6).collect();
    for epoch in &epochs {
        assert_eq!(epoch.iter().collect::<HashSet<_>>().len(), 6, "{epoch:?}");
    }
    assert!(epochs.iter().any(|e| e != &epochs[0]), "four epochs in one order");
}

/// The gray of each pixel is ten times its label; the same must hold in crops.
#[test]
fn masks_stay_on_their_images_through_scale_crop_and_flip() {
    let (w, h) = (31, 23);
    // Large regions, whose interior interpolation does not affect.
    let label = |x: usize, y: usize| (1 + x / 11 + 3 * (y / 8)) as u16;
    let labels: Vec<u16> = (0..w * h).map(|at| label(at % w, at / w)).collect();
    let sample = Sample {
        width: w,
        height: h,
        rgb: labels.iter().flat_map(|&l| [(l * 10) as u8; 3]).collect(),
        labels,
    };
    let augmentation =
        Augmentation { crop: Size::new(27, 19), balanced: 0.5, ..Default::default() };
    let (mut inside, mut flipped, mut scales) = (0, 0, HashSet::new());
    for number in 0..300 {
        let (image, labels) = crop(&augmentation, &sample, number);
        let known = labels.iter().filter(|&&l| l != 255).count();
        for (at, (pixel, &label)) in image.chunks_exact(3).zip(&labels).enumerate() {
            if label == 255 {
                assert_eq!(pixel, BYTES.pad_value, "only padding is ignored here");
                continue;
            }
            // At scales up to 2, interpolation mixes colors within two pixels of another label;
            // elsewhere they must match the label.
            let (x, y) = (at % 27, at / 27);
            let mut near = (0..25)
                .map(|i| (x + i % 5, y + i / 5))
                .map(|(x, y)| (x.checked_sub(2), y.checked_sub(2)));
            let alike = near.all(|at| match at {
                (Some(x @ 0..27), Some(y @ 0..19)) => [label, 255].contains(&labels[27 * y + x]),
                _ => false,
            });
            if alike {
                let off = (pixel[0] - 10.0 * label as f32).abs();
                assert!(
                    off < 0.5,
                    "sample {number}: {} at {x}, {y}, the label is {label}",
                    pixel[0]
                );
                inside += 1;
            }
        }
        let row: Vec<u32> = labels[..27].iter().copied().filter(|&l| l != 255).collect();
        flipped += usize::from(row.first() > row.last());
        scales.insert(known);
    }
    assert!(
        inside > 15_000 && (60..240).contains(&flipped) && scales.len() > 10,
        "{inside} {flipped} {}",
        scales.len()
    );
}

fn crop(augmentation: &Augmentation, sample: &Sample, number: u64) -> (Vec<f32>, Vec<u32>) {
    let Size { width: w, height: h } = augmentation.crop;
    let (mut image, mut labels) = (vec![9e9; h * w * 3], vec![77; h * w]);
    let mut rng = KeyedRng::new(5, Purpose::Sample, number);
    augmentation.apply(sample, &mut rng, &BYTES, 255, &mut image, &mut labels).unwrap();
    (image, labels)
}

/// At a scale of two, each source pixel is a 2x2 square in the mask, and the image is a linear
/// ramp.
#[test]
fn pixel_centers_of_image_and_mask_agree() {
    let (w, h) = (8, 4);
    let labels: Vec<u16> = (0..w * h).map(|at| (at % w) as u16).collect();
    let sample = Sample {
        width: w,
        height: h,
        rgb: labels.iter().flat_map(|&l| [(l * 20) as u8; 3]).collect(),
        labels,
    };
    let augmentation =
        Augmentation { scale: ScaleRange::new(2.0, 2.0), ..Augmentation::none(Size::new(16, 8)) };
    let (image, labels) = crop(&augmentation, &sample, 0);
    let row: Vec<f32> = image[..48].chunks_exact(3).map(|p| p[0]).collect();
    assert_eq!(labels[..16], [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7]);
    // Half-pixel centers: 0.25 and 0.75 between neighbors, clamped at the edges.
    let expected: Vec<f32> =
        (0..16).map(|x| (20.0 * ((x as f32 + 0.5) / 2.0 - 0.5)).clamp(0.0, 140.0)).collect();
    assert!(row.iter().zip(&expected).all(|(r, e)| (r - e).abs() <= 0.51), "{row:?}");
    let (mirrored, labels) = crop(&Augmentation { flip: 1.0, ..augmentation }, &sample, 0);
    assert_eq!(labels[..16], [7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0]);
    let back: Vec<f32> = mirrored[..48].chunks_exact(3).rev().map(|p| p[0]).collect();
    assert_eq!(back, row);
    // At a scale of a third: the middle one of each three.
    let sample = Sample {
        width: 9,
        height: 3,
        rgb: vec![0; 81],
        labels: (0..27).map(|at| at % 9 + 9 * (at / 9)).collect(),
    };
    let (_, labels) = crop(
        &Augmentation {
            scale: ScaleRange::new(1.0 / 3.0, 1.0 / 3.0),
            ..Augmentation::none(Size::new(3, 1))
        },
        &sample,
        0,
    );
    assert_eq!(labels, [10, 13, 16]);
}

#[test]
fn small_images_are_padded_below_and_to_the_right() {
    let sample = Sample { width: 3, height: 2, rgb: vec![50; 18], labels: vec![4; 6] };
    for (flip, columns) in [(0.0, 0..3), (1.0, 2..5)] {
        let (image, labels) =
            crop(&Augmentation { flip, ..Augmentation::none(Size::new(5, 4)) }, &sample, 1);
        for (at, (pixel, label)) in image.chunks_exact(3).zip(labels).enumerate() {
            let inside = columns.contains(&(at % 5)) && at / 5 < 2;
            assert_eq!(label, if inside { 4 } else { 255 });
            let expected = if inside { [50.0; 3] } else { BYTES.pad_value };
            assert!(
                pixel.iter().zip(expected).all(|(p, e)| (p - e).abs() < 1e-3),
                "{pixel:?} at {at}"
            );
        }
    }
}

#[test]
fn steps_of_the_scale_all_occur_and_nothing_between() {
    let sample = Sample { width: 40, height: 40, rgb: vec![0; 4800], labels: vec![1; 1600] };
    let areas = |scale_step| -> HashSet<usize> {
        let augmentation =
            Augmentation { crop: Size::square(80), scale_step, ..Default::default() };
        (0..200)
            .map(|n| crop(&augmentation, &sample, n).1.iter().filter(|&&l| l == 1).count())
            .collect()
    };
    let steps: HashSet<usize> = [20, 30, 40, 50, 60, 70, 80].map(|side: usize| side * side).into();
    assert_eq!(areas(0.25), steps);
    assert!(areas(0.0).len() > 40);
}

#[test]
fn balanced_crops_find_the_rare_class() {
    // One pixel of class 2 in 10,000 of class 0, and an ignored corner.
    let mut labels = vec![0u16; 10_000];
    labels[7 * 100 + 83] = 2;
    labels[9_990..].fill(IGNORED);
    let sample = Sample { width: 100, height: 100, rgb: vec![0; 30_000], labels };
    let hits = |balanced| {
        let augmentation = Augmentation { balanced, ..Augmentation::none(Size::square(11)) };
        (0..400).filter(|&n| crop(&augmentation, &sample, n).1.contains(&2)).count()
    };
    let (without, with) = (hits(0.0), hits(1.0));
    // A uniform crop contains the pixel with a probability of 88 / 8100; half of the balanced crops
    // are centered on it.
    assert!(without < 20, "{without}");
    assert!((150..250).contains(&with), "{with}");
    let nothing = Sample { width: 4, height: 4, rgb: vec![0; 48], labels: vec![IGNORED; 16] };
    let (_, labels) =
        crop(&Augmentation { balanced: 1.0, ..Augmentation::none(Size::square(4)) }, &nothing, 0);
    assert_eq!(labels, [255; 16], "an image without labels is cropped uniformly");
}

#[test]
fn a_file_that_cannot_be_read_is_named_when_its_batch_has_come() {
    let directory = tempfile::tempdir().unwrap();
    let mut pairs = pairs(directory.path(), 6);
    std::fs::write(&pairs[4].image, b"no image").unwrap();
    pairs[2].mask = directory.path().join("gone.png").into();
    let mut loader = loader(
        &pairs,
        busy(),
        LoaderOptions { batch: 1, workers: 3, prefetch: 4, ..Default::default() },
    );
    let results: Vec<_> = (0..6).map(|_| loader.next()).collect();
    let mut messages: Vec<String> =
        results.iter().filter_map(|r| r.as_ref().err()).map(ToString::to_string).collect();
    messages.sort();
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert!(
        messages[0].contains("gone.png") && messages[1].contains("p4-image.png"),
        "{messages:?}"
    );
    // The rest have their positions.
    for (index, batch) in (0..).zip(&results) {
        assert!(batch.as_ref().is_ok_and(|b| b.index == index) || batch.is_err());
    }
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let pairs = pairs(directory.path(), 1);
    let refused = |pairs: &[Pair],
                   table: Option<ClassTable>,
                   augmentation: Augmentation,
                   options: LoaderOptions| {
        let loader = Loader::new(pairs.to_vec(), table, 9, BYTES, augmentation, options);
        loader.err().map(|e| e.to_string()).unwrap_or_default()
    };
    let (plain, options) = (busy, LoaderOptions::default());
    for (message, expected) in [
        (refused(&[], None, plain(), options), "no training images"),
        (
            refused(&pairs, Some(ClassTable::voc()), plain(), options),
            "the data set has 21 classes, but the network has 9",
        ),
        (refused(&pairs, None, plain(), LoaderOptions { batch: 0, ..options }), "`batch` must be"),
        (
            refused(&pairs, None, plain(), LoaderOptions { ignore: 8, ..options }),
            "label 8 cannot be ignored",
        ),
        (
            refused(&pairs, None, Augmentation { crop: Size::new(5, 0), ..plain() }, options),
            "got 5x0",
        ),
        (
            refused(
                &pairs,
                None,
                Augmentation { scale: ScaleRange::new(2.0, 1.0), ..plain() },
                options,
            ),
            "got 2 to 1",
        ),
        (
            refused(
                &pairs,
                None,
                Augmentation { scale: ScaleRange::new(f64::NAN, 1.0), ..plain() },
                options,
            ),
            "got NaN",
        ),
        (
            refused(&pairs, None, Augmentation { scale_step: -1.0, ..plain() }, options),
            "scale_step: must be 0 or more, got -1",
        ),
        (
            refused(&pairs, None, Augmentation { scale_step: 1e-20, ..plain() }, options),
            "scale_step: 1e-20 divides 0.5 to 2 into more than 1000000",
        ),
        (
            refused(&pairs, None, Augmentation { flip: 1.5, ..plain() }, options),
            "flip: must be 0 to 1, got 1.5",
        ),
    ] {
        assert!(message.contains(expected), "{message:?} for {expected}");
    }
}

#[test]
fn a_misspelled_augmentation_is_refused_and_a_partial_one_completed() {
    let misspelled =
        serde_json::from_str::<Augmentation>(r#"{"flipp": 0.5}"#).unwrap_err().to_string();
    assert!(misspelled.contains("flipp"), "{misspelled}");
    let partly: Augmentation = serde_json::from_str(r#"{"crop": [321, 320]}"#).unwrap();
    assert_eq!(partly, Augmentation { crop: Size::new(320, 321), ..Default::default() });
}

#[test]
fn a_dropped_loader_stops_in_any_state() {
    let directory = tempfile::tempdir().unwrap();
    let pairs = pairs(directory.path(), 3);
    let start = Instant::now();
    for batches in [0, 1, 2] {
        // While the workers are busy, and once all batches are prefetched.
        for pause in [0, 30] {
            let options = LoaderOptions { batch: 2, workers: 4, prefetch: 2, ..Default::default() };
            let mut loader = loader(&pairs, busy(), options);
            for _ in 0..batches {
                drop(loader.next().unwrap());
            }
            std::thread::sleep(Duration::from_millis(pause));
            assert!(loader.waited() <= start.elapsed());
        }
    }
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}
