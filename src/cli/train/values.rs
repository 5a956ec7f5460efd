//! Values of training options on the command line.

use crate::geometry::Size;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ScheduleName {
    /// No decay
    Constant,
    /// (1 - t)^0.9
    Poly,
    /// A tenth after every third of the steps
    Step,
    /// Cosine decay to zero
    Cosine,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum OptimizerName {
    /// Stochastic gradient descent with momentum 0.9
    Sgd,
    /// Adam with decoupled weight decay
    #[value(name = "adamw")]
    AdamW,
}

/// Parses a batch size.
pub(super) fn batch(text: &str) -> Result<usize, String> {
    let number = text.parse::<usize>().ok().filter(|n| (1..=65536).contains(n));
    number.ok_or_else(|| "expected a number from 1 to 65536".to_owned())
}

/// Parses a learning rate.
pub(super) fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|n| n.is_finite() && *n > 0.0);
    number.ok_or_else(|| "expected a number above 0".to_owned())
}

/// Parses the decay of an average.
pub(super) fn decay(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|n| *n > 0.0 && *n < 1.0);
    number.ok_or_else(|| "expected a number above 0 and below 1".to_owned())
}

/// Parses a number of epochs.
pub(super) fn epochs(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|n| *n > 0.0 && *n <= 1e6);
    number.ok_or_else(|| "expected a number above 0".to_owned())
}

/// Parses the size of crops.
pub(super) fn crop(text: &str) -> Result<Size, String> {
    let side = |text: &str| text.parse::<usize>().ok().filter(|&n| n > 0);
    let size = match text.split_once('x') {
        Some((w, h)) => side(w).zip(side(h)).map(|(w, h)| Size::new(w, h)),
        None => side(text).map(Size::square),
    };
    size.ok_or_else(|| {
        "expected one side, such as 513, or width x height, such as 480x360".to_owned()
    })
}
