//! A plan as text, for `inspect --plan` and for tests.

use super::Plan;
use crate::graph::Graph;
use std::fmt::Write;

impl Plan {
    /// Formats the plan: one line per step with node, operation, reads and writes, then the
    /// buffers.
    pub fn describe(&self, graph: &Graph) -> String {
        let mut text = String::new();
        let width = self.steps.iter().map(|&i| graph.nodes()[i].name.len()).max().unwrap_or(0);
        for (step, &i) in self.steps.iter().enumerate() {
            let node = &graph.nodes()[i];
            let place = |v: &crate::graph::ValueId| match self.places[v.index()] {
                Some(p)
                    if p.layout.offset > 0 || p.layout.pitch as usize != graph.shape(*v).c4() =>
                {
                    format!("#{}[{}..]", p.slot, 4 * p.layout.offset)
                }
                Some(p) => format!("#{}", p.slot),
                None => String::new(),
            };
            let reads: Vec<String> =
                node.inputs.iter().map(place).filter(|p| !p.is_empty()).collect();
            let writes: Vec<String> =
                node.outputs.iter().map(|v| format!("{} {}", place(v), graph.shape(*v))).collect();
            let what = format!("{} {}", node.op.name(), node.op.attributes());
            let (reads, writes) = (reads.join(" "), writes.join(" "));
            // Writing to a String cannot fail.
            let _ =
                writeln!(text, "{step:4}  {:width$}  {what:44} {reads:>12} -> {writes}", node.name);
        }
        let _ = writeln!(
            text,
            "{} buffers, {:.1} MiB (largest {:.1} MiB), parameters {:.1} MiB",
            self.slots.len(),
            mib(self.activation_bytes()),
            mib(self.largest()),
            mib(self.param_bytes)
        );
        text
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
