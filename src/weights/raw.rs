//! Descriptions of tensors, checked against their storage.

use super::dtype::StoredDType;
use super::format_bytes;
use super::layer::LayerAttributes;
use super::source::Source;
use crate::error::{Error, ErrorKind, Result, error};
use std::collections::BTreeMap;
use std::sync::Arc;
use zip::read::OwnedZipFileEntry;

/// Maximum number of axes of a tensor. Networks of this kind have up to four.
const MAX_RANK: usize = 16;
/// Maximum length of a tensor name in bytes.
const MAX_NAME: usize = 1024;

/// Description of a tensor of a [`WeightFile`](super::WeightFile), without its elements.
#[derive(Debug, Clone)]
pub struct RawTensor {
    pub(super) name: String,
    pub(super) dtype: StoredDType,
    pub(super) dims: Vec<usize>,
    /// Index into [`Contents::storages`].
    pub(super) storage: usize,
    /// Offset in the storage, in bytes.
    pub(super) offset: u64,
    /// Strides in elements. `None` if the elements are contiguous in row-major order.
    pub(super) strides: Option<Vec<usize>>,
    /// Number of elements from the first to the last used one, inclusive.
    pub(super) span: usize,
    pub(super) len: usize,
    /// How integers represent real numbers. `None` if the elements are the values.
    pub(super) quantization: Option<Arc<Quantization>>,
    /// The value of all elements, if they are not in the file.
    pub(super) fill: Option<f32>,
}

impl RawTensor {
    /// Creates a description, checked against its storage of `available` bytes.
    pub(super) fn new(
        name: String,
        dtype: StoredDType,
        dims: Vec<usize>,
        strides: Option<Vec<usize>>,
        (storage, offset, available): (usize, u64, u64),
    ) -> Result<Self> {
        if name.len() > MAX_NAME {
            return Err(error!(
                Weights,
                "a tensor name has {}, at most {} are supported",
                format_bytes(name.len() as u64),
                format_bytes(MAX_NAME as u64)
            ));
        }
        let at = |e: Error| e.at(format!("tensor `{name}`"));
        if dims.len() > MAX_RANK {
            return Err(at(error!(
                Weights,
                "{} axes, at most {MAX_RANK} are supported",
                dims.len()
            )));
        }
        if let Some(strides) = strides.as_ref().filter(|strides| strides.len() != dims.len()) {
            return Err(at(error!(Weights, "{} axes but {} strides", dims.len(), strides.len())));
        }
        let strides = strides.filter(|strides| !is_contiguous(&dims, strides));
        let Some((len, span, end)) = sizes(dtype, &dims, strides.as_deref(), offset) else {
            return Err(at(error!(
                Weights,
                "dimensions {dims:?}, strides or offset exceed the address space"
            )));
        };
        if end > available {
            return Err(at(error!(
                Weights,
                "{dims:?} of {dtype} ends at byte {end} of a storage of {}",
                format_bytes(available)
            )));
        }
        Ok(Self {
            name,
            dtype,
            dims,
            storage,
            offset,
            strides,
            span,
            len,
            quantization: None,
            fill: None,
        })
    }

    /// Returns the name in the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the element type in the file.
    pub fn dtype(&self) -> StoredDType {
        self.dtype
    }

    /// Returns whether the elements can be read as f32.
    pub(super) fn is_real(&self) -> bool {
        self.dtype.is_float() || self.quantization.is_some()
    }

    /// Returns the dimensions in the file's axis order; `[c_out, c_in / groups, kh, kw]` for a
    /// convolution kernel of PyTorch. Empty for a scalar.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Returns the number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Converts the position of an element in row-major order to its index along each axis.
    pub(super) fn index(&self, mut position: usize) -> Vec<usize> {
        let mut index = vec![0; self.dims.len()];
        for (i, &d) in index.iter_mut().zip(&self.dims).rev() {
            (*i, position) = (position % d, position / d);
        }
        index
    }
}

/// Returns the number of elements, the number from the first to the last used one, and the end in
/// bytes. `None` if one of them overflows, also for elements converted to f32.
fn sizes(
    dtype: StoredDType,
    dims: &[usize],
    strides: Option<&[usize]>,
    offset: u64,
) -> Option<(usize, usize, u64)> {
    let len = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
    let span = match strides {
        Some(strides) if len > 0 => dims
            .iter()
            .zip(strides)
            .try_fold(1usize, |span, (&d, &s)| span.checked_add((d - 1).checked_mul(s)?))?,
        _ => len,
    };
    let end = (span as u64).checked_mul(dtype.size() as u64)?.checked_add(offset)?;
    len.max(span).checked_mul(dtype.size().max(4)).map(|_| (len, span, end))
}

/// Returns whether elements are contiguous in row-major order. Strides of axes of size one are
/// irrelevant.
fn is_contiguous(dims: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1usize;
    dims.iter().zip(strides).rev().all(|(&d, &s)| {
        let contiguous = d == 1 || s == expected;
        expected = expected.saturating_mul(d);
        contiguous
    })
}

/// Affine quantization: an integer `q` represents `(q - zero_point) * scale`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Quantization {
    /// Scales, one for the whole tensor or one per position along [`Quantization::axis`].
    pub scales: Vec<f32>,
    /// Zero points, as many as scales.
    pub zero_points: Vec<i64>,
    /// Axis of the dimensions.
    pub axis: usize,
}

impl Quantization {
    /// Returns the same numbers along another axis.
    #[cfg(feature = "tensorflow")]
    pub fn along(&self, axis: usize) -> Arc<Self> {
        Arc::new(Self { axis, ..self.clone() })
    }

    /// Converts integers in row-major order to the numbers that they represent.
    ///
    /// # Errors
    /// Returns an error if the number of scales does not match the dimensions.
    pub fn apply(&self, values: &mut [f32], dims: &[usize]) -> Result<()> {
        let Self { scales, zero_points, axis } = self;
        let extent = if scales.len() == 1 { 1 } else { dims.get(*axis).copied().unwrap_or(0) };
        if scales.len() != extent || zero_points.len() != extent || extent == 0 {
            return Err(error!(
                Weights,
                "{} scales and {} zero points for the dimensions {dims:?}",
                scales.len(),
                zero_points.len()
            ));
        }
        let inner: usize = dims.iter().skip(axis + 1).product();
        for (i, value) in values.iter_mut().enumerate() {
            let channel = if extent == 1 { 0 } else { i / inner % extent };
            let difference = f64::from(*value) - zero_points[channel] as f64;
            *value = (difference * f64::from(scales[channel])) as f32;
        }
        Ok(())
    }
}

/// A contiguous range of bytes that contains tensors.
#[derive(Debug)]
pub(super) struct Storage {
    pub location: Location,
    /// Size in bytes, after decompression.
    pub len: u64,
    /// Data file that it is in, if not in the weight file itself.
    pub shard: Option<Shard>,
}

/// A range of bytes in a data file of a TensorFlow checkpoint.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shard {
    /// Index into [`Contents::shards`].
    #[cfg_attr(
        not(feature = "tensorflow"),
        expect(dead_code, reason = "only read with the feature")
    )]
    pub index: usize,
    /// CRC-32C of the bytes.
    #[cfg_attr(
        not(feature = "tensorflow"),
        expect(dead_code, reason = "only read with the feature")
    )]
    pub checksum: u32,
}

/// Location of a [`Storage`].
#[derive(Debug)]
pub(super) enum Location {
    /// Uncompressed, at this byte offset.
    Plain(u64),
    /// A deflated entry of a zip archive.
    Deflated(Box<OwnedZipFileEntry>),
}

/// An entry of a state dict that is not a readable tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// Name in the file.
    pub name: String,
    /// Kind of the value, with its article: `a quantized tensor`.
    pub kind: String,
}

/// Contents of a file's header, independent of the format.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub tensors: Vec<RawTensor>,
    pub storages: Vec<Storage>,
    pub metadata: BTreeMap<String, String>,
    pub ignored: Vec<Ignored>,
    /// What was assumed or chosen in reading the file, for people.
    pub notes: Vec<String>,
    /// The files of [`Storage::shard`].
    pub shards: Vec<Source>,
    /// Pickled modules, by their paths.
    pub layers: BTreeMap<String, LayerAttributes>,
}

/// Allocates a vector with capacity for `len` elements. Returns an error instead of aborting.
pub(super) fn reserve(len: usize) -> Result<Vec<f32>> {
    let mut values = Vec::new();
    match values.try_reserve_exact(len) {
        Ok(()) => Ok(values),
        Err(e) => {
            let message = format!("could not allocate {}", format_bytes(4 * len as u64));
            Err(Error::new(ErrorKind::OutOfMemory, message).source(e))
        }
    }
}

/// Gathers the `len` elements of a strided tensor from its storage, in row-major order.
pub(super) fn gather(
    values: &[f32],
    dims: &[usize],
    strides: &[usize],
    len: usize,
) -> Result<Vec<f32>> {
    let mut out = reserve(len)?;
    let mut index = vec![0; dims.len()];
    let mut at = 0;
    while out.len() < len {
        out.push(values[at]);
        for axis in (0..dims.len()).rev() {
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < dims[axis] {
                break;
            }
            at -= dims[axis] * strides[axis];
            index[axis] = 0;
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(dims: &[usize], strides: &[usize], offset: u64, available: u64) -> Result<RawTensor> {
        RawTensor::new(
            "w".into(),
            StoredDType::F32,
            dims.into(),
            Some(strides.into()),
            (0, offset, available),
        )
    }

    #[test]
    fn strides_in_row_major_order_count_as_contiguous() {
        assert!(tensor(&[2, 3], &[3, 1], 0, 24).unwrap().strides.is_none());
        assert!(tensor(&[2, 1, 3], &[3, 99, 1], 0, 24).unwrap().strides.is_none());
        assert!(tensor(&[3, 2], &[1, 3], 0, 24).unwrap().strides.is_some());
    }

    #[test]
    fn a_tensor_must_end_inside_its_storage() {
        assert!(tensor(&[3, 2], &[1, 3], 0, 24).is_ok());
        assert!(tensor(&[3, 2], &[1, 3], 4, 24).is_err());
        assert!(tensor(&[3, 2], &[1, 4], 0, 24).is_err());
        assert!(tensor(&[0, 2], &[9, 9], 24, 24).is_ok());
        let error = tensor(&[usize::MAX, 2], &[0, 0], 0, 24).unwrap_err().to_string();
        assert!(error.contains("exceed the address space"), "{error}");
        assert!(tensor(&[2, 2], &[usize::MAX, 1], 0, 24).is_err());
    }

    #[test]
    fn gathering_follows_the_strides() {
        let values = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        assert_eq!(gather(&values, &[3, 2], &[1, 3], 6).unwrap(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert_eq!(gather(&values, &[2, 2], &[0, 5], 4).unwrap(), [0.0, 5.0, 0.0, 5.0]);
        assert_eq!(gather(&values, &[], &[], 1).unwrap(), [0.0]);
    }

    #[test]
    fn positions_become_indices() {
        let t = tensor(&[2, 3, 4], &[12, 4, 1], 0, 96).unwrap();
        assert_eq!(t.index(23), [1, 2, 3]);
        assert_eq!(t.index(5), [0, 1, 1]);
    }
}
