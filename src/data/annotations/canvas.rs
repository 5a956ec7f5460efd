//! The label map that shapes are drawn into.

use crate::error::{Result, error};
use crate::geometry::Size;
use crate::image::{LabelMap, MAX_PIXELS};
use crate::memory;

/// Maximum number of steps in which the shapes of an image are drawn, some ten seconds. A million
/// points of real polygons need a hundredth of it; zigzag lines in a hostile file would never end.
const MAX_STEPS: u64 = 1 << 31;

/// A label map in progress.
pub(in crate::data) struct Canvas {
    size: Size,
    labels: Vec<u16>,
    /// Steps that are left.
    steps: u64,
}

impl Canvas {
    /// Creates a map of class 0.
    ///
    /// # Errors
    /// Returns an error if the size is over the limit of images, or there is no memory for it.
    pub(in crate::data) fn new(size: Size) -> Result<Self> {
        let pixels = (size.width as u64).saturating_mul(size.height as u64);
        if pixels > MAX_PIXELS {
            return Err(error!(
                Data,
                "the image has {size} pixels, over the limit of {MAX_PIXELS}"
            ));
        }
        Ok(Self { size, labels: memory::zeros(pixels as usize)?, steps: MAX_STEPS })
    }

    pub(in crate::data) fn size(&self) -> Size {
        self.size
    }

    /// Returns width and height, signed as coordinates are.
    pub(super) fn extent(&self) -> (i64, i64) {
        (self.size.width as i64, self.size.height as i64)
    }

    /// Counts steps before they are made.
    ///
    /// # Errors
    /// Returns an error if they are too many.
    pub(super) fn spend(&mut self, steps: u64) -> Result<()> {
        let left = self.steps.checked_sub(steps);
        self.steps = left.ok_or_else(|| {
            error!(Data, "the shapes of the image are too complex to be drawn")
                .advice("simplify the polygons, or split the image")
        })?;
        Ok(())
    }

    /// Sets the pixels `left` to `right`, both included, of a row; parts outside are left out.
    pub(super) fn row(&mut self, y: i64, left: i64, right: i64, label: u16) {
        let (width, height) = self.extent();
        let (left, right) = (left.max(0), right.min(width - 1));
        if (0..height).contains(&y) && left <= right {
            // Whoever draws next finds out; memory is filled in many pixels at once.
            self.steps = self.steps.saturating_sub((right - left) as u64 / 16);
            let start = (y * width) as usize;
            self.labels[start + left as usize..=start + right as usize].fill(label);
        }
    }

    /// Sets `len` pixels down the columns from `start`, which must be inside.
    pub(super) fn run(&mut self, start: usize, len: usize, label: u16) {
        let (width, height) = (self.size.width, self.size.height);
        let (mut x, mut y) = (start / height, start % height);
        for _ in 0..len {
            self.labels[y * width + x] = label;
            y += 1;
            if y == height {
                (x, y) = (x + 1, 0);
            }
        }
    }

    /// Sets a pixel by its index along the rows.
    pub(super) fn set(&mut self, index: usize, label: u16) {
        self.labels[index] = label;
    }

    /// Returns the map.
    ///
    /// # Errors
    /// Returns an error if the image has no pixels.
    pub(super) fn finish(self) -> Result<LabelMap> {
        LabelMap::new(self.size, self.labels)
    }
}
