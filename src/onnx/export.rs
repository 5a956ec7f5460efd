//! Writing a network as an ONNX model.

use super::proto::{
    ATTRIBUTE_FLOAT, ATTRIBUTE_INT, ATTRIBUTE_INTS, ATTRIBUTE_STRING, AttributeProto,
    DimensionProto, DimensionValue, FLOAT, GraphProto, INT64, ModelProto, NodeProto,
    OperatorSetIdProto, StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto,
    TypeProto, UINT8, ValueInfoProto,
};
use super::sizes::{PROBES, Sizes};
use crate::error::{Result, error};
use crate::geometry::Size;
use crate::graph::{
    Graph, Node, OnnxAttribute, OnnxConstant, OnnxElements, OnnxForm, OnnxNode, OnnxValue, ValueId,
    Weights,
};
use crate::models::{CONFIG_KEY, Config, ModelCard, Outputs, build_network};
use crate::passes;
use crate::tensor::{DType, Shape, TensorType};
use crate::weights::dialects::KernelLayout;
use prost::Message;
use std::collections::BTreeMap;

/// The set of operators that is used, of ONNX 1.12.
const OPSET: i64 = 17;
/// The version of the format that belongs to it.
const IR_VERSION: i64 = 8;
/// Models are limited by the format to 2 GiB.
const MAX_BYTES: u64 = i32::MAX as u64;

/// What a file is made for, and what is inside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OnnxOptions {
    /// Images per run; any number if `None`.
    pub batch: Option<usize>,
    /// Size of the image; any size if `None`.
    pub size: Option<Size>,
    /// Whether the output is `labels` i64 `[N, 1, H, W]` instead of `logits` `[N, C, H, W]`.
    pub argmax: bool,
    /// Whether the input is `image` u8 `[N, H, W, 3]`, normalized inside, instead of `input`
    /// `[N, C, H, W]`, normalized.
    pub preprocessing: bool,
}

/// Returns a network as an ONNX model (opset 17). Its metadata has the config, the names of the
/// classes and the model card, if there are any.
///
/// # Errors
/// Returns an error if the network does not take images of that size, an operation has no form in
/// ONNX, padding depends on the size of the image and that is left open, or the file would exceed
/// 2 GiB.
pub fn export(
    config: &Config,
    weights: &Weights,
    options: &OnnxOptions,
    card: Option<&ModelCard>,
) -> Result<Vec<u8>> {
    let sizes = options.size.map_or(PROBES, |size| [size; 2]);
    let [graph, other] = [
        network(config, weights, options, sizes[0])?,
        network(config, weights, options, sizes[1])?,
    ];
    let sizes = match options.size {
        Some(_) => None,
        None => Some(Sizes::new([&graph, &other])?),
    };
    let bytes: u64 = graph.params().map(|(_, id)| 4 * graph.shape(id).len() as u64).sum();
    if bytes > MAX_BYTES {
        return Err(error!(Weights, "ONNX files hold at most 2 GiB; the weights take more"));
    }
    let mut writer = Writer { graph: &graph, options, sizes, proto: GraphProto::default() };
    writer.write()?;
    let model = ModelProto {
        ir_version: IR_VERSION,
        producer_name: env!("CARGO_PKG_NAME").to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        doc_string: String::new(),
        graph: Some(writer.proto),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        metadata_props: metadata(config, card),
    };
    Ok(model.encode_to_vec())
}

/// Returns the metadata: the config, and for people the classes and the model card.
fn metadata(config: &Config, card: Option<&ModelCard>) -> Vec<StringStringEntryProto> {
    let mut entries = BTreeMap::from([(CONFIG_KEY.to_owned(), config.to_json())]);
    if let Some(head) = config.head.as_ref().filter(|head| !head.class_names.is_empty()) {
        entries.insert("classes".to_owned(), head.class_names.join(", "));
    }
    if let Some(card) = card {
        card.add_to(&mut entries);
    }
    entries.into_iter().map(|(key, value)| StringStringEntryProto { key, value }).collect()
}

/// Builds the network for images of a size, with one output.
fn network(config: &Config, weights: &Weights, options: &OnnxOptions, size: Size) -> Result<Graph> {
    let has_head = config.head.is_some();
    if options.argmax && !has_head {
        return Err(error!(Usage, "a bare backbone has no labels"));
    }
    let outputs = Outputs {
        background: options.argmax,
        logits_full: has_head && !options.argmax,
        labels: options.argmax,
        image: options.preprocessing.then_some(size),
        ..Outputs::default()
    };
    let shape = Shape::images(options.batch.unwrap_or(1), size, config.input_channels);
    let mut graph = build_network(config, shape, &outputs)?.graph;
    if has_head {
        graph.remove_output("logits");
    }
    graph.bind(weights)?;
    passes::dead_code(graph)
}

struct Writer<'g> {
    graph: &'g Graph,
    options: &'g OnnxOptions,
    /// Where the size of the image is open.
    sizes: Option<Sizes<'g>>,
    proto: GraphProto,
}

impl Writer<'_> {
    fn write(&mut self) -> Result<()> {
        let graph = self.graph;
        self.proto.name = "atrous".to_owned();
        for (name, id) in graph.inputs() {
            self.proto.input.push(self.value_info(name, graph.ty(id), true));
        }
        for (_, id) in graph.params() {
            self.parameter(id)?;
        }
        for node in graph.nodes() {
            self.node(node)?;
        }
        for (_, id) in graph.outputs() {
            let info = self.value_info(&self.name(*id), graph.ty(*id), false);
            self.proto.output.push(info);
        }
        Ok(())
    }

    /// Returns the name of a value in the file.
    fn name(&self, id: ValueId) -> String {
        let output = self.graph.outputs().iter().find(|(_, value)| *value == id);
        match (output.map(|(name, _)| name.as_str()), self.graph.value_name(id)) {
            (Some("logits_full"), _) => "logits".to_owned(),
            (Some(name), _) => name.to_owned(),
            // The classifier, before its values are enlarged to the size of the image.
            (None, "logits") => "logits.small".to_owned(),
            (None, name) => name.to_owned(),
        }
    }

    /// Adds a node as the nodes that stand for it.
    fn node(&mut self, node: &Node) -> Result<()> {
        let value = |&id: &ValueId| OnnxValue {
            name: self.name(id),
            ty: self.graph.ty(id),
            is_param: self.graph.is_param(id),
        };
        let (inputs, outputs) =
            (node.inputs.iter().map(value).collect(), node.outputs.iter().map(value).collect());
        let reference = self.sizes.as_ref().and_then(|sizes| sizes.reference(node.outputs[0]));
        let size = reference.as_ref().map(|(_, name)| name.clone());
        let mut form = OnnxForm::new(&node.name, inputs, outputs, size);
        node.op.onnx(&mut form)?;
        let reference = reference.map(|(value, size)| (value, self.name(value), size));
        if let (Some(sizes), Some((value, value_name, size))) = (&mut self.sizes, reference)
            && form.nodes.iter().any(|node| node.inputs.contains(&size))
        {
            let (nodes, constants) = sizes.nodes(value, &value_name, &size);
            self.proto.initializer.extend(constants.into_iter().map(constant));
            self.proto.node.extend(nodes.into_iter().map(node_proto));
        }
        self.proto.initializer.extend(form.constants.into_iter().map(constant));
        self.proto.node.extend(form.nodes.into_iter().map(node_proto));
        Ok(())
    }

    /// Adds a parameter: a kernel as `[O, C / groups, kh, kw]`, anything else as a vector.
    fn parameter(&mut self, id: ValueId) -> Result<()> {
        let info = self.graph.param_info(id).expect("invariant: the value is a parameter");
        let data = self
            .graph
            .param_data(id)
            .ok_or_else(|| error!(Weights, "the weights lack the parameter `{}`", info.name))?;
        let (layout, role) = (KernelLayout::Oihw, info.role);
        let dims = layout.dims(self.graph.shape(id), role.part, false);
        let values = layout.write(data.tensor(), role.part)?;
        let name = self.name(id);
        self.proto.initializer.push(constant(OnnxConstant {
            name,
            dims,
            elements: OnnxElements::F32(values),
        }));
        Ok(())
    }

    /// Name, element type and dimensions of an input or output.
    fn value_info(&self, name: &str, ty: TensorType, is_input: bool) -> ValueInfoProto {
        let fixed = |n: usize| DimensionValue::Number(n as i64);
        let open = |name: &str| DimensionValue::Name(name.to_owned());
        let TensorType { shape, dtype } = ty;
        let batch = if self.options.batch.is_some() { fixed(shape.n) } else { open("batch") };
        // The sizes of a backbone's features have no name.
        let is_full = is_input || name != "features";
        let side = |n: usize, name: &str| {
            if self.options.size.is_some() {
                fixed(n)
            } else if is_full {
                open(name)
            } else {
                open(&format!("feature_{name}"))
            }
        };
        let [height, width] = [side(shape.h, "height"), side(shape.w, "width")];
        let (elem_type, dims) = match dtype {
            DType::U8 => (UINT8, [batch, height, width, fixed(shape.c)]),
            DType::U32 => (INT64, [batch, fixed(shape.c), height, width]),
            DType::F32 => (FLOAT, [batch, fixed(shape.c), height, width]),
        };
        let dim = dims.map(|value| DimensionProto { value: Some(value) }).into();
        let tensor_type =
            Some(TensorTypeProto { elem_type, shape: Some(TensorShapeProto { dim }) });
        ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type }) }
    }
}

fn constant(constant: OnnxConstant) -> TensorProto {
    let (data_type, raw_data) = match constant.elements {
        OnnxElements::F32(values) => {
            (FLOAT, values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
        }
        OnnxElements::I64(values) => (INT64, values.iter().flat_map(|v| v.to_le_bytes()).collect()),
    };
    TensorProto {
        name: constant.name,
        dims: constant.dims.iter().map(|&n| n as i64).collect(),
        data_type,
        raw_data: raw_data.into(),
        ..TensorProto::default()
    }
}

fn node_proto(node: OnnxNode) -> NodeProto {
    let attribute = |(name, value): (&str, OnnxAttribute)| {
        let mut attribute = AttributeProto { name: name.to_owned(), ..AttributeProto::default() };
        attribute.r#type = match value {
            OnnxAttribute::Int(i) => {
                attribute.i = i;
                ATTRIBUTE_INT
            }
            OnnxAttribute::Float(f) => {
                attribute.f = f;
                ATTRIBUTE_FLOAT
            }
            OnnxAttribute::Ints(ints) => {
                attribute.ints = ints;
                ATTRIBUTE_INTS
            }
            OnnxAttribute::Text(text) => {
                attribute.s = text.into();
                ATTRIBUTE_STRING
            }
        };
        attribute
    };
    NodeProto {
        name: node.outputs[0].clone(),
        op_type: node.op_type.to_owned(),
        input: node.inputs,
        output: node.outputs,
        attribute: node.attributes.into_iter().map(attribute).collect(),
        ..NodeProto::default()
    }
}
