//! Parameters: shared, computed when first needed, and known by an identity so that devices upload
//! each once.

use super::{Graph, ValueSource};
use crate::error::{Result, error};
use crate::tensor::{Shape, Tensor};
use crate::text;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

/// A network's parameters by our names, in our layout (`[kh, kw, c_in / groups, c_out]`,
/// `[1, 1, 1, c]`).
pub type Weights = BTreeMap<String, ParamRef>;

type Compute = Box<dyn FnOnce() -> Tensor + Send>;
type Derived = HashMap<(Vec<u64>, String), Weak<Inner>>;

struct Inner {
    id: u64,
    shape: Shape,
    data: LazyLock<Tensor, Compute>,
}

/// A parameter's numbers, shared between graphs. Folded parameters are computed when they are first
/// read.
#[derive(Clone)]
pub struct ParamRef(Arc<Inner>);

static NEXT_ID: AtomicU64 = AtomicU64::new(1);
/// Derived parameters that somebody still holds, by what they were derived from: graphs for several
/// image sizes share them.
static DERIVED: LazyLock<Mutex<Derived>> = LazyLock::new(Mutex::default);

impl ParamRef {
    /// A parameter with given numbers (f32).
    pub fn new(tensor: Tensor) -> Self {
        Self::lazy(tensor.shape(), move || tensor)
    }

    fn lazy(shape: Shape, compute: impl FnOnce() -> Tensor + Send + 'static) -> Self {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Self(Arc::new(Inner { id, shape, data: LazyLock::new(Box::new(compute)) }))
    }

    /// A parameter computed from others. The same `recipe` on the same parents gives the same
    /// shared parameter.
    pub fn derived(
        parents: &[&ParamRef],
        recipe: &str,
        shape: Shape,
        compute: impl FnOnce(&[ParamRef]) -> Tensor + Send + 'static,
    ) -> Self {
        let key = (parents.iter().map(|p| p.id()).collect::<Vec<_>>(), recipe.to_owned());
        let mut table = DERIVED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = table.get(&key).and_then(Weak::upgrade) {
            return Self(known);
        }
        table.retain(|_, weak| weak.strong_count() > 0);
        let parents: Vec<ParamRef> = parents.iter().map(|&p| p.clone()).collect();
        let made = Self::lazy(shape, move || compute(&parents));
        table.insert(key, Arc::downgrade(&made.0));
        made
    }

    /// Extent.
    pub fn shape(&self) -> Shape {
        self.0.shape
    }

    /// The numbers, computed now if they have not been.
    pub fn tensor(&self) -> &Tensor {
        &self.0.data
    }

    /// A number that no other parameter of this process has.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// How many graphs and tables hold this parameter.
    pub fn holders(&self) -> usize {
        Arc::strong_count(&self.0)
    }
}

impl fmt::Debug for ParamRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "param#{} {}", self.0.id, self.0.shape)
    }
}

impl Graph {
    /// Gives the parameters their data. Every missing, unexpected and misshapen tensor is reported
    /// together.
    pub fn bind(&mut self, weights: &Weights) -> Result<()> {
        let (mut missing, mut misshapen, mut used) = (Vec::new(), Vec::new(), BTreeSet::new());
        for value in &mut self.values {
            let ValueSource::Param { name, data } = &mut value.source else { continue };
            let Some(found) = weights.get(name) else {
                if data.is_none() {
                    missing.push(name.clone());
                }
                continue;
            };
            used.insert(name.clone());
            if found.shape() == value.ty.shape {
                *data = Some(found.clone());
            } else {
                misshapen.push(format!(
                    "{name} (expected {}, got {})",
                    value.ty.shape,
                    found.shape()
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
