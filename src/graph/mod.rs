//! A network as data: typed values, and nodes in an order in which they can run.
//!
//! A graph is made for one input shape. It knows nothing of devices: it can be built, verified,
//! rewritten and printed anywhere.

mod autodiff;
mod builder;
mod embed;
mod param;
mod rewrite;
mod verify;

pub use autodiff::Backward;
pub use builder::Scope;
pub use param::{ParamRef, Weights};
pub use rewrite::{Rewrite, rewrite};

use crate::error::{Result, error};
use crate::ops::{Op, Packing};
use crate::tensor::{Shape, TensorType};
use std::sync::Arc;

/// A value of a graph: an input, a parameter, or what a node computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub(crate) u32);

impl ValueId {
    /// Position in [`Graph::values`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Where a value comes from.
#[derive(Debug, Clone)]
pub enum ValueSource {
    /// Given by the caller of a run.
    Input(String),
    /// A parameter; its data is bound later, or never where only the shapes are of interest.
    Param {
        /// Our name, for example `backbone.layer1.0.conv1.weight`.
        name: String,
        /// The numbers, once bound.
        data: Option<ParamRef>,
    },
    /// Computed by a node.
    Node {
        /// Position in [`Graph::nodes`].
        node: usize,
        /// Which of the node's outputs.
        output: usize,
    },
}

/// A channel range of a concatenation's output, in which one of its inputs lies (see
/// `passes::concat_views`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelView {
    /// The concatenation's output, which holds all the channels. It is never itself a view.
    pub root: ValueId,
    /// First channel in it, a multiple of four.
    pub channel: usize,
}

/// A place in memory that outlives a run (see [`Store`](crate::exec::Store)): what a run writes
/// there, later runs of any graph read there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resident {
    /// Name of the buffer in the store.
    pub buffer: String,
    /// First number in it, a multiple of 64.
    pub first: usize,
    /// How the tensor lies there.
    pub packing: Packing,
}

/// A typed value.
#[derive(Debug, Clone)]
pub struct Value {
    /// Shape and element type.
    pub ty: TensorType,
    /// Input, parameter or node.
    pub source: ValueSource,
    /// Set where the value may lie inside another value's buffer. Executors are free to ignore it.
    pub view: Option<ChannelView>,
    /// Set where the value lies in a store, and not in memory of the run.
    pub resident: Option<Resident>,
}

/// An operation at its place in a graph.
#[derive(Debug, Clone)]
pub struct Node {
    /// Unique name, the path of builder scopes: `decoder.conv1`.
    pub name: String,
    /// What it computes.
    pub op: Arc<dyn Op>,
    /// What it reads.
    pub inputs: Vec<ValueId>,
    /// What it writes.
    pub outputs: Vec<ValueId>,
}

/// Values, nodes in running order, and the outputs that a run must return.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    values: Vec<Value>,
    nodes: Vec<Node>,
    outputs: Vec<(String, ValueId)>,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// The outermost scope, for building.
    pub fn root(&mut self) -> Scope<'_> {
        Scope::new(self)
    }

    /// Adds an input that each run must be given.
    pub fn input(&mut self, name: &str, ty: TensorType) -> ValueId {
        self.push_value(ty, ValueSource::Input(name.to_owned()))
    }

    /// Adds a parameter without data.
    pub fn param(&mut self, name: &str, shape: Shape) -> ValueId {
        self.push_value(
            TensorType::f32(shape),
            ValueSource::Param { name: name.to_owned(), data: None },
        )
    }

    /// Adds a parameter with its data, or with none where `data` is `None`.
    pub fn derived_param(&mut self, name: &str, shape: Shape, data: Option<ParamRef>) -> ValueId {
        debug_assert!(data.as_ref().is_none_or(|d| d.shape() == shape));
        self.push_value(TensorType::f32(shape), ValueSource::Param { name: name.to_owned(), data })
    }

    /// Adds a node and returns its outputs. Errors name the node.
    pub fn push(
        &mut self,
        name: &str,
        op: Arc<dyn Op>,
        inputs: &[ValueId],
    ) -> Result<Vec<ValueId>> {
        let types: Vec<TensorType> = inputs.iter().map(|&v| self.ty(v)).collect();
        let address = || format!("node `{name}` ({})", op.name());
        let types = op.infer(&types).map_err(|e| e.at(address()))?;
        if let Some(empty) = types.iter().find(|ty| ty.shape.is_empty()) {
            return Err(error!(Graph, "the output would be empty: {}", empty.shape)
                .at(address())
                .advice("the image is too small for this network"));
        }
        let node = self.nodes.len();
        let outputs: Vec<ValueId> = (0..)
            .zip(types)
            .map(|(output, ty)| self.push_value(ty, ValueSource::Node { node, output }))
            .collect();
        self.nodes.push(Node {
            name: name.to_owned(),
            op,
            inputs: inputs.to_vec(),
            outputs: outputs.clone(),
        });
        Ok(outputs)
    }

    fn push_value(&mut self, ty: TensorType, source: ValueSource) -> ValueId {
        let id = ValueId(
            u32::try_from(self.values.len())
                .expect("invariant: a graph has fewer than 2^32 values"),
        );
        self.values.push(Value { ty, source, view: None, resident: None });
        id
    }

    /// Asks for `value` to be returned from runs under `name`. Asking again for a name replaces the
    /// value.
    pub fn output(&mut self, name: &str, value: ValueId) {
        self.outputs.retain(|(n, _)| n != name);
        self.outputs.push((name.to_owned(), value));
    }

    /// Forgets all the outputs: what a run is to return is then said anew with [`Graph::output`].
    pub fn clear_outputs(&mut self) {
        self.outputs.clear();
    }

    /// Takes an output away; its value stays.
    pub fn remove_output(&mut self, name: &str) {
        self.outputs.retain(|(n, _)| n != name);
    }

    /// Lets a value lie inside another's buffer.
    pub fn set_view(&mut self, id: ValueId, view: ChannelView) {
        self.values[id.index()].view = Some(view);
    }

    /// Puts a value into a store: an input or a parameter is then read there, and what a node
    /// computes is written there (u32, or f32 with channels a multiple of four). Passes forget it,
    /// so they come first.
    pub fn set_resident(&mut self, id: ValueId, resident: Resident) {
        self.values[id.index()].resident = Some(resident);
    }

    /// All the values.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// The nodes, in an order in which they can run.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Names and values of the outputs.
    pub fn outputs(&self) -> &[(String, ValueId)] {
        &self.outputs
    }

    /// The ids of all the values, in order.
    pub fn value_ids(&self) -> impl Iterator<Item = ValueId> + use<> {
        (0..self.values.len() as u32).map(ValueId)
    }

    /// Names and ids of the inputs.
    pub fn inputs(&self) -> impl Iterator<Item = (&str, ValueId)> {
        self.value_ids().filter_map(|id| match &self.value(id).source {
            ValueSource::Input(name) => Some((name.as_str(), id)),
            _ => None,
        })
    }

    /// Names and ids of the parameters.
    pub fn params(&self) -> impl Iterator<Item = (&str, ValueId)> {
        self.value_ids().filter_map(|id| match &self.value(id).source {
            ValueSource::Param { name, .. } => Some((name.as_str(), id)),
            _ => None,
        })
    }

    /// A value.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }

    /// Shape and element type of a value.
    pub fn ty(&self, id: ValueId) -> TensorType {
        self.value(id).ty
    }

    /// Shape of a value.
    pub fn shape(&self, id: ValueId) -> Shape {
        self.ty(id).shape
    }

    /// The node that computes a value, if one does.
    pub fn producer(&self, id: ValueId) -> Option<&Node> {
        match self.value(id).source {
            ValueSource::Node { node, .. } => Some(&self.nodes[node]),
            _ => None,
        }
    }

    /// Whether a value is a parameter.
    pub fn is_param(&self, id: ValueId) -> bool {
        matches!(self.value(id).source, ValueSource::Param { .. })
    }

    /// The data of a parameter, if the value is one and is bound.
    pub fn param_data(&self, id: ValueId) -> Option<&ParamRef> {
        match &self.value(id).source {
            ValueSource::Param { data, .. } => data.as_ref(),
            _ => None,
        }
    }

    /// What to call a value in messages: the input's, parameter's or node's name.
    pub fn value_name(&self, id: ValueId) -> &str {
        match &self.value(id).source {
            ValueSource::Input(name) | ValueSource::Param { name, .. } => name,
            ValueSource::Node { node, .. } => &self.nodes[*node].name,
        }
    }

    /// The node called `name`.
    pub fn find_node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|n| n.name == name)
    }

    /// How often each value is read, by nodes and as an output.
    pub fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.values.len()];
        for v in
            self.nodes.iter().flat_map(|n| &n.inputs).chain(self.outputs.iter().map(|(_, v)| v))
        {
            uses[v.index()] += 1;
        }
        uses
    }
}
