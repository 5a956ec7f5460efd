//! Shader assembly: the files under `shaders/`, composed by wesl with a variant's conditions and
//! constants.

use super::reflect::Reflection;
use super::unroll::unroll;
use crate::error::{Error, ErrorKind, Result};
use crate::ops::kernel::ShaderVariant;
use include_dir::{Dir, include_dir};
use std::borrow::Cow;
use std::fmt::Write;
use wesl::{ManglerKind, ModulePath, VirtualResolver, Wesl};

static SHADERS: Dir = include_dir!("$CARGO_MANIFEST_DIR/shaders");

/// Collects all files under `shaders/` as module paths (`package::nn::conv2d::direct`) with their text.
fn modules(dir: &'static Dir, out: &mut Vec<(String, &'static str)>) {
    for file in dir.files() {
        let path = file.path();
        let text = file.contents_utf8().expect("invariant: shaders are UTF-8 text");
        if path.extension().is_some_and(|e| e == "wesl") {
            let parts: Vec<_> =
                path.with_extension("").iter().map(|p| p.to_string_lossy().into_owned()).collect();
            out.push((format!("package::{}", parts.join("::")), text));
        }
    }
    for sub in dir.dirs() {
        modules(sub, out);
    }
}

/// Returns the names of all shaders with an entry point, in the form of [`ShaderVariant::shader`].
pub fn shader_names() -> Vec<String> {
    let mut all = Vec::new();
    modules(&SHADERS, &mut all);
    let with_entry = all.into_iter().filter(|(_, text)| text.contains("@compute"));
    with_entry.map(|(path, _)| path.trim_start_matches("package::").replace("::", "/")).collect()
}

fn module_path(text: &str, variant: &ShaderVariant) -> Result<ModulePath> {
    text.parse().map_err(|e| shader_error(variant, format!("`{text}` is not a module path: {e}")))
}

fn shader_error(variant: &ShaderVariant, message: String) -> Error {
    Error::new(ErrorKind::Shader, message).at(format!("shader {variant}"))
}

/// Returns an error's text without colors, which wesl adds even if the output is not a terminal.
/// Browser builds omit the formatting code: a shader that fails to compile there also fails
/// natively.
fn plain(e: &wesl::Error) -> String {
    if cfg!(target_arch = "wasm32") {
        return "does not compile".to_owned();
    }
    anstream::adapter::strip_str(&e.to_string()).to_string()
}

/// Returns naga's message, natively with an excerpt of the source.
fn unparsed(e: &naga::front::wgsl::ParseError, wgsl: &str) -> String {
    if cfg!(target_arch = "wasm32") { e.message().to_owned() } else { e.emit_to_string(wgsl) }
}

fn invalid(e: &naga::WithSpan<naga::valid::ValidationError>, wgsl: &str) -> String {
    if cfg!(target_arch = "wasm32") { "is not valid".to_owned() } else { e.emit_to_string(wgsl) }
}

/// Composes the WGSL text of a variant.
///
/// # Errors
/// Returns an error that shows the source line if the shader does not exist or does not compile.
pub fn assemble(variant: &ShaderVariant) -> Result<String> {
    let mut files = Vec::new();
    modules(&SHADERS, &mut files);
    let mut resolver = VirtualResolver::new();
    for (path, text) in files {
        resolver.add_module(module_path(&path, variant)?, Cow::Borrowed(text));
    }
    let mut constants = String::new();
    for (name, value) in &variant.constants {
        // Writing to a String cannot fail.
        let _ = writeln!(constants, "const {name} = {};", value.literal());
    }
    resolver.add_module(module_path("package::constants", variant)?, Cow::Owned(constants));
    let root = match variant.source {
        Some(_) => module_path("package::custom", variant)?,
        None => module_path(&format!("package::{}", variant.shader.replace('/', "::")), variant)?,
    };
    if let Some(source) = variant.source {
        resolver.add_module(root.clone(), Cow::Borrowed(source));
    }
    let mut compiler = Wesl::new_barebones().set_custom_resolver(resolver);
    compiler
        .set_mangler(ManglerKind::None)
        .use_condcomp(true)
        .use_imports(true)
        .use_stripping(true);
    compiler.set_missing_feature_behavior(false);
    for feature in &variant.features {
        compiler.set_feature(feature, true);
    }
    let mut compiled = compiler.compile(&root).map_err(|e| shader_error(variant, plain(&e)))?;
    unroll(&mut compiled.syntax, variant)?;
    Ok(compiled.to_string())
}

/// Parses, validates and reflects WGSL text. `variant` is for messages.
///
/// # Errors
/// Returns an error that shows the source line if the text is not valid WGSL.
pub fn reflect(variant: &ShaderVariant, wgsl: &str) -> Result<Reflection> {
    let module = naga::front::wgsl::parse_str(wgsl)
        .map_err(|e| shader_error(variant, unparsed(&e, wgsl)))?;
    let mut validator = naga::valid::Validator::new(
        naga::valid::ValidationFlags::all(),
        naga::valid::Capabilities::all(),
    );
    let info = validator.validate(&module).map_err(|e| shader_error(variant, invalid(&e, wgsl)))?;
    Reflection::new(module, info).map_err(|e| e.at(format!("shader {variant}")))
}
