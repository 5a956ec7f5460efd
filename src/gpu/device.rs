//! An open device with its caches: pipelines by variant, parameters by identity.

use super::adapter;
use super::choice::{AdapterSummary, DeviceChoice};
use super::fault::Fault;
use super::once_map::OnceMap;
use super::shader;
use crate::error::{Error, ErrorKind, Result, error};
use crate::gpu::Reflection;
use crate::graph::{ParamRef, pack};
use crate::ops::kernel::{Caps, ShaderVariant};
use crate::ops::{Op, Packing, is_built_in};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use web_time::Instant;

/// How long an error waits for pending work that may report the loss of the device.
const LOSS_POLL: Duration = Duration::from_secs(5);
/// How long an error waits for a callback that another thread has received.
const LOSS_CALLBACK: Duration = Duration::from_millis(100);

/// Whether a shader is compiled with runtime checks that keep its indices in bounds and its loops
/// finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Checks {
    /// With checks, for shaders or sizes from outside this crate.
    On,
    /// Without checks, which is faster, for this crate's shaders with sizes set by this crate's
    /// operations.
    Off,
}

impl Checks {
    /// Returns whether the kernels of an operation need checks. Only operations of this crate do
    /// not: the kernels of others may use this crate's shaders with arbitrary sizes.
    pub(crate) fn of(op: &dyn Op) -> Self {
        if is_built_in(op) { Checks::Off } else { Checks::On }
    }
}

/// A compiled shader variant.
pub struct Pipeline {
    /// The wgpu pipeline.
    pub(crate) raw: wgpu::ComputePipeline,
    /// Bindings and sizes of the shader.
    pub(crate) reflection: Reflection,
}

/// An open device.
pub struct Gpu {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    adapter: wgpu::Adapter,
    summary: AdapterSummary,
    pipelines: OnceMap<(ShaderVariant, Checks), Arc<Pipeline>>,
    params: OnceMap<(u64, Packing), (ParamRef, wgpu::Buffer)>,
    /// Locked while work is submitted.
    submitting: Mutex<()>,
    /// Locked during a measurement.
    measuring: Mutex<()>,
    fault: Arc<Fault>,
}

impl Gpu {
    /// Opens the adapter that `choice` selects; `None` for the CPU executor.
    ///
    /// # Errors
    /// Returns an error if the choice requires an adapter and none matches, or the adapter cannot be
    /// opened.
    pub fn open(choice: &DeviceChoice) -> Result<Option<Arc<Self>>> {
        if *choice == DeviceChoice::Cpu {
            return Ok(None);
        }
        let adapters = pollster::block_on(adapter::ranked());
        let Some(index) = adapter::choose(&adapters, choice)? else { return Ok(None) };
        pollster::block_on(Self::from_adapter(index, &adapters[index]))
            .map(|gpu| Some(Arc::new(gpu)))
    }

    /// Opens the adapter that `choice` selects for drawing to a window; with [`DeviceChoice::Auto`]
    /// a hardware GPU. `display` is the connection to the display, `window` the target.
    ///
    /// # Errors
    /// Returns an error if the window does not support drawing, if no adapter matches, if the
    /// matching adapter cannot draw to the window, or if `choice` is the CPU executor.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn open_for<'w>(
        choice: &DeviceChoice,
        display: Box<dyn wgpu::wgt::WgpuHasDisplayHandle>,
        window: impl Into<wgpu::SurfaceTarget<'w>>,
    ) -> Result<(Arc<Self>, wgpu::Surface<'w>)> {
        let instance = adapter::instance_for(display);
        let surface = instance
            .create_surface(window)
            .map_err(|e| Error::new(ErrorKind::Device, "cannot draw to this window").source(e))?;
        let adapters = pollster::block_on(adapter::ranked_of(&instance));
        let list = || "`atrous devices` lists the adapters of this machine; `vulkan:llvmpipe` is the software driver of most Linux systems";
        let index = adapter::choose(&adapters, choice)?.ok_or_else(|| {
            error!(Device, "no GPU that can draw to the window was selected or found")
                .advice(list())
        })?;
        let gpu = pollster::block_on(Self::from_adapter(index, &adapters[index]))?;
        if !adapters[index].is_surface_supported(&surface) {
            return Err(
                error!(Device, "{} cannot draw to this window", gpu.summary.name).advice(list())
            );
        }
        Ok((Arc::new(gpu), surface))
    }

    /// Returns wgpu's adapter, for programs that draw with the same device and query it for surface
    /// capabilities.
    pub fn adapter(&self) -> &wgpu::Adapter {
        &self.adapter
    }

    /// Returns wgpu's device. Work that is submitted on [`Gpu::queue`] runs in order with the runs
    /// of [`Runner`](crate::exec::Runner)s.
    pub fn device(&self) -> &wgpu::Device {
        &self.device
    }

    /// Returns wgpu's queue, the only one of the device.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.queue
    }

    /// Opens the adapter of the browser.
    ///
    /// # Errors
    /// Returns an error if the browser has no WebGPU or provides no adapter.
    #[cfg(target_arch = "wasm32")]
    pub async fn open_in_browser() -> Result<Arc<Self>> {
        Self::from_adapter(0, &adapter::browser().await?).await.map(Arc::new)
    }

    /// Blocks new submissions of runners on this device until the guard is dropped; submitted work
    /// continues. This is for operations that need an idle device while other threads run networks,
    /// such as configuring a surface. The thread with the guard must not submit work through a
    /// runner.
    pub fn pause_submissions(&self) -> MutexGuard<'_, ()> {
        self.submitting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks other measurements until the guard is dropped, which would change the measured times.
    pub(crate) fn pause_measurements(&self) -> MutexGuard<'_, ()> {
        self.measuring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn from_adapter(index: usize, adapter: &wgpu::Adapter) -> Result<Self> {
        let summary = adapter::summary(index, adapter);
        let wanted =
            wgpu::Features::SUBGROUP | wgpu::Features::SHADER_F16 | wgpu::Features::TIMESTAMP_QUERY;
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("atrous"),
            required_features: adapter.features() & wanted,
            // The adapter's own limits: wgpu's defaults would cap bindings at 128 MiB everywhere.
            required_limits: adapter.limits(),
            ..Default::default()
        };
        let (device, queue) = adapter.request_device(&descriptor).await.map_err(|e| {
            Error::new(ErrorKind::Device, "could not open the device")
                .source(e)
                .at(format!("adapter {}", summary.name))
        })?;
        let fault = Arc::new(Fault::default());
        let lost = fault.clone();
        device.set_device_lost_callback(move |_, text| lost.report_loss(text));
        let uncaught = fault.clone();
        device.on_uncaptured_error(Arc::new(move |e: wgpu::Error| {
            let kind = if matches!(e, wgpu::Error::OutOfMemory { .. }) {
                ErrorKind::OutOfMemory
            } else {
                ErrorKind::Device
            };
            uncaught.report(kind, e.to_string());
        }));
        Ok(Self {
            device,
            queue,
            adapter: adapter.clone(),
            summary,
            pipelines: OnceMap::default(),
            params: OnceMap::default(),
            submitting: Mutex::default(),
            measuring: Mutex::default(),
            fault,
        })
    }

    /// Returns the description of the adapter.
    pub fn summary(&self) -> &AdapterSummary {
        &self.summary
    }

    /// Returns the capabilities that kernels may use.
    pub fn caps(&self) -> &Caps {
        &self.summary.caps
    }

    /// Checks for errors.
    ///
    /// # Errors
    /// Returns an error if the device was lost or reported an uncaptured error.
    pub fn check(&self) -> Result<()> {
        let examine = || {
            self.is_lost();
        };
        let Some((kind, text)) = self.fault.cause(examine) else { return Ok(()) };
        let error = Error::new(kind, text).at(format!("device {}", self.summary.name));
        Err(match kind {
            ErrorKind::DeviceLost => {
                error.advice("the driver reset the device; run again, or use `--device cpu`")
            }
            ErrorKind::OutOfMemory => {
                error.advice("use a smaller `--size` or a smaller batch, or `--device cpu`")
            }
            _ => error,
        })
    }

    /// Returns whether the device is lost, after something failed. wgpu reports a loss only once
    /// submitted work is polled, but operations fail earlier. Work that takes longer than
    /// [`LOSS_POLL`] is not waited for: its own end reports a loss.
    fn is_lost(&self) -> bool {
        if self.fault.is_lost() {
            return true;
        }
        let all = wgpu::PollType::Wait { submission_index: None, timeout: Some(LOSS_POLL) };
        // The result adds no information; in browsers polling does nothing.
        drop(self.device.poll(all));
        // Another thread's poll may have received the callback and not run it yet.
        self.fault.wait_for_loss(LOSS_CALLBACK)
    }

    /// Returns the root cause of an error of the device: the loss of the device, or else the error
    /// itself.
    pub(crate) fn root_cause(&self, error: Error) -> Error {
        if self.is_lost() { self.check().err().unwrap_or(error) } else { error }
    }

    /// Returns the pipeline of a variant with runtime checks, compiled on first use.
    ///
    /// # Errors
    /// Returns an error if the shader is invalid or the device cannot run it.
    pub fn pipeline(&self, variant: &ShaderVariant) -> Result<Arc<Pipeline>> {
        self.pipeline_with(variant, Checks::On)
    }

    /// Like [`Gpu::pipeline`], with configurable checks. Shaders from outside this crate always
    /// have them.
    pub(crate) fn pipeline_with(
        &self,
        variant: &ShaderVariant,
        checks: Checks,
    ) -> Result<Arc<Pipeline>> {
        let checks = if variant.source.is_some() { Checks::On } else { checks };
        let key = (variant.clone(), checks);
        self.pipelines.get_or_create(key, |_| true, || self.new_pipeline(variant, checks))
    }

    fn new_pipeline(&self, variant: &ShaderVariant, checks: Checks) -> Result<Arc<Pipeline>> {
        let wgsl = shader::assemble(variant)?;
        let reflection = shader::reflect(variant, &wgsl)?;
        if reflection.group_size > self.caps().max_invocations
            || reflection.workgroup_memory > self.caps().workgroup_memory
        {
            return Err(error!(
                Shader,
                "needs {} threads and {} bytes per workgroup, more than {} supports",
                reflection.group_size,
                reflection.workgroup_memory,
                self.summary.name
            )
            .at(format!("shader {variant}")));
        }
        let start = Instant::now();
        let (raw, rejected) = self
            .in_error_scope(wgpu::ErrorFilter::Validation, || self.compile(variant, wgsl, checks));
        log::debug!("shader {variant} compiled in {:.1?}", start.elapsed());
        if let Some(e) = rejected {
            return Err(Error::new(ErrorKind::Shader, "the driver rejected the shader")
                .source(e)
                .at(format!("shader {variant}")));
        }
        Ok(Arc::new(Pipeline { raw, reflection }))
    }

    fn compile(
        &self,
        variant: &ShaderVariant,
        wgsl: String,
        checks: Checks,
    ) -> wgpu::ComputePipeline {
        let label = variant.to_string();
        // Browsers require this directive, which naga does not parse.
        let uses_subgroups = cfg!(target_arch = "wasm32") && wgsl.contains("subgroup");
        let wgsl = if uses_subgroups { format!("enable subgroups;\n{wgsl}") } else { wgsl };
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(&label),
            source: wgpu::ShaderSource::Wgsl(wgsl.into()),
        };
        let module = if cfg!(debug_assertions) || checks == Checks::On {
            self.device.create_shader_module(descriptor)
        } else {
            // SAFETY: the shader is this crate's (`pipeline_with`), and so are the sizes, because
            // only dispatches of this crate's operations use `Checks::Off` (`Checks::of`). Each of
            // these shaders guards its own indices, which the oracle tests exercise with checks on
            // over random shapes; loops run over extents from the uniform block, so they terminate.
            unsafe {
                self.device.create_shader_module_trusted(
                    descriptor,
                    wgpu::ShaderRuntimeChecks::unchecked(),
                )
            }
        };
        self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(&label),
            layout: None,
            module: &module,
            entry_point: None,
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        })
    }

    /// Runs `create` in an error scope and returns its result and the captured error. Browsers
    /// report errors only later, through [`Gpu::check`].
    pub(crate) fn in_error_scope<T>(
        &self,
        filter: wgpu::ErrorFilter,
        create: impl FnOnce() -> T,
    ) -> (T, Option<wgpu::Error>) {
        if cfg!(target_arch = "wasm32") {
            return (create(), None);
        }
        let scope = self.device.push_error_scope(filter);
        (create(), pollster::block_on(scope.pop()))
    }

    /// Returns the buffer of a parameter, uploaded on first use. Buffers of parameters that no
    /// graph uses any more are freed.
    ///
    /// # Errors
    /// Returns an error if the device or the host has not enough memory.
    pub fn param(&self, param: &ParamRef, packing: Packing) -> Result<wgpu::Buffer> {
        // One of the references is the table's.
        let is_used = |(param, _): &(ParamRef, wgpu::Buffer)| param.strong_count() > 1;
        let upload = || Ok((param.clone(), self.upload(param, packing)?));
        let (_, buffer) = self.params.get_or_create((param.id(), packing), is_used, upload)?;
        Ok(buffer)
    }

    fn upload(&self, param: &ParamRef, packing: Packing) -> Result<wgpu::Buffer> {
        let bytes = pack(param.tensor(), packing)?;
        let buffer = self.buffer(
            "parameter",
            bytes.len() as u64,
            wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST,
        )?;
        self.queue.write_buffer(&buffer, 0, &bytes);
        Ok(buffer)
    }

    /// Allocates a buffer of at least `bytes`.
    ///
    /// # Errors
    /// Returns an error if `bytes` exceeds the device's limits or its free memory.
    pub fn buffer(
        &self,
        label: &str,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer> {
        let caps = self.caps();
        let limit = if usage.contains(wgpu::BufferUsages::STORAGE) {
            caps.max_binding.min(caps.max_buffer)
        } else {
            caps.max_buffer
        };
        let mib = |b: u64| b as f64 / f64::from(1 << 20);
        if bytes > limit {
            return Err(error!(
                OutOfMemory,
                "a buffer of {:.1} MiB exceeds the device's limit of {:.1} MiB",
                mib(bytes),
                mib(limit)
            )
            .at(label.to_owned()));
        }
        let (buffer, rejected) = self.in_error_scope(wgpu::ErrorFilter::OutOfMemory, || {
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size: bytes.max(16).next_multiple_of(16),
                usage,
                mapped_at_creation: false,
            })
        });
        match rejected {
            None => Ok(buffer),
            Some(e) => Err(Error::new(
                ErrorKind::OutOfMemory,
                format!("could not allocate {:.1} MiB", mib(bytes)),
            )
            .source(e)
            .at(format!("device {}", self.summary.name))
            .advice("use a smaller `--size` or a smaller batch, or `--device cpu`")),
        }
    }
}
