//! Frame rates as exact fractions.

use crate::error::{Error, Result, error};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Frames per second: a fraction in lowest terms, with nonzero numerator and denominator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameRate {
    numerator: u32,
    denominator: u32,
}

impl FrameRate {
    /// Default frame rate of image sequences and raw frames: 25 fps.
    pub const DEFAULT: FrameRate = FrameRate { numerator: 25, denominator: 1 };

    /// Creates a frame rate of `numerator / denominator`. Returns `None` if one of them is zero or
    /// does not fit into 32 bits in lowest terms.
    pub fn new(numerator: u64, denominator: u64) -> Option<Self> {
        if numerator == 0 || denominator == 0 {
            return None;
        }
        let common = gcd(numerator, denominator);
        let (numerator, denominator) = (numerator / common, denominator / common);
        Some(Self {
            numerator: numerator.try_into().ok()?,
            denominator: denominator.try_into().ok()?,
        })
    }

    /// Returns the numerator.
    pub fn numerator(self) -> u32 {
        self.numerator
    }

    /// Returns the denominator.
    pub fn denominator(self) -> u32 {
        self.denominator
    }

    /// Returns the frame rate when only every `n`-th frame is kept. `None` if `n` is 0 or the
    /// result does not fit into 32 bits.
    pub fn every(self, n: u64) -> Option<Self> {
        Self::new(self.numerator.into(), u64::from(self.denominator).checked_mul(n)?)
    }

    /// Returns the frames per second as a floating-point number.
    pub fn fps(self) -> f64 {
        f64::from(self.numerator) / f64::from(self.denominator)
    }

    /// Returns the start time of frame `n`, counted from 0.
    pub fn start_of(self, n: u64) -> Duration {
        let nanos = u128::from(n) * u128::from(self.denominator) * 1_000_000_000
            / u128::from(self.numerator);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// Formats as `25`, or `30000/1001` if it is not an integer.
impl fmt::Display for FrameRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.denominator {
            1 => write!(f, "{}", self.numerator),
            d => write!(f, "{}/{d}", self.numerator),
        }
    }
}

/// Parses `25`, `30000/1001`, `30000:1001` or `12.5`. The rounded NTSC rates 23.976, 29.97 and
/// 59.94 become the exact fractions.
impl FromStr for FrameRate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parsed = match text.split_once(['/', ':']) {
            Some((n, d)) => {
                n.trim().parse().ok().zip(d.trim().parse().ok()).and_then(|(n, d)| Self::new(n, d))
            }
            None => match text {
                "23.976" | "23.98" => Self::new(24_000, 1001),
                "29.97" => Self::new(30_000, 1001),
                "59.94" => Self::new(60_000, 1001),
                _ => decimal(text),
            },
        };
        parsed.ok_or_else(|| {
            error!(
                Usage,
                "invalid frame rate `{text}`; use frames per second such as 25, 12.5 or 30000/1001"
            )
        })
    }
}

fn decimal(text: &str) -> Option<FrameRate> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 6 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let scale = 10u64.pow(fraction.len() as u32);
    let fraction: u64 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    FrameRate::new(u64::from(whole.parse::<u32>().ok()?) * scale + fraction, scale)
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_exact_fractions_and_back() {
        for (text, n, d, shown) in [
            ("25", 25, 1, "25"),
            ("50/2", 25, 1, "25"),
            ("30000:1001", 30000, 1001, "30000/1001"),
            ("29.97", 30000, 1001, "30000/1001"),
            ("12.5", 25, 2, "25/2"),
            ("0.1", 1, 10, "1/10"),
        ] {
            let rate: FrameRate = text.parse().unwrap();
            assert_eq!(
                (rate.numerator(), rate.denominator(), rate.to_string().as_str()),
                (n, d, shown),
                "{text}"
            );
        }
        for text in
            ["", "0", "25/0", "0:0", "-5", "fast", "1/2/3", "99999999999", "1.2.3", "1.-2", "+.5x"]
        {
            let error = text.parse::<FrameRate>().unwrap_err().to_string();
            assert!(error.contains("invalid frame rate"), "{text}: {error}");
        }
    }

    #[test]
    fn times_of_frames_do_not_drift() {
        let ntsc = FrameRate::new(30_000, 1001).unwrap();
        assert_eq!(ntsc.start_of(30_000), Duration::from_secs(1001));
        assert_eq!(ntsc.start_of(1).as_nanos(), 33_366_666);
        assert_eq!(ntsc.every(3).unwrap().to_string(), "10000/1001");
        assert_eq!(FrameRate::DEFAULT.every(0), None);
        assert_eq!(
            FrameRate::new(1, 1).unwrap().start_of(u64::MAX),
            Duration::from_nanos(u64::MAX)
        );
    }
}
