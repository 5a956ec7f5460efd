//! Tests of reflection, and of the structs that Rust and shaders both define.

use super::*;
use crate::gpu::{assemble, reflect};
use crate::ops::AxisParams;
use crate::ops::kernel::{LayoutParams, ParamStruct, WindowParams};

/// Reflects a shader whose block has these members, one of them `value`, and `last`.
fn with_members(import: &str, members: &str) -> Result<Reflection> {
    let source = format!(
        "{import}
        struct Params {{ {members}, last: u32 }}
        @group(0) @binding(0) var<uniform> params: Params;
        @group(0) @binding(1) var<storage, read_write> y: array<u32>;
        @compute @workgroup_size(1) fn main() {{ let value = params.value; y[0] = params.last; }}"
    );
    let dispatch = Dispatch::custom("test", source.leak());
    reflect(&dispatch.variant, &assemble(&dispatch.variant)?)
}

/// Rust's definition of a struct, and the module with the shaders'.
fn shared_structs() -> Vec<(&'static str, &'static str, Box<dyn ParamStruct>)> {
    vec![
        ("layout", "Layout", Box::new(LayoutParams::default())),
        ("window", "Window", Box::new(WindowParams::default())),
        ("bilinear", "Axis", Box::new(AxisParams::default())),
    ]
}

fn kind(scalar: Scalar) -> naga::ScalarKind {
    match scalar {
        Scalar::U32(_) => naga::ScalarKind::Uint,
        Scalar::I32(_) => naga::ScalarKind::Sint,
        Scalar::F32(_) => naga::ScalarKind::Float,
    }
}

#[test]
fn structs_have_the_same_members_in_rust_and_in_shaders() {
    for (module, name, value) in shared_structs() {
        let import = format!("import package::shared::{module}::{name};");
        let shader = with_members(&import, &format!("value: {name}")).unwrap();
        let members = shader.params.unwrap().members;
        let expected = value.members();
        let in_shader: Vec<_> = members.iter().map(|(n, _, s)| (n.as_str(), s.kind)).collect();
        let in_rust: Vec<_> =
            expected.iter().map(|&(n, v)| (format!("value.{n}"), kind(v))).collect();
        let last = ("last", naga::ScalarKind::Uint);
        let in_rust: Vec<_> = in_rust.iter().map(|(n, k)| (n.as_str(), *k)).chain([last]).collect();
        assert_eq!(in_shader, in_rust, "{name}");
    }
}

/// A struct of a uniform block is aligned to 16 bytes, which only those meant for one state.
#[test]
fn every_shared_struct_of_a_uniform_block_is_compared() {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("shaders/shared").unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let structs = text.split("\nstruct ").skip(1).map(|s| s.split_once('{').unwrap());
        let aligned = structs.filter(|(_, body)| body.trim_start().starts_with("@align(16)"));
        found.extend(aligned.map(|(name, _)| name.trim().to_owned()));
    }
    let mut known: Vec<String> =
        shared_structs().iter().map(|(_, name, _)| (*name).to_owned()).collect();
    found.sort();
    known.sort();
    assert_eq!(found, known);
}

#[test]
fn members_of_structs_and_vectors_are_written_at_their_offsets() {
    let import = "import package::shared::layout::Layout;";
    let members = "x: Layout, y: Layout, value: vec3f, middle: f32, pair: vec2u";
    let shader = with_members(import, members).unwrap();
    let dispatch = Dispatch::new("test")
        .param_struct("x", &LayoutParams { pitch: 1, offset: 2 })
        .param_struct("y", &LayoutParams { pitch: 3, offset: 4 })
        .param_struct("value", &[0.5f32, 1.5, 2.5])
        .param("middle", 3.5f32)
        .param_struct("pair", &[5u32, 6])
        .param("last", 7u32);
    let bytes = shader.params_bytes(&dispatch).unwrap();
    let words: Vec<u32> =
        bytes.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect();
    let [a, b, c, d] = [0.5f32, 1.5, 2.5, 3.5].map(f32::to_bits);
    assert_eq!(words, [1, 2, 0, 0, 3, 4, 0, 0, a, b, c, d, 5, 6, 7, 0]);
}

#[test]
fn a_member_that_does_not_fit_is_refused_with_its_path() {
    let shader = with_members("import package::shared::layout::Layout;", "value: Layout").unwrap();
    let start = || Dispatch::new("test").param("last", 1u32).param("value.pitch", 1u32);
    for (dispatch, expected) in [
        (start(), "does not set `value.offset`"),
        (start().param("value.offset", 1.0f32), "sets `value.offset` to F32(1.0)"),
        (start().param("value.size", 1u32), "sets `value.size`, which is not a member"),
        (start().param("value", 1u32), "sets `value`, which is not a member"),
    ] {
        let error = shader.params_bytes(&dispatch).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let error = with_members("", "value: array<vec4f, 2>").unwrap_err().to_string();
    assert!(error.contains("`params.value` is not a scalar"), "{error}");
}

/// Direct3D would number workgroups wrongly.
#[test]
fn a_function_that_takes_the_built_ins_as_a_struct_is_refused() {
    let source = "import package::shared::thread::Thread;
        @group(0) @binding(1) var<storage, read_write> y: array<u32>;
        fn number(thread: Thread) -> u32 { return thread.group.x + thread.groups.x; }
        @compute @workgroup_size(1) fn main(thread: Thread) { y[0] = number(thread); }";
    let dispatch = Dispatch::custom("test", source);
    let wgsl = assemble(&dispatch.variant).unwrap();
    let error = reflect(&dispatch.variant, &wgsl).unwrap_err().to_string();
    assert!(error.contains("`number` takes a struct of built-ins"), "{error}");
}
