//! The interface of operations: everything that graphs, passes, executors and printers need to know.

use super::kernel::{Kernel, KernelContext};
use super::{Backward, OnnxForm, Signature};
use crate::error::{Result, error};
use crate::tensor::{Tensor, TensorType};
use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// Cost of one run of an operation, independent of the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Cost {
    /// Multiply-adds, as papers count them (padding counts like image pixels).
    pub multi_adds: u64,
    /// Bytes of inputs, parameters and outputs, each read or written once.
    pub bytes: u64,
}

/// Layout of a parameter in device memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Packing {
    /// `[n, h, w, c]` with the channels zero-padded to a multiple of four.
    Channels,
    /// Like [`Packing::Channels`], with `w` (a kernel's input channels) also zero-padded to a
    /// multiple of four.
    Matrix,
}

/// An input that an output overwrites, by their positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InPlace {
    /// Position of the input.
    pub input: usize,
    /// Position of the output.
    pub output: usize,
}

impl InPlace {
    /// Output `at` overwrites input `at`.
    pub const fn same(at: usize) -> Self {
        Self { input: at, output: at }
    }
}

/// What a training step has in place of an operation of inference.
#[derive(Debug, Clone)]
pub enum TrainForm {
    /// Nothing: the first input replaces the output.
    Identity,
    /// A random operation. Its inputs are those of the original, then the number of the step, u32
    /// `[1, 1, 1, 1]`.
    Random(Arc<dyn Op>),
    /// A norm that uses the statistics of the batch. Its inputs are the first three of the
    /// original: x, weight and bias. Its outputs are that of the original, then the mean and the
    /// (biased) variance of each channel.
    BatchStatistics(Arc<dyn Op>),
}

/// An operation of a graph.
pub trait Op: fmt::Debug + Send + Sync + Any {
    /// Name of the operation, and number and element types of its inputs.
    fn signature(&self) -> Signature;

    /// Name of the operation, the same for all instances: `conv2d`.
    fn name(&self) -> &'static str {
        self.signature().name()
    }

    /// Attributes in short form, for tables: `3x3 s2 d1 relu6`.
    fn attributes(&self) -> String {
        String::new()
    }

    /// Infers the types of the outputs from the types of the inputs, whose number and element types
    /// are those of the signature. Callers that have not checked them use [`Op::output_types`].
    ///
    /// # Errors
    /// Returns an error that states the expected shapes if the inputs do not fit. The graph adds
    /// the node's name.
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>>;

    /// Checks the inputs against the signature and infers the types of the outputs.
    ///
    /// # Errors
    /// Returns the error of [`Signature::check`] or of [`Op::infer`].
    fn output_types(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        self.signature().check(inputs)?;
        self.infer(inputs)
    }

    /// Returns the cost. The default is no multiply-adds, and each input and output read or written
    /// once.
    fn cost(&self, inputs: &[TensorType], outputs: &[TensorType]) -> Cost {
        Cost { multi_adds: 0, bytes: bytes(inputs) + bytes(outputs) }
    }

    /// Computes the outputs on the CPU; the reference for all kernels. The outputs have the
    /// inferred types and unspecified contents. The inputs have the types that [`Op::infer`]
    /// accepted.
    ///
    /// # Errors
    /// Returns an error if memory for scratch buffers runs out.
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()>;

    /// Upper bound on the bytes that [`Op::cpu`] allocates in addition to inputs and outputs, on
    /// `threads` threads. Buffers of a few rows are not counted. The bound is checked before a
    /// graph runs, because a failed allocation during the run aborts the process.
    fn cpu_scratch(&self, _inputs: &[TensorType], _outputs: &[TensorType], _threads: usize) -> u64 {
        0
    }

    /// Lists the kernels for a device, the one expected to be fastest first. All compute the same
    /// values within rounding.
    fn kernels(&self, context: &KernelContext) -> Vec<Kernel>;

    /// Adds the nodes that compute the gradients of the inputs from those of the outputs.
    ///
    /// Implementations do not accumulate gradients;
    /// [`Graph::gradients`](super::Graph::gradients) does.
    ///
    /// # Errors
    /// Returns an error if the operation has no gradient, which is the default.
    fn gradient(&self, _backward: &mut Backward) -> Result<()> {
        Err(error!(Graph, "operation has no gradient")
            .advice("compute the loss from the scores before it"))
    }

    /// Returns what replaces the operation in a training step, `None` if training computes the same
    /// as inference, which is the default. `key` differs between the nodes of a network and between
    /// the seeds of trainings.
    fn train_form(&self, _key: u32) -> Option<TrainForm> {
        None
    }

    /// Adds the standard operators of ONNX that compute the same.
    ///
    /// # Errors
    /// Returns an error if there are none, which is the default.
    fn onnx(&self, form: &mut OnnxForm) -> Result<()> {
        form.refuse(&format!("the operation `{}`", self.name()))
    }

    /// Inputs that outputs of the same type overwrite. On
    /// devices the two share a buffer. Kernels bind only the output, which contains the input when
    /// they start.
    fn in_place(&self) -> &'static [InPlace] {
        &[]
    }

    /// Returns the packing of input `index` in device memory if that input is a parameter.
    fn packing(&self, _index: usize) -> Packing {
        Packing::Channels
    }
}

impl dyn Op {
    /// Returns whether this is an operation of type `T`.
    pub fn is<T: Op>(&self) -> bool {
        (self as &dyn Any).is::<T>()
    }

    /// Returns this as an operation of type `T`, for passes that read attributes.
    pub fn downcast_ref<T: Op>(&self) -> Option<&T> {
        (self as &dyn Any).downcast_ref()
    }
}

/// Returns the bytes of tensors of the given types, in host layout.
pub fn bytes(types: &[TensorType]) -> u64 {
    let each = types.iter().map(|t| (t.shape.len() as u64).saturating_mul(t.dtype.size() as u64));
    each.fold(0, u64::saturating_add)
}
