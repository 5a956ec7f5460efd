//! Kernels as data: what to dispatch, on which operands, with which constants. Nothing here knows
//! wgpu.

use super::Packing;
pub(crate) use super::params::param_struct;
pub use super::params::{Constant, LayoutParams, ParamStruct, Scalar, WindowParams};
use crate::geometry::{Padding, Size, Spacing};
use crate::tensor::TensorType;
use std::borrow::Cow;
use std::fmt;

/// The sizes of a device's subgroups. Serialized as `[min, max]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(into = "[u32; 2]")]
pub struct SubgroupSizes {
    /// Smallest size.
    pub min: u32,
    /// Largest size.
    pub max: u32,
}

impl SubgroupSizes {
    /// All subgroups have the same size.
    pub const fn fixed(size: u32) -> Self {
        Self { min: size, max: size }
    }
}

impl From<SubgroupSizes> for [u32; 2] {
    fn from(sizes: SubgroupSizes) -> Self {
        [sizes.min, sizes.max]
    }
}

/// Capabilities of a device that kernels depend on.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Caps {
    /// The adapter runs on the CPU (lavapipe, SwiftShader), where barriers are expensive and
    /// registers are few.
    pub software: bool,
    /// The driver's compiler needs minutes and gigabytes for long unrolled code (SwiftShader), so
    /// kernels must be short.
    pub short_code: bool,
    /// Smallest and largest subgroup size, if subgroup functions are available.
    pub subgroup: Option<SubgroupSizes>,
    /// Half-precision arithmetic in shaders.
    pub f16: bool,
    /// Largest storage buffer that can be bound, in bytes.
    pub max_binding: u64,
    /// Largest buffer, in bytes.
    pub max_buffer: u64,
    /// Memory shared by a workgroup, in bytes.
    pub workgroup_memory: u32,
    /// Invocations in a workgroup.
    pub max_invocations: u32,
    /// Workgroups along one dimension of a dispatch.
    pub max_groups: u32,
    /// Storage buffers in one shader.
    pub max_storage_buffers: u32,
}

impl Caps {
    /// The limits that WebGPU guarantees everywhere. Every operation has a kernel within them.
    pub const PORTABLE: Caps = Caps {
        software: false,
        short_code: false,
        subgroup: None,
        f16: false,
        max_binding: 128 << 20,
        max_buffer: 256 << 20,
        workgroup_memory: 16 << 10,
        max_invocations: 256,
        max_groups: 65_535,
        max_storage_buffers: 8,
    };
}

/// Layout of a tensor in a device buffer.
///
/// f32: `[N, H, W]` pixels of `pitch` `vec4`s each; the tensor's channels are the `c4()` `vec4`s
/// from `offset` on. Lanes past the last channel contain arbitrary finite values. u32 and u8:
/// contiguous, u8 packed four to a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TensorLayout {
    /// Shape and element type.
    pub ty: TensorType,
    /// `vec4`s from one pixel to the next.
    pub pitch: u32,
    /// First `vec4` of the tensor in a pixel.
    pub offset: u32,
}

impl TensorLayout {
    /// Layout of a tensor with a buffer of its own shape.
    pub fn contiguous(ty: TensorType) -> Self {
        Self { ty, pitch: ty.shape.c4() as u32, offset: 0 }
    }

    /// Returns what shaders need of the layout.
    pub fn params(&self) -> LayoutParams {
        LayoutParams { pitch: self.pitch, offset: self.offset }
    }

    /// Returns the bytes of a contiguous tensor's buffer.
    pub fn bytes(ty: TensorType, packing: Packing) -> u64 {
        let s = ty.shape;
        match ty.dtype {
            crate::tensor::DType::F32 => {
                let w = if packing == Packing::Matrix { s.w.next_multiple_of(4) } else { s.w };
                [s.n, s.h, w, s.c4()]
                    .iter()
                    .fold(16u64, |bytes, &side| bytes.saturating_mul(side as u64))
            }
            crate::tensor::DType::U32 => (s.len() as u64).saturating_mul(4),
            crate::tensor::DType::U8 => (s.len() as u64).saturating_add(3) / 4 * 4,
        }
    }
}

/// What an operation needs to list its kernels: layouts and device.
#[derive(Debug, Clone)]
pub struct KernelContext<'a> {
    /// Layouts of the inputs.
    pub inputs: &'a [TensorLayout],
    /// Layouts of the outputs.
    pub outputs: &'a [TensorLayout],
    /// Capabilities of the device.
    pub caps: &'a Caps,
}

/// A buffer that a dispatch binds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operand {
    /// Input of the operation.
    Input(usize),
    /// Output of the operation.
    Output(usize),
    /// Scratch buffer of the kernel.
    Scratch(usize),
}

/// A shader variant: the file under `shaders/`, conditions for its `@if`s, and injected constants.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShaderVariant {
    /// File name under `shaders/` without the extension: `nn/conv2d/direct`. With `source`, any name,
    /// for messages.
    pub shader: &'static str,
    /// Text of a shader that is not a file of this crate. It may import the modules under
    /// `shaders/`: `import package::shared::lanes::exist;`.
    pub source: Option<&'static str>,
    /// Conditions that are true. All others are false.
    pub features: Vec<&'static str>,
    /// Constants of the virtual module `constants`.
    pub constants: Vec<(&'static str, Constant)>,
}

impl fmt::Display for ShaderVariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shader)?;
        for feature in &self.features {
            write!(f, " +{feature}")?;
        }
        for (name, value) in &self.constants {
            write!(f, " {name}={value}")?;
        }
        Ok(())
    }
}

/// Number of threads or workgroups of a dispatch. Shaders get their own number from `thread_index`
/// or `group_index` in `shaders/shared/thread.wesl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Minimum number of threads, in one dimension.
    Threads(u64),
    /// Number of workgroups, in one dimension.
    Groups(u64),
}

/// One dispatch: shader, bindings, uniform block and extent.
#[derive(Debug, Clone, PartialEq)]
pub struct Dispatch {
    /// The shader.
    pub variant: ShaderVariant,
    /// Names of the shader's storage bindings with the bound operands.
    pub bindings: Vec<(&'static str, Operand)>,
    /// Members of the shader's uniform block `params` by path: `pixels`, or `x.pitch` for a member
    /// of the struct `x`.
    pub params: Vec<(Cow<'static, str>, Scalar)>,
    /// Number of threads or workgroups. Long extents are wrapped into two dimensions, so shaders
    /// number their threads with `shaders/shared/thread.wesl` and return past the end.
    pub extent: Extent,
}

impl Dispatch {
    /// Creates a dispatch of the shader in `shaders/{shader}.wesl`.
    pub fn new(shader: &'static str) -> Self {
        let variant =
            ShaderVariant { shader, source: None, features: Vec::new(), constants: Vec::new() };
        Self { variant, bindings: Vec::new(), params: Vec::new(), extent: Extent::Groups(0) }
    }

    /// Creates a dispatch of a custom shader, for operations outside this crate. `name` is used in
    /// messages, `source` is WESL text with the structure of the files under `shaders/`: a uniform
    /// block `params`, and an entry point `main` that numbers its threads with
    /// `package::shared::thread`. See `examples/custom_op.rs`.
    pub fn custom(name: &'static str, source: &'static str) -> Self {
        let mut dispatch = Self::new(name);
        dispatch.variant.source = Some(source);
        dispatch
    }

    /// Makes `@if(name)` true if `on`.
    #[must_use]
    pub fn when(mut self, name: &'static str, on: bool) -> Self {
        if on {
            self.variant.features.push(name);
        }
        self
    }

    /// Injects a constant.
    #[must_use]
    pub fn constant(mut self, name: &'static str, value: impl Into<Constant>) -> Self {
        self.variant.constants.push((name, value.into()));
        self
    }

    /// Binds an operand.
    #[must_use]
    pub fn bind(mut self, name: &'static str, operand: Operand) -> Self {
        self.bindings.push((name, operand));
        self
    }

    /// Binds an input.
    #[must_use]
    pub fn read(self, name: &'static str, input: usize) -> Self {
        self.bind(name, Operand::Input(input))
    }

    /// Binds an output.
    #[must_use]
    pub fn write(self, name: &'static str, output: usize) -> Self {
        self.bind(name, Operand::Output(output))
    }

    /// Sets a member of the uniform block.
    #[must_use]
    pub fn param(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Scalar>) -> Self {
        self.params.push((name.into(), value.into()));
        self
    }

    /// Sets a member of the uniform block that is a struct or a vector.
    #[must_use]
    pub fn param_struct(mut self, name: &str, value: &impl ParamStruct) -> Self {
        let members = value.members().into_iter();
        self.params.extend(members.map(|(member, v)| (format!("{name}.{member}").into(), v)));
        self
    }

    /// Sets the layout of a tensor: the struct `NAME` of the uniform block
    /// (`shaders/shared/layout.wesl`).
    #[must_use]
    pub fn layout(self, name: &str, tensor: TensorLayout) -> Self {
        self.param_struct(name, &tensor.params())
    }

    /// Sets the window of a convolution or pooling shader, the struct `window` of the uniform block
    /// (`shaders/shared/window.wesl`): kernel size, stride, dilation, and the padding above and
    /// to the left.
    #[must_use]
    pub fn window(
        self,
        kernel: Size,
        stride: Spacing,
        dilation: Spacing,
        padding: Padding,
    ) -> Self {
        let window = WindowParams {
            kh: kernel.height,
            kw: kernel.width,
            stride_y: stride.y,
            stride_x: stride.x,
            dilation_y: dilation.y,
            dilation_x: dilation.x,
            pad_top: padding.top,
            pad_left: padding.left,
        };
        self.param_struct("window", &window)
    }

    /// Sets the minimum number of threads.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.extent = Extent::Threads(threads as u64);
        self
    }

    /// Sets the number of workgroups.
    #[must_use]
    pub fn groups(mut self, groups: usize) -> Self {
        self.extent = Extent::Groups(groups as u64);
        self
    }
}

/// One implementation of an operation: dispatches that run one after another.
#[derive(Debug, Clone, PartialEq)]
pub struct Kernel {
    /// Name in tables and in the tuner's cache file: `subgroup 6x16`.
    pub label: String,
    /// The dispatches, in order.
    pub dispatches: Vec<Dispatch>,
    /// Bytes of each scratch buffer.
    pub scratch: Vec<u64>,
}

impl Kernel {
    /// Creates a kernel of a single dispatch.
    pub fn single(label: impl Into<String>, dispatch: Dispatch) -> Self {
        Self { label: label.into(), dispatches: vec![dispatch], scratch: Vec::new() }
    }
}
