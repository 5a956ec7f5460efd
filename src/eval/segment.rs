//! Segmentation from the mean probabilities of several views of an image.

use super::predictor::Predictor;
use super::views::{SumOutput, labeling};
use crate::error::{Result, error};
use crate::image::alloc::with_capacity;
use crate::image::{Fit, Image, LabelMap};
use crate::ops::Threshold;
use crate::segmenter::{OutputOptions, Segmentation};
use crate::tensor::Tensor;
use rayon::prelude::*;
use std::time::Duration;

impl Predictor<'_> {
    /// Segments an image: the labels of [`Predictor::predict`], and the outputs that `options`
    /// requests, from the mean probabilities of all views. Probabilities, confidence and foreground
    /// need memory for the probabilities of all classes at the image's own size.
    ///
    /// # Errors
    /// As for [`Predictor::predict`], or if a class in `options` is out of range, or the predictor
    /// has a sliding window.
    #[expect(clippy::missing_panics_doc, reason = "what is expected is an invariant")]
    pub fn segment(&mut self, image: &Image, options: &OutputOptions) -> Result<Segmentation> {
        if self.options().window.is_some() {
            return Err(error!(Usage, "windows yield labels only"));
        }
        let fit = self.fit(image.size());
        if self.options().is_plain() {
            let size = self.options().size.unwrap_or_else(|| self.segmenter.default_size());
            return self.segmenter.segment_with(image, size, options.clone());
        }
        let classes = self.segmenter.model().network.classes().unwrap_or(0);
        let keep = options.foreground.as_deref().unwrap_or_default();
        if let Some(class) = keep.iter().find(|&&class| class >= classes) {
            return Err(error!(
                Usage,
                "class {class} is out of range: the network has {classes} classes"
            ));
        }
        let output = if *options == OutputOptions::default() {
            SumOutput::Labels
        } else {
            SumOutput::LabelsAndProbabilities
        };
        // Check that everything fits into memory before scaling the image.
        self.networks(fit)?;
        let viewed = self.views(fit, fit.scale(image)?.into_owned(), output)?;
        let mut outputs = viewed.outputs.into_iter();
        let labels = outputs.next().expect("invariant: labels are always computed");
        let labels = LabelMap::from_tensor(&labels, 0)?;
        let Some(mut means) = outputs.next() else {
            return Ok(self.segmentation(labels, fit, viewed.cell, viewed.time));
        };
        let views = self.options().views() as f32;
        means.f32_mut().par_iter_mut().for_each(|p| *p /= views);
        let sigmoid = labeling(self.segmenter.model()).sigmoid();
        Ok(Segmentation {
            confidence: options.confidence.then(|| confidence(&means, &labels)).transpose()?,
            foreground: options
                .foreground
                .as_deref()
                .map(|keep| foreground(&means, keep, sigmoid))
                .transpose()?,
            probabilities: options.probabilities.then_some(means),
            ..self.segmentation(labels, fit, viewed.cell, viewed.time)
        })
    }

    fn segmentation(&self, labels: LabelMap, fit: Fit, cell: f32, time: Duration) -> Segmentation {
        Segmentation {
            labels,
            confidence: None,
            probabilities: None,
            foreground: None,
            fit,
            cell,
            network_time: time,
            // The sum of the views is part of the network's time.
            labels_time: Duration::ZERO,
        }
    }
}

/// Returns the probability of each pixel's label, `[height * width]`.
fn confidence(means: &Tensor, labels: &LabelMap) -> Result<Vec<f32>> {
    let mut confidence = with_capacity(labels.labels.len(), "the confidence")?;
    let pixels = means.f32().chunks_exact(means.shape().c).zip(&labels.labels);
    confidence.extend(pixels.map(|(pixel, &label)| pixel[usize::from(label)]));
    Ok(confidence)
}

/// Returns the sum of the kept classes' probabilities, or for sigmoids the largest, on the scale
/// where the threshold is one half.
fn foreground(means: &Tensor, keep: &[usize], sigmoid: Option<Threshold>) -> Result<Vec<f32>> {
    let classes = means.shape().c;
    let mut kept: Vec<usize> = keep.to_vec();
    kept.sort_unstable();
    kept.dedup();
    let mut foreground = with_capacity(means.f32().len() / classes, "the foreground")?;
    foreground.extend(means.f32().chunks_exact(classes).map(|pixel| {
        let kept = kept.iter().map(|&class| pixel[class]);
        match sigmoid {
            Some(threshold) => threshold.centered(kept.fold(0.0, f32::max)),
            None => kept.sum::<f32>().min(1.0),
        }
    }));
    Ok(foreground)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DeviceChoice;
    use crate::eval::PredictOptions;
    use crate::segmenter::tests::tiny;

    fn all() -> OutputOptions {
        OutputOptions { confidence: true, probabilities: true, foreground: Some(vec![1, 2]) }
    }

    #[test]
    fn labels_are_those_of_the_prediction_whatever_else_is_computed() {
        let (segmenter, image) = tiny(&DeviceChoice::Cpu).unwrap();
        for (scales, flip) in [(vec![1.0], false), (vec![1.0], true), (vec![0.75, 1.0, 1.5], true)]
        {
            let options = PredictOptions { scales, flip, ..PredictOptions::default() };
            let mut predictor = Predictor::new(&segmenter, options).unwrap();
            let labels = predictor.predict(&image).unwrap().labels;
            let plain = predictor.segment(&image, &OutputOptions::default()).unwrap();
            assert_eq!((plain.labels, plain.confidence), (labels.clone(), None));
            let full = predictor.segment(&image, &all()).unwrap();
            assert_eq!(full.labels, labels);
            let probabilities = full.probabilities.unwrap();
            assert_eq!(probabilities.shape().size(), image.size());
            let pixels = probabilities.f32().chunks_exact(3).enumerate();
            for (i, p) in pixels {
                // A mean of up to six softmaxes: the error is far below 1e-5.
                assert!((p.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{p:?}");
                let confidence = full.confidence.as_ref().unwrap()[i];
                assert!((confidence - p[usize::from(labels.labels[i])]).abs() < 1e-5);
                assert!(p.iter().all(|&other| other <= confidence + 1e-5));
                assert!((full.foreground.as_ref().unwrap()[i] - p[1] - p[2]).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn classes_out_of_range_and_windows_are_refused() {
        let (segmenter, image) = tiny(&DeviceChoice::Cpu).unwrap();
        let flipped = PredictOptions { flip: true, ..PredictOptions::default() };
        let mut predictor = Predictor::new(&segmenter, flipped.clone()).unwrap();
        let options = OutputOptions { foreground: Some(vec![3]), ..OutputOptions::default() };
        let error = predictor.segment(&image, &options).unwrap_err().to_string();
        assert!(error.contains("class 3 is out of range"), "{error}");
        let window = crate::eval::SlidingWindow {
            size: crate::Size::square(33),
            stride: crate::geometry::Spacing::ONE,
        };
        let options = PredictOptions { window: Some(window), ..flipped };
        let mut predictor = Predictor::new(&segmenter, options).unwrap();
        assert!(predictor.segment(&image, &OutputOptions::default()).is_err());
    }
}
