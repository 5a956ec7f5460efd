//! Frames a second as an exact fraction.

use crate::error::{Error, Result, error};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Frames a second: a fraction in lowest terms, neither part zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    numerator: u32,
    denominator: u32,
}

impl Rate {
    /// What images and raw frames are played at where nothing else is said.
    pub const USUAL: Rate = Rate { numerator: 25, denominator: 1 };

    /// `numerator / denominator` frames a second; `None` where one of them is zero, or the fraction
    /// in lowest terms has a part past 32 bits.
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

    /// The fraction's upper part.
    pub fn numerator(self) -> u32 {
        self.numerator
    }

    /// The fraction's lower part.
    pub fn denominator(self) -> u32 {
        self.denominator
    }

    /// The rate that is left where only every `n`th frame is; `None` where that is none, or no
    /// fraction of 32 bits.
    pub fn every(self, n: u64) -> Option<Self> {
        Self::new(self.numerator.into(), u64::from(self.denominator).checked_mul(n)?)
    }

    /// Frames a second, rounded to a floating-point number.
    pub fn per_second(self) -> f64 {
        f64::from(self.numerator) / f64::from(self.denominator)
    }

    /// When frame `n`, counted from 0, begins.
    pub fn begin_of(self, n: u64) -> Duration {
        let nanos = u128::from(n) * u128::from(self.denominator) * 1_000_000_000
            / u128::from(self.numerator);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// `25`, or `30000/1001` where it is no whole number.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.denominator {
            1 => write!(f, "{}", self.numerator),
            d => write!(f, "{}/{d}", self.numerator),
        }
    }
}

/// `25`, `30000/1001`, `30000:1001`, `12.5`. The rounded figures of television (23.976, 29.97,
/// 59.94) are taken for what they stand for.
impl FromStr for Rate {
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
                "`{text}` is no rate; give frames a second such as 25, 12.5 or 30000/1001"
            )
        })
    }
}

fn decimal(text: &str) -> Option<Rate> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() > 6 || !part.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let scale = 10u64.pow(part.len() as u32);
    let part: u64 = if part.is_empty() { 0 } else { part.parse().ok()? };
    Rate::new(whole.parse::<u32>().ok().map(|w| u64::from(w) * scale + part)?, scale)
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
            let rate: Rate = text.parse().unwrap();
            assert_eq!(
                (rate.numerator(), rate.denominator(), rate.to_string().as_str()),
                (n, d, shown),
                "{text}"
            );
        }
        for text in
            ["", "0", "25/0", "0:0", "-5", "fast", "1/2/3", "99999999999", "1.2.3", "1.-2", "+.5x"]
        {
            let error = text.parse::<Rate>().unwrap_err().to_string();
            assert!(error.contains("no rate"), "{text}: {error}");
        }
    }

    #[test]
    fn times_of_frames_do_not_drift() {
        let ntsc = Rate::new(30_000, 1001).unwrap();
        assert_eq!(ntsc.begin_of(30_000), Duration::from_secs(1001));
        assert_eq!(ntsc.begin_of(1).as_nanos(), 33_366_666);
        assert_eq!(ntsc.every(3).unwrap().to_string(), "10000/1001");
        assert_eq!(Rate::USUAL.every(0), None);
        assert_eq!(Rate::new(1, 1).unwrap().begin_of(u64::MAX), Duration::from_nanos(u64::MAX));
    }
}
