//! An open weight file: its list of tensors, and reading their elements.

use super::layer::LayerAttributes;
use super::raw::{Contents, Ignored, Location, RawTensor, Shard, gather, reserve};
use super::source::Source;
#[cfg(feature = "tensorflow")]
use super::tensorflow;
use super::{format_bytes, pth, safetensors};
use crate::error::{Error, Result, error};
use crate::text::excerpt;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use zip::read::OwnedZipFileEntry;

/// Maximum size of all tensors of a file as a multiple of the file's data, plus [`SHARED_EXTRA`]
/// bytes. Tensors may share storage, and a tensor may repeat elements (a stride of zero), but a
/// larger multiple means that the file is crafted to exhaust memory.
const SHARED_FACTOR: u64 = 4;
const SHARED_EXTRA: u64 = 16 << 20;
#[cfg(feature = "tensorflow")]
const FORMATS_ADVICE: &str =
    "expected .safetensors, .pth or .pt, or TensorFlow's .pb, .index, .tflite or .tar.gz";
#[cfg(not(feature = "tensorflow"))]
const FORMATS_ADVICE: &str = "expected .safetensors, .pth or .pt";
/// Bytes read from the file at a time. A multiple of every element size.
const CHUNK: usize = 256 << 10;

/// Format of a weight file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WeightFormat {
    /// safetensors: a JSON header, then the data.
    Safetensors,
    /// `torch.save` since PyTorch 1.6: a zip archive with a pickle and one entry per storage.
    Pth,
    /// `torch.save` before PyTorch 1.6: pickles, then the storages.
    PthLegacy,
    /// A frozen graph of TensorFlow: a `GraphDef` protocol buffer.
    TensorFlowGraph,
    /// A checkpoint of TensorFlow: an index, and data files beside it.
    TensorFlowCheckpoint,
    /// TensorFlow Lite: a FlatBuffer.
    TfLite,
}

impl fmt::Display for WeightFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WeightFormat::Safetensors => "safetensors",
            WeightFormat::Pth => "PyTorch .pth",
            WeightFormat::PthLegacy => "PyTorch .pth (before 1.6)",
            WeightFormat::TensorFlowGraph => "TensorFlow frozen graph",
            WeightFormat::TensorFlowCheckpoint => "TensorFlow checkpoint",
            WeightFormat::TfLite => "TensorFlow Lite",
        })
    }
}

/// An open weight file: named tensors in file order, and metadata.
///
/// Only the header is in memory. Several threads can read at the same time.
#[derive(Debug)]
pub struct WeightFile {
    source: Source,
    format: WeightFormat,
    contents: Contents,
    by_name: HashMap<String, usize>,
    /// Index and bytes of the last inflated storage: tensors that share a storage are usually
    /// adjacent.
    inflated: Mutex<Option<(usize, Arc<Vec<u8>>)>>,
}

impl WeightFile {
    /// Opens a file and reads its header. The format is detected from the content, not from the
    /// file name.
    ///
    /// # Errors
    /// Returns an error that names the file if it cannot be read, if its format is not supported, if
    /// it is truncated, or if its sizes, offsets or types are inconsistent. For the graphs of
    /// TensorFlow, also if they are not of a supported network.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        #[cfg(feature = "tensorflow")]
        let path = tensorflow::resolve(path.as_ref())?;
        Self::read(Source::open(path.as_ref())?)
    }

    /// Like [`WeightFile::open`], for a file in memory. `name` replaces its path in messages. A
    /// TensorFlow checkpoint, which is several files, cannot be read from memory.
    ///
    /// # Errors
    /// Returns an error under the same conditions as [`WeightFile::open`].
    pub fn from_bytes(bytes: Vec<u8>, name: impl AsRef<Path>) -> Result<Self> {
        Self::read(Source::memory(bytes, name.as_ref()))
    }

    fn read(source: Source) -> Result<Self> {
        let Opened { format, contents, source: extracted } =
            read_contents(&source).map_err(|e| e.file(source.path()))?;
        let source = extracted.unwrap_or(source);
        let by_name =
            contents.tensors.iter().enumerate().map(|(i, t)| (t.name.clone(), i)).collect();
        let file = Self { source, format, contents, by_name, inflated: Mutex::new(None) };
        file.check().map_err(|e| e.file(file.path()))?;
        Ok(file)
    }

    /// Runs the checks common to all formats.
    fn check(&self) -> Result<()> {
        let Contents { tensors, storages, .. } = &self.contents;
        if tensors.is_empty() {
            return Err(no_tensors(&self.contents.ignored));
        }
        if self.by_name.len() != tensors.len() {
            let duplicate = tensors.iter().enumerate().find(|(i, t)| self.by_name[&t.name] != *i);
            return Err(error!(
                Weights,
                "duplicate tensor name `{}`",
                duplicate.map_or("", |(_, t)| t.name())
            ));
        }
        let stored = storages.iter().fold(0u64, |sum, s| sum.saturating_add(s.len));
        let required =
            tensors.iter().fold(0u64, |sum, t| sum.saturating_add((t.len * t.dtype.size()) as u64));
        if required > stored.saturating_mul(SHARED_FACTOR).saturating_add(SHARED_EXTRA) {
            return Err(error!(
                Weights,
                "the tensors would require {}, but the file has {} of data",
                format_bytes(required),
                format_bytes(stored)
            ));
        }
        Ok(())
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        self.source.path()
    }

    /// Returns the format of the file.
    pub fn format(&self) -> WeightFormat {
        self.format
    }

    /// Returns the metadata: that of a safetensors file, or the numbers and strings next to the
    /// state dict of a `.pth` file.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.contents.metadata
    }

    /// Returns what was assumed or chosen in reading the file, for people.
    pub fn notes(&self) -> &[String] {
        &self.contents.notes
    }

    /// Returns the entries of a `.pth` state dict that are not readable tensors: quantized tensors,
    /// Python objects. Empty for safetensors.
    pub fn ignored(&self) -> &[Ignored] {
        &self.contents.ignored
    }

    /// Returns the pickled modules of a `.pth` of `torch.save(model)`, by their paths: the names of
    /// their tensors without the last component. Empty for other files.
    pub fn layers(&self) -> &BTreeMap<String, LayerAttributes> {
        &self.contents.layers
    }

    /// Returns the descriptions of the tensors, in file order.
    pub fn tensors(&self) -> &[RawTensor] {
        &self.contents.tensors
    }

    /// Returns the names of the tensors, in file order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.contents.tensors.iter().map(RawTensor::name)
    }

    /// Returns the description of a tensor.
    pub fn get(&self, name: &str) -> Option<&RawTensor> {
        self.by_name.get(name).map(|&i| &self.contents.tensors[i])
    }

    /// Returns the dimensions of a tensor, like [`RawTensor::dims`].
    pub fn dims(&self, name: &str) -> Option<&[usize]> {
        self.get(name).map(RawTensor::dims)
    }

    /// Reads a floating-point tensor. Returns its dimensions, and its elements as f32 in row-major
    /// order.
    ///
    /// # Errors
    /// Returns an error if the tensor does not exist, if its type is an integer type, if an element
    /// is NaN or infinite (the error contains the index of the first), or if the file was truncated
    /// after it was opened.
    pub fn read_f32(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        self.read_finite(name, "every value must be finite")
    }

    /// Like [`WeightFile::read_f32`], with `advice` for the error about NaN or infinity, which
    /// depends on the meaning of the values.
    pub(crate) fn read_finite(
        &self,
        name: &str,
        advice: &'static str,
    ) -> Result<(Vec<usize>, Vec<f32>)> {
        let Some(tensor) = self.get(name) else {
            return Err(error!(Weights, "no tensor named `{name}`").file(self.path()));
        };
        let elements = self
            .elements(tensor, advice)
            .map_err(|e| e.at(format!("tensor `{name}`")).file(self.path()))?;
        Ok((tensor.dims.clone(), elements))
    }

    fn elements(&self, tensor: &RawTensor, advice: &'static str) -> Result<Vec<f32>> {
        if !tensor.is_real() {
            return Err(error!(Weights, "expected a floating-point tensor, got {}", tensor.dtype));
        }
        let mut values = self.span(tensor)?;
        if let Some(strides) = &tensor.strides {
            values = gather(&values, &tensor.dims, strides, tensor.len)?;
        }
        if let Some(quantization) = &tensor.quantization {
            quantization.apply(&mut values, &tensor.dims)?;
        }
        if let Some(first) = values.iter().position(|v| !v.is_finite()) {
            let kind = if values[first].is_nan() { "NaN" } else { "infinity" };
            return Err(error!(Weights, "contains {kind} (first at {:?})", tensor.index(first))
                .advice(advice));
        }
        Ok(values)
    }

    /// Reads the elements from the first to the last that a tensor uses, in storage order.
    fn span(&self, tensor: &RawTensor) -> Result<Vec<f32>> {
        let mut values = reserve(tensor.span)?;
        if let Some(value) = tensor.fill {
            values.resize(tensor.span, value);
            return Ok(values);
        }
        let bytes = tensor.span * tensor.dtype.size();
        let storage = &self.contents.storages[tensor.storage];
        match &storage.location {
            Location::Plain(start) => {
                let start = start + tensor.offset;
                self.read_plain(storage.shard, start, bytes, &mut |chunk| {
                    tensor.dtype.decode(chunk, &mut values);
                })?;
            }
            Location::Deflated(entry) => {
                let storage = self.inflate(tensor.storage, entry)?;
                let start = tensor.offset as usize;
                tensor.dtype.decode(&storage[start..start + bytes], &mut values);
            }
        }
        Ok(values)
    }

    /// Passes the bytes `start..start + len` to `use_chunk`, a few at a time. In a data file of a
    /// checkpoint they are a whole tensor, and its checksum is compared.
    fn read_plain(
        &self,
        shard: Option<Shard>,
        start: u64,
        len: usize,
        use_chunk: &mut dyn FnMut(&[u8]),
    ) -> Result<()> {
        #[cfg(feature = "tensorflow")]
        if let Some(Shard { index, checksum: expected }) = shard {
            let file = &self.contents.shards[index];
            let mut checksum = tensorflow::Checksum::new();
            let read = read_chunks(file, start, len, |chunk| {
                checksum.update(chunk);
                use_chunk(chunk);
            });
            return read.and_then(|()| checksum.check(expected)).map_err(|e| e.file(file.path()));
        }
        debug_assert!(shard.is_none(), "invariant: only checkpoints have data files");
        read_chunks(&self.source, start, len, use_chunk)
    }

    fn inflate(&self, storage: usize, entry: &OwnedZipFileEntry) -> Result<Arc<Vec<u8>>> {
        // After a panic the slot is still valid: it is set in one step.
        let mut slot = self.inflated.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some((index, bytes)) = &*slot
            && *index == storage
        {
            return Ok(bytes.clone());
        }
        *slot = None;
        let bytes = Arc::new(pth::inflate(&self.source, entry)?);
        *slot = Some((storage, bytes.clone()));
        Ok(bytes)
    }
}

/// Passes the bytes `start..start + len` of a file to `use_chunk`, a few at a time.
fn read_chunks(
    source: &Source,
    start: u64,
    len: usize,
    mut use_chunk: impl FnMut(&[u8]),
) -> Result<()> {
    let mut chunk = vec![0; len.min(CHUNK)];
    for at in (0..len).step_by(CHUNK) {
        let chunk = &mut chunk[..CHUNK.min(len - at)];
        source.read_at(start + at as u64, chunk)?;
        use_chunk(chunk);
    }
    Ok(())
}

/// Returns the error of a file without readable tensors, which counts its entries by kind.
fn no_tensors(ignored: &[Ignored]) -> Error {
    if ignored.is_empty() {
        return error!(Weights, "the file has no tensors");
    }
    /// Maximum number of kinds in the message.
    const MAX_KINDS: usize = 5;
    let mut counts = BTreeMap::<&str, usize>::new();
    for entry in ignored {
        *counts.entry(&entry.kind).or_default() += 1;
    }
    let mut kinds: Vec<(&str, usize)> = counts.into_iter().collect();
    kinds.sort_by_key(|&(kind, n)| (Reverse(n), kind));
    let mut listed: Vec<String> =
        kinds.iter().take(MAX_KINDS).map(|&(kind, n)| count_kind(kind, n)).collect();
    if kinds.len() > MAX_KINDS {
        listed.push("others".into());
    }
    error!(Weights, "no tensors of a supported type, only {}", listed.join(", "))
        .advice("save the weights as dense tensors of float32, float16 or bfloat16")
}

/// Formats a number of entries of a kind: `2 sparse tensors`, `a list (3)`.
fn count_kind(kind: &str, n: usize) -> String {
    match kind.strip_prefix("a ") {
        Some(tensor) if n > 1 && tensor.contains("tensor") => {
            format!("{n} {}", tensor.replacen("tensor", "tensors", 1))
        }
        Some(tensor) if n == 1 && tensor.contains("tensor") => format!("1 {tensor}"),
        _ => format!("{} ({n})", excerpt(kind)),
    }
}

/// The result of reading a file's header.
pub(super) struct Opened {
    pub format: WeightFormat,
    pub contents: Contents,
    /// The file with the elements, if it was extracted from an archive.
    pub source: Option<Source>,
}

impl Opened {
    pub fn new(format: WeightFormat, contents: Contents) -> Self {
        Self { format, contents, source: None }
    }
}

fn read_contents(source: &Source) -> Result<Opened> {
    let head = source.bytes(0, source.len().min(64) as usize)?;
    if head.is_empty() {
        return Err(error!(Weights, "the file is empty"));
    }
    if head.starts_with(b"PK\x03\x04") {
        return Ok(Opened::new(WeightFormat::Pth, pth::open_zip(source)?));
    }
    if pth::is_legacy(&head) {
        return Ok(Opened::new(WeightFormat::PthLegacy, pth::open_legacy(source)?));
    }
    #[cfg(feature = "tensorflow")]
    if let Some(opened) = tensorflow::open(source, &head)? {
        return Ok(opened);
    }
    if safetensors::looks_like(&head) {
        return Ok(Opened::new(WeightFormat::Safetensors, safetensors::open(source)?));
    }
    let advice = match &head[..] {
        h if h.starts_with(b"version https://git-lfs") => {
            "the file is a Git LFS pointer: fetch the content with `git lfs pull`"
        }
        h if h.starts_with(b"<") => "the file looks like a web page: the download probably failed",
        h if h.starts_with(b"\x89HDF") => {
            "the file is HDF5 (Keras): convert it to safetensors first"
        }
        [0x80, ..] => "the file is a plain pickle: save it with torch.save or as safetensors",
        _ => FORMATS_ADVICE,
    };
    Err(error!(Weights, "not a supported weight file").advice(advice))
}
