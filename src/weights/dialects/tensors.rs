//! Sources of tensors, and the index of their names and dimensions that dialects work on.

use crate::error::Result;
use crate::weights::WeightFile;
use std::collections::BTreeMap;

/// A source of named tensors: an open file, or tensors in memory.
pub trait Source: Sync {
    /// Returns the names and dimensions of all tensors.
    fn tensors(&self) -> Vec<(String, Vec<usize>)>;

    /// Returns the metadata.
    fn metadata(&self) -> BTreeMap<String, String>;

    /// Reads the elements of a tensor, in row-major order of its dimensions.
    ///
    /// # Errors
    /// Returns an error if the tensor cannot be read as f32, or if it contains NaN or infinity.
    fn read(&self, name: &str) -> Result<Vec<f32>>;

    /// Returns the name of the source in messages.
    fn label(&self) -> String;
}

/// Index of the names and dimensions of a source's tensors, and its metadata.
#[derive(Debug, Clone, Default)]
pub struct Tensors {
    dims: BTreeMap<String, Vec<usize>>,
    metadata: BTreeMap<String, String>,
}

impl Tensors {
    /// Creates the index of a source.
    pub fn of(source: &dyn Source) -> Self {
        Self { dims: source.tensors().into_iter().collect(), metadata: source.metadata() }
    }

    /// Returns an iterator over names and dimensions, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.dims.iter().map(|(name, dims)| (name.as_str(), dims.as_slice()))
    }

    /// Returns a value of the metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// Returns whether a tensor has this name.
    pub fn has(&self, name: &str) -> bool {
        self.dims.contains_key(name)
    }

    /// Returns whether any name starts with `prefix`.
    pub fn any(&self, prefix: &str) -> bool {
        self.dims
            .range(prefix.to_owned()..)
            .next()
            .is_some_and(|(name, _)| name.starts_with(prefix))
    }

    /// Returns the dimensions of a tensor.
    pub fn dims(&self, name: &str) -> Option<&[usize]> {
        self.dims.get(name).map(Vec::as_slice)
    }

    /// Returns a dimension of a tensor.
    pub fn dim(&self, name: &str, axis: usize) -> Option<usize> {
        self.dims(name)?.get(axis).copied()
    }

    /// Returns the length of the numbered list `PREFIX0.`, `PREFIX1.`, ...: the highest number that
    /// occurs in a name, plus one.
    pub fn count(&self, prefix: &str) -> usize {
        let numbers =
            self.dims.range(prefix.to_owned()..).map_while(|(name, _)| name.strip_prefix(prefix));
        numbers
            .filter_map(|rest| rest.split('.').next()?.parse::<usize>().ok())
            .max()
            .map_or(0, |n| n.saturating_add(1))
    }
}

impl Source for WeightFile {
    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        self.tensors().iter().map(|t| (t.name().to_owned(), t.dims().to_vec())).collect()
    }

    fn metadata(&self) -> BTreeMap<String, String> {
        self.metadata().clone()
    }

    fn read(&self, name: &str) -> Result<Vec<f32>> {
        Ok(self.read_finite(name, "the training diverged, or the file is damaged")?.1)
    }

    fn label(&self) -> String {
        crate::text::path(self.path())
    }
}

/// A source without the prefix that all names of another source share: `module.` of `DataParallel`,
/// `model.` of Lightning.
pub(super) struct Unprefixed<'a> {
    inner: &'a dyn Source,
    prefix: String,
    /// Cached, so that nested prefixes are not stripped again by every call.
    tensors: Vec<(String, Vec<usize>)>,
}

impl<'a> Unprefixed<'a> {
    /// Removes the component before the first dot. `None` unless all names share it.
    pub fn new(inner: &'a dyn Source) -> Option<Self> {
        let mut tensors = inner.tensors();
        let (component, _) = tensors.first()?.0.split_once('.')?;
        let prefix = format!("{component}.");
        for (name, _) in &mut tensors {
            *name = name.strip_prefix(&prefix)?.to_owned();
        }
        Some(Self { inner, prefix, tensors })
    }
}

impl Source for Unprefixed<'_> {
    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        self.tensors.clone()
    }

    fn metadata(&self) -> BTreeMap<String, String> {
        self.inner.metadata()
    }

    fn read(&self, name: &str) -> Result<Vec<f32>> {
        self.inner.read(&format!("{}{name}", self.prefix))
    }

    fn label(&self) -> String {
        self.inner.label()
    }
}
