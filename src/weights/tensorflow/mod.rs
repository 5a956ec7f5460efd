//! TensorFlow's files: frozen graphs (`.pb`), checkpoints (`.index` and `.data-NNNNN-of-NNNNN`), TFLite
//! (`.tflite`), and the archives (`.tar.gz`) in which DeepLab's networks are published.
//!
//! A checkpoint has variables under their names, and the dialect infers the network from them. A
//! graph states the network. It is read in steps, each of which is data for the next one:
//!
//! 1. [`graph_def`] and [`tflite`] read a file as a [`graph`], with the elements of constants still on
//!    disk.
//! 2. [`outline`] finds the image and the logits in it, and [`walk`] the layers between them at one
//!    image size.
//! 3. [`structure`] proposes a config for the layers, and [`matching`] compares each of them with the
//!    layers that the config builds. So strides, dilations, padding, activations, eps and the order of
//!    concatenations are those of the graph, or the file is refused.
//! 4. [`contents`] returns the matched constants under the names of the checkpoint, also if the file
//!    names them differently, and the config as metadata.

mod archive;
mod checkpoint;
mod checksum;
mod contents;
mod difference;
mod flatbuffer;
mod graph;
mod graph_def;
mod layers;
mod matching;
mod numbers;
mod operations;
mod outline;
mod proto;
mod structure;
mod table;
mod tflite;
mod values;
mod walk;

pub(super) use checksum::Checksum;

use super::file::{Opened, WeightFormat};
use super::source::Source;
use crate::error::{Result, error};
use std::borrow::Cow;
use std::path::Path;

/// Advice for a SavedModel.
const FREEZE: &str = "freeze it (convert_variables_to_constants) and pass the graph, convert it to .tflite, or pass \
its checkpoint";

/// Returns the file to open for a path: the index of a checkpoint that is named by its prefix or by a
/// data file, or the path itself.
///
/// # Errors
/// Returns an error for the directory of a SavedModel.
pub(super) fn resolve(path: &Path) -> Result<Cow<'_, Path>> {
    if path.is_dir() && path.join("saved_model.pb").is_file() {
        return Err(error!(Weights, "a SavedModel is not supported").file(path).advice(FREEZE));
    }
    Ok(checkpoint::index_of(path).map_or(Cow::Borrowed(path), Cow::Owned))
}

/// Opens a file of one of TensorFlow's formats, recognized by its content. `None` for other files.
///
/// # Errors
/// Returns an error if the file is damaged, or if its graph is not of a supported network.
pub(super) fn open(source: &Source, head: &[u8]) -> Result<Option<Opened>> {
    if head.starts_with(&[0x1f, 0x8b]) {
        return archive::open(source).map(Some);
    }
    if tflite::looks_like(head) {
        return Ok(Some(Opened::new(WeightFormat::TfLite, tflite(source)?)));
    }
    if is_index(source)? {
        let contents = checkpoint::open(source, &mut |suffix| {
            if !source.is_on_disk() {
                return Err(error!(Weights, "a checkpoint consists of several files")
                    .advice("open it by its path"));
            }
            checkpoint::beside(source.path(), suffix)
        })?;
        return Ok(Some(Opened::new(WeightFormat::TensorFlowCheckpoint, contents)));
    }
    if graph_def::looks_like(head) {
        return Ok(Some(Opened::new(WeightFormat::TensorFlowGraph, frozen_graph(source)?)));
    }
    refuse_others(head)?;
    Ok(None)
}

fn frozen_graph(source: &Source) -> Result<super::raw::Contents> {
    contents::contents(&graph_def::read(source)?)
}

fn tflite(source: &Source) -> Result<super::raw::Contents> {
    contents::contents(&tflite::read(source)?)
}

fn is_index(source: &Source) -> Result<bool> {
    let Some(start) = source.len().checked_sub(table::FOOTER as u64) else { return Ok(false) };
    Ok(table::is_table(&source.bytes(start, table::FOOTER)?))
}

/// Refuses related files that contain no weights that could be read.
fn refuse_others(head: &[u8]) -> Result<()> {
    if head.starts_with(b"model_checkpoint_path:") {
        return Err(error!(Weights, "the file only names the checkpoints in its directory")
            .advice("pass the .index file of one of them"));
    }
    // `SavedModel` has a version, then a `MetaGraphDef`.
    if head.starts_with(&[0x08, 0x01, 0x12]) {
        return Err(error!(Weights, "a SavedModel is not supported").advice(FREEZE));
    }
    Ok(())
}
