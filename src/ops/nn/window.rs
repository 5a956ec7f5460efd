//! Windows of the pooling operations: their number, and the rows or columns that each one covers.

use crate::error::{Result, error};
use crate::geometry::{Padding, Size, Spacing};
use crate::ops::kernel::{Dispatch, KernelContext, TensorLayout};
use crate::tensor::Shape;
use std::ops::Range;

/// Windows along one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Axis {
    pub size: usize,
    pub kernel: usize,
    pub stride: usize,
    pub dilation: usize,
    pub before: usize,
    pub after: usize,
}

impl Axis {
    /// Number of windows, by PyTorch's rule: with `ceil_mode` the last window may extend past the
    /// end if it starts inside the image or the padding before it.
    fn count(&self, ceil_mode: bool) -> usize {
        let span = self.dilation.saturating_mul(self.kernel - 1).saturating_add(1);
        let padded = self.size.saturating_add(self.before).saturating_add(self.after);
        if padded < span {
            return 0;
        }
        let steps = if ceil_mode {
            (padded - span).div_ceil(self.stride)
        } else {
            (padded - span) / self.stride
        };
        if ceil_mode && steps * self.stride >= self.size + self.before { steps } else { steps + 1 }
    }

    /// Returns the taps of window `i` that read the image.
    pub(super) fn taps(&self, i: usize) -> Range<usize> {
        let start = i * self.stride;
        let first = self.before.saturating_sub(start).div_ceil(self.dilation);
        let end = (self.size + self.before)
            .saturating_sub(start)
            .div_ceil(self.dilation)
            .min(self.kernel);
        first.min(end)..end
    }

    /// Returns the position that a tap of [`Axis::taps`] reads.
    pub(super) fn position(&self, i: usize, tap: usize) -> usize {
        i * self.stride + tap * self.dilation - self.before
    }

    /// Returns the windows, out of `count`, that read `position`, each with the tap that reads it.
    pub(super) fn readers(
        &self,
        position: usize,
        count: usize,
    ) -> impl Iterator<Item = (usize, usize)> {
        let &Self { kernel, stride, dilation, before, .. } = self;
        // Iterating over the taps backwards yields the windows in order.
        (0..kernel).rev().filter_map(move |tap| {
            let start = (position + before).checked_sub(tap * dilation)?;
            (start.is_multiple_of(stride) && start / stride < count)
                .then_some((start / stride, tap))
        })
    }

    /// Returns the windows, out of `count`, whose tap `tap` reads one of `positions`.
    pub(super) fn windows(
        &self,
        tap: usize,
        positions: Range<usize>,
        count: usize,
    ) -> Range<usize> {
        let before = |position: usize| {
            (position + self.before).saturating_sub(tap * self.dilation).div_ceil(self.stride)
        };
        let end = before(positions.end).min(count);
        before(positions.start).min(end)..end
    }

    /// Returns the number of taps of window `i` inside the image or its padding. Taps of the last
    /// window past the end (`ceil_mode`) do not count.
    pub(super) fn padded_taps(&self, i: usize) -> usize {
        let inside = (self.size + self.before + self.after).saturating_sub(i * self.stride);
        inside.div_ceil(self.dilation).min(self.kernel)
    }
}

/// Kernel size, stride, dilation and padding of an operation that slides a window over its input.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub kernel: Size,
    pub stride: Spacing,
    pub dilation: Spacing,
    pub padding: Padding,
    pub ceil_mode: bool,
}

impl Window {
    pub(super) fn axes(&self, x: Shape) -> (Axis, Axis) {
        let p = self.padding;
        let axis = |size, kernel, stride, dilation, before, after| Axis {
            size,
            kernel,
            stride,
            dilation,
            before,
            after,
        };
        (
            axis(x.h, self.kernel.height, self.stride.y, self.dilation.y, p.top, p.bottom),
            axis(x.w, self.kernel.width, self.stride.x, self.dilation.x, p.left, p.right),
        )
    }

    /// Returns the shape of the pooled output.
    ///
    /// # Errors
    /// Returns an error if a window would cover nothing but padding.
    pub(super) fn output_shape(&self, x: Shape) -> Result<Shape> {
        let Self { kernel, stride, dilation, .. } = self;
        if kernel.is_empty() || [stride, dilation].iter().any(|s| s.x == 0 || s.y == 0) {
            return Err(error!(
                Graph,
                "kernel, stride and dilation must be at least 1, got {self:?}"
            ));
        }
        let (rows, columns) = self.axes(x);
        let mut counts = [0; 2];
        for ((axis, what), count) in
            [(rows, "rows"), (columns, "columns")].into_iter().zip(&mut counts)
        {
            *count = axis.count(self.ceil_mode);
            if let Some(i) = (0..*count).find(|&i| axis.taps(i).is_empty()) {
                return Err(error!(
                    Graph,
                    "window {i} of the {what} covers nothing but padding (input {x}, kernel {}, padding {} and {})",
                    axis.kernel,
                    axis.before,
                    axis.after
                ));
            }
        }
        Ok(x.with_hw(counts[0], counts[1]))
    }

    /// Sets the uniform block and the extent of a pooling shader: one thread per pixel and four
    /// channels of the output.
    pub(super) fn params(&self, dispatch: Dispatch, cx: &KernelContext) -> Dispatch {
        let (x, y) = (cx.inputs[0], cx.outputs[0]);
        let (from, to) = (x.ty.shape, y.ty.shape);
        dispatch
            .param("pixels", to.positions())
            .param("c4", to.c4())
            .param("h_in", from.h)
            .param("w_in", from.w)
            .param("h_out", to.h)
            .param("w_out", to.w)
            .layout("x", x)
            .layout("y", y)
            .window(self.kernel, self.stride, self.dilation, self.padding)
            .param("pad_bottom", self.padding.bottom)
            .param("pad_right", self.padding.right)
            .threads(to.positions() * to.c4())
    }

    /// Like [`Window::params`] for the gradient: one thread per pixel and four channels of the
    /// input's gradient `dx`.
    pub(super) fn grad_params(
        &self,
        dispatch: Dispatch,
        dy: TensorLayout,
        dx: TensorLayout,
    ) -> Dispatch {
        let (from, to) = (dx.ty.shape, dy.ty.shape);
        dispatch
            .param("pixels", from.positions())
            .param("c4", from.c4())
            .param("h", from.h)
            .param("w", from.w)
            .param("h_dy", to.h)
            .param("w_dy", to.w)
            .layout("dy", dy)
            .layout("dx", dx)
            .window(self.kernel, self.stride, self.dilation, self.padding)
            .threads(from.positions() * from.c4())
    }

    pub(super) fn attributes(&self) -> String {
        let Size { width, height } = self.kernel;
        let mut text = format!("{height}x{width} s{}", self.stride);
        if self.dilation != Spacing::ONE {
            text += &format!(" d{}", self.dilation);
        }
        text += &format!(" p{}", self.padding);
        if self.ceil_mode { text + " ceil" } else { text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(
        size: usize,
        kernel: usize,
        stride: usize,
        dilation: usize,
        before: usize,
        after: usize,
    ) -> Axis {
        Axis { size, kernel, stride, dilation, before, after }
    }

    #[test]
    fn counts_follow_pytorch() {
        // torch.nn.functional.max_pool1d on the sizes in the first column.
        for (a, floor, ceil) in [
            (axis(112, 3, 2, 1, 1, 1), 56, 57),
            (axis(113, 3, 2, 1, 1, 1), 57, 57),
            (axis(5, 2, 2, 1, 0, 0), 2, 3),
            (axis(5, 3, 4, 1, 1, 1), 2, 2),
            (axis(1, 3, 2, 1, 1, 1), 1, 1),
            (axis(7, 3, 1, 2, 1, 1), 5, 5),
            (axis(2, 3, 1, 1, 0, 0), 0, 0),
        ] {
            assert_eq!((a.count(false), a.count(true)), (floor, ceil), "{a:?}");
        }
    }

    #[test]
    fn taps_are_those_inside_the_image() {
        for a in [
            axis(7, 3, 2, 2, 2, 1),
            axis(1, 3, 2, 1, 1, 1),
            axis(9, 4, 3, 1, 0, 3),
            axis(5, 2, 1, 3, 2, 2),
        ] {
            for i in 0..a.count(true) {
                let inside = |tap: &usize| {
                    (a.before..a.before + a.size).contains(&(i * a.stride + tap * a.dilation))
                };
                let expected: Vec<usize> = (0..a.kernel).filter(inside).collect();
                let taps = a.taps(i);
                assert_eq!(taps.clone().collect::<Vec<_>>(), expected, "{a:?} window {i}");
                assert!(taps.clone().all(|t| a.position(i, t) < a.size));
            }
        }
    }

    #[test]
    fn windows_of_a_tap_are_those_that_read_the_positions() {
        for a in [
            axis(7, 3, 2, 2, 2, 1),
            axis(1, 3, 2, 1, 1, 1),
            axis(9, 4, 3, 1, 0, 3),
            axis(5, 2, 1, 9, 6, 6),
        ] {
            let count = a.count(false);
            for tap in 0..a.kernel {
                for (from, to) in (0..=a.size).flat_map(|to| (0..=to).map(move |from| (from, to))) {
                    let reads = |i: &usize| {
                        (a.before + from..a.before + to)
                            .contains(&(i * a.stride + tap * a.dilation))
                    };
                    let expected: Vec<usize> = (0..count).filter(reads).collect();
                    let got: Vec<usize> = a.windows(tap, from..to, count).collect();
                    assert_eq!(got, expected, "{a:?} tap {tap} of {from}..{to}");
                }
            }
        }
    }

    #[test]
    fn a_window_of_padding_alone_is_refused() {
        let window = Window {
            kernel: Size::square(2),
            stride: Spacing::ONE,
            dilation: Spacing::square(3),
            padding: Padding::all(2),
            ceil_mode: false,
        };
        let message = window
            .output_shape(Shape::new(1, 1, 5, 8))
            .expect_err("no tap reads the single row")
            .to_string();
        assert!(message.contains("nothing but padding"), "{message}");
    }
}
