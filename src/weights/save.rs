//! What both writers share: checking tensors, and replacing a file in one step.

use super::dtype::FloatDType;
use crate::error::{Result, error};
use crate::files::durable_write;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// A tensor that is about to be written.
pub(super) struct Outgoing<D, V> {
    pub name: String,
    pub dims: D,
    pub data: V,
}

/// Collects and checks tensors: names differ, elements fill the dimensions, every value survives
/// `dtype`.
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
            return Err(error!(Usage, "two tensors are named `{name}`"));
        }
        out.push(Outgoing { name, dims, data });
    }
    if out.is_empty() {
        return Err(error!(Usage, "there are no tensors to write"));
    }
    Ok(out)
}

fn check(dims: &[usize], data: &[f32], dtype: FloatDType) -> Result<()> {
    let len = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    if len != Some(data.len()) {
        return Err(error!(Usage, "{dims:?} does not hold {} elements", data.len()));
    }
    match data.iter().position(|v| !dtype.holds(*v)) {
        None => Ok(()),
        Some(at) if data[at].is_finite() => {
            Err(error!(Weights, "element {at}, {}, is past the range of {dtype:?}", data[at])
                .advice("write F32"))
        }
        Some(at) => {
            Err(error!(Weights, "element {at} is {}", data[at]).advice("the training has diverged"))
        }
    }
}

/// Elements of `data` in the file's form, piece by piece.
pub(super) fn write_elements(
    to: &mut impl Write,
    data: &[f32],
    dtype: FloatDType,
) -> io::Result<()> {
    let mut buffer = Vec::new();
    for piece in data.chunks(16 << 10) {
        buffer.clear();
        dtype.encode(piece, &mut buffer);
        to.write_all(&buffer)?;
    }
    Ok(())
}

/// Writes weights: whole or not at all, and on the disk before the file takes its name. A symbolic
/// link stays one; its target is replaced.
pub(super) fn replace(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> Result<()> {
    durable_write(path, write)
}
