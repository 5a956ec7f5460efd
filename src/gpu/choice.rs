//! The choice of a device, and what is known of an adapter. No type of wgpu is needed for either.

use crate::error::{Result, error};
use crate::ops::kernel::Caps;
use crate::text::excerpt;
use std::str::FromStr;

/// The requested device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// A hardware GPU if there is one, else the CPU executor. Never a software adapter.
    #[default]
    Auto,
    /// The CPU executor.
    Cpu,
    /// Any GPU adapter, including software adapters, hardware first.
    Gpu,
    /// Position in the list of `atrous devices`.
    Index(usize),
    /// `backend:substring of the name`, for example `vulkan:llvmpipe`; either may be empty.
    Named {
        /// Backend, lower case: vulkan, metal, dx12, gl.
        backend: String,
        /// Substring of the adapter's name, lower case.
        name: String,
    },
}

impl FromStr for DeviceChoice {
    type Err = crate::Error;

    fn from_str(text: &str) -> Result<Self> {
        let lower = text.trim().to_lowercase();
        Ok(match lower.as_str() {
            "" => {
                return Err(error!(Usage, "no device given").advice(
                    "use auto, cpu, gpu, an index listed by `atrous devices` or backend:name, or omit it (and unset ATROUS_DEVICE)",
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

/// Description of an adapter.
#[derive(Debug, Clone, serde::Serialize)]
pub struct AdapterSummary {
    /// Position in the list.
    pub index: usize,
    /// Name of the adapter.
    pub name: String,
    /// vulkan, metal, dx12, gl.
    pub backend: String,
    /// discrete, integrated, virtual, software or other.
    pub kind: String,
    /// Driver and its version.
    pub driver: String,
    /// Capabilities that kernels may use.
    pub caps: Caps,
}

impl AdapterSummary {
    /// Returns whether the adapter is hardware.
    pub fn is_hardware(&self) -> bool {
        !self.caps.software
    }
}

/// Returns `WGPU_BACKEND=value` if this variable restricts the backends. An empty value restricts
/// nothing.
pub(crate) fn backend_override() -> Option<String> {
    let value = std::env::var_os("WGPU_BACKEND")?;
    let value = value.to_string_lossy();
    (!value.trim().is_empty()).then(|| format!("WGPU_BACKEND={}", excerpt(&value)))
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
                error.to_string().starts_with("no device given; use auto, cpu, gpu"),
                "{error}"
            );
        }
    }
}
