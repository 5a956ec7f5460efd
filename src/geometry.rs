//! Sizes and distances in an image plane: named fields instead of pairs, whose order a reader would
//! have to guess.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// The size of an image, a map or a window, in pixels. Serialized as `[width, height]`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
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

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        [self.width, self.height].serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let [width, height] = Deserialize::deserialize(deserializer)?;
        Ok(Self { width, height })
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

/// Rows and columns of zeros around the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Padding {
    /// Rows above.
    pub top: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns to the left.
    pub left: usize,
    /// Columns to the right.
    pub right: usize,
}

impl Padding {
    /// Creates equal padding on all four sides.
    pub const fn all(p: usize) -> Self {
        Self { top: p, bottom: p, left: p, right: p }
    }

    /// Creates PyTorch's usual padding, `dilation * (k - 1) / 2` on every side, with which an odd
    /// kernel with stride 1 preserves the size.
    pub const fn same(kernel: usize, dilation: usize) -> Self {
        Self::all(dilation * (kernel - 1) / 2)
    }

    /// Creates TensorFlow's `SAME` padding: the output has size `ceil(size / stride)`, and an odd
    /// total puts the extra row or column at the bottom or right. `size` is the input's.
    pub fn tf_same(size: Size, kernel: usize, stride: usize, dilation: usize) -> Self {
        let split = |size: usize| {
            let needed = (size.div_ceil(stride) - 1) * stride + dilation * (kernel - 1) + 1;
            let total = needed.saturating_sub(size);
            (total / 2, total - total / 2)
        };
        let ((top, bottom), (left, right)) = (split(size.height), split(size.width));
        Self { top, bottom, left, right }
    }
}

/// `P` if all four sides are equal, `TOP/BOTTOM/LEFT/RIGHT` otherwise.
impl fmt::Display for Padding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { top, bottom, left, right } = self;
        if *self == Self::all(*top) {
            write!(f, "{top}")
        } else {
            write!(f, "{top}/{bottom}/{left}/{right}")
        }
    }
}

/// Serialization as `[rows, columns]` instead, the form of config files and recipes:
/// `#[serde(with = "rows_first")]`.
pub(crate) mod rows_first {
    use super::{Size, Spacing};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) trait RowsFirst: Copy {
        fn to_rows_first(self) -> [usize; 2];
        fn from_rows_first(pair: [usize; 2]) -> Self;
    }

    impl RowsFirst for Size {
        fn to_rows_first(self) -> [usize; 2] {
            [self.height, self.width]
        }
        fn from_rows_first([height, width]: [usize; 2]) -> Self {
            Self { width, height }
        }
    }

    impl RowsFirst for Spacing {
        fn to_rows_first(self) -> [usize; 2] {
            [self.y, self.x]
        }
        fn from_rows_first([y, x]: [usize; 2]) -> Self {
            Self { x, y }
        }
    }

    pub(crate) fn serialize<T: RowsFirst, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.to_rows_first().serialize(serializer)
    }

    pub(crate) fn deserialize<'de, T: RowsFirst, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        Ok(T::from_rows_first(<[usize; 2]>::deserialize(deserializer)?))
    }
}
