//! Label maps: a class number for each pixel.

use super::alloc::with_capacity;
use super::mask_file::MaskFile;
use super::palette::ClassTable;
use crate::error::{Result, error};
use crate::geometry::Size;
use crate::tensor::{Elements, Tensor};
use std::path::Path;

/// A class number for each pixel of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelMap {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `[height, width]`.
    pub labels: Vec<u16>,
}

impl LabelMap {
    /// Creates a map from its labels, `[height, width]`.
    ///
    /// # Errors
    /// Returns an error if there are no labels or their number does not match the size.
    pub fn new(size: Size, labels: Vec<u16>) -> Result<Self> {
        let Size { width, height } = size;
        if labels.is_empty() || width.checked_mul(height) != Some(labels.len()) {
            return Err(error!(
                Usage,
                "a label map of {size} pixels does not have {} labels",
                labels.len()
            ));
        }
        Ok(Self { width, height, labels })
    }

    /// Returns the width and height.
    pub const fn size(&self) -> Size {
        Size::new(self.width, self.height)
    }

    /// Creates a map from image `n` of a tensor `[N, H, W, 1]` of class numbers (u32 or u8).
    ///
    /// # Errors
    /// Returns an error if the tensor has another shape or element type, no image `n`, or a class
    /// above 65,535.
    pub fn from_tensor(tensor: &Tensor, n: usize) -> Result<Self> {
        let shape = tensor.shape();
        if shape.c != 1 || n >= shape.n {
            return Err(error!(
                Usage,
                "tensor {shape} has no label map {n}: expected [N, H, W, 1]"
            ));
        }
        let mut labels = with_capacity(shape.h.saturating_mul(shape.w), "the labels")?;
        append_labels(&mut labels, tensor, n)?;
        Self::new(shape.size(), labels)
    }

    /// Returns the largest label.
    pub fn max(&self) -> u16 {
        self.labels.iter().copied().max().unwrap_or(0)
    }

    /// Reads a mask, whose values are classes: PNG, TIFF, BMP or GIF, detected by the content, or
    /// `.npy`. With a palette the value is the index, regardless of the colors; gray values are
    /// those stored (not scaled to 255). Numbers can have any type if they are whole; -1 becomes 255.
    ///
    /// An RGB or fully opaque RGBA image is read too if `table` maps its colors to classes.
    ///
    /// # Errors
    /// Returns an error with the file's name if the file has another format, is corrupt, has
    /// transparency, or contains a color that does not belong to a class.
    pub fn read(path: impl AsRef<Path>, table: Option<&ClassTable>) -> Result<Self> {
        MaskFile::read(path.as_ref(), table).map(|mask| mask.map)
    }

    /// Like [`LabelMap::read`]. Also returns whether the labels were looked up by color; these are
    /// classes, whatever a data set's mask values mean.
    pub(crate) fn read_by_value_or_color(
        path: &Path,
        table: Option<&ClassTable>,
    ) -> Result<(Self, bool)> {
        let mask = MaskFile::read(path, table)?;
        let is_by_color = mask.is_by_color();
        Ok((mask.map, is_by_color))
    }
}

/// Appends the class numbers of image `n` of a tensor `[N, H, W, 1]` to `labels`.
///
/// # Errors
/// As for [`LabelMap::from_tensor`].
pub(crate) fn append_labels(labels: &mut Vec<u16>, tensor: &Tensor, n: usize) -> Result<()> {
    let shape = tensor.shape();
    let range = n * shape.h * shape.w..(n + 1) * shape.h * shape.w;
    match tensor.data() {
        Elements::U8(values) => labels.extend(values[range].iter().map(|&v| u16::from(v))),
        Elements::U32(values) => {
            if let Some(v) = values[range.clone()].iter().find(|&&v| v > u32::from(u16::MAX)) {
                return Err(error!(Usage, "class {v} is above the maximum of 65535"));
            }
            labels.extend(values[range].iter().map(|&v| v as u16));
        }
        Elements::F32(_) => {
            return Err(error!(Usage, "label map tensor {shape} must be u8 or u32, not f32"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{Data, Shape};
    use proptest::prelude::*;

    #[test]
    fn label_maps_come_out_of_tensors() {
        let tensor =
            Tensor::from_data(Shape::new(2, 1, 2, 1), Data::U32(vec![1, 2, 3, 70_000])).unwrap();
        assert_eq!(
            LabelMap::from_tensor(&tensor, 0).unwrap(),
            LabelMap { width: 2, height: 1, labels: vec![1, 2] }
        );
        assert!(LabelMap::from_tensor(&tensor, 1).unwrap_err().to_string().contains("70000"));
        assert!(LabelMap::from_tensor(&tensor, 2).is_err());
        assert!(
            LabelMap::from_tensor(&Tensor::from_fn(Shape::new(1, 1, 1, 1), |_, _, _, _| 0.0), 0)
                .is_err()
        );
    }

    proptest! {
        #[test]
        fn a_mask_comes_back_as_it_was_written(w in 1usize..30, h in 1usize..30, top in 1u32..70_000, seed in 0u32..1000) {
            let top = top.min(65_536);
            let labels = (0..(w * h) as u32).map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(seed) % top) as u16).collect();
            let map = LabelMap::new(Size::new(w, h), labels).unwrap();
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("mask.png");
            map.write(&path, &ClassTable::voc()).unwrap();
            prop_assert_eq!(LabelMap::read(&path, None).unwrap(), map);
        }
    }
}
