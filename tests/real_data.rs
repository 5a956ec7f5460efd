//! Trained networks on real images, if the data is present (`ATROUS_DATA`).

mod support;

use atrous::data::{self, Pair, list_directories};
use atrous::eval::Confusion;
use atrous::image::{LabelMap, SizeRule, decode};
use atrous::{DeviceChoice, Model, Segmenter};
use std::path::{Path, PathBuf};

fn segmenter(data: &Path, name: &str, output_stride: usize, device: &DeviceChoice) -> Segmenter {
    let model = Model::open(data.join("weights").join(name)).unwrap();
    Segmenter::new(model.with_output_stride(output_stride).unwrap(), device).unwrap()
}

fn voc_pairs(data: &Path) -> Vec<Pair> {
    let mut pairs = data::open(data.join("data/voc-sample"), Some("all")).unwrap().pairs;
    let crops = data.join("data/voc-crops513");
    pairs.extend(list_directories(crops.join("images"), crops.join("masks")).unwrap());
    pairs
}

/// The device of the GPU tests; `None` with a message if there is none.
fn gpu_choice() -> DeviceChoice {
    support::required_gpu();
    std::env::var("ATROUS_DEVICE").map_or(DeviceChoice::Gpu, |text| text.parse().unwrap())
}

/// As tests/golden/voc_miou.py, which has 0.7677 and 0.7397 in PyTorch with images resized in 8
/// bits.
#[test]
#[cfg_attr(not(has_data), ignore = "needs the data directory (ATROUS_DATA)")]
fn phone_networks_score_what_they_should_on_voc_images() {
    let data = support::data();
    let pairs = voc_pairs(&data);
    assert_eq!(pairs.len(), 27);
    for (name, expected) in
        [("deeplabv3_mnv2_dm05_voc21", (0.768, 0.967)), ("deeplabv3_mnv2_voc21", (0.740, 0.9603))]
    {
        let network = segmenter(&data, &format!("{name}.safetensors"), 16, &DeviceChoice::Cpu);
        let table = network.model().class_table();
        let mut confusion = Confusion::new(21, &[255]).unwrap();
        for pair in &pairs {
            let (image, truth) = pair.load(Some(&table)).unwrap();
            let segmentation = network.segment(&image, SizeRule::LongSide(513)).unwrap();
            confusion.add(&truth.labels, &segmentation.labels.labels).unwrap();
        }
        let scores = confusion.scores(&table);
        let (miou, accuracy) = (scores.mean_iou.unwrap(), scores.pixel_accuracy.unwrap());
        println!("{name}: mIoU {miou:.4}, pixel accuracy {accuracy:.4}");
        assert!((miou - expected.0).abs() <= 0.001, "{name}: mIoU {miou:.4}");
        assert!((accuracy - expected.1).abs() <= 0.0005, "{name}: pixel accuracy {accuracy:.4}");
    }
}

fn photos(data: &Path) -> Vec<PathBuf> {
    let mut photos: Vec<PathBuf> =
        std::fs::read_dir(data.join("data/photos")).unwrap().map(|e| e.unwrap().path()).collect();
    photos.sort();
    photos
}

fn agreement(a: &LabelMap, b: &LabelMap) -> f64 {
    let same = a.labels.iter().zip(&b.labels).filter(|(a, b)| a == b).count();
    same as f64 / a.labels.len() as f64
}

#[test]
#[cfg_attr(not(has_data), ignore = "needs the data directory (ATROUS_DATA)")]
#[cfg_attr(all(has_data, not(has_gpu)), ignore = "needs a GPU adapter")]
fn executors_agree_on_every_photo_and_runs_repeat_to_the_bit() {
    let (data, gpu) = (support::data(), gpu_choice());
    let name = "deeplabv3_mnv2_dm05_voc21.safetensors";
    let (cpu, gpu) =
        (segmenter(&data, name, 16, &DeviceChoice::Cpu), segmenter(&data, name, 16, &gpu));
    let mut problems = Vec::new();
    for path in photos(&data) {
        let image = decode(&path).unwrap();
        let on = |s: &Segmenter| s.segment(&image, SizeRule::LongSide(257)).unwrap().labels;
        let (a, b) = (on(&cpu), on(&gpu));
        let same = agreement(&a, &b);
        println!("{}: {:.5} of the labels agree", path.display(), same);
        if same < 0.999 {
            problems.push(format!("{}: {same}", path.display()));
        }
        if on(&cpu) != a || on(&gpu) != b {
            problems.push(format!("{}: two runs differ", path.display()));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// `cargo test --release --test real_data -- --ignored`: minutes on a software adapter.
#[test]
#[cfg_attr(not(has_data), ignore = "needs the data directory (ATROUS_DATA)")]
#[cfg_attr(all(has_data, not(has_gpu)), ignore = "needs a GPU adapter")]
#[cfg_attr(
    all(has_data, has_gpu),
    ignore = "slow: every photo at full size on both executors with every network"
)]
fn executors_agree_on_every_photo_at_full_size() {
    let (data, gpu) = (support::data(), gpu_choice());
    let networks = [
        ("deeplabv3_mnv2_dm05_voc21", 16),
        ("deeplabv3_mnv2_voc21", 16),
        ("deeplabv3_mnv2_dm05_portrait2", 8),
    ];
    let mut problems = Vec::new();
    for (name, stride) in networks {
        let name = format!("{name}.safetensors");
        let (cpu, gpu) = (
            segmenter(&data, &name, stride, &DeviceChoice::Cpu),
            segmenter(&data, &name, stride, &gpu),
        );
        for path in photos(&data) {
            let image = decode(&path).unwrap();
            let on = |s: &Segmenter| s.segment(&image, SizeRule::LongSide(513)).unwrap().labels;
            let same = agreement(&on(&cpu), &on(&gpu));
            println!("{name} {}: {same:.5}", path.display());
            if same < 0.999 {
                problems.push(format!("{name} {}: {same}", path.display()));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
#[cfg_attr(not(has_data), ignore = "needs the data directory (ATROUS_DATA)")]
fn networks_find_what_the_photos_show() {
    let data = support::data();
    let shows = |weights: &str, photo: &str, class: &str, at_least: f64| {
        let network = segmenter(&data, weights, 16, &DeviceChoice::Cpu);
        let image = decode(data.join("data/photos").join(photo)).unwrap();
        let segmentation = network.segment(&image, SizeRule::LongSide(513)).unwrap();
        let legend = atrous::image::legend(&segmentation.labels, &network.model().class_table());
        let share = legend.iter().find(|e| e.name == class).map_or(0.0, |e| e.share);
        assert!(share >= at_least, "{weights} on {photo}: {class} covers {share:.3}, {legend:?}");
    };
    shows("deeplabv3_mnv2_dm05_voc21.safetensors", "cat.jpg", "cat", 0.05);
    shows("deeplabv3_mnv2_voc21.safetensors", "two_dogs_grass.jpg", "dog", 0.05);
    shows("deeplabv3_mnv2_voc21.safetensors", "demo3.jpg", "horse", 0.02);
    shows("deeplabv3_mnv2_dm05_portrait2.safetensors", "man_squat.png", "foreground", 0.05);
}
