//! The choice among the kernels of an operation.

use crate::error::Result;
use crate::ops::Op;
use crate::ops::kernel::{Kernel, KernelContext};

/// Selects one of an operation's kernels.
pub trait KernelSelector {
    /// Announces the number of calls of [`KernelSelector::choose`] that follow, one per node of a
    /// graph.
    fn begin(&mut self, _calls: usize) {}

    /// Returns the position of the chosen kernel in `kernels`, which is not empty.
    ///
    /// # Errors
    /// Returns an error if no kernel can be used on the device.
    fn choose(&mut self, op: &dyn Op, context: &KernelContext, kernels: &[Kernel])
    -> Result<usize>;
}

/// Selects the kernel that the operation expects to be fastest.
#[derive(Debug, Clone, Copy, Default)]
pub struct FirstKernel;

impl KernelSelector for FirstKernel {
    fn choose(&mut self, _: &dyn Op, _: &KernelContext, _: &[Kernel]) -> Result<usize> {
        Ok(0)
    }
}
