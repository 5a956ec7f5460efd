//! Values that reach a shader from Rust: the uniform block `params` with its scalars, vectors, and
//! structs that several shaders have as members; and injected constants.

use std::fmt;

/// A scalar in the uniform block of a dispatch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scalar {
    /// Unsigned.
    U32(u32),
    /// Signed.
    I32(i32),
    /// Floating point.
    F32(f32),
}

impl From<u32> for Scalar {
    fn from(v: u32) -> Self {
        Scalar::U32(v)
    }
}
impl From<usize> for Scalar {
    /// Saturates: extents are checked against the device before a dispatch is recorded.
    fn from(v: usize) -> Self {
        Scalar::U32(u32::try_from(v).unwrap_or(u32::MAX))
    }
}
impl From<i32> for Scalar {
    fn from(v: i32) -> Self {
        Scalar::I32(v)
    }
}
impl From<f32> for Scalar {
    fn from(v: f32) -> Self {
        Scalar::F32(v)
    }
}

/// A constant that is injected into a shader when it is composed. A float is stored as its bits, so
/// that variants can be compared and hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Constant {
    /// Unsigned.
    U32(u32),
    /// The bits of a finite floating-point number.
    F32(u32),
}

impl Constant {
    /// Returns the WGSL literal: `16u`, `0.001f`.
    pub fn literal(self) -> String {
        match self {
            Constant::U32(v) => format!("{v}u"),
            Constant::F32(bits) => format!("{:?}f", f32::from_bits(bits)),
        }
    }
}

impl fmt::Display for Constant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Constant::U32(v) => write!(f, "{v}"),
            Constant::F32(bits) => write!(f, "{:?}", f32::from_bits(bits)),
        }
    }
}

impl From<u32> for Constant {
    fn from(v: u32) -> Self {
        Constant::U32(v)
    }
}
impl From<f32> for Constant {
    fn from(v: f32) -> Self {
        Constant::F32(v.to_bits())
    }
}

/// A member of a uniform block that consists of several scalars: a struct or a vector of the
/// shader.
pub trait ParamStruct: fmt::Debug {
    /// Returns the name in the shader and the value of each member.
    fn members(&self) -> Vec<(&'static str, Scalar)>;
}

/// A WGSL vector of two to four components.
impl<T: Into<Scalar> + Copy + fmt::Debug, const N: usize> ParamStruct for [T; N] {
    fn members(&self) -> Vec<(&'static str, Scalar)> {
        const { assert!(2 <= N && N <= 4, "WGSL has vectors of two to four components") }
        ["x", "y", "z", "w"].into_iter().zip(self.map(Into::into)).collect()
    }
}

/// Defines a struct whose fields are the members of a struct in `shaders/shared/`. A test in
/// `src/gpu/reflect/` compares the two definitions.
macro_rules! param_struct {
    (
        $(#[$attribute:meta])*
        $vis:vis struct $name:ident {
            $($(#[$field_attribute:meta])* $field_vis:vis $field:ident: $type:ty,)*
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, Default, PartialEq)]
        $vis struct $name {
            $($(#[$field_attribute])* $field_vis $field: $type,)*
        }

        impl $crate::graph::kernel::ParamStruct for $name {
            fn members(&self) -> Vec<(&'static str, $crate::graph::kernel::Scalar)> {
                vec![$((stringify!($field), self.$field.into()),)*]
            }
        }
    };
}
pub(crate) use param_struct;

param_struct! {
    /// `Layout` of `shaders/shared/layout.wesl`: where a tensor's channels are in a buffer.
    pub struct LayoutParams {
        /// `vec4`s from one pixel to the next.
        pub pitch: u32,
        /// First `vec4` of the tensor in a pixel.
        pub offset: u32,
    }
}

param_struct! {
    /// `Window` of `shaders/shared/window.wesl`: the window of a convolution or pooling.
    pub struct WindowParams {
        /// Height of the kernel.
        pub kh: usize,
        /// Width of the kernel.
        pub kw: usize,
        /// Rows from one window to the next.
        pub stride_y: usize,
        /// Columns from one window to the next.
        pub stride_x: usize,
        /// Rows from one tap to the next.
        pub dilation_y: usize,
        /// Columns from one tap to the next.
        pub dilation_x: usize,
        /// Rows of padding before the first row.
        pub pad_top: usize,
        /// Columns of padding before the first column.
        pub pad_left: usize,
    }
}
