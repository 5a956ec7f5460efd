//! Sources of tensors, and the index of their names and dimensions that dialects work on.

use crate::error::Result;
use crate::weights::{LayerAttributes, WeightFile};
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

    /// Returns the modules of pickled networks, by their paths. `None` for other sources.
    fn layers(&self) -> Option<&BTreeMap<String, LayerAttributes>> {
        None
    }
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

    /// Returns the tensors below `prefix`, by the rest of their names, without metadata.
    pub(super) fn below(&self, prefix: &str) -> Self {
        let dims = self
            .dims
            .range(prefix.to_owned()..)
            .map_while(|(name, dims)| Some((name.strip_prefix(prefix)?.to_owned(), dims.clone())));
        Self { dims: dims.collect(), metadata: BTreeMap::new() }
    }

    /// Returns the tensors whose names `keep` accepts, with the metadata.
    pub(super) fn filter(&self, keep: impl Fn(&str) -> bool) -> Self {
        let dims = self.dims.iter().filter(|(name, _)| keep(name));
        Self {
            dims: dims.map(|(name, dims)| (name.clone(), dims.clone())).collect(),
            metadata: self.metadata.clone(),
        }
    }

    /// Sets the metadata to that of `other`.
    pub(super) fn with_metadata_of(self, other: &Self) -> Self {
        Self { metadata: other.metadata.clone(), ..self }
    }

    /// Returns the components before the first dot of the names, with the number of tensors below
    /// each.
    pub(super) fn components(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for name in self.dims.keys() {
            if let Some((component, _)) = name.split_once('.') {
                *counts.entry(component).or_default() += 1;
            }
        }
        counts
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

    /// Returns the number of tensors.
    pub(super) fn len(&self) -> usize {
        self.dims.len()
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

    fn layers(&self) -> Option<&BTreeMap<String, LayerAttributes>> {
        Some(self.layers()).filter(|layers| !layers.is_empty())
    }
}
