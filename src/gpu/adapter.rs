//! Which adapter runs the work.

use crate::error::{Result, error};
use crate::ops::kernel::Caps;
use crate::text::{excerpt, printable};
use std::str::FromStr;

/// What the user asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// A real GPU where there is one, else the CPU executor. Never a software adapter.
    #[default]
    Auto,
    /// The CPU executor.
    Cpu,
    /// Any GPU adapter, software ones included, hardware first.
    Gpu,
    /// Position in the list of `atrous devices`.
    Index(usize),
    /// `backend:part of the name`, for example `vulkan:llvmpipe`; either part may be empty.
    Named {
        /// Backend, lower case: vulkan, metal, dx12, gl.
        backend: String,
        /// Part of the adapter's name, lower case.
        name: String,
    },
}

impl FromStr for DeviceChoice {
    type Err = crate::Error;

    fn from_str(text: &str) -> Result<Self> {
        let lower = text.trim().to_lowercase();
        Ok(match lower.as_str() {
            "" => {
                return Err(error!(Usage, "no device is named").advice(
                    "take auto, cpu, gpu, an index of `atrous devices` or backend:name, or leave it out (and unset ATROUS_DEVICE)",
                ));
            }
            "auto" => Self::Auto,
            "cpu" => Self::Cpu,
            "gpu" => Self::Gpu,
            _ => match (lower.parse(), lower.split_once(':')) {
                (Ok(index), _) => Self::Index(index),
                (_, Some((backend, name))) => {
                    Self::Named { backend: backend.into(), name: name.into() }
                }
                _ if ["vulkan", "metal", "dx12", "gl"].contains(&lower.as_str()) => {
                    Self::Named { backend: lower, name: String::new() }
                }
                _ => Self::Named { backend: String::new(), name: lower },
            },
        })
    }
}

/// One adapter, for people and programs.
#[derive(Debug, Clone, serde::Serialize)]
pub struct AdapterSummary {
    /// Position in the list.
    pub index: usize,
    /// Adapter's name.
    pub name: String,
    /// vulkan, metal, dx12, gl.
    pub backend: String,
    /// discrete, integrated, virtual, software or other.
    pub kind: String,
    /// Driver and its version.
    pub driver: String,
    /// What kernels may use.
    pub caps: Caps,
}

impl AdapterSummary {
    /// Whether the adapter is hardware.
    pub fn is_hardware(&self) -> bool {
        !self.caps.software
    }
}

/// An instance whose adapters can draw to windows of a display.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn instance_for(display: Box<dyn wgpu::wgt::WgpuHasDisplayHandle>) -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_with_display_handle(display);
    descriptor.backends = named_backends().unwrap_or(wgpu::Backends::PRIMARY | wgpu::Backends::GL);
    descriptor.flags = wgpu::InstanceFlags::from_build_config().with_env();
    wgpu::Instance::new(descriptor)
}

fn instance(backends: wgpu::Backends) -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = backends;
    descriptor.flags = wgpu::InstanceFlags::from_build_config().with_env();
    wgpu::Instance::new(descriptor)
}

/// Rank of an adapter: smaller is better. The order is stable, so that indices mean the same from
/// run to run.
fn rank(info: &wgpu::AdapterInfo) -> u8 {
    let kind = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 2,
        wgpu::DeviceType::VirtualGpu => 4,
        wgpu::DeviceType::Other => 6,
        wgpu::DeviceType::Cpu => 8,
    };
    // The same device shows up once a backend; OpenGL is the last choice.
    kind + u8::from(info.backend == wgpu::Backend::Gl)
}

/// The variable that limits the backends, and its value, where it does: an empty one limits
/// nothing.
pub(crate) fn limiting_variable() -> Option<String> {
    let value = std::env::var_os("WGPU_BACKEND")?;
    let value = value.to_string_lossy();
    (!value.trim().is_empty()).then(|| format!("WGPU_BACKEND={}", excerpt(&value)))
}

/// The backends that `WGPU_BACKEND` names; none of them where it names none that exist.
fn named_backends() -> Option<wgpu::Backends> {
    limiting_variable().and_then(|_| wgpu::Backends::from_env())
}

/// The adapters of this machine, best first. OpenGL is asked only where nothing better answers, or
/// by `WGPU_BACKEND=gl`: its start-up writes warnings to the terminal.
pub(super) async fn ranked() -> Vec<wgpu::Adapter> {
    if let Some(named) = named_backends() {
        return ranked_of(&instance(named)).await;
    }
    match ranked_of(&instance(wgpu::Backends::PRIMARY)).await {
        none if none.is_empty() => ranked_of(&instance(wgpu::Backends::GL)).await,
        found => found,
    }
}

pub(super) async fn ranked_of(instance: &wgpu::Instance) -> Vec<wgpu::Adapter> {
    let mut all = instance.enumerate_adapters(wgpu::Backends::all()).await;
    // An adapter without compute shaders (old OpenGL) is of no use.
    all.retain(|a| {
        a.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS)
    });
    all.sort_by_key(|a| rank(&a.get_info()));
    all
}

/// The adapter that a browser gives: it has one at a time, and takes wishes.
#[cfg(target_arch = "wasm32")]
pub(super) async fn browser() -> Result<wgpu::Adapter> {
    let options = wgpu::RequestAdapterOptions {
        power_preference: wgpu::PowerPreference::HighPerformance,
        ..Default::default()
    };
    instance(wgpu::Backends::BROWSER_WEBGPU).request_adapter(&options).await.map_err(|e| {
        crate::Error::new(crate::ErrorKind::Device, "the browser gives no WebGPU adapter")
            .source(e)
            .advice("take a newer browser, or turn WebGPU on in its settings")
    })
}

/// The adapters of this machine, best first.
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
        // Browsers fall back on SwiftShader, and need not name it.
        short_code: info.name.contains("SwiftShader")
            || (software && info.backend == wgpu::Backend::BrowserWebGpu),
        subgroup: subgroups.then_some((info.subgroup_min_size, info.subgroup_max_size)),
        f16: features.contains(wgpu::Features::SHADER_F16),
        max_binding: limits.max_storage_buffer_binding_size,
        max_buffer: limits.max_buffer_size,
        workgroup_memory: limits.max_compute_workgroup_storage_size,
        max_invocations: limits.max_compute_invocations_per_workgroup,
        max_groups: limits.max_compute_workgroups_per_dimension,
        max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
    }
}

/// The adapter that `choice` names, or `None` where it names the CPU executor.
pub(super) fn choose(adapters: &[wgpu::Adapter], choice: &DeviceChoice) -> Result<Option<usize>> {
    let infos: Vec<wgpu::AdapterInfo> = adapters.iter().map(wgpu::Adapter::get_info).collect();
    let found = match choice {
        DeviceChoice::Cpu => return Ok(None),
        DeviceChoice::Auto => {
            if let (true, Some(limit)) = (infos.is_empty(), limiting_variable()) {
                log::warn!(
                    "{limit} leaves no adapter to `--device auto`: the CPU executor is used"
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
    let there =
        || infos.iter().map(|i| format!("{}:{}", i.backend.to_str(), i.name)).collect::<Vec<_>>();
    match found {
        Some(index) => Ok(Some(index)),
        None => Err(absent(choice, &there(), limiting_variable())),
    }
}

/// The error of an adapter that is not there. `limit` is the variable that may have hidden it.
fn absent(choice: &DeviceChoice, there: &[String], limit: Option<String>) -> crate::Error {
    let error = match choice {
        DeviceChoice::Index(i) => error!(Device, "no adapter has the index {i}"),
        DeviceChoice::Named { backend, name } if name.is_empty() => {
            error!(Device, "no adapter has the backend `{}`", excerpt(backend))
        }
        DeviceChoice::Named { backend, name } if backend.is_empty() => {
            error!(
                Device,
                "`{}` is not auto, cpu, gpu, an index, or part of an adapter's name",
                excerpt(name)
            )
        }
        DeviceChoice::Named { backend, name } => {
            error!(
                Device,
                "no adapter of the backend `{}` has `{}` in its name",
                excerpt(backend),
                excerpt(name)
            )
        }
        _ => error!(Device, "no GPU adapter was found"),
    };
    match (limit, there) {
        (Some(limit), []) => {
            error.advice(format!("{limit} leaves no adapter: unset it, or take `--device cpu`"))
        }
        (Some(limit), some) => error.advice(format!(
            "{limit} limits the backends, which leaves {}: unset it",
            some.join(", ")
        )),
        (None, []) => error.advice("install a Vulkan driver, or take `--device cpu`"),
        (None, some) => {
            error.advice(format!("`atrous devices` lists the adapters: {}", some.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_from_text() {
        let named = |backend: &str, name: &str| DeviceChoice::Named {
            backend: backend.into(),
            name: name.into(),
        };
        for (text, choice) in [
            ("auto", DeviceChoice::Auto),
            ("CPU", DeviceChoice::Cpu),
            ("2", DeviceChoice::Index(2)),
            ("vulkan:llvmpipe", named("vulkan", "llvmpipe")),
            ("Metal", named("metal", "")),
            ("RTX", named("", "rtx")),
        ] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap(), choice);
        }
        for empty in ["", " "] {
            let error = empty.parse::<DeviceChoice>().unwrap_err();
            assert!(
                error.to_string().starts_with("no device is named; take auto, cpu, gpu"),
                "{error}"
            );
        }
    }

    #[test]
    fn an_adapter_that_is_not_there_is_called_as_the_user_called_it_and_what_hides_it_is_named() {
        let shown = |text: &str, there: &[&str], limit: Option<&str>| {
            let there: Vec<String> = there.iter().map(|t| (*t).to_owned()).collect();
            absent(&text.parse().unwrap(), &there, limit.map(str::to_owned)).to_string()
        };
        let llvmpipe = ["vulkan:llvmpipe"];
        assert_eq!(
            shown("rubbish", &llvmpipe, None),
            "`rubbish` is not auto, cpu, gpu, an index, or part of an adapter's name; `atrous devices` lists the adapters: vulkan:llvmpipe"
        );
        assert_eq!(
            shown("vulkan:llvmpipe", &[], Some("WGPU_BACKEND=dx12")),
            "no adapter of the backend `vulkan` has `llvmpipe` in its name; WGPU_BACKEND=dx12 leaves no adapter: unset it, or take `--device cpu`"
        );
        assert_eq!(
            shown("metal", &["gl:llvmpipe"], Some("WGPU_BACKEND=gl")),
            "no adapter has the backend `metal`; WGPU_BACKEND=gl limits the backends, which leaves gl:llvmpipe: unset it"
        );
        assert_eq!(
            shown("7", &llvmpipe, None),
            "no adapter has the index 7; `atrous devices` lists the adapters: vulkan:llvmpipe"
        );
        assert_eq!(
            shown("gpu", &[], None),
            "no GPU adapter was found; install a Vulkan driver, or take `--device cpu`"
        );
    }
}
