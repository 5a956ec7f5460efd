//! An open device with its caches: pipelines by variant, parameters by identity.

use super::adapter::{self, AdapterSummary, DeviceChoice};
use super::{buffers, shader};
use crate::error::{Error, ErrorKind, Result, error};
use crate::gpu::Reflection;
use crate::graph::ParamRef;
use crate::ops::kernel::{Caps, ShaderVariant};
use crate::ops::{Op, Packing, is_built_in};
use futures_channel::oneshot;
use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use web_time::Instant;

/// A device that does not answer for so long is taken to hang.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Whether a shader is compiled with the checks that keep its indices inside its buffers and its
/// loops finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Checks {
    /// With them: for shaders, or sizes, that come from outside of this crate.
    On,
    /// Without, which is faster: for this crate's shaders with the sizes that this crate's
    /// operations give them.
    Off,
}

impl Checks {
    /// What the kernels of an operation need. Only operations of this crate go without: another
    /// one's kernels may start this crate's shaders too, with sizes of its own.
    pub(crate) fn of(op: &dyn Op) -> Self {
        if is_built_in(op) { Checks::Off } else { Checks::On }
    }
}

/// A compiled shader variant.
pub struct Pipeline {
    /// For wgpu.
    pub(crate) raw: wgpu::ComputePipeline,
    /// What a dispatch must fit.
    pub(crate) reflection: Reflection,
}

/// Buffers that are mapped when a submission is done.
pub(crate) struct Mapping {
    submission: wgpu::SubmissionIndex,
    buffers: Vec<oneshot::Receiver<Result<(), wgpu::BufferAsyncError>>>,
}

pub(crate) fn unreadable() -> Error {
    Error::new(ErrorKind::Device, "reading back failed")
}

/// What a future gives that waits for nothing but the device.
///
/// # Errors
/// The future's; and in browsers, where nothing can be waited for, unless it is ready.
pub(crate) fn at_once<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    if cfg!(not(target_arch = "wasm32")) {
        // Mostly ready when polled first. But where several threads wait for one device, one of
        // them may be told what another one waits for, and pass it on a moment later.
        return pollster::block_on(future);
    }
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(error!(Usage, "a browser's device cannot be waited for")
            .advice("use the asynchronous functions")),
    }
}

/// An open device.
pub struct Gpu {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    adapter: wgpu::Adapter,
    summary: AdapterSummary,
    pipelines: Mutex<HashMap<(ShaderVariant, Checks), Arc<Pipeline>>>,
    params: Mutex<HashMap<(u64, Packing), (ParamRef, wgpu::Buffer)>>,
    /// Held while work is submitted.
    turn: Mutex<()>,
    /// Why the device was lost, or the first error that nobody caught.
    fault: Arc<Mutex<Option<(ErrorKind, String)>>>,
}

impl Gpu {
    /// Opens the adapter that `choice` names; `None` where it names the CPU executor.
    pub fn open(choice: &DeviceChoice) -> Result<Option<Arc<Self>>> {
        if *choice == DeviceChoice::Cpu {
            return Ok(None);
        }
        let adapters = pollster::block_on(adapter::ranked());
        let Some(index) = adapter::choose(&adapters, choice)? else { return Ok(None) };
        pollster::block_on(Self::from_adapter(index, &adapters[index]))
            .map(|gpu| Some(Arc::new(gpu)))
    }

    /// Opens the adapter that `choice` names for drawing to a window; with [`DeviceChoice::Auto`] a
    /// real GPU. `display` is the connection to the display, `window` what is drawn on.
    ///
    /// # Errors
    /// Where the window cannot be drawn on at all, no adapter fits, or the one that does cannot
    /// draw there; and for the CPU executor.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn open_for<'w>(
        choice: &DeviceChoice,
        display: Box<dyn wgpu::wgt::WgpuHasDisplayHandle>,
        window: impl Into<wgpu::SurfaceTarget<'w>>,
    ) -> Result<(Arc<Self>, wgpu::Surface<'w>)> {
        let instance = adapter::instance_for(display);
        let surface = instance.create_surface(window).map_err(|e| {
            Error::new(ErrorKind::Device, "the window cannot be drawn on").source(e)
        })?;
        let adapters = pollster::block_on(adapter::ranked_of(&instance));
        let list = || "`atrous devices` lists the adapters of this machine; `vulkan:llvmpipe` is the software driver of most Linux systems";
        let index = adapter::choose(&adapters, choice)?.ok_or_else(|| {
            error!(Device, "no GPU that could draw to the window was found or named").advice(list())
        })?;
        let gpu = pollster::block_on(Self::from_adapter(index, &adapters[index]))?;
        if !adapters[index].is_surface_supported(&surface) {
            return Err(
                error!(Device, "{} cannot draw to this window", gpu.summary.name).advice(list())
            );
        }
        Ok((Arc::new(gpu), surface))
    }

    /// wgpu's adapter, for programs that draw with the same device: what a surface can be
    /// configured to is asked of it.
    pub fn adapter(&self) -> &wgpu::Adapter {
        &self.adapter
    }

    /// wgpu's device. Work that is submitted on [`Gpu::queue`] runs in order with the runs of
    /// [`Runner`](crate::exec::Runner)s.
    pub fn device(&self) -> &wgpu::Device {
        &self.device
    }

    /// wgpu's queue, the only one of the device.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.queue
    }

    /// Opens the adapter that a browser gives.
    ///
    /// # Errors
    /// Where it has no WebGPU, or gives no adapter.
    #[cfg(target_arch = "wasm32")]
    pub async fn open_in_browser() -> Result<Arc<Self>> {
        Self::from_adapter(0, &adapter::browser().await?).await.map(Arc::new)
    }

    /// Keeps runs of this device from submitting more until the guard is dropped; what is submitted
    /// already goes on. For what needs an idle device while other threads run networks: a surface
    /// cannot be configured as long as new work arrives. The holder must submit nothing by a
    /// runner.
    pub fn hold(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
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
            Error::new(ErrorKind::Device, "the device could not be opened")
                .source(e)
                .at(format!("adapter {}", summary.name))
        })?;
        let fault = Arc::new(Mutex::new(None));
        let lost = fault.clone();
        device.set_device_lost_callback(move |_, text| {
            // Of a lost device everything fails: that it is lost is what counts, also where another
            // error came first.
            *lost.lock().unwrap_or_else(PoisonError::into_inner) =
                Some((ErrorKind::DeviceLost, text));
        });
        let uncaught = fault.clone();
        device.on_uncaptured_error(Arc::new(move |e: wgpu::Error| {
            let kind = if matches!(e, wgpu::Error::OutOfMemory { .. }) {
                ErrorKind::OutOfMemory
            } else {
                ErrorKind::Device
            };
            uncaught
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert((kind, e.to_string()));
        }));
        Ok(Self {
            device,
            queue,
            adapter: adapter.clone(),
            summary,
            pipelines: Mutex::default(),
            params: Mutex::default(),
            turn: Mutex::default(),
            fault,
        })
    }

    /// The adapter.
    pub fn summary(&self) -> &AdapterSummary {
        &self.summary
    }

    /// What kernels may use.
    pub fn caps(&self) -> &Caps {
        &self.summary.caps
    }

    /// Errors if the device was lost or refused something since the last check.
    pub fn check(&self) -> Result<()> {
        let Some(first) = self.fault() else { return Ok(()) };
        let (kind, text) =
            if first.0 == ErrorKind::DeviceLost { first } else { self.loss().unwrap_or(first) };
        let error = Error::new(kind, text).at(format!("device {}", self.summary.name));
        Err(match kind {
            ErrorKind::DeviceLost => {
                error.advice("the driver reset the device; run again, or take `--device cpu`")
            }
            ErrorKind::OutOfMemory => {
                error.advice("take a smaller `--size` or a smaller batch, or `--device cpu`")
            }
            _ => error,
        })
    }

    fn fault(&self) -> Option<(ErrorKind, String)> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the device is lost, after something failed: it is told to be when what was submitted
    /// is done, and refuses everything from before that on.
    fn loss(&self) -> Option<(ErrorKind, String)> {
        // The result says nothing more; browsers do without.
        drop(
            self.device
                .poll(wgpu::PollType::Wait { submission_index: None, timeout: Some(TIMEOUT) }),
        );
        let lost = || self.fault().filter(|(kind, _)| *kind == ErrorKind::DeviceLost);
        // Another thread's poll may have taken the notice, and be about to hand it over.
        let turns = if cfg!(target_arch = "wasm32") { 0 } else { 20 };
        lost().or_else(|| {
            (0..turns).find_map(|_| {
                std::thread::sleep(Duration::from_millis(5));
                lost()
            })
        })
    }

    /// The reason of an error of the device's: that it is lost, if it is; else the error itself.
    pub(crate) fn blame(&self, error: Error) -> Error {
        if self.loss().is_some() { self.check().err().unwrap_or(error) } else { error }
    }

    /// The compiled variant with runtime checks, made now if it is new.
    ///
    /// # Errors
    /// Where its text is not valid, or the device cannot run it.
    pub fn pipeline(&self, variant: &ShaderVariant) -> Result<Arc<Pipeline>> {
        self.pipeline_with(variant, Checks::On)
    }

    /// As [`Gpu::pipeline`], perhaps without checks. A shader whose text is not this crate's always
    /// has them.
    pub(crate) fn pipeline_with(
        &self,
        variant: &ShaderVariant,
        checks: Checks,
    ) -> Result<Arc<Pipeline>> {
        let checks = if variant.source.is_some() { Checks::On } else { checks };
        let key = (variant.clone(), checks);
        if let Some(known) = self.pipelines.lock().unwrap_or_else(PoisonError::into_inner).get(&key)
        {
            return Ok(known.clone());
        }
        let wgsl = shader::assemble(variant)?;
        let reflection = shader::reflect(variant, &wgsl)?;
        if reflection.group_size > self.caps().max_invocations
            || reflection.workgroup_memory > self.caps().workgroup_memory
        {
            return Err(error!(
                Shader,
                "needs {} threads and {} bytes a workgroup, which {} does not have",
                reflection.group_size,
                reflection.workgroup_memory,
                self.summary.name
            )
            .at(format!("shader {variant}")));
        }
        let begun = Instant::now();
        let (raw, refused) =
            self.catching(wgpu::ErrorFilter::Validation, || self.compile(variant, wgsl, checks));
        log::debug!("shader {variant} takes {:.1?} to compile", begun.elapsed());
        if let Some(e) = refused {
            return Err(Error::new(ErrorKind::Shader, "the driver refused it")
                .source(e)
                .at(format!("shader {variant}")));
        }
        let made = Arc::new(Pipeline { raw, reflection });
        self.pipelines.lock().unwrap_or_else(PoisonError::into_inner).insert(key, made.clone());
        Ok(made)
    }

    fn compile(
        &self,
        variant: &ShaderVariant,
        wgsl: String,
        checks: Checks,
    ) -> wgpu::ComputePipeline {
        let label = variant.to_string();
        // Browsers want it said, naga knows no such line.
        let named = cfg!(target_arch = "wasm32") && wgsl.contains("subgroup");
        let wgsl = if named { format!("enable subgroups;\n{wgsl}") } else { wgsl };
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(&label),
            source: wgpu::ShaderSource::Wgsl(wgsl.into()),
        };
        let module = if cfg!(debug_assertions) || checks == Checks::On {
            self.device.create_shader_module(descriptor)
        } else {
            // SAFETY: the text is this crate's (`pipeline_with`), and so are the sizes, since only
            // dispatches of this crate's operations ask for `Checks::Off` (`Checks::of`). Every
            // such shader guards its own indices, which the oracle tests run with checks on over
            // random shapes; loops run over extents from the uniform block, so they end.
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

    /// Makes something, and tells the error of a kind that came of it. Browsers tell errors only
    /// later: there [`Gpu::check`] has them.
    pub(crate) fn catching<T>(
        &self,
        filter: wgpu::ErrorFilter,
        make: impl FnOnce() -> T,
    ) -> (T, Option<wgpu::Error>) {
        if cfg!(target_arch = "wasm32") {
            return (make(), None);
        }
        let scope = self.device.push_error_scope(filter);
        (make(), pollster::block_on(scope.pop()))
    }

    /// The buffer of a parameter, uploaded now if it is new. Parameters that no graph holds any
    /// more are let go.
    pub fn param(&self, param: &ParamRef, packing: Packing) -> Result<wgpu::Buffer> {
        let mut table = self.params.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, buffer)) = table.get(&(param.id(), packing)) {
            return Ok(buffer.clone());
        }
        // One holder is this table itself.
        table.retain(|_, (param, _)| param.holders() > 1);
        let bytes = buffers::pack(param.tensor(), packing)?;
        let buffer = self.buffer(
            "parameter",
            bytes.len() as u64,
            wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST,
        )?;
        self.queue.write_buffer(&buffer, 0, &bytes);
        table.insert((param.id(), packing), (param.clone(), buffer.clone()));
        Ok(buffer)
    }

    /// A buffer of at least `bytes`. Errors where the device's limits or its memory are too small.
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
                "a buffer of {:.1} MiB is past the device's limit of {:.1} MiB",
                mib(bytes),
                mib(limit)
            )
            .at(label.to_owned()));
        }
        let (buffer, refused) = self.catching(wgpu::ErrorFilter::OutOfMemory, || {
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size: bytes.max(16).next_multiple_of(16),
                usage,
                mapped_at_creation: false,
            })
        });
        match refused {
            None => Ok(buffer),
            Some(e) => Err(Error::new(
                ErrorKind::OutOfMemory,
                format!("{:.1} MiB could not be had", mib(bytes)),
            )
            .source(e)
            .at(format!("device {}", self.summary.name))
            .advice("take a smaller `--size` or a smaller batch, or `--device cpu`")),
        }
    }

    /// Reads bytes of a buffer back, and waits for them.
    ///
    /// # Errors
    /// Where the device fails; in browsers, which cannot wait, always.
    pub(crate) fn read(&self, buffer: &wgpu::Buffer, offset: u64, bytes: u64) -> Result<Vec<u8>> {
        let staging = self.buffer(
            "readback",
            bytes,
            wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        )?;
        let mut encoder = self
            .device
            .create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("readback") });
        encoder.copy_buffer_to_buffer(buffer, offset, &staging, 0, bytes);
        let mapping = self.submit_and_map(encoder, [(&staging, bytes)]);
        at_once(self.mapped(mapping))?;
        let view =
            staging.get_mapped_range(0..bytes).map_err(|e| self.blame(unreadable().source(e)))?;
        Ok(view.to_vec())
    }

    /// Submits, and has the first bytes of buffers mapped when that is done.
    pub(crate) fn submit_and_map<'a>(
        &self,
        encoder: wgpu::CommandEncoder,
        buffers: impl IntoIterator<Item = (&'a wgpu::Buffer, u64)>,
    ) -> Mapping {
        let map = |(buffer, bytes): (&wgpu::Buffer, u64)| {
            let (sender, receiver) = oneshot::channel();
            // Who no longer listens had an error, which is told already.
            encoder.map_buffer_on_submit(buffer, wgpu::MapMode::Read, 0..bytes, move |result| {
                drop(sender.send(result))
            });
            receiver
        };
        let buffers = buffers.into_iter().map(map).collect();
        let commands = encoder.finish();
        let _turn = self.hold();
        Mapping { submission: self.queue.submit([commands]), buffers }
    }

    /// Until the buffers are mapped. Natively the first poll waits until the device is done.
    pub(crate) async fn mapped(&self, mapping: Mapping) -> Result<()> {
        if cfg!(not(target_arch = "wasm32")) {
            self.wait(mapping.submission)?;
        }
        for buffer in mapping.buffers {
            let result = buffer.await.map_err(|e| self.blame(unreadable().source(e)))?;
            self.check()?;
            result.map_err(|e| self.blame(unreadable().source(e)))?;
        }
        Ok(())
    }

    /// Waits until the submission is done.
    pub(crate) fn wait(&self, submission: wgpu::SubmissionIndex) -> Result<()> {
        let poll =
            wgpu::PollType::Wait { submission_index: Some(submission), timeout: Some(TIMEOUT) };
        let polled = self.device.poll(poll);
        self.check()?;
        match polled {
            Ok(_) => Ok(()),
            Err(wgpu::PollError::Timeout) => {
                Err(error!(Timeout, "device {} did not answer for {} s", self.summary.name, TIMEOUT.as_secs())
                    .advice("the driver may hang; take a smaller `--size`, another `--device`, or `--device cpu`"))
            }
            Err(e) => Err(self.blame(Error::new(ErrorKind::Device, "waiting for the device failed").source(e))),
        }
    }
}
