//! Networks that PyTorch exported, against ONNX Runtime. Their weights follow from their names, and
//! are in another file, as PyTorch stores those of large networks.

use crate::{difference, golden, largest, scores, seeded};
use atrous::engine::Tensor;
use atrous::image::{Image, SizeRule};
use atrous::{DeviceChoice, Model, Segmenter, Size};
use flate2::read::GzDecoder;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

/// Relative to the largest value: networks have up to 60 layers of up to 1,000 terms, whose rounding
/// errors add up at random.
const TOLERANCE: f32 = 3e-5;
const WEIGHTS: &str = "weights.bin";

/// Returns the files of the archive.
fn unpack() -> BTreeMap<String, Vec<u8>> {
    let file = std::fs::File::open(golden("networks.tar.gz")).unwrap();
    let mut archive = tar::Archive::new(GzDecoder::new(file));
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.path().unwrap().to_str().unwrap().to_owned(), bytes)
    });
    entries.collect()
}

/// Writes the weights that a list names, one tensor per line.
fn write_weights(path: &Path, list: &[u8]) {
    let mut bytes = Vec::new();
    for line in std::str::from_utf8(list).unwrap().lines() {
        let mut words: Vec<&str> = line.split(' ').collect();
        let name = words.remove(0);
        let dims: Vec<usize> = words.iter().map(|n| n.parse().unwrap()).collect();
        let bound = match &dims[1..] {
            [] => 0.125,
            rest => (6.0 / rest.iter().product::<usize>() as f64).sqrt() as f32,
        };
        let values = seeded::uniform(name, dims.iter().product()).map(|u| (2.0 * u - 1.0) * bound);
        bytes.extend(values.flat_map(f32::to_le_bytes));
    }
    std::fs::write(path, bytes).unwrap();
}

/// Every third row and column of values `[1, C, H, W]`.
fn thinned(values: &[f32], (c, h, w): (usize, usize, usize)) -> Vec<f32> {
    let mut thin = Vec::new();
    for plane in 0..c {
        for y in (0..h).step_by(3) {
            thin.extend((0..w).step_by(3).map(|x| values[(plane * h + y) * w + x]));
        }
    }
    thin
}

/// The class of the largest score for each pixel of `[1, C, H, W]`.
fn labels(values: &[f32], c: usize) -> Vec<f32> {
    let pixels = values.len() / c;
    let best =
        |i: usize| {
            (0..c).fold(0, |best, k| {
                if values[k * pixels + i] > values[best * pixels + i] { k } else { best }
            })
        };
    (0..pixels).map(|i| best(i) as f32).collect()
}

/// Turns scores into probabilities.
fn softmax(values: &mut [f32], c: usize) {
    let pixels = values.len() / c;
    for i in 0..pixels {
        let sum: f32 = (0..c).map(|k| values[k * pixels + i].exp()).sum();
        (0..c).for_each(|k| values[k * pixels + i] = values[k * pixels + i].exp() / sum);
    }
}

#[test]
fn networks_of_pytorch_compute_what_onnx_runtime_does() {
    let files = unpack();
    let directory = tempfile::tempdir().unwrap();
    let names: Vec<&str> = files.keys().filter_map(|name| name.strip_suffix(".onnx")).collect();
    assert!(names.len() >= 11, "{names:?}");
    let image = seeded::image([1, 3, 96, 128]);
    for name in names {
        let path = directory.path().join(format!("{name}.onnx"));
        std::fs::write(&path, &files[&format!("{name}.onnx")]).unwrap();
        write_weights(&directory.path().join(WEIGHTS), &files[&format!("{name}.txt")]);
        let model = Model::open(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
        let rule = model.default_size();
        let expected_rule = match name {
            _ if name.ends_with("fixed") => "128x96",
            _ if name.starts_with("torchvision") => "native",
            _ if name.ends_with("os8") => "multiple:8",
            _ => "multiple:16",
        };
        assert_eq!(rule.to_string(), expected_rule, "{name}");
        let preprocess = model.network.preprocess();
        let image = if name.ends_with("bytes") {
            assert_eq!((preprocess.mean, preprocess.std), ([0.0; 3], [1.0 / 255.0; 3]));
            Tensor::new(image.shape(), image.f32().iter().map(|v| v * 127.0).collect()).unwrap()
        } else {
            image.clone()
        };
        let expected =
            std::fs::write(directory.path().join("e"), &files[&format!("{name}.safetensors")])
                .map(|()| seeded::read(&directory.path().join("e")).1)
                .unwrap();
        let expected = &expected["output"];
        let (shape, mut got) = scores(&model, &image);
        let (mut channels, sigmoid) = (shape.c, name.ends_with("sigmoid"));
        if name.ends_with("labels") {
            (got, channels) = (labels(&got, channels), 1);
        } else if name.ends_with("softmax") {
            softmax(&mut got, channels);
        } else if sigmoid {
            got.iter_mut().for_each(|v| *v = 1.0 / (1.0 + (-*v).exp()));
        }
        assert_eq!(model.network.labeling().unwrap().sigmoid().is_some(), sigmoid, "{name}");
        let got = thinned(&got, (channels, shape.h, shape.w));
        if name.ends_with("labels") {
            let equal = got.iter().zip(&expected.data).filter(|(a, b)| a == b).count();
            assert!(equal as f64 > 0.999 * got.len() as f64, "{name}: {equal} of {}", got.len());
            continue;
        }
        let error = difference(&got, &expected.data) / largest(&expected.data);
        assert!(error < TOLERANCE, "{name}: {error:e}");
    }
}

#[test]
fn weights_in_another_file_are_found_only_beside_it() {
    let files = unpack();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("net.onnx");
    let bytes = &files["smp_plus_17.onnx"];
    std::fs::write(&path, bytes).unwrap();
    let error = Model::open(&path).unwrap_err().to_string();
    assert!(error.contains(WEIGHTS) && error.contains("net.onnx"), "{error}");
    std::fs::write(directory.path().join(WEIGHTS), [0; 100]).unwrap();
    let error = Model::open(&path).unwrap_err().to_string();
    assert!(error.contains("past the end of the file"), "{error}");
    let error = Model::from_bytes(bytes.clone(), "net.onnx").unwrap_err().to_string();
    assert!(error.contains("open the file by its path"), "{error}");
    // The same length as the name of the file.
    for other in [&b"../eights.n"[..], b"/etc/passwd"] {
        let mut moved = bytes.clone();
        let name = WEIGHTS.as_bytes();
        let places: Vec<usize> =
            (0..moved.len() - name.len()).filter(|&i| moved[i..].starts_with(name)).collect();
        places.iter().for_each(|&i| moved[i..i + name.len()].copy_from_slice(other));
        std::fs::write(&path, moved).unwrap();
        let error = Model::open(&path).unwrap_err().to_string();
        assert!(error.contains("not below the file's directory"), "{error}");
    }
}

#[test]
fn an_image_of_any_size_is_padded_to_what_the_graph_takes() {
    let files = unpack();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("net.onnx");
    std::fs::write(&path, &files["smp_plus_17.onnx"]).unwrap();
    write_weights(&directory.path().join(WEIGHTS), &files["smp_plus_17.txt"]);
    let model = Model::open(&path).unwrap();
    let segmenter = Segmenter::new(model, &DeviceChoice::Cpu).unwrap();
    let rgb = (0..101 * 67 * 3).map(|i| (i * 37 % 251) as u8).collect();
    let photo = Image::new(Size::new(101, 67), rgb).unwrap();
    let segmentation = segmenter.segment(&photo, segmenter.default_size()).unwrap();
    assert_eq!(segmentation.fit.padded, Size::new(112, 80));
    assert_eq!(segmentation.labels.size(), photo.size());
    let error = segmenter.segment(&photo, SizeRule::Native).unwrap_err().to_string();
    assert!(error.contains("--size multiple:16"), "{error}");
}
