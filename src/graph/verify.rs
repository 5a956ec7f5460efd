//! Verification of the invariants that executors rely on.

use super::{Graph, InPlace, ValueId, ValueSource};
use crate::error::{Result, error};
use std::collections::HashSet;

impl Graph {
    /// Checks names, order, types, views and in-place updates. Call it after building and after
    /// every pass.
    ///
    /// # Errors
    /// Returns an error that names the first invalid node or view.
    pub fn verify(&self) -> Result<()> {
        let mut names = HashSet::new();
        let mut known: Vec<bool> =
            self.values.iter().map(|v| !matches!(v.source, ValueSource::Node { .. })).collect();
        for (position, node) in self.nodes.iter().enumerate() {
            let here = || format!("node `{}` ({})", node.name, node.op.name());
            if !names.insert(node.name.as_str()) {
                return Err(error!(Graph, "duplicate node name").at(here()));
            }
            if let Some(&early) = node.inputs.iter().find(|v| !known[v.index()]) {
                return Err(error!(
                    Graph,
                    "reads `{}` before it is computed",
                    self.value_name(early)
                )
                .at(here()));
            }
            let types: Vec<_> = node.inputs.iter().map(|&v| self.ty(v)).collect();
            let inferred = node.op.output_types(&types).map_err(|e| e.at(here()))?;
            let stored: Vec<_> = node.outputs.iter().map(|&v| self.ty(v)).collect();
            if inferred != stored {
                return Err(
                    error!(Graph, "infers {inferred:?}, but the graph has {stored:?}").at(here())
                );
            }
            for (index, v) in node.outputs.iter().enumerate() {
                known[v.index()] = true;
                if !matches!(self.value(*v).source, ValueSource::Node { node, output } if node == position && output == index)
                {
                    return Err(
                        error!(Graph, "output {index} does not point back at its node").at(here())
                    );
                }
            }
        }
        self.verify_in_place()?;
        for value in &self.values {
            let Some(view) = value.view else { continue };
            let root = self.value(view.root);
            let fits = view.channel % 4 == 0
                && root.view.is_none()
                && view.channel + value.ty.shape.c <= root.ty.shape.c
                && root.ty.shape.with_c(0) == value.ty.shape.with_c(0);
            if !fits {
                return Err(error!(
                    Graph,
                    "a view of {} does not fit into {}", value.ty.shape, root.ty.shape
                )
                .at(format!("node `{}`", self.value_name(view.root))));
            }
        }
        Ok(())
    }

    /// Checks that values that are overwritten in place are not read afterwards and are not
    /// parameters shared between graphs.
    fn verify_in_place(&self) -> Result<()> {
        let mut last_read = vec![0; self.values.len()];
        for (position, node) in self.nodes.iter().enumerate() {
            node.inputs.iter().for_each(|v| last_read[v.index()] = position);
        }
        self.outputs.iter().for_each(|(_, v)| last_read[v.index()] = usize::MAX);
        for (position, node) in self.nodes.iter().enumerate() {
            for &InPlace { input, output } in node.op.in_place() {
                let (before, after) = (node.inputs[input], node.outputs[output]);
                let location = |v: ValueId| self.value(v).resident.as_ref();
                let shared = self.is_param(before) && location(before).is_none();
                if last_read[before.index()] > position
                    || shared
                    || location(before) != location(after)
                {
                    return Err(error!(
                        Graph,
                        "overwrites `{}`, which is used elsewhere",
                        self.value_name(before)
                    )
                    .at(format!("node `{}` ({})", node.name, node.op.name())));
                }
            }
        }
        Ok(())
    }
}
