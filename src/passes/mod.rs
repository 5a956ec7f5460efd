//! Optimization passes. Each maps a graph to a graph with equal outputs within rounding.

mod concat_views;
mod dead_code;
mod fold_batch_norm;
mod fuse_epilogue;
mod pattern;
mod pooled_branch;

pub use concat_views::concat_views;
pub use dead_code::dead_code;
pub use fold_batch_norm::fold_batch_norm;
pub use fuse_epilogue::fuse_epilogue;
pub use pattern::{Matched, Site, replace};
pub use pooled_branch::pooled_branch;

use crate::error::Result;
use crate::graph::Graph;

/// A pass.
pub type Pass = fn(Graph) -> Result<Graph>;

/// All passes with their names, in the order in which they run.
pub const ALL: [(&str, Pass); 5] = [
    ("dead_code", dead_code),
    ("fold_batch_norm", fold_batch_norm),
    ("fuse_epilogue", fuse_epilogue),
    ("pooled_branch", pooled_branch),
    ("concat_views", concat_views),
];

/// Runs all passes, and verifies the graph after each.
///
/// # Errors
/// Returns an error that names the pass if the graph is inconsistent before or after it.
pub fn optimize(graph: Graph) -> Result<Graph> {
    ALL.iter().try_fold(graph, |graph, (name, pass)| {
        let graph = pass(graph).map_err(|e| e.at(format!("pass {name}")))?;
        graph.verify().map_err(|e| e.at(format!("after pass {name}")))?;
        Ok(graph)
    })
}
