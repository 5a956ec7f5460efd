//! What the outputs of a segmentation network mean.

use super::config::OutputActivation;
use crate::ops::{PixelAlignment, Threshold};

/// How labels follow from the outputs of a segmentation network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Labeling {
    /// Number of classes that a label can have. With a sigmoid, class 0 is the background, which the
    /// network has no channel for.
    pub classes: usize,
    /// How the outputs become probabilities.
    pub activation: OutputActivation,
    /// Probability that a sigmoid output must exceed.
    pub threshold: Threshold,
    /// How pixels map to the outputs, which have a smaller size.
    pub alignment: PixelAlignment,
}

impl Labeling {
    /// Returns the number of outputs, the channels of `logits`.
    pub fn channels(&self) -> usize {
        match self.activation {
            OutputActivation::Softmax => self.classes,
            OutputActivation::Sigmoid => self.classes.saturating_sub(1),
        }
    }

    /// Returns the threshold of sigmoid outputs, `None` for a softmax.
    pub fn sigmoid(&self) -> Option<Threshold> {
        (self.activation == OutputActivation::Sigmoid).then_some(self.threshold)
    }

    /// Returns whether each class has a mask of its own, so that several can hold for a pixel: a
    /// sigmoid over more than one output.
    pub fn is_multi_label(&self) -> bool {
        self.activation == OutputActivation::Sigmoid && self.channels() > 1
    }

    /// Returns whether the centers of the corner pixels coincide with those of the outputs.
    pub fn aligns_corners(&self) -> bool {
        self.alignment == PixelAlignment::Corners
    }
}
