//! Compiles every shader variant that the program can emit with the compilers of all platforms.
//!
//! naga writes what wgpu hands to Vulkan (SPIR-V), Metal (MSL), Direct3D 12 (HLSL) and OpenGL
//! (GLSL); tint is the compiler of Chrome, and is used if it is installed. The targets of a variant
//! depend on the [`Caps`] that it was created for:
//!
//! * Variants for a device without subgroups must compile for all targets, including GLSL ES 3.1
//!   and Direct3D's oldest shader model.
//! * Subgroup variants are emitted only where wgpu reports `SUBGROUP`. It does so on Vulkan, Metal,
//!   Direct3D 12 with shader model 6, and OpenGL with `GL_KHR_shader_subgroup`; they are written
//!   for Metal 2.4, shader model 6.0, and both GLSLs.

mod gather;
mod naga_backends;
mod tint;

use atrous::engine::gpu::{Reflection, assemble, reflect, shader_names};
use atrous::engine::ops::kernel::{Caps, ShaderVariant};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

/// A variant's text, its reflection, and the devices (positions in [`gather::devices`]) that use
/// it.
struct Compiled {
    variant: ShaderVariant,
    devices: Vec<usize>,
    wgsl: String,
    reflection: Reflection,
}

impl Compiled {
    fn uses_subgroups(&self) -> bool {
        self.wgsl.contains("subgroup")
    }
}

/// All variants, assembled once for all tests, or the errors of naga's parser and validator.
fn compiled() -> &'static [Result<Compiled, String>] {
    static ALL: LazyLock<Vec<Result<Compiled, String>>> = LazyLock::new(|| {
        let mut devices: BTreeMap<ShaderVariant, Vec<usize>> = BTreeMap::new();
        for (i, (_, caps)) in gather::devices().iter().enumerate() {
            gather::variants(caps)
                .into_iter()
                .for_each(|variant| devices.entry(variant).or_default().push(i));
        }
        let compile = |(variant, devices): (ShaderVariant, Vec<usize>)| {
            let wgsl = assemble(&variant).map_err(|e| e.to_string())?;
            let reflection = reflect(&variant, &wgsl).map_err(|e| e.to_string())?;
            Ok(Compiled { variant, devices, wgsl, reflection })
        };
        devices.into_par_iter().map(compile).collect()
    });
    &ALL
}

/// Runs a check over all variants that compile, and fails with the first few problems.
fn check(what: &str, problems: impl Fn(usize, &Compiled) -> Vec<String> + Sync) {
    let all = compiled();
    let problems: Vec<String> = all
        .par_iter()
        .enumerate()
        .filter_map(|(number, one)| Some((number, one.as_ref().ok()?)))
        .flat_map_iter(|(number, one)| {
            problems(number, one).into_iter().map(|p| format!("{}: {p}", one.variant))
        })
        .collect();
    let shown = problems.iter().take(6).cloned().collect::<Vec<_>>().join("\n\n");
    assert!(
        problems.is_empty(),
        "{what}: {} problems in {} variants, the first ones:\n{shown}",
        problems.len(),
        all.len()
    );
}

#[test]
fn every_variant_is_valid_wgsl() {
    let errors: Vec<&String> = compiled().iter().filter_map(|one| one.as_ref().err()).collect();
    assert!(
        errors.is_empty(),
        "{} of {} variants, the first one: {}",
        errors.len(),
        compiled().len(),
        errors[0]
    );
    println!("{} variants", compiled().len());
}

#[test]
fn every_variant_is_taken_by_every_compiler_of_its_platforms() {
    check("naga", naga_backends::check);
}

#[test]
fn every_variant_is_taken_by_chromes_compiler() {
    if let Some(tint) = tint::Tint::find() {
        check("tint", |_, compiled| tint.check(compiled).err().into_iter().collect());
    }
}

#[test]
fn every_variant_fits_the_devices_that_it_is_for() {
    let devices = gather::devices();
    assert_eq!(devices[0].1, Caps::PORTABLE);
    check("limits", |_, compiled| {
        compiled
            .devices
            .iter()
            .filter_map(|&i| {
                within(compiled, &devices[i].1).err().map(|e| format!("{e} ({})", devices[i].0))
            })
            .collect()
    });
}

/// Checks a shader against a device's limits, and that it needs no language extension that the
/// device does not support.
fn within(compiled: &Compiled, caps: &Caps) -> Result<(), String> {
    // Without the capability naga rejects subgroup functions; f16 and other optional features are
    // always rejected.
    let subgroups =
        if caps.subgroup.is_some() { Capabilities::SUBGROUP } else { Capabilities::empty() };
    let reflection = &compiled.reflection;
    Validator::new(ValidationFlags::all(), subgroups)
        .validate(&reflection.module)
        .map_err(|e| format!("needs an extension: {}", e.emit_to_string(&compiled.wgsl)))?;
    let buffers = reflection.bindings.len() as u32;
    for (what, needed, limit) in [
        ("storage buffers", buffers, caps.max_storage_buffers),
        ("invocations", reflection.group_size, caps.max_invocations),
        ("bytes of workgroup memory", reflection.workgroup_memory, caps.workgroup_memory),
    ] {
        if needed > limit {
            return Err(format!("needs {needed} {what} of {limit}"));
        }
    }
    Ok(())
}

#[test]
fn every_shader_file_is_reached() {
    let reached: BTreeSet<&str> =
        compiled().iter().flatten().map(|one| one.variant.shader).collect();
    let missing: Vec<String> =
        shader_names().into_iter().filter(|name| !reached.contains(name.as_str())).collect();
    assert!(
        missing.is_empty(),
        "no operation dispatches {missing:?}: delete them, or call them in gather.rs"
    );
}
