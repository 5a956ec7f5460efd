//! Number of pixels per class.

use super::argmax::first_max;
use crate::error::{Result, error};
use crate::ops::kernel::{Dispatch, Kernel, KernelContext};
use crate::ops::{Op, Signature};
use crate::tensor::{Data, Shape, Tensor, TensorType};

/// Counts, for scores `[N, H, W, C]`, the pixels whose largest score belongs to each class, u32
/// `[1, 1, 1, classes]`; the first of equal maxima counts. Rows and columns past `rows` and
/// `columns`, and channels past `classes`, are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassCounts {
    /// Number of channels that are classes.
    pub classes: usize,
    /// Number of rows that cover the image and not its padding.
    pub rows: usize,
    /// Number of columns that cover the image and not its padding.
    pub columns: usize,
}

impl Op for ClassCounts {
    fn signature(&self) -> Signature {
        Signature::new("class_counts").f32("scores")
    }

    fn attributes(&self) -> String {
        format!("{} of {}x{}", self.classes, self.rows, self.columns)
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let x = inputs[0].shape;
        let inside = |count: usize, limit: usize| (1..=limit).contains(&count);
        if !inside(self.classes, x.c) || !inside(self.rows, x.h) || !inside(self.columns, x.w) {
            return Err(error!(
                Graph,
                "{} classes of {}x{} pixels are not within {x}",
                self.classes,
                self.rows,
                self.columns
            ));
        }
        Ok(vec![TensorType::u32(Shape::vector(self.classes))])
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let (x, shape) = (inputs[0].f32(), inputs[0].shape());
        let mut counts = vec![0; self.classes];
        for image in 0..shape.n {
            for row in 0..self.rows {
                for pixel in x[shape.index(image, row, 0, 0)..][..self.columns * shape.c]
                    .chunks_exact(shape.c)
                {
                    counts[first_max(&pixel[..self.classes]).0 as usize] += 1;
                }
            }
        }
        outputs[0] = Tensor::from_data(Shape::vector(self.classes), Data::U32(counts))?;
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let x = cx.inputs[0];
        let dispatch = |clear: bool, threads: usize| {
            Dispatch::new("image/class_counts")
                .when("clear", clear)
                .write("counts", 0)
                .param("threads", threads)
                .param("classes", self.classes)
                .param("rows", self.rows)
                .param("columns", self.columns)
                .param("h", x.ty.shape.h)
                .param("w", x.ty.shape.w)
                .layout("x", x)
                .threads(threads)
        };
        let count = dispatch(false, x.ty.shape.n * self.rows * self.columns).read("x", 0);
        vec![Kernel {
            label: "atomics".into(),
            dispatches: vec![dispatch(true, self.classes), count],
            scratch: Vec::new(),
        }]
    }
}
