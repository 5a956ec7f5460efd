//! Every operation against plain double-precision loops: on the CPU, and on the device with every
//! kernel.

mod bilinear;
mod conv;
mod golden;
mod live;
mod oracle;
mod pixel;
mod pool;
mod sigmoid;
#[path = "../support/mod.rs"]
mod support;
mod views;

use atrous::engine::Tensor;
use atrous::engine::ops::Op;
use oracle::Map;
use std::sync::Arc;
use support::{allclose, cases_on, devices, run_op, run_op_with};

/// Half the distance from 1 to the next f32: the relative error of one rounding.
const ROUNDING: f64 = 1.0 / (1u32 << 24) as f64;

/// Returns an error that describes what is wrong with the outputs of an operation.
type Check = Box<dyn Fn(&str, &[Tensor]) -> Result<(), String>>;

/// One call of an operation.
struct Case {
    op: Arc<dyn Op>,
    inputs: Vec<Tensor>,
    check: Check,
}

impl Case {
    /// A call whose only output must be `want` within `atol + rtol * |want|`.
    fn close(op: impl Op, inputs: Vec<Tensor>, want: Map, atol: f64, rtol: f64) -> Self {
        let check: Check = Box::new(move |what, outputs| {
            if outputs[0].shape() != want.shape {
                return Err(format!(
                    "{what}: the shape is {}, expected {}",
                    outputs[0].shape(),
                    want.shape
                ));
            }
            allclose(what, &outputs[0], &want.data, atol, rtol)
        });
        Self { op: Arc::new(op), inputs, check }
    }
}

/// Runs the cases on the devices (see [`cases_on`]), then fails if any case failed.
fn run(cases: &[Case]) {
    let mut failures = Vec::new();
    let mut runs = 0;
    for device in devices() {
        for (case, kernels) in cases_on(&device, cases) {
            let shapes: Vec<String> = case.inputs.iter().map(|t| t.shape().to_string()).collect();
            let what = format!(
                "{} {} of {} on {device}",
                case.op.name(),
                case.op.attributes(),
                shapes.join(", ")
            );
            match run_op_with(&device, &case.op, &case.inputs, kernels) {
                Err(e) => failures.push(format!("{what}: {e}")),
                Ok(results) => {
                    runs += results.len();
                    let checked = results
                        .iter()
                        .map(|(label, y)| (case.check)(&format!("{what}, kernel `{label}`"), y));
                    failures.extend(checked.filter_map(Result::err));
                }
            }
        }
    }
    let shown = failures.iter().take(8).cloned().collect::<Vec<_>>().join("\n");
    assert!(
        failures.is_empty(),
        "{} failures in {runs} runs, the first ones:\n{shown}",
        failures.len()
    );
}
