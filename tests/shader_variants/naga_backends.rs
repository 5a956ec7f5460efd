//! naga's translations.

use crate::Compiled;
use atrous::engine::gpu::Reflection;
use naga::ShaderStage;
use naga::back::{glsl, hlsl, msl, spv};
use naga::proc::BoundsCheckPolicies;
use std::path::PathBuf;

/// A directory to write the translations to, for compilers on other machines; set by
/// `scripts/portability`.
const OUT: &str = "ATROUS_SHADERS_OUT";

/// Problems of each translation of a shader; `number` names its files if they are kept.
pub fn check(number: usize, compiled: &Compiled) -> Vec<String> {
    let model = if compiled.uses_subgroups() { "cs_6_0.hlsl" } else { "cs_5_1.hlsl" };
    let results = [
        ("SPIR-V", "spv", spir_v(compiled)),
        ("MSL", "metal", metal(compiled)),
        ("HLSL", model, direct3d(compiled)),
        ("GLSL ES 3.1", "es.comp", opengl(compiled, glsl::Version::new_gles(310))),
        ("GLSL 4.3", "comp", opengl(compiled, glsl::Version::Desktop(430))),
    ];
    let keep = |(name, ending, result): (&str, &str, Result<Vec<u8>, String>)| {
        let problem = |e: String| Some(format!("{name}: {e}"));
        match (result, std::env::var_os(OUT)) {
            (Ok(bytes), _) if bytes.is_empty() => problem("nothing was written".into()),
            (Ok(bytes), Some(directory)) => {
                let path = PathBuf::from(directory).join(format!("{number:04}.{ending}"));
                std::fs::write(&path, bytes)
                    .err()
                    .and_then(|e| problem(format!("{}: {e}", path.display())))
            }
            (Ok(_), None) => None,
            (Err(e), _) => problem(e),
        }
    };
    results.into_iter().filter_map(keep).collect()
}

fn entry(compiled: &Compiled) -> String {
    compiled.reflection.module.entry_points[0].name.clone()
}

fn spir_v(compiled: &Compiled) -> Result<Vec<u8>, String> {
    // Subgroup functions require SPIR-V 1.3, which every Vulkan 1.1 driver supports; wgpu uses 1.0
    // for everything else.
    let options = spv::Options {
        lang_version: if compiled.uses_subgroups() { (1, 3) } else { (1, 0) },
        ..spv::Options::default()
    };
    let pipeline =
        spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: entry(compiled) };
    let words = spv::write_vec(
        &compiled.reflection.module,
        &compiled.reflection.info,
        &options,
        Some(&pipeline),
    );
    Ok(words.map_err(|e| e.to_string())?.into_iter().flat_map(u32::to_le_bytes).collect())
}

fn metal(compiled: &Compiled) -> Result<Vec<u8>, String> {
    let lang_version = if compiled.uses_subgroups() { (2, 4) } else { (2, 0) };
    let options = msl::Options { lang_version, ..msl::Options::default() };
    let pipeline = msl::PipelineOptions {
        entry_point: Some((ShaderStage::Compute, entry(compiled))),
        ..Default::default()
    };
    let mut writer = msl::Writer::new(String::new());
    let Reflection { module, info, .. } = &compiled.reflection;
    let written = writer.write(module, info, &options, &pipeline).map_err(|e| e.to_string())?;
    // Errors of single entry points are reported separately from the result.
    written
        .entry_point_names
        .into_iter()
        .try_for_each(|name| name.map(drop))
        .map_err(|e| e.to_string())?;
    Ok(writer.finish().into_bytes())
}

fn direct3d(compiled: &Compiled) -> Result<Vec<u8>, String> {
    let shader_model =
        if compiled.uses_subgroups() { hlsl::ShaderModel::V6_0 } else { hlsl::ShaderModel::V5_1 };
    let options = hlsl::Options { shader_model, ..hlsl::Options::default() };
    let pipeline =
        hlsl::PipelineOptions { entry_point: Some((ShaderStage::Compute, entry(compiled))) };
    let mut text = String::new();
    let Reflection { module, info, .. } = &compiled.reflection;
    let written = hlsl::Writer::new(&mut text, &options, &pipeline)
        .write(module, info, None)
        .map_err(|e| e.to_string())?;
    written
        .entry_point_names
        .into_iter()
        .try_for_each(|name| name.map(drop))
        .map_err(|e| e.to_string())?;
    Ok(text.into_bytes())
}

fn opengl(compiled: &Compiled, version: glsl::Version) -> Result<Vec<u8>, String> {
    let options = glsl::Options { version, ..glsl::Options::default() };
    let pipeline = glsl::PipelineOptions {
        shader_stage: ShaderStage::Compute,
        entry_point: entry(compiled),
        multiview: None,
    };
    let mut text = String::new();
    let Reflection { module, info, .. } = &compiled.reflection;
    glsl::Writer::new(&mut text, module, info, &options, &pipeline, BoundsCheckPolicies::default())
        .and_then(|mut writer| writer.write())
        .map_err(|e| e.to_string())?;
    Ok(text.into_bytes())
}
