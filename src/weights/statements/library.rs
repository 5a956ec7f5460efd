//! The config files of libraries: whose they are, and reading their fields.

use super::config_files::{CONFIG, MAX_BYTES};
use super::{Normalization, Statements, huggingface, smp, timm};
use crate::error::{Error, Result, error};
use crate::models::Config;
use crate::text::excerpt;
use serde_json::{Map, Value};

/// A library that stores a `config.json` beside its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Library {
    Smp,
    HuggingFace,
    Timm,
}

impl Library {
    pub fn name(self) -> &'static str {
        match self {
            Self::Smp => "segmentation_models_pytorch",
            Self::HuggingFace => "Hugging Face",
            Self::Timm => "timm",
        }
    }

    /// Returns the dialects of the library's weights.
    pub fn dialects(self) -> &'static [&'static str] {
        match self {
            Self::Smp => &["smp"],
            Self::HuggingFace => &["huggingface"],
            Self::Timm => &["timm", "imagenet"],
        }
    }
}

/// What the config file of a network states.
#[derive(Debug, Default)]
pub(super) struct Stated {
    pub statements: Statements,
    /// Epsilon of the backbone's batch norms.
    pub eps: Option<f32>,
    /// Dropout probability of the ASPP, in training.
    pub aspp_dropout: Option<f32>,
    /// Why the activation that the file states is not supported.
    pub activation_refused: Option<Error>,
    /// Names of the classifier's outputs.
    pub class_names: Vec<String>,
    pub notes: Vec<String>,
}

/// Why a config file is not applied.
#[derive(Debug)]
pub(super) enum Problem {
    /// The file is damaged or belongs to another network. The text continues `config.json was not
    /// used: `.
    NotUsed(String),
    /// The network computes something else than this crate.
    Refused(Error),
}

impl From<String> for Problem {
    fn from(reason: String) -> Self {
        Self::NotUsed(reason)
    }
}

/// Returns the problem of a network that this crate cannot compute.
pub(super) fn refused(reason: String, advice: String) -> Problem {
    Problem::Refused(error!(Weights, "{reason}").at(CONFIG).advice(advice))
}

/// A `config.json` of a known library.
pub(super) struct ConfigFile {
    pub library: Library,
    fields: Map<String, Value>,
}

impl ConfigFile {
    /// Parses a `config.json`. The error is the reason not to use it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fields = parse_object(text)?;
        let library = if fields.contains_key("encoder_name") {
            Library::Smp
        } else if fields.get("architecture").is_some_and(Value::is_string) {
            Library::Timm
        } else if fields.contains_key("model_type") || fields.contains_key("architectures") {
            Library::HuggingFace
        } else {
            return Err("it is not of segmentation_models_pytorch, Hugging Face or timm".to_owned());
        };
        Ok(Self { library, fields })
    }

    /// Returns the fields of the file.
    pub fn fields(&self) -> Fields<'_> {
        Fields(&self.fields)
    }

    /// Checks what does not depend on the tensors: whether this crate computes the network that the
    /// file names.
    pub fn check_supported(&self) -> Result<(), Problem> {
        let fields = self.fields();
        match self.library {
            Library::Smp => smp::check_supported(fields),
            Library::HuggingFace => huggingface::check_supported(fields),
            Library::Timm => timm::check_supported(fields),
        }
    }

    /// Reads what the file states about a network. `inferred` is what its tensors determine.
    pub fn read(&self, inferred: &Config) -> Result<Stated, Problem> {
        self.check_supported()?;
        let fields = self.fields();
        match self.library {
            Library::Smp => smp::read(fields, inferred),
            Library::HuggingFace => huggingface::read(fields, inferred),
            Library::Timm => timm::read(fields, inferred),
        }
    }
}

/// Parses a JSON object. The error is the reason not to use it.
pub(super) fn parse_object(text: &str) -> Result<Map<String, Value>, String> {
    if text.len() as u64 > MAX_BYTES {
        return Err(format!("it is larger than {MAX_BYTES} bytes"));
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err("it is not a JSON object".to_owned()),
        Err(e) => Err(format!("it is not valid JSON: {e}")),
    }
}

/// The fields of a config file. A missing field and `null` are the same. The error of each method
/// is the reason not to use the file.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(pub &'a Map<String, Value>);

impl<'a> Fields<'a> {
    fn get<T>(
        self,
        name: &str,
        expected: &str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, String> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => convert(value).map(Some).ok_or_else(|| {
                format!("its `{name}` is not {expected}: {}", excerpt(&value.to_string()))
            }),
        }
    }

    pub fn text(self, name: &str) -> Result<Option<&'a str>, String> {
        self.get(name, "a string", Value::as_str)
    }

    pub fn boolean(self, name: &str) -> Result<Option<bool>, String> {
        self.get(name, "true or false", Value::as_bool)
    }

    /// Returns a positive integer.
    pub fn count(self, name: &str) -> Result<Option<usize>, String> {
        self.get(name, "a positive integer", positive)
    }

    pub fn counts(self, name: &str) -> Result<Option<Vec<usize>>, String> {
        let list = |value: &Value| value.as_array()?.iter().map(positive).collect();
        self.get(name, "a list of positive integers", list)
    }

    pub fn number(self, name: &str) -> Result<Option<f64>, String> {
        self.get(name, "a number", Value::as_f64)
    }

    /// Returns numbers for red, green and blue.
    pub fn rgb(self, name: &str) -> Result<Option<[f64; 3]>, String> {
        let three = |value: &Value| {
            let numbers: Option<Vec<f64>> = value.as_array()?.iter().map(Value::as_f64).collect();
            numbers?.try_into().ok()
        };
        self.get(name, "a list of three numbers", three)
    }

    pub fn object(self, name: &str) -> Result<Option<Fields<'a>>, String> {
        self.get(name, "an object", |value| value.as_object().map(Fields))
    }

    /// Returns mean and deviation of a normalization, for values that are `scale` times as large as
    /// pixels in 0 to 1.
    pub fn normalization(
        self,
        mean: &str,
        std: &str,
        scale: f64,
    ) -> Result<Option<Normalization>, String> {
        let (Some(means), Some(stds)) = (self.rgb(mean)?, self.rgb(std)?) else {
            return Ok(None);
        };
        normalization(means, stds, scale).map(Some)
    }
}

/// Converts mean and deviation to those for pixels in 0 to 1.
pub(super) fn normalization(
    mean: [f64; 3],
    std: [f64; 3],
    scale: f64,
) -> Result<Normalization, String> {
    Normalization::new(mean.map(|x| x / scale), std.map(|x| x / scale))
        .ok_or_else(|| format!("its mean {mean:?} and deviation {std:?} are not valid"))
}

pub(super) fn positive(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0)
}

/// Checks that a number in the file is that of the network.
pub(super) fn same(what: &str, stated: Option<usize>, actual: usize) -> Result<(), String> {
    match stated {
        Some(stated) if stated != actual => Err(contradiction(what, stated, actual)),
        _ => Ok(()),
    }
}

/// Formats a contradiction between the file and the weights.
pub(super) fn contradiction(
    what: &str,
    stated: impl std::fmt::Display,
    actual: impl std::fmt::Display,
) -> String {
    let stated = stated.to_string();
    format!(
        "it belongs to another network: its {what} is {}, the weights have {actual}",
        excerpt(&stated)
    )
}

/// Returns the advice for a config file that names a network which is not supported.
pub(super) fn elsewhere(alternatives: &str) -> String {
    format!("{alternatives}; if config.json belongs to other weights, move it away")
}
