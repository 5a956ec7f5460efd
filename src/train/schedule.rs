//! Learning rates over a run.

use crate::error::{Result, error};
use serde::{Deserialize, Serialize};

/// How the rate falls after the warm-up, from 1 on: a factor of the base rate.
///
/// In a recipe a table with its `kind`, as the optimizer's: `[decay]`, `kind = "poly"`,
/// `power = 0.9`. What earlier versions wrote is read as well: `decay = { poly = { power = 0.9 } }`
/// and `decay = "constant"`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Decay {
    /// It stays.
    Constant,
    /// `(1 - t)^power`, with `t` the share of the run that is done (DeepLab; power 0.9).
    Poly {
        /// Usually 0.9.
        power: f64,
    },
    /// `factor` times as much after every `every` steps.
    Step {
        /// Steps between changes.
        every: u32,
        /// Usually 0.1.
        factor: f64,
    },
    /// `(1 + cos(pi * t)) / 2`.
    Cosine,
}

/// A [`Decay`] as its fields are written; what is named by `kind` or by the only key.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Written {
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
        // Both ways of writing become the second one: a table whose only key is the kind.
        let (kind, fields) = match Value::deserialize(from)? {
            Value::String(kind) => (kind, Value::Object(Map::new())),
            Value::Object(mut table) => match table.remove("kind") {
                Some(Value::String(kind)) => (kind, Value::Object(table)),
                Some(other) => {
                    return Err(D::Error::custom(format!("`kind` must be {kinds}, got {other}")));
                }
                None => match (table.len(), table.into_iter().next()) {
                    (1, Some((kind, fields))) if fields.is_object() => (kind, fields),
                    _ => return Err(D::Error::custom(format!("needs a `kind`: {kinds}"))),
                },
            },
            other => {
                return Err(D::Error::custom(format!(
                    "must be a table with a `kind`, {kinds}, got {other}"
                )));
            }
        };
        let written = Written::deserialize(Value::Object(Map::from_iter([(kind, fields)])));
        Ok(match written.map_err(D::Error::custom)? {
            Written::Constant {} => Self::Constant,
            Written::Poly { power } => Self::Poly { power },
            Written::Step { every, factor } => Self::Step { every, factor },
            Written::Cosine {} => Self::Cosine,
        })
    }
}

/// The learning rate of each step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The rate after the warm-up.
    pub base: f64,
    /// How it falls.
    pub decay: Decay,
    /// Steps of the whole run.
    pub steps: u32,
    /// Steps in which the rate rises in a straight line: step `s` of them, counted from 0, has
    /// `base * (s + 1) / warm_up`.
    #[serde(default)]
    pub warm_up: u32,
    /// The rate never falls below this.
    #[serde(default)]
    pub floor: f64,
}

impl Schedule {
    /// Checks that the numbers make sense.
    ///
    /// # Errors
    /// With the number that does not.
    pub fn validate(&self) -> Result<()> {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        if !positive(self.base) {
            return Err(error!(
                Config,
                "the learning rate must be a positive number, got {}", self.base
            ));
        }
        if self.steps == 0 || self.warm_up >= self.steps {
            return Err(error!(
                Config,
                "a run of {} steps has no room for {} of warm-up", self.steps, self.warm_up
            ));
        }
        if !(0.0..=self.base).contains(&self.floor) {
            return Err(error!(
                Config,
                "the lowest rate must be 0 to the base rate {}, got {}", self.base, self.floor
            ));
        }
        match self.decay {
            Decay::Poly { power } if !positive(power) => {
                Err(error!(Config, "the power must be a positive number, got {power}"))
            }
            Decay::Step { every: 0, .. } => Err(error!(Config, "a rate cannot fall every 0 steps")),
            Decay::Step { factor, .. } if !(0.0..=1.0).contains(&factor) => {
                Err(error!(Config, "the factor of a step must be 0 to 1, got {factor}"))
            }
            _ => Ok(()),
        }
    }

    /// The rate of a step, counted from 0. Past the end it stays at that of the end.
    pub fn rate(&self, step: u32) -> f64 {
        if step < self.warm_up {
            return self.base * f64::from(step + 1) / f64::from(self.warm_up);
        }
        let (done, all) = (
            f64::from(step.min(self.steps) - self.warm_up),
            f64::from((self.steps - self.warm_up).max(1)),
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
        Schedule { base: 0.01, decay, steps: 100, warm_up: 0, floor: 0.0 }
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
                assert!(close(s.rate(step), want), "{decay:?} at {step}: {}", s.rate(step));
            }
        }
    }

    #[test]
    fn the_warm_up_rises_to_the_base_rate_and_the_floor_holds() {
        let s = Schedule { warm_up: 10, floor: 1e-6, ..schedule(Decay::Poly { power: 0.9 }) };
        assert!(close(s.rate(0), 0.001) && close(s.rate(9), 0.01) && close(s.rate(10), 0.01));
        assert!(s.rate(11) < 0.01);
        assert_eq!((s.rate(100), s.rate(u32::MAX)), (1e-6, 1e-6));
        assert!((0..99).all(|step| s.rate(step) > 0.0 && s.rate(step) <= 0.01));
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
        for (text, part) in [
            ("[decay]\nkind = \"polly\"", "polly"),
            ("[decay]\nkind = \"poly\"", "power"),
            ("[decay]\nkind = \"poly\"\npower = 0.9\nevery = 2", "every"),
            ("[decay]\npower = 0.9", "needs a `kind`"),
            ("decay = 3", "must be a table"),
            (
                "decay = { poly = { power = 0.9 }, step = { every = 3, factor = 0.1 } }",
                "needs a `kind`",
            ),
        ] {
            let error = toml::from_str::<File>(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused() {
        let good = schedule(Decay::Cosine);
        for (bad, message) in [
            (Schedule { base: 0.0, ..good }, "learning rate"),
            (Schedule { base: f64::NAN, ..good }, "learning rate"),
            (Schedule { steps: 0, ..good }, "warm-up"),
            (Schedule { warm_up: 100, ..good }, "warm-up"),
            (Schedule { floor: 0.02, ..good }, "lowest rate"),
            (Schedule { decay: Decay::Poly { power: -1.0 }, ..good }, "power"),
            (Schedule { decay: Decay::Step { every: 0, factor: 0.1 }, ..good }, "every 0"),
            (Schedule { decay: Decay::Step { every: 1, factor: 2.0 }, ..good }, "factor"),
        ] {
            assert!(bad.validate().unwrap_err().to_string().contains(message), "{bad:?}");
        }
    }
}
