//! How well the edges of cut-outs follow those of objects: against the masks of VOC's photos.

use crate::support;
use atrous::data::{self, list_directories};
use atrous::image::{BACKDROP, ClassTable, CutOut, Edge, LabelMap, SizeRule, decode};
use atrous::{DeviceChoice, Model, OutputOptions, Segmenter, Size};
use std::path::PathBuf;

/// Bird, cat, cow, dog, horse, person and sheep.
const KEPT: [usize; 7] = [3, 8, 10, 12, 13, 15, 17];
const VOID: u16 = 255;
/// Distance in pixels at which a border counts as found.
const TOLERANCE: usize = 3;
/// Half of the width of VOC's void bands, and a little more. Larger areas are of unknown content.
const BAND: usize = 6;

/// Errors of one cut-out.
#[derive(Debug, Clone, Copy, Default)]
struct Errors {
    /// Mean error of the opacity over all pixels that are not void, 0 to 1.
    mean: f64,
    /// F-score of the borders, 0 to 1.
    border: f64,
}

/// What a mask states about the kept classes.
struct Truth {
    size: Size,
    /// Whether a pixel is of a kept class. Void pixels have the value of the nearest other pixel.
    kept: Vec<bool>,
    /// Distance to the nearest pixel that is not void.
    void: Vec<usize>,
}

impl Truth {
    fn new(mask: &LabelMap) -> Self {
        let kept = mask.labels.iter().map(|&l| KEPT.contains(&l.into())).collect::<Vec<_>>();
        let mut truth = Self { size: mask.size(), kept, void: vec![usize::MAX; mask.labels.len()] };
        let mut front: Vec<usize> =
            (0..mask.labels.len()).filter(|&at| mask.labels[at] != VOID).collect();
        front.iter().for_each(|&at| truth.void[at] = 0);
        for distance in 1.. {
            let mut next = Vec::new();
            for &at in &front {
                for neighbor in neighbors(at, truth.size) {
                    if truth.void[neighbor] == usize::MAX {
                        truth.void[neighbor] = distance;
                        truth.kept[neighbor] = truth.kept[at];
                        next.push(neighbor);
                    }
                }
            }
            if next.is_empty() {
                return truth;
            }
            front = next;
        }
        unreachable!("the front ends after all pixels")
    }

    fn errors(&self, alpha: &[u8]) -> Errors {
        let pairs = alpha.iter().zip(&self.kept).zip(&self.void).filter(|(_, void)| **void == 0);
        let (mut sum, mut count) = (0.0, 0.0);
        for ((&alpha, &kept), _) in pairs {
            sum += (f64::from(alpha) / 255.0 - f64::from(u8::from(kept))).abs();
            count += 1.0;
        }
        let got = self.border(&alpha.iter().map(|&a| a >= 128).collect::<Vec<_>>());
        let expected = self.border(&self.kept);
        let (precision, recall) = (self.near(&got, &expected), self.near(&expected, &got));
        Errors { mean: sum / count, border: 2.0 * precision * recall / (precision + recall) }
    }

    /// Returns the pixels whose right or lower neighbor differs, outside of larger void areas.
    fn border(&self, mask: &[bool]) -> Vec<usize> {
        let Size { width, height } = self.size;
        let differs = |&at: &usize| {
            let right = at % width + 1 < width && mask[at] != mask[at + 1];
            self.void[at] <= BAND
                && (right || at / width + 1 < height && mask[at] != mask[at + width])
        };
        (0..mask.len()).filter(differs).collect()
    }

    /// Returns the fraction of the pixels that have one of `others` within the tolerance.
    fn near(&self, pixels: &[usize], others: &[usize]) -> f64 {
        let Size { width, height } = self.size;
        let mut reached = vec![false; width * height];
        for &at in others {
            let (x, y) = (at % width, at / width);
            for j in y.saturating_sub(TOLERANCE)..(y + TOLERANCE + 1).min(height) {
                for i in x.saturating_sub(TOLERANCE)..(x + TOLERANCE + 1).min(width) {
                    let (dx, dy) = (i.abs_diff(x), j.abs_diff(y));
                    reached[width * j + i] |= dx * dx + dy * dy <= TOLERANCE * TOLERANCE;
                }
            }
        }
        pixels.iter().filter(|&&at| reached[at]).count() as f64 / pixels.len().max(1) as f64
    }
}

fn neighbors(at: usize, size: Size) -> impl Iterator<Item = usize> {
    let (x, y) = (at % size.width, at / size.width);
    [
        (x > 0).then(|| at - 1),
        (x + 1 < size.width).then_some(at + 1),
        (y > 0).then(|| at - size.width),
        (y + 1 < size.height).then_some(at + size.width),
    ]
    .into_iter()
    .flatten()
}

/// Returns photos of people and animals with their masks, every `step`-th.
fn photos(step: usize) -> Vec<(PathBuf, Truth)> {
    let data = support::data();
    let mut pairs = data::open(data.join("data/voc-sample"), Some("all")).unwrap().pairs;
    let crops = data.join("data/voc-crops513");
    pairs.extend(list_directories(crops.join("images"), crops.join("masks")).unwrap());
    let read = |pair: data::Pair| {
        let mask = LabelMap::read(pair.mask.path(), Some(&ClassTable::voc())).unwrap();
        let kept = mask.labels.iter().filter(|&&l| KEPT.contains(&l.into())).count();
        (100 * kept > mask.labels.len()).then(|| (pair.image, Truth::new(&mask)))
    };
    pairs.into_iter().filter_map(read).step_by(step).collect()
}

/// Returns the mean errors with a hard, a soft and a refined edge, and the number of photos.
fn measure(network: &str, stride: usize, step: usize) -> ([Errors; 3], usize) {
    let path = support::data().join("weights").join(network);
    let model = Model::open(path).unwrap().with_output_stride(stride).unwrap();
    let segmenter = Segmenter::new(model, &DeviceChoice::Cpu).unwrap();
    let table = segmenter.model().class_table();
    let mut sums = [Errors::default(); 3];
    let photos = photos(step);
    for (path, truth) in &photos {
        let image = decode(path).unwrap();
        let options = OutputOptions { foreground: Some(KEPT.to_vec()), ..Default::default() };
        let segmentation =
            segmenter.segment_with(&image, SizeRule::LongSide(513), options).unwrap();
        for (sum, edge) in sums.iter_mut().zip([Edge::Hard, Edge::Soft, Edge::Refined]) {
            let cut_out =
                CutOut { table: &table, keep: &KEPT, edge, background: None, backdrop: BACKDROP };
            let out = segmentation.clone().cut_out(image.clone(), &cut_out).unwrap();
            let errors = truth.errors(&out.alpha.unwrap());
            sum.mean += errors.mean / photos.len() as f64;
            sum.border += errors.border / photos.len() as f64;
        }
    }
    (sums, photos.len())
}

fn print(network: &str, stride: usize, photos: usize, errors: &[Errors; 3]) {
    println!("{network}, output stride {stride}, {photos} photos");
    for (edge, e) in ["hard", "soft", "refined"].iter().zip(errors) {
        let (mean, border) = (100.0 * e.mean, 100.0 * e.border);
        println!("  {edge}: mean error of alpha {mean:.2} %, border F-score {border:.1} %");
    }
}

#[test]
#[cfg_attr(not(has_data), ignore = "needs the data directory (ATROUS_DATA)")]
fn refined_edges_are_nearer_to_those_of_people_and_animals() {
    let network = "deeplabv3_mnv2_dm05_voc21.safetensors";
    let (errors, count) = measure(network, 16, 4);
    print(network, 16, count, &errors);
    let [hard, soft, refined] = errors;
    assert!(refined.mean < soft.mean && refined.mean < hard.mean, "{errors:?}");
    assert!(refined.border > soft.border && refined.border > hard.border, "{errors:?}");
}

/// The figures of docs/images.md: `cargo test --release --test image_files edges -- --ignored
/// --nocapture`.
#[test]
#[ignore = "slow: two networks on all photos"]
fn edges_of_all_photos() {
    for network in ["deeplabv3_mnv2_dm05_voc21.safetensors", "deeplabv3_mnv2_voc21.safetensors"] {
        for stride in [16, 8] {
            let (errors, count) = measure(network, stride, 1);
            print(network, stride, count, &errors);
        }
    }
}
