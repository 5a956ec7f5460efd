//! The files that code bases store beside their weights.

use crate::files::read_text_at_most;
use std::path::Path;

/// Size limit of a config file. Real ones have a few kilobytes; those with the names of thousands
/// of classes, some hundred.
pub(super) const MAX_BYTES: u64 = 1 << 20;

/// Name of the file that describes a network.
pub(super) const CONFIG: &str = "config.json";
/// Name of Hugging Face's file that describes the preprocessing of images.
pub(super) const PREPROCESSOR: &str = "preprocessor_config.json";

/// The files that code bases store beside their weights: `config.json` of
/// segmentation_models_pytorch, Hugging Face and timm, and Hugging Face's
/// `preprocessor_config.json`.
///
/// They are untrusted text, which [`load`](super::super::dialects::load) interprets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigFiles {
    /// The text of `config.json`, if there is one.
    pub config: Option<String>,
    /// The text of `preprocessor_config.json`, if there is one.
    pub preprocessor: Option<String>,
    /// Notes about files that could not be read.
    pub(super) notes: Vec<String>,
}

impl ConfigFiles {
    /// Creates the files from their texts.
    pub fn new(config: Option<String>, preprocessor: Option<String>) -> Self {
        Self { config, preprocessor, notes: Vec::new() }
    }

    /// Reads the files in the directory of a weight file. One that exists and cannot be read, or is
    /// larger than 1 MiB, becomes a note.
    pub fn beside(weights: &Path) -> Self {
        let mut notes = Vec::new();
        let mut read = |name: &str| {
            let path = weights.with_file_name(name);
            if path.symlink_metadata().is_err() {
                return None;
            }
            let text = read_text_at_most(&path, MAX_BYTES);
            text.map_err(|e| notes.push(format!("{name} was not used: {e}"))).ok()
        };
        let (config, preprocessor) = (read(CONFIG), read(PREPROCESSOR));
        Self { config, preprocessor, notes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn files_are_read_from_the_directory_of_the_weights() {
        let directory = tempfile::tempdir().unwrap();
        let weights = directory.path().join("a.safetensors");
        assert_eq!(ConfigFiles::beside(&weights), ConfigFiles::default());
        fs::write(directory.path().join(CONFIG), "{}").unwrap();
        let files = ConfigFiles::beside(&weights);
        assert_eq!((files.config.as_deref(), files.preprocessor), (Some("{}"), None));
        assert!(files.notes.is_empty());
    }

    #[test]
    fn files_that_are_too_large_or_no_files_are_noted() {
        let directory = tempfile::tempdir().unwrap();
        let weights = directory.path().join("a.safetensors");
        fs::write(directory.path().join(CONFIG), vec![b' '; (MAX_BYTES + 1) as usize]).unwrap();
        fs::create_dir(directory.path().join(PREPROCESSOR)).unwrap();
        let files = ConfigFiles::beside(&weights);
        assert_eq!((&files.config, &files.preprocessor), (&None, &None));
        assert!(files.notes[0].contains("config.json was not used"), "{:?}", files.notes);
        assert!(files.notes[0].contains("exceeds the limit"), "{:?}", files.notes);
        assert!(files.notes[1].contains("is a directory"), "{:?}", files.notes);
    }
}
