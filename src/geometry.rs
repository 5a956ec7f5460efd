//! Sizes and distances in an image plane: named fields instead of pairs, whose order a reader would
//! have to guess.

use std::fmt;

/// The size of an image, a map or a window, in pixels.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Size {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl Size {
    /// Creates a size of `width` columns and `height` rows.
    pub const fn new(width: usize, height: usize) -> Self {
        Self { width, height }
    }

    /// Creates a size of `side` columns and as many rows.
    pub const fn square(side: usize) -> Self {
        Self::new(side, side)
    }

    /// Returns the number of pixels. Saturates instead of overflowing, so that an absurd size
    /// compares as too large.
    pub const fn pixels(self) -> usize {
        self.width.saturating_mul(self.height)
    }

    /// Returns whether there are no pixels.
    pub const fn is_empty(self) -> bool {
        self.width == 0 || self.height == 0
    }

    /// Returns the size with columns and rows exchanged.
    pub const fn transposed(self) -> Self {
        Self::new(self.height, self.width)
    }

    /// Applies `f` to both sides.
    #[must_use]
    pub fn map(self, mut f: impl FnMut(usize) -> usize) -> Self {
        Self::new(f(self.width), f(self.height))
    }

    /// Applies `f` to the widths and to the heights of both sizes.
    #[must_use]
    pub fn zip(self, other: Self, mut f: impl FnMut(usize, usize) -> usize) -> Self {
        Self::new(f(self.width, other.width), f(self.height, other.height))
    }

    /// Returns whether this size is at most `other` in both directions.
    pub const fn fits_into(self, other: Self) -> bool {
        self.width <= other.width && self.height <= other.height
    }
}

/// `WIDTHxHEIGHT`, as image tools print it.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// A pixel, counted from the top left corner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Position {
    /// Column.
    pub x: usize,
    /// Row.
    pub y: usize,
}

impl Position {
    /// Creates a position from a column and a row.
    pub const fn new(x: usize, y: usize) -> Self {
        Self { x, y }
    }
}

/// Distances between the windows (stride) or between the taps (dilation) of a convolution or
/// pooling operation, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Spacing {
    /// Between columns.
    pub x: usize,
    /// Between rows.
    pub y: usize,
}

impl Spacing {
    /// One pixel in both directions.
    pub const ONE: Self = Self::square(1);

    /// Creates the same distance in both directions.
    pub const fn square(distance: usize) -> Self {
        Self { x: distance, y: distance }
    }
}

impl Default for Spacing {
    fn default() -> Self {
        Self::ONE
    }
}

/// One number if both distances are equal, `YxX` (rows first, like a kernel) otherwise.
impl fmt::Display for Spacing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.x == self.y { write!(f, "{}", self.x) } else { write!(f, "{}x{}", self.y, self.x) }
    }
}
