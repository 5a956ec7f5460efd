//! An opened weight file: what it holds, and the way to its numbers.

use super::raw::{Contents, Ignored, Place, RawTensor, gather, reserve};
use super::source::Source;
use super::{human, pth, safetensors};
use crate::error::{Error, Result, error};
use crate::text::excerpt;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use zip::read::OwnedZipFileEntry;

/// Tensors of one file may share storage, and one may repeat its elements (a stride of zero).
/// Together they may take this many times the file's data, and [`SHARED_EXTRA`] bytes: past that
/// the file is built to exhaust memory.
const SHARED_FACTOR: u64 = 4;
const SHARED_EXTRA: u64 = 16 << 20;
/// Bytes read from the file at a time. A multiple of every element's size.
const CHUNK: usize = 256 << 10;

/// How a weight file is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WeightFormat {
    /// A JSON header, then the data.
    Safetensors,
    /// `torch.save` since PyTorch 1.6: a zip archive of a pickle and one entry per storage.
    Pth,
    /// `torch.save` before PyTorch 1.6: pickles, then the storages.
    PthLegacy,
}

impl fmt::Display for WeightFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WeightFormat::Safetensors => "safetensors",
            WeightFormat::Pth => "PyTorch .pth",
            WeightFormat::PthLegacy => "PyTorch .pth of before 1.6",
        })
    }
}

/// An opened file of weights: named tensors in the file's order, and text about them.
///
/// Only the header is in memory. Reading is possible from several threads at once.
#[derive(Debug)]
pub struct WeightFile {
    source: Source,
    format: WeightFormat,
    contents: Contents,
    by_name: HashMap<String, usize>,
    /// The last storage that had to be inflated: tensors that share one usually follow each other.
    inflated: Mutex<Option<(usize, Arc<Vec<u8>>)>>,
}

impl WeightFile {
    /// Opens a file and reads what it lists, telling formats by the content and not by the name.
    ///
    /// # Errors
    /// Where the file cannot be read; is none of safetensors, zip `.pth` and legacy `.pth`; is cut
    /// short; or contradicts itself in sizes, offsets or types. All of them name the file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::read(Source::open(path.as_ref())?)
    }

    /// As [`WeightFile::open`], of a file that is in memory. `name` stands for its path.
    ///
    /// # Errors
    /// As [`WeightFile::open`].
    pub fn from_bytes(bytes: Vec<u8>, name: impl AsRef<Path>) -> Result<Self> {
        Self::read(Source::memory(bytes, name.as_ref()))
    }

    fn read(source: Source) -> Result<Self> {
        let (format, contents) = read_contents(&source).map_err(|e| e.file(source.path()))?;
        let by_name =
            contents.tensors.iter().enumerate().map(|(i, t)| (t.name.clone(), i)).collect();
        let file = Self { source, format, contents, by_name, inflated: Mutex::new(None) };
        file.check().map_err(|e| e.file(file.path()))?;
        Ok(file)
    }

    /// The checks that are the same for every format.
    fn check(&self) -> Result<()> {
        let Contents { tensors, storages, .. } = &self.contents;
        if tensors.is_empty() {
            return Err(no_tensors(&self.contents.ignored));
        }
        if self.by_name.len() != tensors.len() {
            let twice = tensors.iter().enumerate().find(|(i, t)| self.by_name[&t.name] != *i);
            return Err(error!(
                Weights,
                "two tensors are named `{}`",
                twice.map_or("", |(_, t)| t.name())
            ));
        }
        let stored = storages.iter().fold(0u64, |sum, s| sum.saturating_add(s.len));
        let asked =
            tensors.iter().fold(0u64, |sum, t| sum.saturating_add((t.len * t.dtype.size()) as u64));
        if asked > stored.saturating_mul(SHARED_FACTOR).saturating_add(SHARED_EXTRA) {
            return Err(error!(
                Weights,
                "the tensors would take {}, the file's data is {}",
                human(asked),
                human(stored)
            ));
        }
        Ok(())
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        self.source.path()
    }

    /// How the file is built.
    pub fn format(&self) -> WeightFormat {
        self.format
    }

    /// Text about the tensors: safetensors' metadata, or the numbers and strings that stand beside
    /// a `.pth`'s state dict.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.contents.metadata
    }

    /// What else stands in a `.pth`'s state dict, and what it is: quantized tensors, Python
    /// objects. Empty for safetensors.
    pub fn ignored(&self) -> &[Ignored] {
        &self.contents.ignored
    }

    /// The tensors, in the file's order.
    pub fn tensors(&self) -> &[RawTensor] {
        &self.contents.tensors
    }

    /// The tensors' names, in the file's order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.contents.tensors.iter().map(RawTensor::name)
    }

    /// A tensor's description.
    pub fn get(&self, name: &str) -> Option<&RawTensor> {
        self.by_name.get(name).map(|&i| &self.contents.tensors[i])
    }

    /// A tensor's extent, as [`RawTensor::dims`].
    pub fn dims(&self, name: &str) -> Option<&[usize]> {
        self.get(name).map(RawTensor::dims)
    }

    /// A floating-point tensor: its extent, and its elements in row-major order as f32.
    ///
    /// # Errors
    /// Where there is no such tensor, where it holds integers, where an element is NaN or infinite
    /// (the error gives the first one's index), and where the file has become shorter since it was
    /// opened.
    pub fn read_f32(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        self.read_finite(name, "every value must be finite")
    }

    /// As [`WeightFile::read_f32`]; `advice` is what to do about NaN and infinity, which depends on
    /// what the numbers are.
    pub(crate) fn read_finite(
        &self,
        name: &str,
        advice: &'static str,
    ) -> Result<(Vec<usize>, Vec<f32>)> {
        let Some(tensor) = self.get(name) else {
            return Err(error!(Weights, "there is no tensor `{name}`").file(self.path()));
        };
        let elements = self
            .elements(tensor, advice)
            .map_err(|e| e.at(format!("tensor `{name}`")).file(self.path()))?;
        Ok((tensor.dims.clone(), elements))
    }

    fn elements(&self, tensor: &RawTensor, advice: &'static str) -> Result<Vec<f32>> {
        if !tensor.dtype.is_float() {
            return Err(error!(
                Weights,
                "expected floating point, the file holds {}", tensor.dtype
            ));
        }
        let mut values = self.span(tensor)?;
        if let Some(strides) = &tensor.strides {
            values = gather(&values, &tensor.dims, strides, tensor.len)?;
        }
        if let Some(first) = values.iter().position(|v| !v.is_finite()) {
            let what = if values[first].is_nan() { "NaN" } else { "infinity" };
            return Err(
                error!(Weights, "holds {what} (first at {:?})", tensor.index(first)).advice(advice)
            );
        }
        Ok(values)
    }

    /// The elements from the first to the last that a tensor uses, as they lie in the storage.
    fn span(&self, tensor: &RawTensor) -> Result<Vec<f32>> {
        let mut values = reserve(tensor.span)?;
        let bytes = tensor.span * tensor.dtype.size();
        match &self.contents.storages[tensor.storage].place {
            Place::Plain(start) => {
                let mut chunk = vec![0; bytes.min(CHUNK)];
                for at in (0..bytes).step_by(CHUNK) {
                    let chunk = &mut chunk[..CHUNK.min(bytes - at)];
                    self.source.read_at(start + tensor.offset + at as u64, chunk)?;
                    tensor.dtype.decode(chunk, &mut values);
                }
            }
            Place::Deflated(entry) => {
                let all = self.inflate(tensor.storage, entry)?;
                let start = tensor.offset as usize;
                tensor.dtype.decode(&all[start..start + bytes], &mut values);
            }
        }
        Ok(values)
    }

    fn inflate(&self, storage: usize, entry: &OwnedZipFileEntry) -> Result<Arc<Vec<u8>>> {
        // Whatever a panicking thread left behind is a whole entry: the slot is set in one go.
        let mut slot = self.inflated.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some((held, bytes)) = &*slot
            && *held == storage
        {
            return Ok(bytes.clone());
        }
        *slot = None;
        let bytes = Arc::new(pth::inflate(&self.source, entry)?);
        *slot = Some((storage, bytes.clone()));
        Ok(bytes)
    }
}

/// The error of a file in which nothing can be read, with what there is instead.
fn no_tensors(ignored: &[Ignored]) -> Error {
    if ignored.is_empty() {
        return error!(Weights, "the file holds no tensors");
    }
    /// Kinds that are named.
    const NAMED: usize = 5;
    let mut counts = BTreeMap::<&str, usize>::new();
    ignored.iter().for_each(|i| *counts.entry(&i.what).or_default() += 1);
    let mut kinds: Vec<(&str, usize)> = counts.into_iter().collect();
    kinds.sort_by_key(|&(what, n)| (Reverse(n), what));
    let kind = |&(what, n): &(&str, usize)| match what.strip_prefix("a ") {
        Some(one) if n > 1 && one.contains("tensor") => {
            format!("{n} {}", one.replacen("tensor", "tensors", 1))
        }
        Some(one) if n == 1 && one.contains("tensor") => format!("1 {one}"),
        _ => format!("{n} of {}", excerpt(what)),
    };
    let mut named: Vec<String> = kinds.iter().take(NAMED).map(kind).collect();
    if kinds.len() > NAMED {
        named.push("others".into());
    }
    error!(Weights, "holds {}, and no tensors of a supported type", named.join(", "))
        .advice("save the weights as dense tensors of float32, float16 or bfloat16")
}

fn read_contents(source: &Source) -> Result<(WeightFormat, Contents)> {
    let head = source.bytes(0, source.len().min(64) as usize)?;
    if head.is_empty() {
        return Err(error!(Weights, "the file is empty"));
    }
    if head.starts_with(b"PK\x03\x04") {
        return Ok((WeightFormat::Pth, pth::open_zip(source)?));
    }
    if pth::is_legacy(&head) {
        return Ok((WeightFormat::PthLegacy, pth::open_legacy(source)?));
    }
    if safetensors::looks_like(&head) {
        return Ok((WeightFormat::Safetensors, safetensors::open(source)?));
    }
    let advice = match &head[..] {
        h if h.starts_with(b"version https://git-lfs") => {
            "it is a Git LFS pointer: fetch the file itself with `git lfs pull`"
        }
        h if h.starts_with(b"<") => "it looks like a web page: the download went wrong",
        h if h.starts_with(b"\x89HDF") => "it is HDF5 (Keras): convert it to safetensors first",
        [0x80, ..] => "it is a plain pickle: write it again with torch.save or as safetensors",
        _ => "safetensors and PyTorch's .pth or .pt are read",
    };
    Err(error!(Weights, "not a file of weights that is read here").advice(advice))
}
