//! Shapes, element types and tensors in host memory.

mod shape;

pub use shape::{KernelShape, Shape};

use crate::error::{Result, error};
use crate::memory;

/// Element type of a value in a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum DType {
    /// 32-bit floating point: activations and parameters.
    F32,
    /// 32-bit unsigned: class indices.
    U32,
    /// 8-bit unsigned: images.
    U8,
}

impl DType {
    /// Returns the size of an element in host memory, in bytes.
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
    /// Shape.
    pub shape: Shape,
    /// Element type.
    pub dtype: DType,
}

impl TensorType {
    /// Creates the type of an f32 tensor.
    pub const fn f32(shape: Shape) -> Self {
        Self { shape, dtype: DType::F32 }
    }

    /// Creates the type of a u32 tensor, for class indices.
    pub const fn u32(shape: Shape) -> Self {
        Self { shape, dtype: DType::U32 }
    }

    /// Creates the type of a u8 tensor, for images.
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
    /// Creates `len` zeros. The system commits their memory when they are first written.
    pub fn zeros(dtype: DType, len: usize) -> Self {
        match dtype {
            DType::F32 => Data::F32(vec![0.0; len]),
            DType::U32 => Data::U32(vec![0; len]),
            DType::U8 => Data::U8(vec![0; len]),
        }
    }

    /// Like [`Data::zeros`], for lengths that the user controls.
    ///
    /// # Errors
    /// Returns an error if the allocation fails.
    pub fn try_zeros(dtype: DType, len: usize) -> Result<Self> {
        Ok(match dtype {
            DType::F32 => Data::F32(memory::zeros(len)?),
            DType::U32 => Data::U32(memory::zeros(len)?),
            DType::U8 => Data::U8(memory::zeros(len)?),
        })
    }

    /// Returns the number of elements.
    pub fn len(&self) -> usize {
        match self {
            Data::F32(v) => v.len(),
            Data::U32(v) => v.len(),
            Data::U8(v) => v.len(),
        }
    }

    /// Returns whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the element type.
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
    /// At least as many elements as the shape has; see [`Tensor::from_buffer`].
    data: Data,
}

impl PartialEq for Tensor {
    fn eq(&self, other: &Self) -> bool {
        self.shape == other.shape && self.data() == other.data()
    }
}

impl Tensor {
    /// Creates an f32 tensor.
    ///
    /// # Errors
    /// Returns an error if the number of elements does not match the shape.
    pub fn new(shape: Shape, data: Vec<f32>) -> Result<Self> {
        Self::from_data(shape, Data::F32(data))
    }

    /// Creates a tensor of any element type.
    ///
    /// # Errors
    /// Returns an error if the number of elements does not match the shape.
    pub fn from_data(shape: Shape, data: Data) -> Result<Self> {
        if data.len() != shape.len() {
            return Err(error!(
                Usage,
                "a tensor of shape {shape} has {} elements, got {}",
                shape.len(),
                data.len()
            ));
        }
        Ok(Self { shape, data })
    }

    /// Creates an f32 tensor in a reused buffer, with the buffer's current values as its elements.
    /// A buffer that is too small is extended with zeros. A larger buffer keeps its length, and
    /// [`Tensor::into_buffer`] returns it whole: truncating and growing the vector would fill it
    /// with zeros every time.
    pub(crate) fn from_buffer(shape: Shape, mut buffer: Vec<f32>) -> Self {
        if buffer.len() < shape.len() {
            buffer.resize(shape.len(), 0.0);
        }
        Self { shape, data: Data::F32(buffer) }
    }

    /// Returns the whole buffer of an f32 tensor, `None` for other types.
    pub(crate) fn into_buffer(self) -> Option<Vec<f32>> {
        match self.data {
            Data::F32(buffer) => Some(buffer),
            _ => None,
        }
    }

    /// Creates a tensor of zeros.
    pub fn zeros(ty: TensorType) -> Self {
        Self { shape: ty.shape, data: Data::zeros(ty.dtype, ty.shape.len()) }
    }

    /// Like [`Tensor::zeros`], for a size that the user controls.
    ///
    /// # Errors
    /// Returns an error if the allocation fails.
    pub fn try_zeros(ty: TensorType) -> Result<Self> {
        Ok(Self { shape: ty.shape, data: Data::try_zeros(ty.dtype, ty.shape.len())? })
    }

    /// Like [`Clone::clone`], for a size that the user controls.
    ///
    /// # Errors
    /// Returns an error if the allocation fails.
    pub fn try_clone(&self) -> Result<Self> {
        let data = match self.data() {
            Elements::F32(v) => Data::F32(memory::copy(v)?),
            Elements::U32(v) => Data::U32(memory::copy(v)?),
            Elements::U8(v) => Data::U8(memory::copy(v)?),
        };
        Ok(Self { shape: self.shape, data })
    }

    /// Creates an f32 tensor whose element at `[n, y, x, c]` is `f(n, y, x, c)`.
    pub fn from_fn(shape: Shape, f: impl FnMut(usize, usize, usize, usize) -> f32) -> Self {
        Self::filled(shape, Vec::with_capacity(shape.len()), f)
    }

    /// Like [`Tensor::from_fn`], for a shape that the user controls.
    ///
    /// # Errors
    /// Returns an error if the allocation fails.
    pub fn try_from_fn(
        shape: Shape,
        f: impl FnMut(usize, usize, usize, usize) -> f32,
    ) -> Result<Self> {
        Ok(Self::filled(shape, memory::with_capacity(shape.len())?, f))
    }

    /// Creates a tensor in `data`, an empty vector with capacity for all elements.
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

    /// Returns the shape.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Returns the shape and the element type.
    pub fn ty(&self) -> TensorType {
        TensorType { shape: self.shape, dtype: self.data.dtype() }
    }

    /// Returns the elements.
    pub fn data(&self) -> Elements<'_> {
        let len = self.shape.len();
        match &self.data {
            Data::F32(v) => Elements::F32(&v[..len]),
            Data::U32(v) => Elements::U32(&v[..len]),
            Data::U8(v) => Elements::U8(&v[..len]),
        }
    }

    /// Returns the elements by value.
    pub fn into_data(mut self) -> Data {
        if let Data::F32(v) = &mut self.data {
            v.truncate(self.shape.len());
        }
        self.data
    }

    /// Returns the elements of an f32 tensor.
    ///
    /// # Panics
    /// Panics if the element type differs: graphs are verified before they run, so that is a bug in
    /// the caller.
    pub fn f32(&self) -> &[f32] {
        match &self.data {
            Data::F32(v) => &v[..self.shape.len()],
            other => panic!("invariant: expected an f32 tensor, got {:?}", other.dtype()),
        }
    }

    /// Returns the elements of an f32 tensor, mutably.
    ///
    /// # Panics
    /// Panics if the element type differs.
    pub fn f32_mut(&mut self) -> &mut [f32] {
        match &mut self.data {
            Data::F32(v) => &mut v[..self.shape.len()],
            other => panic!("invariant: expected an f32 tensor, got {:?}", other.dtype()),
        }
    }

    /// Returns the elements of a u32 tensor.
    ///
    /// # Panics
    /// Panics if the element type differs.
    pub fn u32(&self) -> &[u32] {
        match &self.data {
            Data::U32(v) => v,
            other => panic!("invariant: expected a u32 tensor, got {:?}", other.dtype()),
        }
    }

    /// Returns the elements of a u32 tensor, mutably.
    ///
    /// # Panics
    /// Panics if the element type differs.
    pub fn u32_mut(&mut self) -> &mut [u32] {
        match &mut self.data {
            Data::U32(v) => v,
            other => panic!("invariant: expected a u32 tensor, got {:?}", other.dtype()),
        }
    }

    /// Returns the elements of a u8 tensor.
    ///
    /// # Panics
    /// Panics if the element type differs.
    pub fn u8(&self) -> &[u8] {
        match &self.data {
            Data::U8(v) => v,
            other => panic!("invariant: expected a u8 tensor, got {:?}", other.dtype()),
        }
    }

    /// Creates a tensor from elements in PyTorch's order, `[N, C, H, W]`.
    ///
    /// # Errors
    /// Returns an error if the number of elements does not match the shape, or if the allocation
    /// fails.
    pub fn from_nchw(n: usize, c: usize, h: usize, w: usize, data: &[f32]) -> Result<Self> {
        let shape = Shape::new(n, h, w, c);
        if data.len() != shape.len() {
            return Err(error!(
                Usage,
                "a tensor of shape [{n}, {c}, {h}, {w}] has {} elements, got {}",
                shape.len(),
                data.len()
            ));
        }
        Self::try_from_fn(shape, |n, y, x, ch| data[((n * c + ch) * h + y) * w + x])
    }

    /// Returns the elements in PyTorch's order, `[N, C, H, W]`.
    pub fn to_nchw(&self) -> Vec<f32> {
        self.extend_nchw(Vec::with_capacity(self.shape.len()))
    }

    /// Like [`Tensor::to_nchw`], for a size that the user controls.
    ///
    /// # Errors
    /// Returns an error if the allocation fails.
    pub fn try_to_nchw(&self) -> Result<Vec<f32>> {
        Ok(self.extend_nchw(memory::with_capacity(self.shape.len())?))
    }

    /// Appends the elements to `out`, an empty vector with capacity for all of them.
    fn extend_nchw(&self, mut out: Vec<f32>) -> Vec<f32> {
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
