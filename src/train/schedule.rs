//! Learning-rate schedules.

use crate::error::{Result, error};
use serde::{Deserialize, Serialize};

/// Decay of the learning rate after the warm-up: a factor of the base rate, starting at 1.
///
/// In a recipe it is a table with a `kind`, like the optimizer: `[decay]`, `kind = "poly"`,
/// `power = 0.9`. The syntax of earlier versions is also accepted:
/// `decay = { poly = { power = 0.9 } }` and `decay = "constant"`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Decay {
    /// Constant.
    Constant,
    /// `(1 - t)^power`, with `t` the completed fraction of the run (DeepLab).
    Poly {
        /// Typically 0.9.
        power: f64,
    },
    /// Multiplied by `factor` after every `every` steps.
    Step {
        /// Steps between changes.
        every: u32,
        /// Typically 0.1.
        factor: f64,
    },
    /// `(1 + cos(pi * t)) / 2`.
    Cosine,
}

/// The fields of a [`Decay`], keyed by its kind.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum DecayFields {
    Constant {},
    Poly { power: f64 },
    Step { every: u32, factor: f64 },
    Cosine {},
}

impl<'de> Deserialize<'de> for Decay {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        use serde_json::{Map, Value};
        let kinds = "constant, poly, step or cosine";
        // Convert both syntaxes to the second: a table whose only key is the kind.
        let (kind, fields) = match Value::deserialize(from)? {
            Value::String(kind) => (kind, Value::Object(Map::new())),
            Value::Object(mut table) => match table.remove("kind") {
                Some(Value::String(kind)) => (kind, Value::Object(table)),
                Some(other) => {
                    return Err(D::Error::custom(format!("`kind` must be {kinds}, got {other}")));
                }
                None => match (table.len(), table.into_iter().next()) {
                    (1, Some((kind, fields))) if fields.is_object() => (kind, fields),
                    _ => return Err(D::Error::custom(format!("missing `kind`: {kinds}"))),
                },
            },
            other => {
                return Err(D::Error::custom(format!(
                    "must be a table with a `kind` ({kinds}), got {other}"
                )));
            }
        };
        let fields = DecayFields::deserialize(Value::Object(Map::from_iter([(kind, fields)])));
        Ok(match fields.map_err(D::Error::custom)? {
            DecayFields::Constant {} => Self::Constant,
            DecayFields::Poly { power } => Self::Poly { power },
            DecayFields::Step { every, factor } => Self::Step { every, factor },
            DecayFields::Cosine {} => Self::Cosine,
        })
    }
}

/// Learning rate as a function of the step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Learning rate after the warm-up.
    pub base: f64,
    /// Decay after the warm-up.
    pub decay: Decay,
    /// Steps of the whole run.
    pub steps: u32,
    /// Steps of linear warm-up: step `s` of them, counted from 0, has the learning rate
    /// `base * (s + 1) / warmup`.
    #[serde(default, alias = "warm_up")]
    pub warmup: u32,
    /// Minimum learning rate after the warm-up.
    #[serde(default)]
    pub floor: f64,
}

impl Schedule {
    /// Checks the fields.
    ///
    /// # Errors
    /// Returns an error that names the first invalid field.
    pub fn validate(&self) -> Result<()> {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        if !positive(self.base) {
            return Err(error!(
                Config,
                "the learning rate must be a positive number, got {}", self.base
            ));
        }
        if self.steps == 0 || self.warmup >= self.steps {
            return Err(error!(
                Config,
                "the warm-up of {} steps must be shorter than the run of {} steps",
                self.warmup,
                self.steps
            ));
        }
        if !(0.0..=self.base).contains(&self.floor) {
            return Err(error!(
                Config,
                "the lowest learning rate must be 0 to the base learning rate {}, got {}",
                self.base,
                self.floor
            ));
        }
        match self.decay {
            Decay::Poly { power } if !positive(power) => {
                Err(error!(Config, "the power must be a positive number, got {power}"))
            }
            Decay::Step { every: 0, .. } => {
                Err(error!(Config, "the learning rate cannot decay every 0 steps"))
            }
            Decay::Step { factor, .. } if !(0.0..=1.0).contains(&factor) => {
                Err(error!(Config, "the factor of a step must be 0 to 1, got {factor}"))
            }
            _ => Ok(()),
        }
    }

    /// Learning rate of a step, counted from 0. Past the end of the run it stays constant.
    pub fn learning_rate(&self, step: u32) -> f64 {
        if step < self.warmup {
            return self.base * f64::from(step + 1) / f64::from(self.warmup);
        }
        let (done, all) = (
            f64::from(step.min(self.steps) - self.warmup),
            f64::from((self.steps - self.warmup).max(1)),
        );
        let factor = match self.decay {
            Decay::Constant => 1.0,
            Decay::Poly { power } => (1.0 - done / all).powf(power),
            Decay::Step { every, factor } => factor.powf((done / f64::from(every.max(1))).floor()),
            Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done / all).cos()),
        };
        (self.base * factor).max(self.floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(decay: Decay) -> Schedule {
        Schedule { base: 0.01, decay, steps: 100, warmup: 0, floor: 0.0 }
    }

    fn close(got: f64, want: f64) -> bool {
        (got - want).abs() <= 1e-12 * want.abs().max(1e-3)
    }

    #[test]
    fn rates_are_those_of_pytorchs_schedulers() {
        // PolynomialLR(total_iters=100, power=0.9), StepLR(30, 0.1), CosineAnnealingLR(100) from
        // 0.01, after 0, 50 and 75 steps.
        for (decay, wanted) in [
            (Decay::Poly { power: 0.9 }, [0.01, 0.005358867312681466, 0.0028717458874925874]),
            (Decay::Step { every: 30, factor: 0.1 }, [0.01, 0.001, 0.0001]),
            (Decay::Cosine, [0.01, 0.005, 0.0014644660940672624]),
            (Decay::Constant, [0.01; 3]),
        ] {
            let s = schedule(decay);
            s.validate().unwrap();
            for (step, want) in [0, 50, 75].into_iter().zip(wanted) {
                let learning_rate = s.learning_rate(step);
                assert!(close(learning_rate, want), "{decay:?} at {step}: {learning_rate}");
            }
        }
    }

    #[test]
    fn the_warm_up_rises_to_the_base_rate_and_the_floor_holds() {
        let s = Schedule { warmup: 10, floor: 1e-6, ..schedule(Decay::Poly { power: 0.9 }) };
        let at = |step| s.learning_rate(step);
        assert!(close(at(0), 0.001) && close(at(9), 0.01) && close(at(10), 0.01));
        assert!(at(11) < 0.01);
        assert_eq!((at(100), at(u32::MAX)), (1e-6, 1e-6));
        assert!((0..99).all(|step| at(step) > 0.0 && at(step) <= 0.01));
    }

    #[test]
    fn a_decay_is_tagged_by_its_kind_and_the_older_way_is_still_read() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct File {
            decay: Decay,
        }
        let (poly, step) = (Decay::Poly { power: 0.5 }, Decay::Step { every: 3, factor: 0.5 });
        for (text, decay) in [
            ("[decay]\nkind = \"poly\"\npower = 0.5", poly),
            ("decay = { power = 0.5, kind = \"poly\" }", poly),
            ("decay = { poly = { power = 0.5 } }", poly),
            ("[decay.step]\nevery = 3\nfactor = 0.5", step),
            ("[decay]\nkind = \"step\"\nevery = 3\nfactor = 0.5", step),
            ("decay = \"constant\"", Decay::Constant),
            ("decay = { kind = \"cosine\" }", Decay::Cosine),
        ] {
            assert_eq!(toml::from_str::<File>(text).unwrap().decay, decay, "{text}");
        }
        for decay in [poly, step, Decay::Constant, Decay::Cosine] {
            let text = toml::to_string(&File { decay }).unwrap();
            assert!(text.contains("kind = "), "{text}");
            assert_eq!(toml::from_str::<File>(&text).unwrap().decay, decay);
        }
        for (text, message) in [
            ("[decay]\nkind = \"polly\"", "polly"),
            ("[decay]\nkind = \"poly\"", "power"),
            ("[decay]\nkind = \"poly\"\npower = 0.9\nevery = 2", "every"),
            ("[decay]\npower = 0.9", "missing `kind`"),
            ("decay = 3", "must be a table"),
            (
                "decay = { poly = { power = 0.9 }, step = { every = 3, factor = 0.1 } }",
                "missing `kind`",
            ),
        ] {
            let error = toml::from_str::<File>(text).unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused() {
        let good = schedule(Decay::Cosine);
        for (bad, message) in [
            (Schedule { base: 0.0, ..good }, "learning rate"),
            (Schedule { base: f64::NAN, ..good }, "learning rate"),
            (Schedule { steps: 0, ..good }, "warm-up"),
            (Schedule { warmup: 100, ..good }, "warm-up"),
            (Schedule { floor: 0.02, ..good }, "lowest learning rate"),
            (Schedule { decay: Decay::Poly { power: -1.0 }, ..good }, "power"),
            (Schedule { decay: Decay::Step { every: 0, factor: 0.1 }, ..good }, "every 0"),
            (Schedule { decay: Decay::Step { every: 1, factor: 2.0 }, ..good }, "factor"),
        ] {
            assert!(bad.validate().unwrap_err().to_string().contains(message), "{bad:?}");
        }
    }
}
