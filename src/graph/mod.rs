//! A network as data: typed values, and nodes in execution order.
//!
//! A graph is built for one input shape. It does not depend on a device: it can be built, verified,
//! rewritten and printed without one.

mod autodiff;
mod builder;
mod embed;
mod handles;
pub mod kernel;
mod layout;
mod onnx_form;
mod op;
mod param;
mod params;
mod rewrite;
mod role;
mod signature;
mod verify;

pub use autodiff::Backward;
pub use builder::Scope;
pub use handles::{InputId, OutputId};
pub use layout::{Packed, pack, pack_f32, unpack, unpack_f32};
pub use onnx_form::{
    OnnxAttribute, OnnxConstant, OnnxElements, OnnxForm, OnnxNode, OnnxValue, window_attributes,
};
pub use op::{Cost, InPlace, Op, Packing, TrainForm, bytes};
pub use param::{ParamRef, Weights};
pub use rewrite::{Rewrite, rewrite};
pub use role::{ParamInfo, Part, Place, Role};
pub use signature::Signature;

use crate::error::{Result, error};
use crate::tensor::{Shape, TensorType};
use std::sync::Arc;

/// A value of a graph: an input, a parameter, or an output of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub(crate) u32);

impl ValueId {
    /// Returns the position in [`Graph::values`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Origin of a value.
#[derive(Debug, Clone)]
pub enum ValueSource {
    /// Passed by the caller of a run.
    Input(String),
    /// A parameter. Its data is bound later, or never if only the shapes matter.
    Param {
        /// Name and role.
        info: ParamInfo,
        /// The data, once bound.
        data: Option<ParamRef>,
    },
    /// Computed by a node.
    Node {
        /// Position in [`Graph::nodes`].
        node: usize,
        /// Index among the node's outputs.
        output: usize,
    },
}

/// The channel range of a concatenation's output in which one of its inputs is stored (see
/// `passes::concat_views`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelView {
    /// The concatenation's output, which contains all channels. It is never itself a view.
    pub root: ValueId,
    /// First channel in the output, a multiple of four.
    pub channel: usize,
}

/// A location in a buffer that outlives a run (see [`Store`](crate::exec::Store)): later runs of
/// any graph read what a run writes there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resident {
    /// Name of the buffer in the store.
    pub buffer: String,
    /// First element in the buffer, a multiple of 64.
    pub first: usize,
    /// Packing of the tensor in the buffer.
    pub packing: Packing,
}

/// A typed value.
#[derive(Debug, Clone)]
pub struct Value {
    /// Shape and element type.
    pub ty: TensorType,
    /// Input, parameter or node.
    pub source: ValueSource,
    /// Location inside another value's buffer, if the value may be stored there. Executors may
    /// ignore it.
    pub view: Option<ChannelView>,
    /// Location in a store, if the value is not in the memory of the run.
    pub resident: Option<Resident>,
}

/// An operation applied to values of a graph.
#[derive(Debug, Clone)]
pub struct Node {
    /// Unique name, the path of builder scopes: `decoder.conv1`.
    pub name: String,
    /// The operation.
    pub op: Arc<dyn Op>,
    /// Values that it reads.
    pub inputs: Vec<ValueId>,
    /// Values that it writes.
    pub outputs: Vec<ValueId>,
}

/// Values, nodes in execution order, and the outputs that a run returns.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    values: Vec<Value>,
    nodes: Vec<Node>,
    outputs: Vec<(String, ValueId)>,
}

impl Graph {
    /// Creates an empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the root scope, for building.
    pub fn root(&mut self) -> Scope<'_> {
        Scope::new(self)
    }

    /// Adds an input that must be passed to each run.
    pub fn input(&mut self, name: &str, ty: TensorType) -> ValueId {
        self.push_value(ty, ValueSource::Input(name.to_owned()))
    }

    /// Adds a parameter without data. A name alone means the default role.
    pub fn param(&mut self, info: impl Into<ParamInfo>, shape: Shape) -> ValueId {
        self.param_with_data(info, shape, None)
    }

    /// Adds a parameter with optional data.
    pub fn param_with_data(
        &mut self,
        info: impl Into<ParamInfo>,
        shape: Shape,
        data: Option<ParamRef>,
    ) -> ValueId {
        debug_assert!(data.as_ref().is_none_or(|d| d.shape() == shape));
        self.push_value(TensorType::f32(shape), ValueSource::Param { info: info.into(), data })
    }

    /// Adds a node and returns its outputs.
    ///
    /// # Errors
    /// Returns an error that names the node if the operation rejects the inputs, or if an output
    /// would be empty.
    pub fn push(
        &mut self,
        name: &str,
        op: Arc<dyn Op>,
        inputs: &[ValueId],
    ) -> Result<Vec<ValueId>> {
        let types: Vec<TensorType> = inputs.iter().map(|&v| self.ty(v)).collect();
        let address = || format!("node `{name}` ({})", op.name());
        let types = op.output_types(&types).map_err(|e| e.at(address()))?;
        if let Some(empty) = types.iter().find(|ty| ty.shape.is_empty()) {
            return Err(error!(Graph, "output would be empty: {}", empty.shape)
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

    /// Removes all outputs, which invalidates their handles. Call [`Graph::output`] to set new ones.
    pub fn clear_outputs(&mut self) {
        self.outputs.clear();
    }

    /// Removes an output; its value remains in the graph. Invalidates the handles of the outputs
    /// after it.
    pub fn remove_output(&mut self, name: &str) {
        self.outputs.retain(|(n, _)| n != name);
    }

    /// Allows a value to be stored inside another value's buffer.
    pub fn set_view(&mut self, id: ValueId, view: ChannelView) {
        self.values[id.index()].view = Some(view);
    }

    /// Places a value in a store: an input or a parameter is then read from it, and an output of a
    /// node (u32, or f32 with channels a multiple of four) is written to it. Passes discard this,
    /// so run them first.
    pub fn set_resident(&mut self, id: ValueId, resident: Resident) {
        self.values[id.index()].resident = Some(resident);
    }

    /// Returns all values.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// Returns the nodes, in execution order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Returns the names and values of the outputs.
    pub fn outputs(&self) -> &[(String, ValueId)] {
        &self.outputs
    }

    /// Returns the ids of all values, in order.
    pub fn value_ids(&self) -> impl Iterator<Item = ValueId> + use<> {
        (0..self.values.len() as u32).map(ValueId)
    }

    /// Returns the names and ids of the inputs.
    pub fn inputs(&self) -> impl Iterator<Item = (&str, ValueId)> {
        self.value_ids().filter_map(|id| match &self.value(id).source {
            ValueSource::Input(name) => Some((name.as_str(), id)),
            _ => None,
        })
    }

    /// Returns the parameters with their ids.
    pub fn params(&self) -> impl Iterator<Item = (&ParamInfo, ValueId)> {
        self.value_ids().filter_map(|id| Some((self.param_info(id)?, id)))
    }

    /// Returns name and role of a value if it is a parameter.
    pub fn param_info(&self, id: ValueId) -> Option<&ParamInfo> {
        match &self.value(id).source {
            ValueSource::Param { info, .. } => Some(info),
            _ => None,
        }
    }

    /// Returns a value.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }

    /// Returns the shape and element type of a value.
    pub fn ty(&self, id: ValueId) -> TensorType {
        self.value(id).ty
    }

    /// Returns the shape of a value.
    pub fn shape(&self, id: ValueId) -> Shape {
        self.ty(id).shape
    }

    /// Returns the node that computes a value, if there is one.
    pub fn producer(&self, id: ValueId) -> Option<&Node> {
        match self.value(id).source {
            ValueSource::Node { node, .. } => Some(&self.nodes[node]),
            _ => None,
        }
    }

    /// Returns whether a value is a parameter.
    pub fn is_param(&self, id: ValueId) -> bool {
        matches!(self.value(id).source, ValueSource::Param { .. })
    }

    /// Returns the data of a value if it is a bound parameter.
    pub fn param_data(&self, id: ValueId) -> Option<&ParamRef> {
        match &self.value(id).source {
            ValueSource::Param { data, .. } => data.as_ref(),
            _ => None,
        }
    }

    /// Returns the name of a value for messages: that of the input, parameter or node.
    pub fn value_name(&self, id: ValueId) -> &str {
        match &self.value(id).source {
            ValueSource::Input(name) => name,
            ValueSource::Param { info, .. } => &info.name,
            ValueSource::Node { node, .. } => &self.nodes[*node].name,
        }
    }

    /// Returns the node named `name`.
    pub fn find_node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|n| n.name == name)
    }

    /// Returns the number of uses of each value, by nodes and as an output.
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
