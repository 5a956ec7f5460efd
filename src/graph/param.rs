//! Parameters: shared, lazily computed, and with an identity so that devices upload each only once.

use super::{Graph, ValueSource};
use crate::error::{Result, error};
use crate::tensor::{Shape, Tensor};
use crate::text;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

/// Parameters of a network by this crate's names, in its layout (`[kh, kw, c_in / groups, c_out]`,
/// `[1, 1, 1, c]`).
pub type Weights = BTreeMap<String, ParamRef>;

type Compute = Box<dyn FnOnce() -> Tensor + Send>;
type Derived = HashMap<(Vec<u64>, String), Weak<Inner>>;

struct Inner {
    id: u64,
    shape: Shape,
    data: LazyLock<Tensor, Compute>,
}

/// Data of a parameter, shared between graphs. Folded parameters are computed when first read.
#[derive(Clone)]
pub struct ParamRef(Arc<Inner>);

static NEXT_ID: AtomicU64 = AtomicU64::new(1);
/// Derived parameters that are still in use, by parents and recipe: graphs for several image sizes
/// share them.
static DERIVED: LazyLock<Mutex<Derived>> = LazyLock::new(Mutex::default);

impl ParamRef {
    /// Creates a parameter from an f32 tensor.
    pub fn new(tensor: Tensor) -> Self {
        Self::lazy(tensor.shape(), move || tensor)
    }

    fn lazy(shape: Shape, compute: impl FnOnce() -> Tensor + Send + 'static) -> Self {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Self(Arc::new(Inner { id, shape, data: LazyLock::new(Box::new(compute)) }))
    }

    /// Creates a parameter computed from others. The same `recipe` on the same parents returns the
    /// same shared parameter.
    pub fn derived(
        parents: &[&ParamRef],
        recipe: &str,
        shape: Shape,
        compute: impl FnOnce(&[ParamRef]) -> Tensor + Send + 'static,
    ) -> Self {
        let key = (parents.iter().map(|p| p.id()).collect::<Vec<_>>(), recipe.to_owned());
        let mut table = DERIVED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = table.get(&key).and_then(Weak::upgrade) {
            return Self(shared);
        }
        table.retain(|_, weak| weak.strong_count() > 0);
        let parents: Vec<ParamRef> = parents.iter().map(|&p| p.clone()).collect();
        let param = Self::lazy(shape, move || compute(&parents));
        table.insert(key, Arc::downgrade(&param.0));
        param
    }

    /// Returns the shape.
    pub fn shape(&self) -> Shape {
        self.0.shape
    }

    /// Returns the data, computed on first use.
    pub fn tensor(&self) -> &Tensor {
        &self.0.data
    }

    /// Returns the id, unique within this process.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Returns the number of references to this parameter.
    pub fn strong_count(&self) -> usize {
        Arc::strong_count(&self.0)
    }
}

impl fmt::Debug for ParamRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "param#{} {}", self.0.id, self.0.shape)
    }
}

impl Graph {
    /// Binds the data of the parameters.
    ///
    /// # Errors
    /// Returns one error that lists all missing, unexpected and misshapen tensors.
    pub fn bind(&mut self, weights: &Weights) -> Result<()> {
        let (mut missing, mut misshapen, mut used) = (Vec::new(), Vec::new(), BTreeSet::new());
        for value in &mut self.values {
            let ValueSource::Param { info, data } = &mut value.source else { continue };
            let name = &info.name;
            let Some(weight) = weights.get(name) else {
                if data.is_none() {
                    missing.push(name.clone());
                }
                continue;
            };
            used.insert(name.clone());
            if weight.shape() == value.ty.shape {
                *data = Some(weight.clone());
            } else {
                misshapen.push(format!(
                    "{name} (expected {}, got {})",
                    value.ty.shape,
                    weight.shape()
                ));
            }
        }
        let unexpected: Vec<String> =
            weights.keys().filter(|k| !used.contains(*k)).cloned().collect();
        match text::tensor_mismatches(&missing, &misshapen, &unexpected) {
            None => Ok(()),
            Some(report) => Err(error!(Weights, "the tensors do not match the network: {report}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn param(c: usize) -> ParamRef {
        ParamRef::new(Tensor::from_fn(Shape::vector(c), |_, _, _, c| c as f32))
    }

    #[test]
    fn derived_parameters_are_shared_by_recipe() {
        let a = param(3);
        let double = |p: &[ParamRef]| {
            Tensor::from_fn(p[0].shape(), |_, _, _, c| 2.0 * p[0].tensor().f32()[c])
        };
        let one = ParamRef::derived(&[&a], "double", a.shape(), double);
        let two = ParamRef::derived(&[&a], "double", a.shape(), double);
        let other = ParamRef::derived(&[&a], "twice", a.shape(), double);
        assert_eq!(one.id(), two.id());
        assert_ne!(one.id(), other.id());
        assert_eq!(one.tensor().f32(), [0.0, 2.0, 4.0]);
    }

    #[test]
    fn bind_reports_every_problem_at_once() {
        let mut graph = Graph::new();
        graph.param("a", Shape::vector(3));
        graph.param("b", Shape::vector(3));
        let weights = Weights::from([("b".into(), param(4)), ("c".into(), param(1))]);
        let text = graph.bind(&weights).unwrap_err().to_string();
        for part in
            ["1 missing: a", "b (expected [1, 1, 1, 3], got [1, 1, 1, 4])", "1 unexpected: c"]
        {
            assert!(text.contains(part), "{text}");
        }
    }
}
