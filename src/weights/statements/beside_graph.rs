//! What the files beside a network add whose own file holds its graph (ONNX): names of the classes,
//! preprocessing, and what the outputs mean.

use super::config_files::{CONFIG, PREPROCESSOR};
use super::huggingface::{self, Processor};
use super::library::{ConfigFile, Library, Problem, same};
use super::{ConfigFiles, Normalization, StatedBy, smp};
use crate::models::{OutputActivation, Preprocessing};

/// What the files beside a graph state.
#[derive(Debug, Default)]
pub(crate) struct BesideGraph {
    /// Names of the outputs' classes. Empty if none are stated.
    pub class_names: Vec<String>,
    /// How the outputs become probabilities.
    pub activation: Option<OutputActivation>,
    /// The preprocessing, and which file states it.
    pub preprocess: Option<(Preprocessing, StatedBy)>,
    /// What was used, and what was not and why.
    pub notes: Vec<String>,
}

impl BesideGraph {
    /// Reads what the files state about a graph with these numbers of input channels, and of outputs
    /// per pixel.
    pub fn read(files: &ConfigFiles, channels: usize, outputs: usize) -> Self {
        let mut beside = Self { notes: files.notes.clone(), ..Self::default() };
        let is_used = match &files.config {
            Some(text) => {
                let read = beside.config(text, channels, outputs);
                beside.note(CONFIG, read)
            }
            None => true,
        };
        if let Some(text) = &files.preprocessor {
            let read = if is_used {
                beside.preprocessor(text)
            } else {
                Err(format!("neither was {CONFIG}"))
            };
            beside.note(PREPROCESSOR, read);
        }
        beside
    }

    /// Notes what was used of a file, or why it was not. Returns whether it was.
    fn note(&mut self, file: &str, read: Result<Vec<String>, String>) -> bool {
        let is_used = read.is_ok();
        match read {
            Ok(parts) if parts.is_empty() => {}
            Ok(parts) => self.notes.push(format!("{file} states {}", parts.join("; "))),
            Err(reason) => self.notes.push(format!("{file} was not used: {reason}")),
        }
        is_used
    }

    fn config(
        &mut self,
        text: &str,
        channels: usize,
        outputs: usize,
    ) -> Result<Vec<String>, String> {
        let file = ConfigFile::parse(text)?;
        let fields = file.fields();
        let mut normalization = None;
        match file.library {
            Library::HuggingFace => {
                same("`num_channels`", fields.count("num_channels")?, channels)?;
                self.class_names = huggingface::class_names(fields, outputs)?;
            }
            Library::Smp => {
                same("`in_channels`", fields.count("in_channels")?, channels)?;
                same("`classes`", fields.count("classes")?, outputs)?;
                self.activation = smp::activation(fields).map_err(reason)?;
                normalization = smp::preprocess(fields).map_err(reason)?;
            }
            Library::Timm => return Err("it is of timm, whose networks have no masks".to_owned()),
        }
        let mut parts = Vec::new();
        if let Some(activation) = self.activation {
            parts.push(format!("activation {}", super::activation(activation)));
        }
        if let Some(normalization) = normalization {
            parts.push(format!("preprocessing {normalization}"));
            self.preprocess = Some((normalized(normalization), StatedBy::ConfigFile));
        }
        if !self.class_names.is_empty() {
            parts.push(format!("names of {} classes", self.class_names.len()));
        }
        Ok(parts)
    }

    fn preprocessor(&mut self, text: &str) -> Result<Vec<String>, String> {
        let processor = Processor::parse(text)?;
        let mut preprocess = normalized(processor.normalization);
        processor.apply_size(&mut preprocess);
        let mut parts = vec![format!("preprocessing {}", processor.normalization)];
        parts.extend(processor.size.map(|size| size.to_string()));
        self.preprocess = Some((preprocess, StatedBy::PreprocessorFile));
        self.notes.extend(processor.notes);
        Ok(parts)
    }
}

/// A preprocessing that leaves the size of an image as it is.
fn normalized(normalization: Normalization) -> Preprocessing {
    let Normalization { mean, std } = normalization;
    Preprocessing { mean, std, ..Preprocessing::IMAGENET }
}

fn reason(problem: Problem) -> String {
    match problem {
        Problem::NotUsed(reason) => reason,
        Problem::Refused(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(config: Option<&str>, preprocessor: Option<&str>) -> BesideGraph {
        let text = |text: Option<&str>| text.map(str::to_owned);
        BesideGraph::read(&ConfigFiles::new(text(config), text(preprocessor)), 3, 2)
    }

    #[test]
    fn names_and_preprocessing_of_hugging_face() {
        let config = r#"{"model_type": "segformer", "id2label": {"0": "sky", "1": "sea"}}"#;
        let processor = r#"{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "size": {"shortest_edge": 300}}"#;
        let beside = read(Some(config), Some(processor));
        assert_eq!(beside.class_names, ["sky", "sea"]);
        let (preprocess, stated_by) = beside.preprocess.unwrap();
        assert_eq!((preprocess.mean, preprocess.short_side), ([0.5; 3], Some(300)));
        assert_eq!(stated_by, StatedBy::PreprocessorFile);
        assert_eq!(
            beside.notes,
            [
                "config.json states names of 2 classes",
                "preprocessor_config.json states preprocessing tensorflow; short side 300"
            ]
        );
    }

    #[test]
    fn the_config_of_segmentation_models_pytorch() {
        let config = r#"{"encoder_name": "resnet18", "classes": 2, "activation": "sigmoid",
            "mean": [0.1, 0.2, 0.3], "std": [1, 1, 1], "input_range": [0, 1]}"#;
        let beside = read(Some(config), None);
        assert_eq!(beside.activation, Some(OutputActivation::Sigmoid));
        assert_eq!(beside.preprocess.unwrap().0.mean, [0.1, 0.2, 0.3]);
    }

    #[test]
    fn files_of_other_networks_are_noted_and_not_used() {
        let three = r#"{"model_type": "x", "id2label": {"0": "a", "1": "b", "2": "c"}}"#;
        let beside = read(Some(three), Some(r#"{"do_normalize": false}"#));
        assert!(beside.class_names.is_empty() && beside.preprocess.is_none());
        assert!(beside.notes[0].contains("config.json was not used"), "{:?}", beside.notes);
        assert!(beside.notes[1].contains("neither was config.json"), "{:?}", beside.notes);
        let gray = r#"{"encoder_name": "resnet18", "in_channels": 1}"#;
        assert!(read(Some(gray), None).notes[0].contains("`in_channels` is 1"));
        assert!(read(Some("{}"), None).notes[0].contains("was not used"));
    }
}
