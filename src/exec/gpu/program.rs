//! Runs of a graph on a device.

use super::record::{Recorded, replay};
use super::value::{DeviceValue, Feed};
use crate::error::{Result, error};
use crate::exec::backend::Program;
use crate::gpu::{Gpu, Mapping, readback_error};
use crate::graph::{pack, unpack};
use crate::memory::Reservation;
use crate::ops::Packing;
use crate::ops::kernel::TensorLayout;
use crate::tensor::Tensor;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use web_time::Instant;

/// Target duration of the repetitions of a node that is timed separately, so that the submission
/// overhead is negligible.
const NODE_TIME: Duration = Duration::from_millis(4);

/// An output in the buffer of the runs.
pub(super) struct Output {
    pub(super) from: wgpu::Buffer,
    pub(super) bytes: u64,
    pub(super) layout: TensorLayout,
}

/// Recorded dispatches of a node.
pub(super) struct Recording {
    pub(super) node: usize,
    pub(super) kernel: String,
    /// Positions of its dispatches among all steps.
    pub(super) steps: Range<usize>,
}

/// A graph prepared for a device.
pub(in crate::engine::exec) struct GpuProgram {
    pub(super) gpu: Arc<Gpu>,
    pub(super) inputs: Vec<wgpu::Buffer>,
    pub(super) steps: Vec<Recorded>,
    pub(super) outputs: Vec<Output>,
    pub(super) nodes: Vec<Recording>,
    /// Keeps the upload and the submission of a run together; the device executes them in this
    /// order.
    pub(super) submitting: Mutex<()>,
    /// Free readback buffers, one set per concurrent run.
    pub(super) staging: Mutex<Vec<Vec<wgpu::Buffer>>>,
    /// Memory reserved for the activations and the host's copies of inputs and outputs.
    pub(super) reserved: Reservation,
}

impl Program for GpuProgram {
    type Input<'t> = Feed<'t>;
    type Output = DeviceValue;

    fn kernels(&self) -> Vec<(usize, &str)> {
        self.nodes.iter().map(|recording| (recording.node, &*recording.kernel)).collect()
    }

    fn prepare_readback(&self) -> Result<()> {
        let staging = self.staging()?;
        lock(&self.staging).push(staging);
        self.gpu.check()
    }

    async fn run(&self, inputs: &[Self::Input<'_>]) -> Result<Vec<Tensor>> {
        let staging = self.staging()?;
        let mapped = self.submit_and_map(inputs, &staging)?;
        self.gpu.mapped(mapped).await?;
        let read = |(output, staging): (&Output, &wgpu::Buffer)| {
            let view = staging
                .get_mapped_range(0..output.bytes)
                .map_err(|e| self.gpu.root_cause(readback_error().source(e)))?;
            let tensor = unpack(&view, output.layout);
            drop(view);
            staging.unmap();
            tensor
        };
        let tensors = self.outputs.iter().zip(&staging).map(read).collect::<Result<_>>()?;
        lock(&self.staging).push(staging);
        self.reserved.mark_used();
        Ok(tensors)
    }

    async fn produce(&self, inputs: &[Self::Input<'_>]) -> Result<Vec<DeviceValue>> {
        let allocate = |output: &Output| {
            let buffer = self.gpu.copy_target("value", output.bytes)?;
            let (gpu, bytes, layout) = (self.gpu.clone(), output.bytes, output.layout);
            Ok(DeviceValue { gpu, buffer, bytes, layout })
        };
        let values = self.outputs.iter().map(allocate).collect::<Result<Vec<_>>>()?;
        let submission = {
            let _guard = lock(&self.submitting);
            let mut encoder = self.encoder();
            self.upload(inputs, &mut encoder)?;
            self.encode(0..self.nodes.len(), &mut encoder);
            self.copy_outputs(values.iter().map(|value| &value.buffer), &mut encoder);
            self.submit(encoder)
        };
        self.gpu.finished(submission).await?;
        self.reserved.mark_used();
        Ok(values)
    }

    fn enqueue(&self, inputs: &[&Tensor]) -> Result<()> {
        let _guard = lock(&self.submitting);
        let mut encoder = self.encoder();
        self.upload_tensors(inputs, &mut encoder)?;
        self.encode(0..self.nodes.len(), &mut encoder);
        self.submit(encoder);
        self.gpu.check()
    }

    fn time_pieces(&self, inputs: &[&Tensor]) -> Result<Vec<Duration>> {
        let nodes: Vec<Range<usize>> = (0..self.nodes.len()).map(|i| i..i + 1).collect();
        // The first run warms up the driver.
        self.run_groups(inputs, &nodes)?;
        self.run_groups(inputs, &nodes)
    }

    fn run_pieces(&self, inputs: &[&Tensor], groups: &[Range<usize>]) -> Result<()> {
        if groups.last().map(|group| group.end) != Some(self.nodes.len()) {
            return Err(error!(Usage, "the slices belong to another graph"));
        }
        self.run_groups(inputs, groups).map(drop)
    }

    /// Times each node separately, so that it reads the same values as in a run.
    fn time_nodes(&self, inputs: &[&Tensor]) -> Result<Vec<(usize, Duration)>> {
        let _guard = lock(&self.submitting);
        let mut encoder = self.encoder();
        self.upload_tensors(inputs, &mut encoder)?;
        self.submit(encoder);
        let time = |recording: &Recording| {
            let steps = &self.steps[recording.steps.clone()];
            let once = replay(&self.gpu, steps, 1)?;
            let repeats = (NODE_TIME.as_nanos() / once.as_nanos().max(1)).clamp(1, 100) as u32;
            // A node does not read its outputs, so it can be repeated; repeated in-place updates
            // change values, but take the same time.
            Ok((recording.node, replay(&self.gpu, steps, repeats)? / repeats))
        };
        self.nodes.iter().map(time).collect()
    }
}

impl GpuProgram {
    /// Returns the device.
    pub(in crate::engine::exec) fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    fn encoder(&self) -> wgpu::CommandEncoder {
        let descriptor = wgpu::CommandEncoderDescriptor { label: Some("run") };
        self.gpu.device.create_command_encoder(&descriptor)
    }

    /// Writes the inputs into the buffers of the run: tensors before the next submission, values
    /// on the device by commands.
    fn upload(&self, inputs: &[Feed<'_>], encoder: &mut wgpu::CommandEncoder) -> Result<()> {
        for (buffer, input) in self.inputs.iter().zip(inputs) {
            match input {
                Feed::Host(tensor) => {
                    self.gpu.queue.write_buffer(buffer, 0, &pack(tensor, Packing::Channels)?);
                }
                Feed::Device(value) => {
                    encoder.copy_buffer_to_buffer(&value.buffer, 0, buffer, 0, value.bytes);
                }
            }
        }
        Ok(())
    }

    fn upload_tensors(&self, inputs: &[&Tensor], encoder: &mut wgpu::CommandEncoder) -> Result<()> {
        let inputs: Vec<Feed> = inputs.iter().map(|&tensor| Feed::Host(tensor)).collect();
        self.upload(&inputs, encoder)
    }

    /// Encodes the nodes at these positions among those that run, in one pass.
    fn encode(&self, nodes: Range<usize>, encoder: &mut wgpu::CommandEncoder) {
        let descriptor = wgpu::ComputePassDescriptor { label: Some("run"), timestamp_writes: None };
        let mut pass = encoder.begin_compute_pass(&descriptor);
        for step in self.nodes[nodes].iter().flat_map(|n| &self.steps[n.steps.clone()]) {
            step.dispatch(&mut pass);
        }
    }

    fn copy_outputs<'b>(
        &self,
        targets: impl Iterator<Item = &'b wgpu::Buffer>,
        encoder: &mut wgpu::CommandEncoder,
    ) {
        for (output, target) in self.outputs.iter().zip(targets) {
            encoder.copy_buffer_to_buffer(&output.from, 0, target, 0, output.bytes);
        }
    }

    fn submit(&self, encoder: wgpu::CommandEncoder) -> wgpu::SubmissionIndex {
        let commands = encoder.finish();
        let _guard = self.gpu.pause_submissions();
        self.gpu.queue.submit([commands])
    }

    fn submit_and_map(&self, inputs: &[Feed<'_>], staging: &[wgpu::Buffer]) -> Result<Mapping> {
        let _guard = lock(&self.submitting);
        let mut encoder = self.encoder();
        self.upload(inputs, &mut encoder)?;
        self.encode(0..self.nodes.len(), &mut encoder);
        self.copy_outputs(staging.iter(), &mut encoder);
        let mapped =
            staging.iter().zip(&self.outputs).map(|(buffer, output)| (buffer, output.bytes));
        Ok(self.gpu.submit_and_map(encoder, mapped))
    }

    /// Runs group by group, waits for each before submitting the next, and returns the duration of
    /// each.
    fn run_groups(&self, inputs: &[&Tensor], groups: &[Range<usize>]) -> Result<Vec<Duration>> {
        let _guard = lock(&self.submitting);
        let mut encoder = self.encoder();
        self.upload_tensors(inputs, &mut encoder)?;
        let times = groups.iter().map(|group| {
            let start = Instant::now();
            self.encode(group.clone(), &mut encoder);
            let submission = self.submit(std::mem::replace(&mut encoder, self.encoder()));
            self.gpu.wait(submission)?;
            Ok(start.elapsed())
        });
        times.collect()
    }

    /// Returns readback buffers for the outputs: those of a finished run, or new ones.
    fn staging(&self) -> Result<Vec<wgpu::Buffer>> {
        if let Some(free) = lock(&self.staging).pop() {
            return Ok(free);
        }
        self.outputs.iter().map(|output| self.gpu.readback("readback", output.bytes)).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
