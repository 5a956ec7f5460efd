//! Common parts of the writers: checking tensors, and replacing a file atomically.

use super::dtype::{FloatDType, StoredDType};
use crate::error::{Result, error};
use crate::files::durable_write;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Last component of the name of PyTorch's counters of batches, which are 64-bit integers in every
/// file.
pub(super) const COUNTER: &str = "num_batches_tracked";

/// A tensor to be written.
pub(super) struct Outgoing<D, V> {
    pub name: String,
    pub dims: D,
    pub data: V,
    pub dtype: StoredDType,
}

/// Collects tensors and checks them: names are unique, the number of elements matches the
/// dimensions, every value is finite in `dtype`.
pub(super) fn collect<N: Into<String>, D: AsRef<[usize]>, V: AsRef<[f32]>>(
    tensors: impl IntoIterator<Item = (N, D, V)>,
    dtype: FloatDType,
) -> Result<Vec<Outgoing<D, V>>> {
    let mut names = HashSet::new();
    let mut out = Vec::new();
    for (name, dims, data) in tensors {
        let name = name.into();
        check(dims.as_ref(), data.as_ref(), dtype).map_err(|e| e.at(format!("tensor `{name}`")))?;
        if !names.insert(name.clone()) {
            return Err(error!(Usage, "duplicate tensor name `{name}`"));
        }
        let is_counter = name.rsplit('.').next() == Some(COUNTER) && dims.as_ref().is_empty();
        let dtype = if is_counter { StoredDType::I64 } else { dtype.into() };
        out.push(Outgoing { name, dims, data, dtype });
    }
    if out.is_empty() {
        return Err(error!(Usage, "no tensors to write"));
    }
    Ok(out)
}

fn check(dims: &[usize], data: &[f32], dtype: FloatDType) -> Result<()> {
    let len = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    if len != Some(data.len()) {
        return Err(error!(Usage, "dimensions {dims:?} do not match {} elements", data.len()));
    }
    match data.iter().position(|v| !dtype.can_represent(*v)) {
        None => Ok(()),
        Some(i) if data[i].is_finite() => {
            Err(error!(Weights, "element {i} is {}, outside the range of {dtype:?}", data[i])
                .advice("write F32"))
        }
        Some(i) => {
            Err(error!(Weights, "element {i} is {}", data[i]).advice("the training diverged"))
        }
    }
}

/// Encodes and writes the elements of a tensor in chunks; those of a counter as integers.
pub(super) fn write_elements<D, V: AsRef<[f32]>>(
    to: &mut impl Write,
    tensor: &Outgoing<D, V>,
    dtype: FloatDType,
) -> io::Result<()> {
    let mut buffer = Vec::new();
    for chunk in tensor.data.as_ref().chunks(16 << 10) {
        buffer.clear();
        if tensor.dtype == StoredDType::I64 {
            buffer.extend(chunk.iter().flat_map(|&count| (count as i64).to_le_bytes()));
        } else {
            dtype.encode(chunk, &mut buffer);
        }
        to.write_all(&buffer)?;
    }
    Ok(())
}

/// Writes a file atomically: its content is complete and synced to disk before it gets its name. If
/// `path` is a symbolic link, its target is replaced.
pub(super) fn replace(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> Result<()> {
    durable_write(path, write)
}
