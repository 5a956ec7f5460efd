//! Networks whose outputs are sigmoids: labels, probabilities and averages above a threshold.

use crate::{choices, image, model};
use atrous::engine::models::{Head, OutputActivation};
use atrous::engine::ops::Threshold;
use atrous::eval::{PredictOptions, Predictor, SlidingWindow};
use atrous::image::{Image, LabelMap, SizeRule};
use atrous::{Model, OutputOptions, Segmentation, Segmenter};

/// A network with `outputs` sigmoids.
fn network(outputs: usize, threshold: f32) -> Model {
    let model = model(|config| {
        let head = config.head.as_mut().unwrap();
        head.class_names.clear();
        (head.classes, head.activation) = (outputs + 1, OutputActivation::Sigmoid);
        assert_eq!(head.channels(), outputs);
    });
    model.with_threshold(Threshold::new(threshold).unwrap()).unwrap()
}

fn segment(segmenter: &Segmenter, image: &Image) -> Segmentation {
    let options =
        OutputOptions { confidence: true, probabilities: true, foreground: Some(vec![1]) };
    segmenter.segment_with(image, SizeRule::Native, options).unwrap()
}

#[test]
fn a_label_is_the_largest_output_above_the_threshold() {
    let image = image(71, 53, 3);
    for choice in choices() {
        for (outputs, threshold) in [(1, 0.5), (1, 0.3), (3, 0.5), (3, 0.7)] {
            let segmenter = Segmenter::new(network(outputs, threshold), &choice).unwrap();
            let result = segment(&segmenter, &image);
            let probabilities = result.probabilities.unwrap();
            assert_eq!(probabilities.shape().c, outputs + 1);
            let mut seen = vec![false; outputs + 1];
            for (i, p) in probabilities.f32().chunks_exact(outputs + 1).enumerate() {
                let label = usize::from(result.labels.labels[i]);
                seen[label] = true;
                let largest = p[1..].iter().copied().fold(0.0, f32::max);
                // Each value is rounded on its own.
                let (close, p_of) = (1e-5, |class: usize| p[class]);
                assert!((p[0] - (1.0 - largest)).abs() < close, "{p:?}");
                if label == 0 {
                    assert!(largest <= threshold + close, "{p:?}");
                } else {
                    assert!(p_of(label) > threshold - close, "{p:?}");
                    assert!(p_of(label) > largest - close, "{p:?}");
                }
                let confidence = result.confidence.as_ref().unwrap()[i];
                assert!((confidence - p_of(label)).abs() < close, "{confidence} of {p:?}");
                let foreground = result.foreground.as_ref().unwrap()[i];
                let expected = Threshold::new(threshold).unwrap().centered(p[1]);
                assert!((foreground - expected).abs() < close, "{foreground} of {p:?}");
            }
            assert!(seen[0] && seen[1..].contains(&true), "{outputs} at {threshold}: {seen:?}");
        }
    }
}

/// Sigmoids of several outputs do not add up to 1: more than one class can hold.
#[test]
fn classes_of_several_outputs_can_overlap() {
    let segmenter = Segmenter::new(network(3, 0.5), &atrous::DeviceChoice::Cpu).unwrap();
    let probabilities = segment(&segmenter, &image(71, 53, 3)).probabilities.unwrap();
    let both = |p: &[f32]| p[1..].iter().filter(|&&p| p > 0.5).count() > 1;
    assert!(probabilities.f32().chunks_exact(4).any(both));
}

#[track_caller]
fn agree(context: &str, a: &LabelMap, b: &LabelMap) {
    let same = a.labels.iter().zip(&b.labels).filter(|(a, b)| a == b).count();
    assert!(same * 1000 >= a.labels.len() * 998, "{context}: {same} of {}", a.labels.len());
    assert!(a.labels.contains(&0) && a.labels.iter().any(|&l| l > 0), "{context}");
}

/// Averages of equal views, and of one window over everything, are the plain result.
#[test]
fn views_and_windows_know_the_threshold() {
    let image = image(71, 53, 3);
    for choice in choices() {
        for (outputs, threshold) in [(1, 0.3), (3, 0.7)] {
            let segmenter = Segmenter::new(network(outputs, threshold), &choice).unwrap();
            let plain = segmenter.segment(&image, SizeRule::Native).unwrap().labels;
            let size = image.size();
            let window = SlidingWindow { size, stride: atrous::engine::geometry::Spacing::ONE };
            let native =
                PredictOptions { size: Some(SizeRule::Native), ..PredictOptions::default() };
            for options in [
                PredictOptions { scales: vec![1.0, 1.0], ..native.clone() },
                PredictOptions { window: Some(window), ..native.clone() },
            ] {
                let context = format!("{choice:?}, {outputs} outputs, {options:?}");
                let mut predictor = Predictor::new(&segmenter, options).unwrap();
                agree(&context, &predictor.predict(&image).unwrap().labels, &plain);
            }
        }
    }
}

#[test]
fn a_softmax_has_no_threshold() {
    let error = model(|_| {}).with_threshold(Threshold::HALF).unwrap_err().to_string();
    assert!(error.contains("softmax over 5 classes"), "{error}");
}

#[test]
fn a_softmax_of_one_output_is_refused() {
    let mut head: Head = network(1, 0.5).config().unwrap().head.clone().unwrap();
    assert!(head.set_activation(OutputActivation::Softmax).is_err());
    let mut three = network(3, 0.5).config().unwrap().head.clone().unwrap();
    three.set_activation(OutputActivation::Softmax).unwrap();
    assert_eq!((three.classes, three.channels()), (3, 3));
}
