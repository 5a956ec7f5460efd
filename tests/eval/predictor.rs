//! Test-time augmentation and sliding windows of [`Predictor`].

use crate::{choices, image, model};
use atrous::engine::exec::{Device, Runner};
use atrous::engine::geometry::{Size, Spacing};
use atrous::engine::models::Outputs;
use atrous::engine::{Shape, Tensor};
use atrous::eval::{PredictOptions, Predictor, SlidingWindow};
use atrous::image::{Image, LabelMap, SizeRule};

use atrous::{DeviceChoice, Segmenter};

fn predict(segmenter: &Segmenter, options: PredictOptions, image: &Image) -> LabelMap {
    Predictor::new(segmenter, options).unwrap().predict(image).unwrap().labels
}

fn native() -> PredictOptions {
    PredictOptions { size: Some(SizeRule::Native), ..PredictOptions::default() }
}

#[track_caller]
fn agree(context: &str, a: &LabelMap, b: &LabelMap, at_least: f64) {
    assert_eq!((a.width, a.height), (b.width, b.height), "{context}");
    let classes: std::collections::BTreeSet<u16> = a.labels.iter().copied().collect();
    assert!(classes.len() > 1, "{context}: an image of one class proves nothing");
    let same = a.labels.iter().zip(&b.labels).filter(|(a, b)| a == b).count() as f64
        / a.labels.len() as f64;
    assert!(same >= at_least, "{context}: {same:.4} of the labels agree");
}

/// The average of two equal views is that view: tests the code path of averaged probabilities.
#[test]
fn several_scales_of_one_have_the_plain_labels() {
    for choice in choices() {
        for align_corners in [false, true] {
            let model = model(|c| c.head.as_mut().unwrap().align_corners = align_corners);
            let segmenter = Segmenter::new(model, &choice).unwrap();
            for size in
                [SizeRule::Native, SizeRule::LongSide(65), SizeRule::Exact(Size::new(80, 49))]
            {
                let image = image(71, 53, 3);
                let plain = segmenter.segment(&image, size).unwrap().labels;
                let options = |scales| PredictOptions {
                    size: Some(size),
                    scales,
                    ..PredictOptions::default()
                };
                let context = format!("{choice:?}, {size}, align_corners {align_corners}");
                assert_eq!(predict(&segmenter, options(vec![1.0]), &image), plain, "{context}");
                // Different logits may have equal probabilities in f32.
                agree(
                    &context,
                    &predict(&segmenter, options(vec![1.0, 1.0]), &image),
                    &plain,
                    0.998,
                );
            }
        }
    }
}

fn flipped(tensor: &Tensor) -> Tensor {
    let s = tensor.shape();
    Tensor::from_fn(s, |n, y, x, c| tensor.f32()[s.index(n, y, s.w - 1 - x, c)])
}

/// Compares with the average computed here, from one graph at a time on the CPU.
#[test]
fn scales_and_flips_average_probabilities() {
    let image = image(65, 49, 5);
    let model = model(|_| {});
    let preprocess = *model.network.preprocess();
    let x = Tensor::from_fn(Shape::new(1, 49, 65, 3), |_, y, x, c| {
        (f32::from(image.rgb[3 * (y * 65 + x) + c]) / 255.0 - preprocess.mean[c])
            / preprocess.std[c]
    });
    let resized = |x: &Tensor, size: (usize, usize)| {
        let mut graph = atrous::engine::graph::Graph::new();
        let input = graph.input("x", x.ty());
        let op = atrous::engine::ops::Resize {
            size: Size::new(size.1, size.0),
            alignment: atrous::engine::ops::PixelAlignment::HalfPixel,
            window: None,
        };
        let y = graph.root().op("y", op, &[input]).unwrap();
        graph.output("y", y);
        Runner::new(&Device::Cpu, graph).unwrap().run(&[("x", x)]).unwrap().swap_remove(0)
    };
    let mut sum = vec![0.0f64; 65 * 49 * 5];
    for size in [(25, 33), (49, 65), (74, 98)] {
        let view = resized(&x, size);
        let graph = model.graph(view.shape(), &Outputs::default()).unwrap();
        let network = Runner::new(&Device::Cpu, graph).unwrap();
        for flip in [false, true] {
            let input = if flip { flipped(&view) } else { view.clone() };
            let logits = network.run(&[("input", &input)]).unwrap().swap_remove(0);
            let logits = if flip { flipped(&logits) } else { logits };
            for (sum, logits) in
                sum.chunks_exact_mut(5).zip(resized(&logits, (49, 65)).f32().chunks_exact(5))
            {
                let total: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
                sum.iter_mut().zip(logits).for_each(|(s, &l)| *s += f64::from(l).exp() / total);
            }
        }
    }
    let largest = |p: &[f64]| {
        (0..5u16).max_by(|&a, &b| p[usize::from(a)].total_cmp(&p[usize::from(b)])).unwrap()
    };
    let expected =
        LabelMap::new(Size::new(65, 49), sum.chunks_exact(5).map(largest).collect()).unwrap();
    for choice in choices() {
        let segmenter = Segmenter::new(model.clone(), &choice).unwrap();
        let options = PredictOptions { scales: vec![0.5, 1.0, 1.5], flip: true, ..native() };
        agree(&format!("{choice:?}"), &predict(&segmenter, options, &image), &expected, 0.998);
    }
}

#[test]
fn with_flips_a_flipped_image_has_flipped_labels() {
    let image = image(60, 44, 6);
    let mirror = |row: &[u8]| row.chunks_exact(3).rev().flatten().copied().collect::<Vec<u8>>();
    let mirrored =
        Image::new(Size::new(60, 44), image.rgb.chunks_exact(3 * 60).flat_map(mirror).collect())
            .unwrap();
    for choice in choices() {
        let segmenter = Segmenter::new(model(|_| {}), &choice).unwrap();
        let options = PredictOptions { flip: true, ..native() };
        let labels = predict(&segmenter, options.clone(), &image);
        let turned =
            labels.labels.chunks_exact(60).flat_map(|row| row.iter().rev().copied()).collect();
        let turned = LabelMap::new(Size::new(60, 44), turned).unwrap();
        agree(&format!("{choice:?}"), &predict(&segmenter, options, &mirrored), &turned, 0.998);
    }
}

#[test]
fn windows_that_do_not_overlap_are_independent_images() {
    let (left, right) = (image(33, 33, 8), image(33, 33, 9));
    let rows = left.rgb.chunks_exact(99).zip(right.rgb.chunks_exact(99));
    let both =
        Image::new(Size::new(66, 33), rows.flat_map(|(l, r)| [l, r].concat()).collect()).unwrap();
    for choice in choices() {
        let segmenter = Segmenter::new(model(|_| {}), &choice).unwrap();
        let labels = predict(&segmenter, windows((33, 33), (33, 33)), &both);
        let half = |x: usize| {
            let labels =
                labels.labels.chunks_exact(66).flat_map(|row| row[x..x + 33].to_vec()).collect();
            LabelMap::new(Size::square(33), labels).unwrap()
        };
        agree("left", &half(0), &predict(&segmenter, native(), &left), 0.998);
        agree("right", &half(33), &predict(&segmenter, native(), &right), 0.998);
        // One window, as large as the image.
        agree(
            "whole",
            &predict(&segmenter, windows((66, 33), (66, 33)), &both),
            &predict(&segmenter, native(), &both),
            0.998,
        );
        // Larger windows are padded; overlapping ones cover every pixel.
        for (size, stride) in [((70, 40), (70, 40)), ((40, 25), (13, 9)), ((66, 16), (1, 7))] {
            assert_eq!(
                predict(&segmenter, windows(size, stride), &both).labels.len(),
                66 * 33,
                "{size:?}"
            );
        }
    }
}

/// Options with windows of `size` (width, height), `stride` (x, y) apart.
fn windows(size: (usize, usize), stride: (usize, usize)) -> PredictOptions {
    let (size, stride) = (Size::new(size.0, size.1), Spacing { x: stride.0, y: stride.1 });
    PredictOptions { window: Some(SlidingWindow { size, stride }), ..native() }
}

#[test]
fn invalid_options_are_refused() {
    let segmenter = Segmenter::new(model(|_| {}), &DeviceChoice::Cpu).unwrap();
    for (options, message) in [
        (PredictOptions { scales: vec![], ..native() }, "at least one scale"),
        (PredictOptions { scales: vec![1.0, 0.0], ..native() }, "got 0"),
        (PredictOptions { scales: vec![f64::NAN], ..native() }, "got NaN"),
        (windows((33, 33), (34, 33)), "do not cover"),
        (windows((33, 0), (1, 1)), "do not cover"),
    ] {
        let error = Predictor::new(&segmenter, options).err().expect("must be refused").to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn multi_adds_are_those_of_all_forward_passes() {
    let segmenter = Segmenter::new(model(|_| {}), &DeviceChoice::Cpu).unwrap();
    let count = |options: PredictOptions| {
        Predictor::new(&segmenter, options).unwrap().multi_adds(Size::new(66, 33)).unwrap()
    };
    let once = count(native());
    assert!(once > 1_000_000, "{once}");
    assert_eq!(count(PredictOptions { flip: true, ..native() }), 2 * once);
    let halves = |stride| count(windows((33, 33), stride));
    assert_eq!(halves((11, 33)), 2 * halves((33, 33)), "four windows instead of two");
    let scales = count(PredictOptions { scales: vec![0.5, 1.0], ..native() });
    assert!(scales > once && scales < 2 * once, "{scales} against {once}");
}

#[test]
fn windows_over_an_image_past_the_memory_limit_are_refused() {
    let segmenter = Segmenter::new(model(|_| {}), &DeviceChoice::Cpu).unwrap();
    // Independent of the machine. The limit is that of the process, and far above what the other
    // tests need.
    atrous::engine::memory::set_limit(Some(16 << 30));
    // Few enough windows to be computed, but the sum of their probabilities is too large.
    let window = Some(SlidingWindow { size: Size::square(513), stride: Spacing::square(513) });
    let options = PredictOptions {
        size: Some(SizeRule::Exact(Size::square(65_535))),
        window,
        ..PredictOptions::default()
    };
    let error = Predictor::new(&segmenter, options).unwrap().predict(&image(8, 8, 1)).unwrap_err();
    assert!(
        error.kind() == atrous::ErrorKind::OutOfMemory
            && error.to_string().contains("[1, 65535, 65535, 5]"),
        "{error}"
    );
}
