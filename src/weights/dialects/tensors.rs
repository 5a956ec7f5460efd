//! What a dialect sees of a file: names and dimensions; and where the numbers come from.

use crate::error::Result;
use crate::weights::WeightFile;
use std::collections::BTreeMap;

/// Something that holds named tensors: an opened file, or tensors in memory.
pub trait Source: Sync {
    /// Names and dimensions of all the tensors.
    fn tensors(&self) -> Vec<(String, Vec<usize>)>;

    /// Text about the tensors.
    fn metadata(&self) -> BTreeMap<String, String>;

    /// The elements of a tensor, in the order of its dimensions.
    ///
    /// # Errors
    /// Where it cannot be read as f32, or holds NaN or infinity.
    fn read(&self, name: &str) -> Result<Vec<f32>>;

    /// What to call it in messages.
    fn label(&self) -> String;
}

/// Names and dimensions of a source's tensors, with what dialects ask about them.
#[derive(Debug, Clone, Default)]
pub struct Tensors {
    dims: BTreeMap<String, Vec<usize>>,
    metadata: BTreeMap<String, String>,
}

impl Tensors {
    /// What a source lists.
    pub fn of(source: &dyn Source) -> Self {
        Self { dims: source.tensors().into_iter().collect(), metadata: source.metadata() }
    }

    /// Names and dimensions.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.dims.iter().map(|(name, dims)| (name.as_str(), dims.as_slice()))
    }

    /// A text of the metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.dims.contains_key(name)
    }

    /// Whether a name begins so.
    pub fn any(&self, prefix: &str) -> bool {
        self.dims
            .range(prefix.to_owned()..)
            .next()
            .is_some_and(|(name, _)| name.starts_with(prefix))
    }

    /// Dimensions of a tensor.
    pub fn dims(&self, name: &str) -> Option<&[usize]> {
        self.dims.get(name).map(Vec::as_slice)
    }

    /// One dimension of a tensor.
    pub fn dim(&self, name: &str, axis: usize) -> Option<usize> {
        self.dims(name)?.get(axis).copied()
    }

    /// How many of `PREFIX0`, `PREFIX1`, ... begin some name (`PREFIX0.`): the highest number plus
    /// one.
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
        Ok(self
            .read_finite(
                name,
                "the training that wrote the weights has diverged, or the file is damaged",
            )?
            .1)
    }

    fn label(&self) -> String {
        crate::text::path(self.path())
    }
}

/// A source whose names all begin with a wrapper's name, without it: `module.` of `DataParallel`,
/// `model.` of Lightning.
pub(super) struct Unwrapped<'a> {
    inner: &'a dyn Source,
    prefix: String,
    /// Kept, so that wrappers around wrappers do not strip all the names again at every look.
    tensors: Vec<(String, Vec<usize>)>,
}

impl<'a> Unwrapped<'a> {
    /// Takes the name before the first point off, where all the names share it.
    pub fn new(inner: &'a dyn Source) -> Option<Self> {
        let mut tensors = inner.tensors();
        let (wrapper, _) = tensors.first()?.0.split_once('.')?;
        let prefix = format!("{wrapper}.");
        for (name, _) in &mut tensors {
            *name = name.strip_prefix(&prefix)?.to_owned();
        }
        Some(Self { inner, prefix, tensors })
    }
}

impl Source for Unwrapped<'_> {
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
