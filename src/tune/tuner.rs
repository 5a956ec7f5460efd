//! The selection of kernels by measurement.

use super::stage::{self, Stage};
use super::table::{Choice, Table, table_path};
use super::{Tuning, TuningMode, TuningProgress};
use crate::error::{Error, ErrorKind, Result, error};
use crate::exec::KernelSelector;
use crate::gpu::Gpu;
use crate::ops::Op;
use crate::ops::kernel::{Kernel, KernelContext, TensorLayout};
use std::sync::Arc;
use std::time::Duration;

/// Selects kernels by measurement.
pub struct Tuner {
    gpu: Arc<Gpu>,
    tuning: Tuning,
    table: Table,
    progress: Progress,
}

#[derive(Default)]
struct Progress {
    done: usize,
    total: usize,
    measured: usize,
}

impl Tuner {
    /// Creates a tuner for a device. Its table is read now, and written after each measurement.
    pub fn new(gpu: Arc<Gpu>, tuning: Tuning) -> Self {
        let path = match &tuning.table {
            _ if tuning.mode == TuningMode::Off => None,
            Some(path) => path.clone(),
            None => table_path(gpu.summary()),
        };
        let table = Table::open(gpu.summary(), path);
        Self { gpu, tuning, table, progress: Progress::default() }
    }

    fn report(&self, measuring: Option<&str>) {
        if let Some(report) = &self.tuning.report {
            // There may be more calls than announced: tests and benchmarks announce none.
            let (done, total) = (self.progress.done, self.progress.total.max(self.progress.done));
            report(&TuningProgress { done, total, measuring });
        }
    }

    fn select(
        &mut self,
        op: &dyn Op,
        context: &KernelContext,
        kernels: &[Kernel],
    ) -> Result<usize> {
        if self.tuning.mode == TuningMode::Off || kernels.len() == 1 {
            return Ok(0);
        }
        let key = key(op, context);
        let cached = self
            .table
            .get(&key)
            .and_then(|choice| kernels.iter().position(|k| k.label == choice.kernel));
        match (cached, self.tuning.mode) {
            (Some(index), _) => Ok(index),
            (None, TuningMode::On) => {
                self.report(Some(&key));
                self.progress.measured += 1;
                let (index, time) = match measure(&self.gpu, op, context, kernels) {
                    Err(e) if e.kind() == ErrorKind::OutOfMemory => {
                        log::warn!("{key}: could not be measured: {e}");
                        return Ok(0);
                    }
                    result => result?,
                };
                let kernel = &kernels[index].label;
                log::info!("{key}: `{kernel}` of {} takes {time:.1?}", kernels.len());
                self.table.insert(
                    key,
                    Choice { kernel: kernel.clone(), microseconds: time.as_secs_f64() * 1e6 },
                );
                Ok(index)
            }
            (None, _) => Ok(0),
        }
    }
}

impl KernelSelector for Tuner {
    fn begin(&mut self, calls: usize) {
        self.progress = Progress { total: calls, ..Progress::default() };
    }

    fn choose(
        &mut self,
        op: &dyn Op,
        context: &KernelContext,
        kernels: &[Kernel],
    ) -> Result<usize> {
        let selected = self.select(op, context, kernels);
        self.progress.done += 1;
        if self.progress.measured > 0 && self.progress.done == self.progress.total {
            self.report(None);
        }
        selected
    }
}

/// Checks and times all kernels of a call. Returns the position of the fastest correct one and its
/// time.
fn measure(
    gpu: &Gpu,
    op: &dyn Op,
    context: &KernelContext,
    kernels: &[Kernel],
) -> Result<(usize, Duration)> {
    // Threads that prepare graphs at the same time must not measure at the same time.
    let _guard = gpu.pause_measurements();
    let stage = Stage::new(gpu, op, context)?;
    let mut best: Option<(usize, Duration)> = None;
    for (index, kernel) in kernels.iter().enumerate() {
        match attempt(&stage, kernel, best.map(|(_, time)| time)) {
            Ok(Outcome::Correct(time)) => {
                log::debug!(
                    "{} {}: `{}` takes {time:.1?}",
                    op.name(),
                    op.attributes(),
                    kernel.label
                );
                if best.is_none_or(|(_, fastest)| time < fastest) {
                    best = Some((index, time));
                }
            }
            Ok(Outcome::TooSlow(time)) => {
                log::debug!(
                    "{} {}: `{}` is too slow: {time:.1?}",
                    op.name(),
                    op.attributes(),
                    kernel.label
                );
            }
            Ok(Outcome::Wrong(report)) => {
                log::warn!(
                    "{} {}: skipping kernel `{}`: {report}",
                    op.name(),
                    op.attributes(),
                    kernel.label
                );
            }
            // An error of one shader does not affect the others.
            Err(e) if e.kind() == ErrorKind::Shader => {
                log::warn!("{}: skipping kernel `{}`: {e}", op.name(), kernel.label)
            }
            Err(e) => return Err(e),
        }
    }
    best.ok_or_else(|| no_correct_kernel(op))
}

/// Result of a candidate.
enum Outcome {
    Correct(Duration),
    TooSlow(Duration),
    Wrong(String),
}

fn attempt(stage: &Stage, kernel: &Kernel, best: Option<Duration>) -> Result<Outcome> {
    let candidate = stage.candidate(kernel)?;
    if let Some(best) = best {
        let once = candidate.once(best)?;
        if stage::is_too_slow(once, best) {
            return Ok(Outcome::TooSlow(once));
        }
    }
    match candidate.check()? {
        Some(report) => Ok(Outcome::Wrong(report)),
        None => Ok(Outcome::Correct(candidate.time(best)?)),
    }
}

fn no_correct_kernel(op: &dyn Op) -> Error {
    error!(
        Shader,
        "no kernel of {} {} computes correct results on this device",
        op.name(),
        op.attributes()
    )
    .advice("use `--device cpu`, and report this with the output of `atrous devices`")
}

/// Returns the cache key of a call: the operation, its attributes, and the layouts of its operands.
fn key(op: &dyn Op, context: &KernelContext) -> String {
    let layout = |l: &TensorLayout| {
        let contiguous = *l == TensorLayout::contiguous(l.ty);
        let place = if contiguous { String::new() } else { format!("+{}/{}", l.offset, l.pitch) };
        format!("{}{place}", l.ty.shape)
    };
    let all = |layouts: &[TensorLayout]| layouts.iter().map(layout).collect::<Vec<_>>().join(" ");
    format!(
        "{} {}: {} -> {}",
        op.name(),
        op.attributes(),
        all(context.inputs),
        all(context.outputs)
    )
}
