//! Dispatches prepared for a device: pipelines, bind groups, and one buffer with all uniform
//! blocks.

use crate::error::{Error, ErrorKind, Result, error};
use crate::gpu::{Checks, Gpu, Pipeline};
use crate::ops::kernel::{Dispatch, Extent, Operand};
use std::sync::Arc;
use std::time::Duration;
use web_time::Instant;

/// A buffer, or a range of one.
#[derive(Clone)]
pub(crate) struct Bound {
    pub(crate) buffer: wgpu::Buffer,
    pub(crate) offset: u64,
    /// Size of the range; to the end of the buffer if `None`.
    pub(crate) bytes: Option<std::num::NonZeroU64>,
}

impl From<wgpu::Buffer> for Bound {
    fn from(buffer: wgpu::Buffer) -> Self {
        Self { buffer, offset: 0, bytes: None }
    }
}

/// A dispatch with everything bound.
pub(crate) struct Recorded {
    pipeline: Arc<Pipeline>,
    bind_group: wgpu::BindGroup,
    groups: (u32, u32),
}

impl Recorded {
    /// Encodes the dispatch into a compute pass.
    pub(crate) fn dispatch(&self, pass: &mut wgpu::ComputePass) {
        pass.set_pipeline(&self.pipeline.raw);
        pass.set_bind_group(0, &self.bind_group, &[]);
        pass.dispatch_workgroups(self.groups.0, self.groups.1, 1);
    }
}

/// Runs the steps `repeats` times in one pass, and returns the time of submission and execution.
pub(crate) fn replay(gpu: &Gpu, steps: &[Recorded], repeats: u32) -> Result<Duration> {
    let mut encoder = gpu
        .device
        .create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("measurement") });
    {
        let descriptor =
            wgpu::ComputePassDescriptor { label: Some("measurement"), timestamp_writes: None };
        let mut pass = encoder.begin_compute_pass(&descriptor);
        for step in (0..repeats).flat_map(|_| steps) {
            step.dispatch(&mut pass);
        }
    }
    let commands = encoder.finish();
    let start = Instant::now();
    let submission = gpu.queue.submit([commands]);
    gpu.wait(submission)?;
    Ok(start.elapsed())
}

/// Collects dispatches; the buffer of the uniform blocks is created at the end.
pub(crate) struct Recorder<'a> {
    gpu: &'a Gpu,
    pending: Vec<Pending>,
    uniforms: Vec<u8>,
}

/// A dispatch with known operands, before the buffer of the uniform blocks exists.
struct Pending {
    name: String,
    pipeline: Arc<Pipeline>,
    buffers: Vec<(u32, Bound)>,
    /// Binding, offset and bytes in the buffer of all uniform blocks.
    params: Option<(u32, u64, u64)>,
    groups: (u32, u32),
}

impl<'a> Recorder<'a> {
    pub(crate) fn new(gpu: &'a Gpu) -> Self {
        Self { gpu, pending: Vec::new(), uniforms: Vec::new() }
    }

    /// Adds a dispatch of the node `name`; `buffer` returns the buffer of an operand. `checks` are
    /// those of the operation that created the dispatch.
    pub(crate) fn add(
        &mut self,
        name: &str,
        dispatch: &Dispatch,
        checks: Checks,
        buffer: impl Fn(Operand) -> Result<Bound>,
    ) -> Result<()> {
        let pending = self
            .prepare(name, dispatch, checks, buffer)
            .map_err(|e| e.at(format!("node `{name}`")))?;
        self.pending.push(pending);
        Ok(())
    }

    fn prepare(
        &mut self,
        name: &str,
        dispatch: &Dispatch,
        checks: Checks,
        buffer: impl Fn(Operand) -> Result<Bound>,
    ) -> Result<Pending> {
        let pipeline = self.gpu.pipeline_with(&dispatch.variant, checks)?;
        let reflection = &pipeline.reflection;
        let buffers = reflection
            .operands(dispatch)?
            .into_iter()
            .map(|(b, o)| Ok((b, buffer(o)?)))
            .collect::<Result<Vec<_>>>()?;
        let bytes = reflection.params_bytes(dispatch)?;
        let params = reflection.params.as_ref().map(|p| {
            let align = self.gpu.device.limits().min_uniform_buffer_offset_alignment as usize;
            self.uniforms.resize(self.uniforms.len().next_multiple_of(align), 0);
            let offset = self.uniforms.len() as u64;
            self.uniforms.extend(&bytes);
            (p.binding, offset, u64::from(p.size))
        });
        let groups = match dispatch.extent {
            Extent::Groups(groups) => groups,
            Extent::Threads(threads) => threads.div_ceil(u64::from(reflection.group_size)),
        };
        let groups = wrap(groups, self.gpu.caps().max_groups)
            .map_err(|e| e.at(format!("dispatch of {}", dispatch.variant)))?;
        Ok(Pending { name: name.to_owned(), pipeline, buffers, params, groups })
    }

    /// Uploads the uniform blocks and binds everything.
    pub(crate) fn finish(self) -> Result<Vec<Recorded>> {
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let uniform = self.gpu.buffer("uniform blocks", self.uniforms.len() as u64, usage)?;
        self.gpu.queue.write_buffer(&uniform, 0, &self.uniforms);
        self.pending.into_iter().map(|p| bind(self.gpu, p, &uniform)).collect()
    }
}

/// Wraps a long row of workgroups into two dimensions. Shaders compute `x + y * num_workgroups.x`
/// and return past the end.
fn wrap(groups: u64, limit: u32) -> Result<(u32, u32)> {
    let limit = u64::from(limit);
    let x = groups.clamp(1, limit);
    let y = groups.div_ceil(x).max(1);
    if y > limit || groups > u64::from(u32::MAX) {
        return Err(error!(Shader, "{groups} workgroups exceed the device's limit"));
    }
    Ok((x as u32, y as u32))
}

fn bind(gpu: &Gpu, pending: Pending, uniform: &wgpu::Buffer) -> Result<Recorded> {
    let mut entries: Vec<wgpu::BindGroupEntry> = pending
        .buffers
        .iter()
        .map(|(binding, Bound { buffer, offset, bytes })| {
            let range = wgpu::BufferBinding { buffer, offset: *offset, size: *bytes };
            wgpu::BindGroupEntry {
                binding: *binding,
                resource: wgpu::BindingResource::Buffer(range),
            }
        })
        .collect();
    if let Some((binding, offset, size)) = pending.params {
        let size = std::num::NonZeroU64::new(size);
        let resource =
            wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer: uniform, offset, size });
        entries.push(wgpu::BindGroupEntry { binding, resource });
    }
    let (bind_group, rejected) = gpu.in_error_scope(wgpu::ErrorFilter::Validation, || {
        gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(&pending.name),
            layout: &pending.pipeline.raw.get_bind_group_layout(0),
            entries: &entries,
        })
    });
    match rejected {
        None => Ok(Recorded { pipeline: pending.pipeline, bind_group, groups: pending.groups }),
        Some(e) => {
            let address = format!("node `{}`", pending.name);
            Err(Error::new(ErrorKind::Shader, "the operands do not match the shader")
                .source(e)
                .at(address))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::wrap;

    #[test]
    fn long_rows_of_workgroups_are_wrapped_and_absurd_ones_refused() {
        assert_eq!(wrap(0, 65_535).unwrap(), (1, 1));
        assert_eq!(wrap(65_535, 65_535).unwrap(), (65_535, 1));
        let (x, y) = wrap(200_000, 65_535).unwrap();
        assert!(u64::from(x) * u64::from(y) >= 200_000);
        assert!(wrap(1 << 40, 65_535).is_err());
    }
}
