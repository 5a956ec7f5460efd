//! naga's translations.

use crate::Compiled;
use atrous::gpu::Reflection;
use naga::ShaderStage;
use naga::back::{glsl, hlsl, msl, spv};
use naga::proc::BoundsCheckPolicies;

/// What each translation says against a shader.
pub fn check(compiled: &Compiled) -> Vec<String> {
    let results = [
        ("SPIR-V", spir_v(compiled)),
        ("MSL", metal(compiled)),
        ("HLSL", direct3d(compiled)),
        ("GLSL ES 3.1", opengl(compiled, glsl::Version::new_gles(310))),
        ("GLSL 4.3", opengl(compiled, glsl::Version::Desktop(430))),
    ];
    results.into_iter().filter_map(|(name, result)| result.err().map(|e| format!("{name}: {e}"))).collect()
}

fn entry(compiled: &Compiled) -> String {
    compiled.reflection.module.entry_points[0].name.clone()
}

fn spir_v(compiled: &Compiled) -> Result<(), String> {
    // Subgroup functions came with SPIR-V 1.3, which every Vulkan 1.1 driver takes; wgpu writes the rest as 1.0.
    let options =
        spv::Options { lang_version: if compiled.uses_subgroups() { (1, 3) } else { (1, 0) }, ..spv::Options::default() };
    let pipeline = spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: entry(compiled) };
    let words = spv::write_vec(&compiled.reflection.module, &compiled.reflection.info, &options, Some(&pipeline));
    not_empty(words.map_err(|e| e.to_string())?.is_empty())
}

fn metal(compiled: &Compiled) -> Result<(), String> {
    let lang_version = if compiled.uses_subgroups() { (2, 4) } else { (2, 0) };
    let options = msl::Options { lang_version, ..msl::Options::default() };
    let pipeline = msl::PipelineOptions { entry_point: Some((ShaderStage::Compute, entry(compiled))), ..Default::default() };
    let mut writer = msl::Writer::new(String::new());
    let Reflection { module, info, .. } = &compiled.reflection;
    let written = writer.write(module, info, &options, &pipeline).map_err(|e| e.to_string())?;
    // Errors of single entry points are reported beside the result.
    written.entry_point_names.into_iter().try_for_each(|name| name.map(drop)).map_err(|e| e.to_string())?;
    not_empty(writer.finish().is_empty())
}

fn direct3d(compiled: &Compiled) -> Result<(), String> {
    let shader_model = if compiled.uses_subgroups() { hlsl::ShaderModel::V6_0 } else { hlsl::ShaderModel::V5_1 };
    let options = hlsl::Options { shader_model, ..hlsl::Options::default() };
    let pipeline = hlsl::PipelineOptions { entry_point: Some((ShaderStage::Compute, entry(compiled))) };
    let mut text = String::new();
    let Reflection { module, info, .. } = &compiled.reflection;
    let written = hlsl::Writer::new(&mut text, &options, &pipeline).write(module, info, None).map_err(|e| e.to_string())?;
    written.entry_point_names.into_iter().try_for_each(|name| name.map(drop)).map_err(|e| e.to_string())?;
    not_empty(text.is_empty())
}

fn opengl(compiled: &Compiled, version: glsl::Version) -> Result<(), String> {
    let options = glsl::Options { version, ..glsl::Options::default() };
    let pipeline = glsl::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: entry(compiled), multiview: None };
    let mut text = String::new();
    let Reflection { module, info, .. } = &compiled.reflection;
    glsl::Writer::new(&mut text, module, info, &options, &pipeline, BoundsCheckPolicies::default())
        .and_then(|mut writer| writer.write())
        .map_err(|e| e.to_string())?;
    not_empty(text.is_empty())
}

fn not_empty(empty: bool) -> Result<(), String> {
    if empty { Err("nothing was written".into()) } else { Ok(()) }
}
