//! Adapters: listing, ranking and selection.

use super::choice::{AdapterSummary, DeviceChoice, backend_override};
use crate::error::{Result, error};
use crate::ops::kernel::{Caps, SubgroupSizes};
use crate::text::{excerpt, printable};

/// Creates an instance whose adapters can draw to windows of a display.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn instance_for(display: Box<dyn wgpu::wgt::WgpuHasDisplayHandle>) -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_with_display_handle(display);
    descriptor.backends =
        selected_backends().unwrap_or(wgpu::Backends::PRIMARY | wgpu::Backends::GL);
    descriptor.flags = wgpu::InstanceFlags::from_build_config().with_env();
    wgpu::Instance::new(descriptor)
}

fn instance(backends: wgpu::Backends) -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = backends;
    descriptor.flags = wgpu::InstanceFlags::from_build_config().with_env();
    wgpu::Instance::new(descriptor)
}

/// Returns the rank of an adapter: smaller is better. The order is stable, so that indices are the
/// same in every run.
fn rank(info: &wgpu::AdapterInfo) -> u8 {
    let kind = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 2,
        wgpu::DeviceType::VirtualGpu => 4,
        wgpu::DeviceType::Other => 6,
        wgpu::DeviceType::Cpu => 8,
    };
    // A device is listed once per backend; OpenGL is the last choice.
    kind + u8::from(info.backend == wgpu::Backend::Gl)
}

/// Returns the backends that `WGPU_BACKEND` selects; empty if it selects only unknown ones.
fn selected_backends() -> Option<wgpu::Backends> {
    backend_override().and_then(|_| wgpu::Backends::from_env())
}

/// Lists the adapters of this machine, best first. OpenGL is queried only if there is nothing
/// better, or with `WGPU_BACKEND=gl`, because its initialization writes warnings to the terminal.
pub(super) async fn ranked() -> Vec<wgpu::Adapter> {
    if let Some(backends) = selected_backends() {
        return ranked_of(&instance(backends)).await;
    }
    match ranked_of(&instance(wgpu::Backends::PRIMARY)).await {
        adapters if adapters.is_empty() => ranked_of(&instance(wgpu::Backends::GL)).await,
        adapters => adapters,
    }
}

pub(super) async fn ranked_of(instance: &wgpu::Instance) -> Vec<wgpu::Adapter> {
    let mut all = instance.enumerate_adapters(wgpu::Backends::all()).await;
    // Skip adapters without compute shaders (old OpenGL).
    all.retain(|a| {
        a.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS)
    });
    all.sort_by_key(|a| rank(&a.get_info()));
    all
}

/// Requests the browser's adapter. A browser exposes one at a time, chosen by a power preference.
#[cfg(target_arch = "wasm32")]
pub(super) async fn browser() -> Result<wgpu::Adapter> {
    let options = wgpu::RequestAdapterOptions {
        power_preference: wgpu::PowerPreference::HighPerformance,
        ..Default::default()
    };
    instance(wgpu::Backends::BROWSER_WEBGPU).request_adapter(&options).await.map_err(|e| {
        crate::Error::new(crate::ErrorKind::Device, "the browser provides no WebGPU adapter")
            .source(e)
            .advice("use a newer browser, or enable WebGPU in its settings")
    })
}

/// Lists the adapters of this machine, best first.
pub fn adapters() -> Vec<AdapterSummary> {
    pollster::block_on(ranked()).iter().enumerate().map(|(index, a)| summary(index, a)).collect()
}

pub(super) fn summary(index: usize, adapter: &wgpu::Adapter) -> AdapterSummary {
    let info = adapter.get_info();
    let kind = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => "discrete",
        wgpu::DeviceType::IntegratedGpu => "integrated",
        wgpu::DeviceType::VirtualGpu => "virtual",
        wgpu::DeviceType::Cpu => "software",
        wgpu::DeviceType::Other => "other",
    };
    AdapterSummary {
        index,
        name: printable(&info.name).into_owned(),
        backend: info.backend.to_str().to_owned(),
        kind: kind.to_owned(),
        driver: printable(format!("{} {}", info.driver, info.driver_info).trim()).into_owned(),
        caps: caps(&info, &adapter.limits(), adapter.features()),
    }
}

fn caps(info: &wgpu::AdapterInfo, limits: &wgpu::Limits, features: wgpu::Features) -> Caps {
    let software = info.device_type == wgpu::DeviceType::Cpu;
    let subgroups = features.contains(wgpu::Features::SUBGROUP) && info.subgroup_min_size > 0;
    Caps {
        software,
        // Browsers fall back to SwiftShader, and may hide its name.
        short_code: info.name.contains("SwiftShader")
            || (software && info.backend == wgpu::Backend::BrowserWebGpu),
        subgroup: subgroups
            .then_some(SubgroupSizes { min: info.subgroup_min_size, max: info.subgroup_max_size }),
        f16: features.contains(wgpu::Features::SHADER_F16),
        max_binding: limits.max_storage_buffer_binding_size,
        max_buffer: limits.max_buffer_size,
        workgroup_memory: limits.max_compute_workgroup_storage_size,
        max_invocations: limits.max_compute_invocations_per_workgroup,
        max_groups: limits.max_compute_workgroups_per_dimension,
        max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
    }
}

/// Returns the index of the adapter that `choice` selects, or `None` for the CPU executor.
pub(super) fn choose(adapters: &[wgpu::Adapter], choice: &DeviceChoice) -> Result<Option<usize>> {
    let infos: Vec<wgpu::AdapterInfo> = adapters.iter().map(wgpu::Adapter::get_info).collect();
    let selected = match choice {
        DeviceChoice::Cpu => return Ok(None),
        DeviceChoice::Auto => {
            if let (true, Some(limit)) = (infos.is_empty(), backend_override()) {
                log::warn!(
                    "{limit} excludes all adapters from `--device auto`; using the CPU executor"
                );
            }
            return Ok(infos.iter().position(|i| i.device_type != wgpu::DeviceType::Cpu));
        }
        DeviceChoice::Gpu => (!infos.is_empty()).then_some(0),
        DeviceChoice::Index(i) => (*i < infos.len()).then_some(*i),
        DeviceChoice::Named { backend, name } => infos.iter().position(|i| {
            (backend.is_empty() || i.backend.to_str() == backend)
                && i.name.to_lowercase().contains(name.as_str())
        }),
    };
    let available =
        || infos.iter().map(|i| format!("{}:{}", i.backend.to_str(), i.name)).collect::<Vec<_>>();
    match selected {
        Some(index) => Ok(Some(index)),
        None => Err(not_found(choice, &available(), backend_override())),
    }
}

/// Returns the error for an adapter that does not exist. `limit` is the variable that may have
/// excluded it.
fn not_found(choice: &DeviceChoice, available: &[String], limit: Option<String>) -> crate::Error {
    let error = match choice {
        DeviceChoice::Index(i) => error!(Device, "no adapter with index {i}"),
        DeviceChoice::Named { backend, name } if name.is_empty() => {
            error!(Device, "no adapter with backend `{}`", excerpt(backend))
        }
        DeviceChoice::Named { backend, name } if backend.is_empty() => {
            error!(
                Device,
                "`{}` is not auto, cpu, gpu, an index or part of an adapter's name",
                excerpt(name)
            )
        }
        DeviceChoice::Named { backend, name } => {
            error!(
                Device,
                "no adapter of backend `{}` with `{}` in its name",
                excerpt(backend),
                excerpt(name)
            )
        }
        _ => error!(Device, "no GPU adapter found"),
    };
    match (limit, available) {
        (Some(limit), []) => {
            error.advice(format!("{limit} excludes all adapters: unset it, or use `--device cpu`"))
        }
        (Some(limit), adapters) => error
            .advice(format!("{limit} restricts the adapters to {}: unset it", adapters.join(", "))),
        (None, []) => error.advice("install a Vulkan driver, or use `--device cpu`"),
        (None, adapters) => {
            error.advice(format!("`atrous devices` lists the adapters: {}", adapters.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adapter_that_is_not_there_is_called_as_the_user_called_it_and_what_hides_it_is_named() {
        let shown = |text: &str, available: &[&str], limit: Option<&str>| {
            let available: Vec<String> = available.iter().map(|t| (*t).to_owned()).collect();
            not_found(&text.parse().unwrap(), &available, limit.map(str::to_owned)).to_string()
        };
        let llvmpipe = ["vulkan:llvmpipe"];
        assert_eq!(
            shown("rubbish", &llvmpipe, None),
            "`rubbish` is not auto, cpu, gpu, an index or part of an adapter's name; `atrous devices` lists the adapters: vulkan:llvmpipe"
        );
        assert_eq!(
            shown("vulkan:llvmpipe", &[], Some("WGPU_BACKEND=dx12")),
            "no adapter of backend `vulkan` with `llvmpipe` in its name; WGPU_BACKEND=dx12 excludes all adapters: unset it, or use `--device cpu`"
        );
        assert_eq!(
            shown("metal", &["gl:llvmpipe"], Some("WGPU_BACKEND=gl")),
            "no adapter with backend `metal`; WGPU_BACKEND=gl restricts the adapters to gl:llvmpipe: unset it"
        );
        assert_eq!(
            shown("7", &llvmpipe, None),
            "no adapter with index 7; `atrous devices` lists the adapters: vulkan:llvmpipe"
        );
        assert_eq!(
            shown("gpu", &[], None),
            "no GPU adapter found; install a Vulkan driver, or use `--device cpu`"
        );
    }
}
