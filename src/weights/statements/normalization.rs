//! Mean and standard deviation of an input's normalization, by name or as numbers.

use crate::error::{Error, Result, error};
use crate::models::Preprocessing;
use serde::Serialize;
use std::fmt;
use std::str::FromStr;

/// Normalization of pixels in 0 to 1: `(x - mean) / std` for red, green and blue.
///
/// ```
/// use atrous::engine::weights::statements::Normalization;
/// let tensorflow: Normalization = "tensorflow".parse()?;
/// assert_eq!(tensorflow, "0.5/0.5".parse()?);
/// assert_eq!("0.485,0.456,0.406/0.229,0.224,0.225".parse::<Normalization>()?.to_string(), "imagenet");
/// # Ok::<(), atrous::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Normalization {
    /// Mean of red, green and blue.
    pub mean: [f32; 3],
    /// Standard deviation of red, green and blue.
    pub std: [f32; 3],
}

/// A [`Normalization`] with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormalizationName {
    /// Mean and standard deviation of ImageNet, as in PyTorch libraries.
    Imagenet,
    /// Values from -1 to 1, as in TensorFlow's DeepLab.
    Tensorflow,
    /// Values from 0 to 1.
    Unit,
    /// Values from 0 to 255, for networks that normalize them inside.
    Bytes,
}

impl NormalizationName {
    /// All names.
    pub const ALL: [Self; 4] = [Self::Imagenet, Self::Tensorflow, Self::Unit, Self::Bytes];

    /// Returns the name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Imagenet => "imagenet",
            Self::Tensorflow => "tensorflow",
            Self::Unit => "unit",
            Self::Bytes => "bytes",
        }
    }

    /// Returns the numbers.
    pub fn normalization(self) -> Normalization {
        match self {
            Self::Imagenet => Normalization::of(&Preprocessing::IMAGENET),
            Self::Tensorflow => Normalization::of(&Preprocessing::SYMMETRIC_513),
            Self::Unit => Normalization { mean: [0.0; 3], std: [1.0; 3] },
            Self::Bytes => Normalization { mean: [0.0; 3], std: [1.0 / 255.0; 3] },
        }
    }
}

impl Normalization {
    /// Returns the normalization of a preprocessing.
    pub fn of(preprocess: &Preprocessing) -> Self {
        Self { mean: preprocess.mean, std: preprocess.std }
    }

    /// Creates a normalization. `None` unless all numbers are finite and the deviations positive.
    pub(super) fn new(mean: [f64; 3], std: [f64; 3]) -> Option<Self> {
        let [mean, std] = [mean, std].map(|numbers| numbers.map(|x| x as f32));
        let valid =
            mean.iter().all(|m| m.is_finite()) && std.iter().all(|s| s.is_normal() && *s > 0.0);
        valid.then_some(Self { mean, std })
    }
}

impl FromStr for Normalization {
    type Err = Error;

    /// Parses a name, or `MEAN/STD` with one number or one for each of red, green and blue.
    fn from_str(text: &str) -> Result<Self> {
        if let Some(name) = NormalizationName::ALL.into_iter().find(|n| n.name() == text) {
            return Ok(name.normalization());
        }
        let numbers = text.split_once('/').and_then(|(mean, std)| {
            let (mean, std) = (three(mean)?, three(std)?);
            Self::new(mean, std).map(|parsed| (parsed, mean, std))
        });
        let Some((normalization, mean, std)) = numbers else {
            return Err(error!(Usage, "expected a name, or MEAN/STD for pixels from 0 to 1").advice(
                "use imagenet, tensorflow (-1 to 1), unit (0 to 1), bytes (0 to 255), or numbers such as 0.485,0.456,0.406/0.229,0.224,0.225",
            ));
        };
        if mean.iter().chain(&std).any(|x| x.abs() > 1.0) {
            return Err(error!(Usage, "mean and standard deviation are for pixels from 0 to 1")
                .advice("divide the numbers by 255 if they are for bytes"));
        }
        Ok(normalization)
    }
}

/// Parses one number for all channels, or three.
fn three(text: &str) -> Option<[f64; 3]> {
    let numbers: Vec<f64> =
        text.split(',').map(|n| n.trim().parse()).collect::<Result<_, _>>().ok()?;
    match numbers[..] {
        [all] => Some([all; 3]),
        [red, green, blue] => Some([red, green, blue]),
        _ => None,
    }
}

impl fmt::Display for Normalization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = NormalizationName::ALL.into_iter().find(|n| n.normalization() == *self)
        {
            return f.write_str(name.name());
        }
        let list = |numbers: &[f32; 3]| numbers.map(|x| x.to_string()).join(",");
        write!(f, "{}/{}", list(&self.mean), list(&self.std))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_read_and_printed_alike() {
        for name in NormalizationName::ALL {
            let normalization = name.normalization();
            assert_eq!(name.name().parse::<Normalization>().unwrap(), normalization);
            assert_eq!(normalization.to_string(), name.name());
        }
        let other: Normalization = "0.1, 0.2,0.3/0.25".parse().unwrap();
        assert_eq!(other, Normalization { mean: [0.1, 0.2, 0.3], std: [0.25; 3] });
        assert_eq!(other.to_string().parse::<Normalization>().unwrap(), other);
    }

    #[test]
    fn what_is_not_a_normalization_is_refused() {
        for text in
            ["", "caffe", "0.5", "0.5/0", "0.5/-1", "nan/1", "0.5,0.5/0.5", "0/1e-45", "0/inf"]
        {
            let error = text.parse::<Normalization>().unwrap_err().to_string();
            assert!(error.contains("expected a name, or MEAN/STD"), "{text}: {error}");
        }
        let error = "123.675,116.28,103.53/58.395,57.12,57.375".parse::<Normalization>();
        assert!(error.unwrap_err().to_string().contains("divide the numbers by 255"));
    }
}
