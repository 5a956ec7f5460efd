//! The files of a repository, and which of them has the weights.

use super::reference::{Reference, is_commit, path_problem};
use crate::error::{Result, error};
use serde::Deserialize;

/// Extensions of weight files in the order of preference: safetensors first, which are read without
/// unpacking, and then files of weights before graphs, which are exported from them.
const EXTENSIONS: &[&[&str]] = &[
    &[".safetensors"],
    &[".pth", ".pt", ".bin"],
    &[".ckpt"],
    #[cfg(feature = "onnx")]
    &[".onnx"],
    #[cfg(feature = "tensorflow")]
    &[".pb"],
    #[cfg(feature = "tensorflow")]
    &[".tflite"],
];

/// Beginnings of the names of files beside the weights that have one of these extensions: the state
/// of a training, and a SavedModel, which is not supported.
const OTHERS: &[&str] =
    &["training_args", "optimizer", "scheduler", "scaler", "rng_state", "saved_model"];

/// Files beside the weights that describe how images are prepared, and what classes mean.
pub(super) const COMPANIONS: &[&str] = &["config.json", "preprocessor_config.json"];

/// Maximum number of names in a message.
const MAX_NAMED: usize = 12;

/// What the hub returns about a repository at a revision.
#[derive(Debug, Deserialize)]
pub(super) struct Listing {
    /// The commit.
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Debug, Deserialize)]
struct Sibling {
    rfilename: String,
}

impl Listing {
    /// Parses the hub's answer.
    ///
    /// # Errors
    /// It is not JSON, or names no commit.
    pub fn parse(json: &[u8], reference: &Reference) -> Result<Self> {
        let invalid = |what: &str| {
            error!(Io, "{what}")
                .at(reference.to_string())
                .advice("check HF_ENDPOINT and the proxy: this may be no hub")
        };
        let listing: Self = serde_json::from_slice(json)
            .map_err(|e| invalid("the list of files is not what a hub sends").source(e))?;
        if !is_commit(&listing.sha) {
            return Err(invalid("the list of files names no commit"));
        }
        Ok(listing)
    }

    /// Returns the commit that was listed.
    pub fn commit(&self) -> &str {
        &self.sha
    }

    /// Returns the names of the files.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.siblings.iter().map(|sibling| sibling.rfilename.as_str())
    }
}

/// Returns the only weight file among the files of a repository.
///
/// # Errors
/// There is none; or there are several, which the error lists; or its name could leave the cache.
pub(super) fn weight_file<'n>(
    files: impl Iterator<Item = &'n str>,
    reference: &Reference,
) -> Result<&'n str> {
    let files: Vec<&str> = files.collect();
    let found = EXTENSIONS.iter().map(|group| candidates(&files, group));
    let candidates = found.into_iter().find(|found| !found.is_empty()).unwrap_or_default();
    match candidates[..] {
        [file] => match path_problem(file) {
            None => Ok(file),
            Some(problem) => Err(error!(Io, "refused the file `{file}`: its name {problem}")
                .at(reference.to_string())
                .advice("a hub that sends such names is not to be trusted")),
        },
        [] => Err(error!(Io, "the repository has no weight file that this program reads")
            .at(reference.to_string())
            .advice(format!(
                "it reads {}; name another repository",
                EXTENSIONS.concat().join(", ")
            ))),
        _ => {
            let more = candidates.len().saturating_sub(MAX_NAMED);
            let mut names = candidates[..candidates.len() - more].join(", ");
            if more > 0 {
                names += &format!(" and {more} more");
            }
            let example = format!("{reference}/{}", candidates[0]);
            Err(error!(Usage, "the repository has several weight files: {names}")
                .at(reference.to_string())
                .advice(format!("name one of them, such as {example}")))
        }
    }
}

/// Returns the files with one of the extensions that are least deep in directories.
fn candidates<'n>(files: &[&'n str], extensions: &[&str]) -> Vec<&'n str> {
    let is_weights = |file: &&&str| {
        let name = file.rsplit('/').next().unwrap_or(file);
        extensions.iter().any(|e| name.ends_with(e)) && !OTHERS.iter().any(|o| name.starts_with(o))
    };
    let all: Vec<&str> = files.iter().filter(is_weights).copied().collect();
    let depth = |file: &&str| file.matches('/').count();
    let least = all.iter().map(depth).min();
    all.into_iter().filter(|file| Some(depth(file)) == least).collect()
}

/// Returns the name of a file in the directory of another.
pub(super) fn beside(file: &str, name: &str) -> String {
    match file.rsplit_once('/') {
        Some((directory, _)) => format!("{directory}/{name}"),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(files: &[&'static str]) -> Result<&'static str> {
        weight_file(files.iter().copied(), &Reference::parse("hf:own/net").unwrap())
    }

    #[test]
    fn the_only_weight_file_is_chosen_and_safetensors_before_pickles() {
        for (files, expected) in [
            (&["README.md", "pytorch_model.bin", "config.json"][..], "pytorch_model.bin"),
            (&["pytorch_model.bin", "model.safetensors"], "model.safetensors"),
            (&["net.pt", "training_args.bin", "optimizer.pt"], "net.pt"),
            (&["a.mlpackage/weights/weight.bin", "net.pth"], "net.pth"),
            (&["unet/model.safetensors"], "unet/model.safetensors"),
            (&["epoch=3.ckpt", "hparams.yaml"], "epoch=3.ckpt"),
            (&["epoch=3.ckpt", "net.pth", "onnx/net.onnx"], "net.pth"),
            #[cfg(feature = "onnx")]
            (&["README.md", "net.onnx"], "net.onnx"),
            #[cfg(feature = "tensorflow")]
            (
                &["frozen_inference_graph.pb", "saved_model.pb", "a.tflite"],
                "frozen_inference_graph.pb",
            ),
            #[cfg(feature = "tensorflow")]
            (&["deeplabv3.tflite"], "deeplabv3.tflite"),
        ] {
            assert_eq!(chosen(files).unwrap(), expected);
        }
    }

    #[test]
    fn several_candidates_are_listed_and_none_is_an_error() {
        let error = chosen(&["a.safetensors", "b.safetensors", "c.pth"]).unwrap_err().to_string();
        assert!(error.contains("a.safetensors, b.safetensors;"), "{error}");
        assert!(error.contains("hf:own/net/a.safetensors"), "{error}");
        let error = chosen(&["README.md", "model.h5"]).unwrap_err().to_string();
        assert!(error.contains("no weight file") && error.contains(".bin, .ckpt"), "{error}");
        assert!(chosen(&["saved_model.pb"]).is_err(), "a SavedModel is not supported");
    }

    #[test]
    fn names_that_leave_the_cache_are_refused() {
        for name in ["../x.pth", "/etc/x.pth", "a\\..\\x.pth", "a//x.pth", "a\0.pth"] {
            let error = chosen(&[name]).unwrap_err().to_string();
            assert!(error.contains("refused the file"), "{name:?}: {error}");
        }
    }

    #[test]
    fn an_answer_without_a_commit_is_refused() {
        let reference = Reference::parse("hf:own/net").unwrap();
        for json in ["<html>", "{}", r#"{"sha": "../../x"}"#, r#"{"sha": 1}"#] {
            assert!(Listing::parse(json.as_bytes(), &reference).is_err(), "{json}");
        }
    }
}
