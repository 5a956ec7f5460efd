//! Sizes that are only known when the network runs: of which earlier value each resized value has
//! the size.

use crate::error::{Result, error};
use crate::geometry::Size;
use crate::graph::{Graph, OnnxAttribute, OnnxConstant, OnnxElements, OnnxNode, ValueId};
use crate::ops::Preprocess;
use crate::tensor::DType;
use std::collections::HashSet;

/// Two sizes for which a network is built to find out what depends on the size: one odd, one even,
/// with no common ratio.
pub(super) const PROBES: [Size; 2] =
    [Size { width: 257, height: 193 }, Size { width: 448, height: 320 }];

/// A network at the two sizes of [`PROBES`].
pub(super) struct Sizes<'g> {
    graphs: [&'g Graph; 2],
    /// Values whose sizes have nodes already.
    written: HashSet<ValueId>,
}

impl<'g> Sizes<'g> {
    /// Checks that the networks differ in their sizes alone.
    ///
    /// # Errors
    /// Returns an error that names a node whose attributes depend on the size.
    pub(super) fn new(graphs: [&'g Graph; 2]) -> Result<Self> {
        let sizes = Self { graphs, written: HashSet::new() };
        for (a, b) in graphs[0].nodes().iter().zip(graphs[1].nodes()) {
            let resized = sizes.size_of(a.outputs[0]) != sizes.size_of(a.inputs[0]);
            // An image that is not padded has the size of the input.
            let unpadded = !resized && a.op.is::<Preprocess>();
            let follows = unpadded || resized && sizes.like(a.outputs[0]).is_some();
            if !follows && format!("{:?}", a.op) != format!("{:?}", b.op) {
                return Err(error!(
                    Graph,
                    "`{}` depends on the size of the image ({} and {})",
                    a.name,
                    a.op.attributes(),
                    b.op.attributes()
                )
                .advice("export at a fixed size"));
            }
        }
        Ok(sizes)
    }

    fn size_of(&self, value: ValueId) -> [Size; 2] {
        self.graphs.map(|graph| graph.shape(value).size())
    }

    /// Returns the first value that has the size of `value` at both sizes of the image, and comes
    /// before it.
    fn like(&self, value: ValueId) -> Option<ValueId> {
        let size = self.size_of(value);
        let earlier = self.graphs[0].value_ids().take_while(|&other| other != value);
        earlier
            .filter(|&other| !self.graphs[0].is_param(other))
            .find(|&other| self.size_of(other) == size)
    }

    /// Returns the value that `value` has the size of, with the name of that size.
    pub(super) fn reference(&self, value: ValueId) -> Option<(ValueId, String)> {
        let like = self.like(value)?;
        Some((like, format!("{}/size", self.graphs[0].value_name(like))))
    }

    /// Returns the nodes and constants that compute the size of a value, unless they were returned
    /// before.
    pub(super) fn nodes(
        &mut self,
        value: ValueId,
        value_name: &str,
        size: &str,
    ) -> (Vec<OnnxNode>, Vec<OnnxConstant>) {
        if !self.written.insert(value) {
            return (Vec::new(), Vec::new());
        }
        // Bytes are an image [N, H, W, C]; everything else is [N, C, H, W].
        let first = if self.graphs[0].ty(value).dtype == DType::U8 { 1 } else { 2 };
        let constant = |what: &str, n: i64| OnnxConstant {
            name: format!("{size}/{what}"),
            dims: vec![1],
            elements: OnnxElements::I64(vec![n]),
        };
        let shape = format!("{size}/shape");
        let node = |op_type, inputs: Vec<String>, output: &str| OnnxNode {
            op_type,
            inputs,
            outputs: vec![output.to_owned()],
            attributes: Vec::<(&str, OnnxAttribute)>::new(),
        };
        let bounds = [constant("start", first), constant("end", first + 2)];
        let names = bounds.iter().map(|c| c.name.clone());
        let inputs = std::iter::once(shape.clone()).chain(names).collect();
        let nodes =
            vec![node("Shape", vec![value_name.to_owned()], &shape), node("Slice", inputs, size)];
        (nodes, bounds.into())
    }
}
