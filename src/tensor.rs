//! Shapes, element types and tensors in host memory.

use crate::error::{Result, error};
use crate::memory;
use std::fmt;

/// The extent of a tensor: four axes, channels last.
///
/// Activations are `[N, H, W, C]`. Parameters use the same four axes: a convolution's kernel is
/// `[kh, kw, c_in / groups, c_out]`, a vector of one value per channel is `[1, 1, 1, C]`. So the
/// last axis is always the one that vectorizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Shape {
    /// Batch (kernel height for a convolution's kernel).
    pub n: usize,
    /// Height in rows (kernel width for a convolution's kernel).
    pub h: usize,
    /// Width in columns (input channels of a group for a convolution's kernel).
    pub w: usize,
    /// Channels (output channels for a convolution's kernel).
    pub c: usize,
}

impl Shape {
    /// `[n, h, w, c]`.
    pub const fn new(n: usize, h: usize, w: usize, c: usize) -> Self {
        Self { n, h, w, c }
    }

    /// One value per channel, `[1, 1, 1, c]`.
    pub const fn vector(c: usize) -> Self {
        Self::new(1, 1, 1, c)
    }

    /// Number of elements. Saturates instead of overflowing, so that an absurd shape compares as
    /// too large.
    pub const fn len(&self) -> usize {
        self.n.saturating_mul(self.h).saturating_mul(self.w).saturating_mul(self.c)
    }

    /// Whether there is no element at all.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of positions, `n * h * w`.
    pub const fn positions(&self) -> usize {
        self.n.saturating_mul(self.h).saturating_mul(self.w)
    }

    /// Channels in groups of four, rounded up: the length of a pixel in device memory, in `vec4`s.
    pub const fn c4(&self) -> usize {
        self.c.div_ceil(4)
    }

    /// The same extent with another number of channels.
    pub const fn with_c(self, c: usize) -> Self {
        Self { c, ..self }
    }

    /// The same batch and channels with another height and width.
    pub const fn with_hw(self, h: usize, w: usize) -> Self {
        Self { h, w, ..self }
    }

    /// Position of an element in a contiguous buffer.
    pub const fn index(&self, n: usize, y: usize, x: usize, c: usize) -> usize {
        ((n * self.h + y) * self.w + x) * self.c + c
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {}, {}, {}]", self.n, self.h, self.w, self.c)
    }
}

/// Element type of a value in a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum DType {
    /// 32-bit floating point: activations and parameters.
    F32,
    /// 32-bit unsigned: class numbers.
    U32,
    /// 8-bit unsigned: images.
    U8,
}

impl DType {
    /// Bytes of one element in host memory.
    pub const fn size(self) -> usize {
        match self {
            DType::F32 | DType::U32 => 4,
            DType::U8 => 1,
        }
    }
}

/// Shape and element type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct TensorType {
    /// Extent.
    pub shape: Shape,
    /// Element type.
    pub dtype: DType,
}

impl TensorType {
    /// An f32 tensor of `shape`.
    pub const fn f32(shape: Shape) -> Self {
        Self { shape, dtype: DType::F32 }
    }
    /// A tensor of class numbers.
    pub const fn u32(shape: Shape) -> Self {
        Self { shape, dtype: DType::U32 }
    }
    /// A tensor of bytes.
    pub const fn u8(shape: Shape) -> Self {
        Self { shape, dtype: DType::U8 }
    }
}

/// The elements of a [`Tensor`].
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// 32-bit floating point.
    F32(Vec<f32>),
    /// 32-bit unsigned.
    U32(Vec<u32>),
    /// 8-bit unsigned.
    U8(Vec<u8>),
}

impl Data {
    /// `len` zeros of a type. They take no memory until they are written.
    pub fn zeros(dtype: DType, len: usize) -> Self {
        match dtype {
            DType::F32 => Data::F32(vec![0.0; len]),
            DType::U32 => Data::U32(vec![0; len]),
            DType::U8 => Data::U8(vec![0; len]),
        }
    }

    /// As [`Data::zeros`], for lengths that users decide.
    ///
    /// # Errors
    /// Where the system has no memory for them.
    pub fn try_zeros(dtype: DType, len: usize) -> Result<Self> {
        Ok(match dtype {
            DType::F32 => Data::F32(memory::zeros(len)?),
            DType::U32 => Data::U32(memory::zeros(len)?),
            DType::U8 => Data::U8(memory::zeros(len)?),
        })
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Data::F32(v) => v.len(),
            Data::U32(v) => v.len(),
            Data::U8(v) => v.len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        match self {
            Data::F32(_) => DType::F32,
            Data::U32(_) => DType::U32,
            Data::U8(_) => DType::U8,
        }
    }
}

/// The elements of a [`Tensor`], borrowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Elements<'a> {
    /// 32-bit floating point.
    F32(&'a [f32]),
    /// 32-bit unsigned.
    U32(&'a [u32]),
    /// 8-bit unsigned.
    U8(&'a [u8]),
}

/// A contiguous tensor in host memory, channels last.
#[derive(Debug, Clone)]
pub struct Tensor {
    shape: Shape,
    /// As many elements as the shape has, or more: see [`Tensor::lent`].
    data: Data,
}

impl PartialEq for Tensor {
    fn eq(&self, other: &Self) -> bool {
        self.shape == other.shape && self.data() == other.data()
    }
}

impl Tensor {
    /// A tensor of f32. Errors where the number of elements is not the shape's.
    pub fn new(shape: Shape, data: Vec<f32>) -> Result<Self> {
        Self::from_data(shape, Data::F32(data))
    }

    /// A tensor of any element type. Errors where the number of elements is not the shape's.
    pub fn from_data(shape: Shape, data: Data) -> Result<Self> {
        if data.len() != shape.len() {
            return Err(error!(
                Usage,
                "a tensor of shape {shape} holds {} elements, got {}",
                shape.len(),
                data.len()
            ));
        }
        Ok(Self { shape, data })
    }

    /// A tensor in memory that has room for it, whose elements are whatever lies there. What is
    /// past them stays as it is until [`Tensor::into_memory`] takes it back: a vector that is cut
    /// and grown again would be filled with zeros each time.
    pub(crate) fn lent(shape: Shape, mut memory: Vec<f32>) -> Self {
        if memory.len() < shape.len() {
            memory.resize(shape.len(), 0.0);
        }
        Self { shape, data: Data::F32(memory) }
    }

    /// The memory of an f32 tensor, with what lies past its elements. `None` for other types.
    pub(crate) fn into_memory(self) -> Option<Vec<f32>> {
        match self.data {
            Data::F32(memory) => Some(memory),
            _ => None,
        }
    }

    /// Zeros.
    pub fn zeros(ty: TensorType) -> Self {
        Self { shape: ty.shape, data: Data::zeros(ty.dtype, ty.shape.len()) }
    }

    /// Zeros, of a size that users decide.
    ///
    /// # Errors
    /// Where the system has no memory for them.
    pub fn try_zeros(ty: TensorType) -> Result<Self> {
        Ok(Self { shape: ty.shape, data: Data::try_zeros(ty.dtype, ty.shape.len())? })
    }

    /// A copy, of a size that users decide.
    ///
    /// # Errors
    /// Where the system has no memory for it.
    pub fn try_clone(&self) -> Result<Self> {
        let data = match self.data() {
            Elements::F32(v) => Data::F32(memory::copy(v)?),
            Elements::U32(v) => Data::U32(memory::copy(v)?),
            Elements::U8(v) => Data::U8(memory::copy(v)?),
        };
        Ok(Self { shape: self.shape, data })
    }

    /// An f32 tensor whose element at `[n, y, x, c]` is `f(n, y, x, c)`.
    pub fn from_fn(shape: Shape, f: impl FnMut(usize, usize, usize, usize) -> f32) -> Self {
        Self::filled(shape, Vec::with_capacity(shape.len()), f)
    }

    /// As [`Tensor::from_fn`], for a shape that users decide.
    ///
    /// # Errors
    /// Where the system has no memory for it.
    pub fn try_from_fn(
        shape: Shape,
        f: impl FnMut(usize, usize, usize, usize) -> f32,
    ) -> Result<Self> {
        Ok(Self::filled(shape, memory::with_capacity(shape.len())?, f))
    }

    /// `data` is empty, with room for all elements.
    fn filled(
        shape: Shape,
        mut data: Vec<f32>,
        mut f: impl FnMut(usize, usize, usize, usize) -> f32,
    ) -> Self {
        for n in 0..shape.n {
            for y in 0..shape.h {
                for x in 0..shape.w {
                    data.extend((0..shape.c).map(|c| f(n, y, x, c)));
                }
            }
        }
        Self { shape, data: Data::F32(data) }
    }

    /// Extent.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Shape and element type.
    pub fn ty(&self) -> TensorType {
        TensorType { shape: self.shape, dtype: self.data.dtype() }
    }

    /// The elements, whatever their type.
    pub fn data(&self) -> Elements<'_> {
        let len = self.shape.len();
        match &self.data {
            Data::F32(v) => Elements::F32(&v[..len]),
            Data::U32(v) => Elements::U32(&v[..len]),
            Data::U8(v) => Elements::U8(&v[..len]),
        }
    }

    /// The elements, by value.
    pub fn into_data(mut self) -> Data {
        if let Data::F32(v) = &mut self.data {
            v.truncate(self.shape.len());
        }
        self.data
    }

    /// The same elements under another shape of the same length.
    pub fn reshape(self, shape: Shape) -> Result<Self> {
        Self::from_data(shape, self.into_data())
    }

    /// The elements of an f32 tensor.
    ///
    /// # Panics
    /// Where the element type is another: graphs are verified before they run, so that is a bug of
    /// the caller.
    pub fn f32(&self) -> &[f32] {
        match &self.data {
            Data::F32(v) => &v[..self.shape.len()],
            other => panic!("invariant: an f32 tensor was promised, got {:?}", other.dtype()),
        }
    }

    /// The elements of an f32 tensor, to be written.
    ///
    /// # Panics
    /// As [`Tensor::f32`].
    pub fn f32_mut(&mut self) -> &mut [f32] {
        match &mut self.data {
            Data::F32(v) => &mut v[..self.shape.len()],
            other => panic!("invariant: an f32 tensor was promised, got {:?}", other.dtype()),
        }
    }

    /// The elements of a tensor of class numbers.
    ///
    /// # Panics
    /// As [`Tensor::f32`].
    pub fn u32(&self) -> &[u32] {
        match &self.data {
            Data::U32(v) => v,
            other => panic!("invariant: a u32 tensor was promised, got {:?}", other.dtype()),
        }
    }

    /// The elements of a tensor of class numbers, to be written.
    ///
    /// # Panics
    /// As [`Tensor::f32`].
    pub fn u32_mut(&mut self) -> &mut [u32] {
        match &mut self.data {
            Data::U32(v) => v,
            other => panic!("invariant: a u32 tensor was promised, got {:?}", other.dtype()),
        }
    }

    /// The elements of a tensor of bytes.
    ///
    /// # Panics
    /// As [`Tensor::f32`].
    pub fn u8(&self) -> &[u8] {
        match &self.data {
            Data::U8(v) => v,
            other => panic!("invariant: a u8 tensor was promised, got {:?}", other.dtype()),
        }
    }

    /// From PyTorch's order `[N, C, H, W]`.
    ///
    /// # Errors
    /// Where the number of elements is not the shape's, or the system has no memory for a copy.
    pub fn from_nchw(n: usize, c: usize, h: usize, w: usize, data: &[f32]) -> Result<Self> {
        let shape = Shape::new(n, h, w, c);
        if data.len() != shape.len() {
            return Err(error!(
                Usage,
                "a tensor of shape [{n}, {c}, {h}, {w}] holds {} elements, got {}",
                shape.len(),
                data.len()
            ));
        }
        Self::try_from_fn(shape, |n, y, x, ch| data[((n * c + ch) * h + y) * w + x])
    }

    /// Elements in PyTorch's order `[N, C, H, W]`.
    pub fn to_nchw(&self) -> Vec<f32> {
        self.in_nchw(Vec::with_capacity(self.shape.len()))
    }

    /// As [`Tensor::to_nchw`], for a size that users decide.
    ///
    /// # Errors
    /// Where the system has no memory for a copy.
    pub fn try_to_nchw(&self) -> Result<Vec<f32>> {
        Ok(self.in_nchw(memory::with_capacity(self.shape.len())?))
    }

    /// `out` is empty, with room for all elements.
    fn in_nchw(&self, mut out: Vec<f32>) -> Vec<f32> {
        let (s, data) = (self.shape, self.f32());
        for n in 0..s.n {
            for c in 0..s.c {
                for y in 0..s.h {
                    out.extend((0..s.w).map(|x| data[s.index(n, y, x, c)]));
                }
            }
        }
        out
    }
}
