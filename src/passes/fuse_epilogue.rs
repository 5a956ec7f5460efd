//! Fuses an addition and an activation after a convolution into its epilogue: one kernel instead of
//! three.

use super::pattern::{Matched, Site, replace};
use crate::error::Result;
use crate::graph::Graph;
use crate::ops::{Activate, Activation, Add, Conv2d};

/// `add(conv(x), r) = conv(x, residual = r)` and `activate(conv(x)) = conv(x, activation)`.
///
/// # Errors
/// Returns an error if the graph is inconsistent.
pub fn fuse_epilogue(graph: Graph) -> Result<Graph> {
    replace(
        graph,
        |site| with_residual(site).or_else(|| with_activation(site)),
        |new, conv| new.op(&conv.name, conv.op, &conv.inputs),
    )
}

/// Matches `add(conv(x), r)`, in either order, and returns `conv(x, residual = r)`.
fn with_residual(site: &Site) -> Option<Matched<Conv2d>> {
    let add = site.node::<Add>()?;
    let (a, b) = (add.inputs[0], add.inputs[1]);
    if a == b || site.shape(a) != site.shape(b) {
        return None;
    }
    [(a, b), (b, a)].into_iter().find_map(|(main, residual)| {
        let mut conv = site.used_once::<Conv2d>(main)?;
        if conv.op.activation != Activation::Identity || conv.op.residual {
            return None;
        }
        conv.op.residual = true;
        conv.inputs.push(residual);
        Some(conv)
    })
}

/// Matches `activate(conv(x))`, and returns `conv(x, activation)`.
fn with_activation(site: &Site) -> Option<Matched<Conv2d>> {
    let activate = site.node::<Activate>()?;
    let mut conv = site.used_once::<Conv2d>(activate.inputs[0])?;
    if conv.op.activation != Activation::Identity {
        return None;
    }
    conv.op.activation = activate.op.0;
    Some(conv)
}
