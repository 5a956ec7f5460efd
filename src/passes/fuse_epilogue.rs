//! Fuses an addition and an activation after a convolution into its epilogue: one kernel instead of
//! three.

use crate::error::Result;
use crate::graph::{Graph, Rewrite, ValueId, rewrite};
use crate::ops::{Activate, Activation, Add, Conv2d};
use std::sync::Arc;

/// `add(conv(x), r) = conv(x, residual = r)` and `activate(conv(x)) = conv(x, activation)`.
pub fn fuse_epilogue(graph: Graph) -> Result<Graph> {
    rewrite(graph, |new, node, inputs| {
        if node.op.is::<Add>() {
            return fuse_add(new, inputs);
        }
        let Some(&Activate(activation)) = node.op.downcast_ref() else { return Ok(None) };
        let Some((conv_node, conv)) = new.sole_producer::<Conv2d>(inputs[0]) else {
            return Ok(None);
        };
        if conv.activation != Activation::Identity {
            return Ok(None);
        }
        let (name, operands, op) =
            (conv_node.name.clone(), conv_node.inputs.clone(), Conv2d { activation, ..*conv });
        Ok(Some(new.graph.push(&name, Arc::new(op), &operands)?))
    })
}

fn fuse_add(new: &mut Rewrite, inputs: &[ValueId]) -> Result<Option<Vec<ValueId>>> {
    if inputs[0] == inputs[1] || new.graph.shape(inputs[0]) != new.graph.shape(inputs[1]) {
        return Ok(None);
    }
    for (main, residual) in [(inputs[0], inputs[1]), (inputs[1], inputs[0])] {
        let Some((conv_node, conv)) = new.sole_producer::<Conv2d>(main) else { continue };
        if conv.activation != Activation::Identity || conv.residual {
            continue;
        }
        let (name, mut operands, op) =
            (conv_node.name.clone(), conv_node.inputs.clone(), Conv2d { residual: true, ..*conv });
        operands.push(residual);
        return Ok(Some(new.graph.push(&name, Arc::new(op), &operands)?));
    }
    Ok(None)
}
