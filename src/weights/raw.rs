//! Descriptions of tensors, checked against the storage that they lie in.

use super::dtype::StoredDType;
use super::human;
use crate::error::{Error, ErrorKind, Result, error};
use std::collections::BTreeMap;
use zip::read::OwnedZipFileEntry;

/// Axes of a tensor. Networks of this kind have up to four.
const MAX_RANK: usize = 16;
/// Bytes of a tensor's name.
const MAX_NAME: usize = 1024;

/// A tensor of a [`WeightFile`](super::WeightFile): its description. The elements are still in the
/// file.
#[derive(Debug, Clone)]
pub struct RawTensor {
    pub(super) name: String,
    pub(super) dtype: StoredDType,
    pub(super) dims: Vec<usize>,
    /// Which of [`Contents::storages`].
    pub(super) storage: usize,
    /// Bytes from the storage's start.
    pub(super) offset: u64,
    /// Elements from one index to the next, for each axis; `None` where the elements lie in order.
    pub(super) strides: Option<Vec<usize>>,
    /// Elements between the first and the last that are used, both included.
    pub(super) span: usize,
    pub(super) len: usize,
}

impl RawTensor {
    /// Checks a tensor against the storage that it lies in, `available` bytes long. The error has
    /// no address yet.
    pub(super) fn new(
        name: String,
        dtype: StoredDType,
        dims: Vec<usize>,
        strides: Option<Vec<usize>>,
        (storage, offset, available): (usize, u64, u64),
    ) -> Result<Self> {
        if name.len() > MAX_NAME {
            return Err(error!(Weights, "a tensor's name takes {}", human(name.len() as u64)));
        }
        let at = |e: Error| e.at(format!("tensor `{name}`"));
        if dims.len() > MAX_RANK {
            return Err(at(error!(Weights, "{} axes, up to {MAX_RANK} are read", dims.len())));
        }
        if let Some(strides) = strides.as_ref().filter(|strides| strides.len() != dims.len()) {
            return Err(at(error!(Weights, "{} axes have {} strides", dims.len(), strides.len())));
        }
        let strides = strides.filter(|strides| !is_contiguous(&dims, strides));
        let extent = || {
            let len = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
            let span = match &strides {
                Some(strides) if len > 0 => dims
                    .iter()
                    .zip(strides)
                    .try_fold(1usize, |span, (&d, &s)| span.checked_add((d - 1).checked_mul(s)?))?,
                _ => len,
            };
            let end = (span as u64).checked_mul(dtype.size() as u64)?.checked_add(offset)?;
            // Both lengths in memory, as the file's elements and as f32, must be numbers that
            // memory has.
            len.max(span).checked_mul(dtype.size().max(4)).map(|_| (len, span, end))
        };
        let Some((len, span, end)) = extent() else {
            return Err(at(error!(
                Weights,
                "dimensions {dims:?}, their strides or the offset are past any memory"
            )));
        };
        if end > available {
            let has = human(available);
            return Err(at(error!(
                Weights,
                "{dims:?} of {dtype} reaches byte {end} of a storage of {has}"
            )));
        }
        Ok(Self { name, dtype, dims, storage, offset, strides, span, len })
    }

    /// The file's name for it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Element type in the file.
    pub fn dtype(&self) -> StoredDType {
        self.dtype
    }

    /// Extent in the file's order, for a convolution's kernel `[c_out, c_in / groups, kh, kw]` with
    /// PyTorch's names. Empty for a single number.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The index of an element, from its place in row-major order.
    pub(super) fn index(&self, mut place: usize) -> Vec<usize> {
        let mut index = vec![0; self.dims.len()];
        for (i, &d) in index.iter_mut().zip(&self.dims).rev() {
            (*i, place) = (place % d, place / d);
        }
        index
    }
}

/// Whether elements lie in row-major order. The stride of an axis of one does not matter.
fn is_contiguous(dims: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1usize;
    dims.iter().zip(strides).rev().all(|(&d, &s)| {
        let fits = d == 1 || s == expected;
        expected = expected.saturating_mul(d);
        fits
    })
}

/// A run of bytes that tensors lie in.
#[derive(Debug)]
pub(super) struct Storage {
    pub place: Place,
    /// Bytes, once inflated.
    pub len: u64,
}

/// Where a [`Storage`] is.
#[derive(Debug)]
pub(super) enum Place {
    /// As it is, from this byte of the file on.
    Plain(u64),
    /// A deflated entry of a zip archive.
    Deflated(Box<OwnedZipFileEntry>),
}

/// Something in a state dict that is not a tensor that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// The file's name for it.
    pub name: String,
    /// What it is instead.
    pub what: String,
}

/// What a reader of one format finds in a file.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub tensors: Vec<RawTensor>,
    pub storages: Vec<Storage>,
    pub metadata: BTreeMap<String, String>,
    pub ignored: Vec<Ignored>,
}

/// Room for `len` elements, or an error instead of an abort.
pub(super) fn reserve(len: usize) -> Result<Vec<f32>> {
    let mut values = Vec::new();
    match values.try_reserve_exact(len) {
        Ok(()) => Ok(values),
        Err(e) => {
            let what = format!("no memory for {}", human(4 * len as u64));
            Err(Error::new(ErrorKind::OutOfMemory, what).source(e))
        }
    }
}

/// Picks `len` elements of `dims` out of a storage by their strides, in row-major order.
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
        assert!(error.contains("past any memory"), "{error}");
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
    fn places_become_indices() {
        let t = tensor(&[2, 3, 4], &[12, 4, 1], 0, 96).unwrap();
        assert_eq!(t.index(23), [1, 2, 3]);
        assert_eq!(t.index(5), [0, 1, 1]);
    }
}
