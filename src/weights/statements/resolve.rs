//! Applying statements to the config that tensors determine, in order of precedence.

use super::config_files::{CONFIG, PREPROCESSOR};
use super::huggingface::Processor;
use super::library::{ConfigFile, Library, Problem, Stated};
use super::{ConfigFiles, Property, Setting, StatedBy, Statements};
use crate::error::{Result, error};
use crate::models::{BACKGROUND, Config, OutputActivation};
use crate::weights::dialects::{Dialect, ReadOptions};

/// A config with everything that was stated about its network.
pub(crate) struct Resolved {
    pub config: Config,
    pub settings: Vec<Setting>,
    pub notes: Vec<String>,
}

/// Checks that a `config.json` of the dialect's library names no network that computes something
/// else. Before the tensors are interpreted, since theirs may be those of a familiar network.
///
/// # Errors
/// Returns an error with the reason if it does.
pub(crate) fn check_supported(dialect: &dyn Dialect, options: &ReadOptions) -> Result<()> {
    let text = options.config_files.as_ref().and_then(|files| files.config.as_deref());
    match text.map(ConfigFile::parse) {
        Some(Ok(file)) if is_of(file.library, dialect) => match file.check_supported() {
            Err(Problem::Refused(error)) => Err(error),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Applies what is stated about a network to its config: `inferred` from the tensors, or, with
/// `has_metadata`, read from the file's metadata.
///
/// # Errors
/// Returns an error if a statement does not fit the network.
pub(crate) fn resolve(
    dialect: &dyn Dialect,
    options: &ReadOptions,
    inferred: Config,
    has_metadata: bool,
) -> Result<Resolved> {
    let source = if has_metadata { StatedBy::WeightFile } else { StatedBy::Assumed };
    let mut state = Resolving {
        default_stride: inferred.output_stride,
        config: inferred,
        sources: [source; Property::ALL.len()],
        notes: Vec::new(),
        options: &options.statements,
    };
    if let Some(files) = &options.config_files {
        state.notes.extend(files.notes.iter().cloned());
        if has_metadata {
            state.compare_config(files);
        } else {
            state.config_files(dialect, files)?;
        }
    }
    state.options()?;
    state.scale_assumed_rates(dialect)?;
    let settings = state.settings();
    Ok(Resolved { config: state.config, settings, notes: state.notes })
}

fn is_of(library: Library, dialect: &dyn Dialect) -> bool {
    library.dialects().contains(&dialect.name())
}

struct Resolving<'a> {
    config: Config,
    /// The output stride that the code base trains at by default.
    default_stride: usize,
    /// The source of each property, in the order of [`Property::ALL`].
    sources: [StatedBy; Property::ALL.len()],
    notes: Vec<String>,
    /// What the caller states.
    options: &'a Statements,
}

impl Resolving<'_> {
    fn source(&self, property: Property) -> StatedBy {
        self.sources[property as usize]
    }

    fn not_used(&mut self, file: &str, reason: &str) {
        self.notes.push(format!("{file} was not used: {reason}"));
    }

    /// Applies the files beside weights without metadata.
    fn config_files(&mut self, dialect: &dyn Dialect, files: &ConfigFiles) -> Result<()> {
        let belongs = match &files.config {
            Some(text) => self.config_file(dialect, text)?,
            None => true,
        };
        let Some(text) = &files.preprocessor else { return Ok(()) };
        if !is_of(Library::HuggingFace, dialect) {
            self.not_used(PREPROCESSOR, &of_another(Library::HuggingFace, dialect));
        } else if !belongs {
            self.not_used(PREPROCESSOR, "neither was config.json");
        } else {
            self.preprocessor(text);
        }
        Ok(())
    }

    /// Applies a `config.json`. Returns whether it belongs to the network.
    fn config_file(&mut self, dialect: &dyn Dialect, text: &str) -> Result<bool> {
        let read = ConfigFile::parse(text).map_err(Problem::NotUsed).and_then(|file| {
            if is_of(file.library, dialect) {
                Ok((file.library, file.read(&self.config)?))
            } else {
                Err(Problem::NotUsed(of_another(file.library, dialect)))
            }
        });
        match read {
            Ok((library, mut stated)) => {
                if let Some(error) = stated.activation_refused.take()
                    && self.options.activation.is_none()
                {
                    return Err(error);
                }
                let Some(parts) = self.stated(&stated, CONFIG, StatedBy::ConfigFile) else {
                    return Ok(false);
                };
                if !parts.is_empty() {
                    let from = library.name();
                    self.notes.push(format!("{CONFIG} of {from} states {}", parts.join("; ")));
                }
                self.notes.extend(stated.notes);
                Ok(true)
            }
            Err(Problem::NotUsed(reason)) => {
                self.not_used(CONFIG, &reason);
                Ok(false)
            }
            Err(Problem::Refused(error)) => Err(error),
        }
    }

    /// Applies a Hugging Face `preprocessor_config.json`.
    fn preprocessor(&mut self, text: &str) {
        let processor = match Processor::parse(text) {
            Ok(processor) => processor,
            Err(reason) => return self.not_used(PREPROCESSOR, &reason),
        };
        let preprocess = Some(processor.normalization);
        let statements = Statements { preprocess, ..Statements::default() };
        let stated = Stated { statements, ..Stated::default() };
        let Some(mut parts) = self.stated(&stated, PREPROCESSOR, StatedBy::PreprocessorFile) else {
            return;
        };
        let before = self.config.preprocess;
        processor.apply_size(&mut self.config.preprocess);
        let after = self.config.preprocess;
        if (before.size, before.short_side) != (after.size, after.short_side) {
            parts.extend(processor.size.map(|size| size.to_string()));
        }
        self.notes.push(format!("{PREPROCESSOR} states {}", parts.join("; ")));
        self.notes.extend(processor.notes);
    }

    /// Applies what a file states, except for what an option overrides, and returns it as text.
    /// `None`, with a note, if the network cannot have the stated values.
    fn stated(&mut self, stated: &Stated, file: &str, source: StatedBy) -> Option<Vec<String>> {
        let before = (self.config.clone(), self.sources, self.notes.len());
        match self.try_stated(stated, file, source) {
            Ok(parts) => Some(parts),
            Err(e) => {
                (self.config, self.sources) = (before.0, before.1);
                self.notes.truncate(before.2);
                self.not_used(file, &e.to_string());
                None
            }
        }
    }

    /// Like [`Resolving::stated`], with an error for a value that the network cannot have.
    fn try_stated(&mut self, stated: &Stated, file: &str, source: StatedBy) -> Result<Vec<String>> {
        let mut parts = Vec::new();
        if let Some(head) = &mut self.config.head {
            if !stated.class_names.is_empty() {
                parts.push(format!("names of {} classes", stated.class_names.len()));
                let background =
                    (head.activation == OutputActivation::Sigmoid).then(|| BACKGROUND.to_owned());
                head.class_names =
                    background.into_iter().chain(stated.class_names.iter().cloned()).collect();
            }
            head.aspp.dropout = stated.aspp_dropout.unwrap_or(head.aspp.dropout);
        }
        if let Some(eps) = stated.eps {
            parts.insert(0, format!("batch norm eps {eps}"));
            self.config.eps.backbone = eps;
        }
        let mut applied = stated.statements.clone();
        let mut texts = Vec::new();
        for property in Property::ALL {
            let Some(value) = stated.statements.value(property) else { continue };
            texts.push(format!("{property} {value}"));
            self.sources[property as usize] = source;
            match self.options.value(property) {
                Some(option) if option != value => {
                    applied.clear(property);
                    self.notes.push(overrides(property, &option, &value, file));
                }
                _ => {}
            }
        }
        applied.apply(&mut self.config)?;
        texts.extend(parts);
        Ok(texts)
    }

    /// Notes how a `config.json` contradicts the config in the weight file, which is used.
    fn compare_config(&mut self, files: &ConfigFiles) {
        let Some(Ok(file)) = files.config.as_deref().map(ConfigFile::parse) else { return };
        let stated = match file.read(&self.config) {
            Ok(stated) => stated.statements,
            Err(Problem::NotUsed(reason)) => return self.not_used(CONFIG, &reason),
            Err(Problem::Refused(error)) => {
                return self
                    .not_used(CONFIG, &format!("the weights state their own config ({error})"));
            }
        };
        let differing = Property::ALL.iter().find_map(|&property| {
            let (stated, own) = (stated.value(property)?, property.value(&self.config)?);
            (stated != own).then(|| format!("{property} {own}, not {stated}"))
        });
        if let Some(differing) = differing {
            self.not_used(
                CONFIG,
                &format!("the weight file states its own config, with {differing}"),
            );
        }
    }

    /// Applies what the caller states.
    fn options(&mut self) -> Result<()> {
        for property in Property::ALL {
            let Some(option) = self.options.value(property) else { continue };
            let value = property.value(&self.config);
            if self.source(property) == StatedBy::WeightFile
                && let Some(value) = value.filter(|value| *value != option)
            {
                self.notes.push(overrides(property, &option, &value, "the weight file"));
            }
            self.sources[property as usize] = StatedBy::Option;
        }
        self.options.apply(&mut self.config)
    }

    /// Scales rates that nothing states to the stated output stride, if the code base does.
    fn scale_assumed_rates(&mut self, dialect: &dyn Dialect) -> Result<()> {
        let stride = self.config.output_stride;
        let Some(head) = &mut self.config.head else { return Ok(()) };
        if self.sources[Property::Rates as usize] != StatedBy::Assumed
            || !dialect.rates_follow_stride()
        {
            return Ok(());
        }
        for rate in &mut head.aspp.rates {
            let pixels = *rate * self.default_stride;
            if !pixels.is_multiple_of(stride) {
                return Err(error!(
                    Config,
                    "the default atrous rate {rate} at output stride {} is not an integer at output stride {stride}",
                    self.default_stride
                )
                .advice("state the rates with --rates"));
            }
            *rate = pixels / stride;
        }
        Ok(())
    }

    fn settings(&self) -> Vec<Setting> {
        let setting = |property: Property| {
            let value = property.value(&self.config)?;
            Some(Setting { property, value, stated_by: self.source(property) })
        };
        Property::ALL.into_iter().filter_map(setting).collect()
    }
}

/// Returns a note about which of a segmentation network's stride and rates are the code base's
/// defaults. `None` if none are.
pub(crate) fn assumptions(
    dialect: &dyn Dialect,
    config: &Config,
    settings: &[Setting],
) -> Option<String> {
    config.head.as_ref()?;
    let assumed: Vec<&Setting> = [Property::TrainedStride, Property::Rates]
        .into_iter()
        .filter_map(|property| settings.iter().find(|setting| setting.property == property))
        .filter(|setting| setting.stated_by == StatedBy::Assumed)
        .collect();
    if assumed.is_empty() {
        return None;
    }
    let join = |text: fn(&Setting) -> String| {
        assumed.iter().map(|setting| text(setting)).collect::<Vec<_>>().join(" and ")
    };
    Some(format!(
        "assuming {}, as {} by default: nothing states them; use {} if the network was trained with others",
        join(|setting| format!("{} {}", setting.property, setting.value)),
        dialect.title(),
        join(|setting| setting.property.option().to_owned())
    ))
}

fn of_another(library: Library, dialect: &dyn Dialect) -> String {
    format!("it is of {}, the weights have the names of `{dialect}`", library.name())
}

/// Returns the note about an option that contradicts what something else states.
pub(crate) fn overrides(property: Property, option: &str, value: &str, of: &str) -> String {
    format!("{} {option} overrides {value} of {of}", property.option())
}
