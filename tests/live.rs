//! Live segmentation: the same labels as a segmenter, on both executors, at once or in slices, and
//! every painting effect.

mod support;

use atrous::Size;
use atrous::engine::exec::Device;
use atrous::engine::models::mobilenet_v2::MobileNetV2;
use atrous::engine::models::{Backbone, Config, OutputActivation, random_weights};
use atrous::engine::ops::Threshold;
use atrous::engine::tune::{Tuning, TuningMode};
use atrous::image::{Image, SizeRule, decode, resample};
use atrous::live::{Background, Effect, Live};
use atrous::{Model, Segmenter};
use std::collections::HashMap;
use std::time::Duration;
use support::{Rng, data, devices, gpu};

const CLASSES: usize = 7;

/// A small network with random weights.
fn model() -> Model {
    let config =
        Config::deeplab_v3plus(Backbone::MobileNetV2(MobileNetV2::with_width(0.25, 8)), CLASSES);
    let weights = random_weights(&config, 3).unwrap();
    Model::new(config, weights, "random.safetensors")
}

/// An image of soft patches and some noise.
fn image(width: usize, height: usize, seed: u64) -> Image {
    let mut rng = Rng(seed);
    let patches: Vec<u8> = (0..3 * 6 * 5).map(|_| rng.range(0, 255) as u8).collect();
    let mut rgb =
        resample(&patches, Size::new(6, 5), Size::new(width, height)).unwrap().into_owned();
    for v in &mut rgb {
        *v = v.saturating_add(rng.range(0, 9) as u8);
    }
    Image::new(Size::new(width, height), rgb).unwrap()
}

fn live(device: &Device, model: &Model, size: (usize, usize), rule: SizeRule) -> Live {
    Live::new(device, model, Size::new(size.0, size.1), rule, &Tuning::new(TuningMode::Off))
        .unwrap()
}

fn frame(image: &Image) -> Vec<u32> {
    Live::pack(&image.rgb).unwrap()
}

/// Returns the labels of the latest frame, from the colors of a mask that shows every class.
fn labels(live: &Live) -> Vec<u16> {
    let mut style = live.style(Effect::Mask);
    let mut meaning = HashMap::new();
    for (class, (color, shown)) in (0u16..).zip(&mut style.classes) {
        (*color, *shown) = ([class as u8, 100, 255 - class as u8], true);
        meaning.insert(*color, class);
    }
    live.set_style(&style).unwrap();
    live.paint().unwrap();
    live.painted().unwrap().rgb.chunks_exact(3).map(|p| meaning[&[p[0], p[1], p[2]]]).collect()
}

fn assert_same_labels(what: &str, live: &[u16], expected: &[u16]) {
    assert_eq!(live.len(), expected.len());
    let different = live.iter().zip(expected).filter(|(a, b)| a != b).count();
    let classes = expected.iter().collect::<std::collections::HashSet<_>>().len();
    assert!(classes > 1, "{what}: labels of a single class prove nothing");
    assert!(
        different * 1000 <= expected.len(),
        "{what}: {different} of {} labels differ",
        expected.len()
    );
}

#[test]
fn labels_are_those_of_a_segmenter_where_the_frame_enters_unscaled() {
    let model = model();
    for device in devices() {
        // Unpadded, and with padding at the right and bottom.
        for (size, rule) in [((97, 65), SizeRule::Native), ((97, 65), SizeRule::LongSide(97))] {
            let image = image(size.0, size.1, 1);
            let expected = Segmenter::with_device(model.clone(), &device)
                .unwrap()
                .segment(&image, rule)
                .unwrap()
                .labels
                .labels;
            let live = live(&device, &model, size, rule);
            live.set_frame(&frame(&image)).unwrap();
            live.segment().unwrap();
            assert_same_labels(&format!("{device}, {rule}"), &labels(&live), &expected);
            let shares = live.shares().unwrap();
            assert!((shares.iter().sum::<f32>() - 1.0).abs() < 1e-5 && shares.len() == CLASSES);
        }
    }
}

#[test]
fn labels_of_sigmoids_are_those_of_a_segmenter() {
    for (classes, threshold) in [(2, 0.3), (4, 0.6)] {
        let mut config = model().config().unwrap().clone();
        let head = config.head.as_mut().unwrap();
        (head.classes, head.activation) = (classes, OutputActivation::Sigmoid);
        head.threshold = Threshold::new(threshold).unwrap();
        let weights = random_weights(&config, 3).unwrap();
        let model = Model { network: config.into(), weights, ..model() };
        for device in devices() {
            let image = image(97, 65, 1);
            let segmenter = Segmenter::with_device(model.clone(), &device).unwrap();
            let expected = segmenter.segment(&image, SizeRule::Native).unwrap().labels.labels;
            let live = live(&device, &model, (97, 65), SizeRule::Native);
            live.set_frame(&frame(&image)).unwrap();
            live.segment().unwrap();
            let what = format!("{classes} classes on {device}");
            assert_same_labels(&what, &labels(&live), &expected);
        }
    }
}

#[test]
#[cfg_attr(not(has_data), ignore = "needs the data directory (ATROUS_DATA)")]
fn labels_of_a_photo_are_those_of_a_segmenter() {
    let data = data();
    let model = Model::open(data.join("weights/deeplabv3_mnv2_dm05_voc21.safetensors")).unwrap();
    let photo = first_image(&data.join("data/photos")).expect("a photo in the data directory");
    let rgb = resample(&photo.rgb, photo.size(), Size::new(257, 193)).unwrap().into_owned();
    let photo = Image::new(Size::new(257, 193), rgb).unwrap();
    let device = gpu().unwrap_or(Device::Cpu);
    let rule = SizeRule::LongSide(257);
    let expected = Segmenter::with_device(model.clone(), &device)
        .unwrap()
        .segment(&photo, rule)
        .unwrap()
        .labels
        .labels;
    let live = live(&device, &model, (257, 193), rule);
    live.set_frame(&frame(&photo)).unwrap();
    live.segment().unwrap();
    assert_same_labels("a photo", &labels(&live), &expected);
}

fn first_image(directory: &std::path::Path) -> Option<Image> {
    let mut files: Vec<_> =
        walk(directory).into_iter().filter(|p| p.extension().is_some_and(|e| e == "jpg")).collect();
    files.sort();
    decode(files.first()?).ok()
}

fn walk(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let paths = entries.filter_map(|e| Some(e.ok()?.path()));
    paths.flat_map(|p| if p.is_dir() { walk(&p) } else { vec![p] }).collect()
}

#[test]
#[cfg_attr(not(has_gpu), ignore = "needs a GPU adapter")]
fn both_executors_paint_the_same() {
    let gpu = support::required_gpu();
    let model = model();
    let (image, background) = (image(90, 70, 2), image(50, 60, 3));
    let all = [Device::Cpu, gpu].map(|device| {
        let live = live(&device, &model, (90, 70), SizeRule::LongSide(65));
        live.set_frame(&frame(&image)).unwrap();
        live.set_background(&background).unwrap();
        live.segment().unwrap();
        EFFECTS.map(|effect| {
            let mut style = live.style(effect);
            style.mirror = effect == Effect::CutOut(Background::Frame);
            // The network has no background class, so hide one class instead.
            style.classes[2].1 = false;
            live.set_style(&style).unwrap();
            live.paint().unwrap();
            live.painted().unwrap().rgb
        })
    });
    for ((effect, cpu), gpu) in EFFECTS.iter().zip(&all[0]).zip(&all[1]) {
        // Rounding may change a byte by one, and a pixel between two classes may get either class.
        let off = cpu.iter().zip(gpu).filter(|(a, b)| a.abs_diff(**b) > 1).count();
        assert!(off * 1000 <= cpu.len(), "{effect:?}: {off} of {} bytes differ", cpu.len());
    }
    for (i, painted) in all[1].iter().enumerate() {
        assert!(
            all[1][..i].iter().all(|other| other != painted),
            "{:?} looks like another effect",
            EFFECTS[i]
        );
    }
}

const EFFECTS: [Effect; 5] = [
    Effect::Mask,
    Effect::Overlay,
    Effect::CutOut(Background::Frame),
    Effect::CutOut(Background::Color([0, 160, 60])),
    Effect::CutOut(Background::Image),
];

#[test]
fn slices_give_the_same_bits_as_one_submission() {
    let model = model();
    for device in devices() {
        let live = live(&device, &model, (97, 65), SizeRule::Native);
        live.set_frame(&frame(&image(97, 65, 4))).unwrap();
        live.segment().unwrap();
        let whole = live.store().read("scores").unwrap();
        for budget in [Duration::ZERO, Duration::from_millis(2), Duration::from_secs(60)] {
            live.reset_smoothing();
            let slices = live.slices(budget).unwrap();
            if device.is_cpu() || budget > Duration::from_secs(1) {
                assert_eq!(slices.count(), 1);
            } else {
                assert!(slices.count() > 1, "{budget:?}");
            }
            live.set_frame(&frame(&image(97, 65, 5))).unwrap();
            live.segment_in_slices(&slices).unwrap();
            assert_ne!(
                live.store().read("scores").unwrap(),
                whole,
                "another image has other scores"
            );
            live.set_frame(&frame(&image(97, 65, 4))).unwrap();
            live.segment_in_slices(&slices).unwrap();
            assert_eq!(live.store().read("scores").unwrap(), whole, "{device}, {budget:?}");
        }
        let smaller = self::live(&device, &model, (97, 65), SizeRule::LongSide(33));
        let slices = smaller.slices(Duration::ZERO).unwrap();
        smaller.segment_in_slices(&slices).unwrap();
    }
}

#[test]
fn probabilities_are_averaged_over_frames_and_the_first_is_taken_as_it_is() {
    let model = model();
    for device in devices() {
        let live = live(&device, &model, (65, 49), SizeRule::Native);
        let frames = [6, 7].map(|seed| frame(&image(65, 49, seed)));
        let mean = |pixels: &[u32]| {
            live.set_frame(pixels).unwrap();
            live.segment().unwrap();
            live.store().read("mean").unwrap()
        };
        let alone = [0, 1].map(|i| mean(&frames[i]));
        assert!(
            alone[0].chunks(8).all(|p| (p.iter().sum::<f32>() - 1.0).abs() < 1e-5),
            "they are probabilities"
        );
        live.set_smoothing(0.75).unwrap();
        live.reset_smoothing();
        assert_eq!(mean(&frames[0]), alone[0], "{device}");
        let both = mean(&frames[1]);
        let off = (0..both.len())
            .map(|i| (both[i] - 0.75 * alone[0][i] - 0.25 * alone[1][i]).abs())
            .fold(0.0, f32::max);
        assert!(off < 1e-6, "{device}: off by {off}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let model = model();
    let live = live(&Device::Cpu, &model, (40, 30), SizeRule::LongSide(33));
    assert!(live.set_frame(&[0; 7]).unwrap_err().to_string().contains("1200"));
    for share in [1.0, -0.1, f32::NAN] {
        assert!(live.set_smoothing(share).is_err(), "{share}");
    }
    let mut style = live.style(Effect::Mask);
    style.classes.pop();
    assert!(live.set_style(&style).unwrap_err().to_string().contains("6 classes"));
    let bare = model.config().unwrap().clone().without_head();
    let bare = Model { network: bare.into(), ..model };
    let error =
        Live::new(&Device::Cpu, &bare, Size::new(40, 30), SizeRule::Native, &Tuning::default())
            .err()
            .unwrap();
    assert!(error.to_string().contains("backbone"), "{error}");
}
