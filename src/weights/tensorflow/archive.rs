//! Archives in which DeepLab's networks are published: `.tar.gz` with a frozen graph, a checkpoint, or
//! both.

use super::super::file::{Opened, WeightFormat};
use super::super::format_bytes;
use super::super::source::Source;
use super::{checkpoint, contents, graph_def, tflite};
use crate::error::{Error, Result, error};
use crate::memory;
use crate::text::excerpt;
use flate2::read::MultiGzDecoder;
use std::io::{self, BufReader, Read};
use std::path::Path;
use tar::EntryType;

/// Maximum size of the unpacked archive as a multiple of its length, plus [`EXPANSION_EXTRA`] bytes.
/// Weights are hardly compressible, but averages and momenta at zero are.
const MAX_EXPANSION: u64 = 32;
const EXPANSION_EXTRA: u64 = 16 << 20;
/// Maximum number of entries.
const MAX_ENTRIES: usize = 4096;

/// An entry of the archive.
#[derive(Debug)]
struct Entry {
    name: String,
    len: u64,
}

impl Entry {
    fn file_name(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or_default()
    }
}

/// Reads at most a number of bytes, after which it fails: unlike [`Read::take`], which ends.
struct Limited<R> {
    inner: R,
    remaining: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.remaining = self
            .remaining
            .checked_sub(n as u64)
            .ok_or_else(|| io::Error::other("the archive inflates to an implausible size"))?;
        Ok(n)
    }
}

type Archive<'a> =
    tar::Archive<Limited<MultiGzDecoder<BufReader<super::super::source::Cursor<'a>>>>>;

fn archive(source: &Source) -> Archive<'_> {
    let inner = MultiGzDecoder::new(BufReader::new(source.cursor()));
    let remaining = source.len().saturating_mul(MAX_EXPANSION).saturating_add(EXPANSION_EXTRA);
    tar::Archive::new(Limited { inner, remaining })
}

fn damaged(e: io::Error) -> Error {
    error!(Weights, "the .tar.gz archive is damaged or truncated").source(e)
}

/// Lists the files of an archive.
fn list(source: &Source) -> Result<Vec<Entry>> {
    let mut archive = archive(source);
    let mut entries = Vec::new();
    // Raw entries: long names, which would be read into memory, do not occur.
    for (count, entry) in archive.entries().map_err(damaged)?.raw(true).enumerate() {
        let entry = entry.map_err(damaged)?;
        if count >= MAX_ENTRIES {
            return Err(error!(Weights, "more than {MAX_ENTRIES} entries are not supported"));
        }
        let path = entry.path_bytes();
        let Ok(name) = std::str::from_utf8(&path) else { continue };
        let is_file =
            matches!(entry.header().entry_type(), EntryType::Regular | EntryType::Continuous);
        if is_file && !name.rsplit('/').next().unwrap_or_default().starts_with("._") {
            entries.push(Entry { name: name.to_owned(), len: entry.size() });
        }
    }
    Ok(entries)
}

/// Extracts a file into memory.
fn extract(source: &Source, wanted: &Entry) -> Result<Source> {
    let name = || format!("entry `{}`", excerpt(&wanted.name));
    let limit = source.len().saturating_mul(MAX_EXPANSION).saturating_add(EXPANSION_EXTRA);
    if wanted.len > limit {
        let (len, file) = (format_bytes(wanted.len), format_bytes(source.len()));
        return Err(error!(Weights, "{len} are too much for an archive of {file}").at(name()));
    }
    memory::check(wanted.len, "extracting the weights").map_err(|e| e.at(name()))?;
    let mut archive = archive(source);
    for entry in archive.entries().map_err(damaged)?.raw(true) {
        let mut entry = entry.map_err(damaged)?;
        if *entry.path_bytes() != *wanted.name.as_bytes() {
            continue;
        }
        let mut bytes = memory::zeros(wanted.len as usize).map_err(|e| e.at(name()))?;
        entry.read_exact(&mut bytes).map_err(|e| damaged(e).at(name()))?;
        return Ok(Source::memory(bytes, &source.path().join(&wanted.name)));
    }
    Err(error!(Weights, "the entry could not be found again").at(name()))
}

/// Opens the graph or the checkpoint in an archive. The graph is preferred, because it states the
/// network; if it cannot be used, a complete checkpoint is.
pub(super) fn open(source: &Source) -> Result<Opened> {
    let entries = list(source)?;
    let mut reason = None;
    if let Some(entry) = graph_entry(&entries) {
        match open_graph(source, entry) {
            Ok(mut opened) => {
                let complete = checkpoint_entry(&entries).is_some();
                let other = if complete { ", not its checkpoint, which has no graph" } else { "" };
                let note = format!("using `{}` of the archive{other}", excerpt(&entry.name));
                opened.contents.notes.insert(0, note);
                return Ok(opened);
            }
            Err(e) => reason = Some(e.at(format!("entry `{}`", excerpt(&entry.name)))),
        }
    }
    let Some(index) = checkpoint_entry(&entries) else {
        return Err(reason.unwrap_or_else(|| nothing(&entries)));
    };
    let contents = checkpoint::open(&extract(source, index)?, &mut |suffix| {
        let prefix = index.name.trim_end_matches(".index");
        let name = format!("{prefix}{suffix}");
        match entries.iter().find(|entry| entry.name == name) {
            Some(entry) => extract(source, entry),
            None => Err(error!(Weights, "the archive has no data file `{}`", excerpt(&name))),
        }
    });
    let mut contents = contents.map_err(|e| e.at(format!("entry `{}`", excerpt(&index.name))))?;
    let mut note = format!("using the checkpoint `{}` of the archive", excerpt(&index.name));
    if let Some(reason) = reason {
        note += &format!(", not its graph ({reason})");
    }
    contents.notes.insert(0, note);
    Ok(Opened::new(WeightFormat::TensorFlowCheckpoint, contents))
}

/// Returns the graph of an archive: that of the published archives, else the first.
fn graph_entry(entries: &[Entry]) -> Option<&Entry> {
    let is_graph = |entry: &&Entry| {
        let name = Path::new(entry.file_name());
        let extension = name.extension().and_then(|e| e.to_str());
        matches!(extension, Some("pb" | "tflite")) && entry.file_name() != "saved_model.pb"
    };
    let published = entries.iter().find(|entry| entry.file_name() == "frozen_inference_graph.pb");
    published.or_else(|| entries.iter().find(is_graph))
}

/// Returns the index of a checkpoint whose data files are all in the archive.
fn checkpoint_entry(entries: &[Entry]) -> Option<&Entry> {
    entries.iter().find(|index| {
        let Some(prefix) = index.name.strip_suffix(".index") else { return false };
        let data: Vec<&str> = entries
            .iter()
            .filter_map(|entry| entry.name.strip_prefix(prefix)?.strip_prefix(".data-"))
            .collect();
        let total = data.iter().find_map(|numbers| numbers.split_once("-of-")?.1.parse().ok());
        total.is_some_and(|total: usize| data.len() == total)
    })
}

fn open_graph(source: &Source, entry: &Entry) -> Result<Opened> {
    let extracted = extract(source, entry)?;
    let head = extracted.bytes(0, extracted.len().min(64) as usize)?;
    let (format, graph) = if tflite::looks_like(&head) {
        (WeightFormat::TfLite, tflite::read(&extracted)?)
    } else if graph_def::looks_like(&head) {
        (WeightFormat::TensorFlowGraph, graph_def::read(&extracted)?)
    } else {
        return Err(error!(Weights, "neither a graph nor TFLite"));
    };
    let contents = contents::contents(&graph)?;
    Ok(Opened { format, contents, source: Some(extracted) })
}

/// Returns the error of an archive without weights.
fn nothing(entries: &[Entry]) -> Error {
    let names: Vec<String> =
        entries.iter().take(5).map(|entry| format!("`{}`", excerpt(&entry.name))).collect();
    let found = if names.is_empty() { "no files".to_owned() } else { names.join(", ") };
    error!(Weights, "the archive has neither a graph nor a complete checkpoint, but {found}")
        .advice("expected frozen_inference_graph.pb, or model.ckpt.index and its data files")
}
