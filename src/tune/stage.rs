//! One operation on random data, for checking and timing its kernels.

use super::compare::differs;
use super::random::{Random, buffer_bytes};
use crate::error::Result;
use crate::exec::gpu::record::{Recorded, Recorder, replay};
use crate::gpu::{Buffer, Checks, Gpu};
use crate::graph::unpack;
use crate::ops::Op;
use crate::ops::kernel::{Kernel, KernelContext, Operand, TensorLayout};
use crate::tensor::Tensor;
use std::cell::OnceCell;
use std::time::Duration;

/// Target duration of a timed run: much longer than the overhead of clock and submission.
const RUN: Duration = Duration::from_millis(20);
/// Number of timed runs; the fastest counts, because slowdowns are external.
const RUNS: usize = 5;
/// Factor relative to the best time beyond which a candidate is abandoned.
const TOO_SLOW: u32 = 2;
/// Overhead of clock and submission, excluded from that comparison.
const SUBMISSION: Duration = Duration::from_micros(500);

/// An operation with buffers for its operands.
pub struct Stage<'a> {
    gpu: &'a Gpu,
    op: &'a dyn Op,
    inputs: Vec<(Tensor, Buffer)>,
    outputs: Vec<(TensorLayout, Buffer)>,
    /// Outputs of the operation's CPU function, computed when first needed.
    reference: OnceCell<Vec<Tensor>>,
}

/// A kernel of the operation, compiled and bound.
pub struct Candidate<'a> {
    stage: &'a Stage<'a>,
    steps: Vec<Recorded>,
}

impl<'a> Stage<'a> {
    /// Allocates the operands and fills the inputs with reproducible numbers.
    ///
    /// # Errors
    /// Returns an error if there is not enough memory.
    pub fn new(gpu: &'a Gpu, op: &'a dyn Op, context: &KernelContext) -> Result<Self> {
        let mut random = Random::new(1);
        let inputs = (0..)
            .zip(context.inputs)
            .map(|(i, layout)| {
                let (tensor, bytes) = random.operand(*layout, op.packing(i))?;
                let buffer = gpu.shared_storage("input of a measurement", bytes.len() as u64)?;
                gpu.queue.write_buffer(&buffer, 0, &bytes);
                Ok((tensor, buffer))
            })
            .collect::<Result<_>>()?;
        let outputs = context
            .outputs
            .iter()
            .map(|layout| {
                Ok((*layout, gpu.shared_storage("output of a measurement", buffer_bytes(*layout))?))
            })
            .collect::<Result<_>>()?;
        Ok(Self { gpu, op, inputs, outputs, reference: OnceCell::new() })
    }

    /// Compiles a kernel and binds its operands.
    ///
    /// # Errors
    /// Returns an error of kind `Shader` if the kernel does not compile or does not match its
    /// operands.
    pub fn candidate(&'a self, kernel: &Kernel) -> Result<Candidate<'a>> {
        let scratch = kernel.scratch.iter().map(|&bytes| self.gpu.kernel_storage("scratch", bytes));
        let scratch: Vec<Buffer> = scratch.collect::<Result<_>>()?;
        let mut recorder = Recorder::new(self.gpu);
        for dispatch in &kernel.dispatches {
            recorder.add(&kernel.label, dispatch, Checks::of(self.op), |operand| {
                let buffer = match operand {
                    Operand::Input(i) => &self.inputs[i].1,
                    Operand::Output(i) => &self.outputs[i].1,
                    Operand::Scratch(i) => &scratch[i],
                };
                Ok(buffer.clone().into())
            })?;
        }
        Ok(Candidate { stage: self, steps: recorder.finish()? })
    }

    fn reference(&self) -> Result<&[Tensor]> {
        if let Some(reference) = self.reference.get() {
            return Ok(reference);
        }
        let inputs: Vec<&Tensor> = self.inputs.iter().map(|(tensor, _)| tensor).collect();
        let mut outputs: Vec<Tensor> =
            self.outputs.iter().map(|(layout, _)| Tensor::zeros(layout.ty)).collect();
        self.op.cpu(&inputs, &mut outputs)?;
        Ok(self.reference.get_or_init(|| outputs))
    }

    /// Returns the number of products that are summed for one element.
    fn products(&self) -> f32 {
        let inputs: Vec<_> = self.inputs.iter().map(|(tensor, _)| tensor.ty()).collect();
        let outputs: Vec<_> = self.outputs.iter().map(|(layout, _)| layout.ty).collect();
        let elements: usize = outputs.iter().map(|ty| ty.shape.len()).sum();
        self.op.cost(&inputs, &outputs).multi_adds as f32 / elements.max(1) as f32
    }

    fn read(&self, layout: TensorLayout, buffer: &Buffer) -> Result<Tensor> {
        unpack(&self.gpu.read(buffer, 0, buffer_bytes(layout))?, layout)
    }
}

impl Candidate<'_> {
    /// Runs the kernel `repeats` times in one submission, and returns the time until all are done.
    /// The first run of a kernel may compile it.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub fn run(&self, repeats: u32) -> Result<Duration> {
        replay(self.stage.gpu, &self.steps, repeats)
    }

    /// Runs the kernel once and compares its outputs with those of the operation's CPU function.
    /// Returns `Ok(Some(report))` if they differ.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub fn check(&self) -> Result<Option<String>> {
        let stage = self.stage;
        for (layout, buffer) in &stage.outputs {
            // NaN for f32, and an invalid value for integers, so that outputs that are not written
            // are detected.
            stage.gpu.queue.write_buffer(buffer, 0, &vec![0xFF; buffer_bytes(*layout) as usize]);
        }
        self.run(1)?;
        let reference = stage.reference()?;
        for (index, (layout, buffer)) in stage.outputs.iter().enumerate() {
            let got = stage.read(*layout, buffer)?;
            if let Some(report) = differs(&got, &reference[index], stage.products()) {
                return Ok(Some(format!("output {index}: {report}")));
            }
        }
        Ok(None)
    }

    /// Returns the time of a single run. The first run may compile, so a second one is timed unless
    /// the first is much too slow.
    pub(super) fn once(&self, best: Duration) -> Result<Duration> {
        let first = self.run(1)?;
        // Compilation takes some hundred milliseconds.
        if first > 4 * best + Duration::from_secs(1) {
            return Ok(first);
        }
        Ok(first.min(self.run(1)?))
    }

    /// Returns the time of one run, the minimum of several; stops early if it is clearly slower
    /// than `best`.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub fn time(&self, best: Option<Duration>) -> Result<Duration> {
        // The first run may compile.
        let once = self.run(1)?.min(self.run(1)?);
        let repeats = (RUN.as_nanos() / once.as_nanos().max(1)).clamp(1, 200) as u32;
        let mut fastest = Duration::MAX;
        for round in 0..RUNS {
            fastest = fastest.min(self.run(repeats)? / repeats);
            if round > 0 && best.is_some_and(|best| fastest > best + best / 4) {
                break;
            }
        }
        Ok(fastest)
    }
}

/// Returns whether a candidate with time `once` can be abandoned.
pub(super) fn is_too_slow(once: Duration, best: Duration) -> bool {
    once > TOO_SLOW * best + SUBMISSION
}
