//! Named tensors in files, in PyTorch's order, for `infer` and `verify`.

use crate::error::{Result, error};
use crate::memory;
use crate::tensor::{Elements, Tensor};
use crate::weights::{FloatDType, WeightFile, write_safetensors};
use std::collections::BTreeMap;
use std::path::Path;

/// Reads a tensor `[N, C, H, W]` of a file; missing leading dimensions are 1.
pub(super) fn read(file: &WeightFile, name: &str) -> Result<Tensor> {
    let (dims, data) = file.read_finite(name, "inputs and references must be finite")?;
    let dims4 = match *dims.as_slice() {
        [n, c, h, w] => [n, c, h, w],
        [c, h, w] => [1, c, h, w],
        _ => {
            return Err(error!(Usage, "tensor `{name}` has dimensions {dims:?}, not [N, C, H, W]")
                .file(file.path()));
        }
    };
    let [n, c, h, w] = dims4;
    if data.is_empty() {
        return Err(error!(Usage, "tensor `{name}` is empty").file(file.path()));
    }
    Tensor::from_nchw(n, c, h, w, &data)
}

/// Returns dimensions and elements of a tensor in PyTorch's order; class numbers become floats.
///
/// # Errors
/// Returns an error if there is no memory for a copy.
pub(super) fn nchw(tensor: &Tensor) -> Result<(Vec<usize>, Vec<f32>)> {
    let s = tensor.shape();
    let data = match tensor.data() {
        Elements::F32(_) => tensor.try_to_nchw()?,
        // One channel: the order is the same.
        Elements::U32(v) => floats(v.iter().map(|&v| v as f32))?,
        Elements::U8(v) => floats(v.iter().map(|&v| f32::from(v)))?,
    };
    Ok((vec![s.n, s.c, s.h, s.w], data))
}

fn floats(numbers: impl ExactSizeIterator<Item = f32>) -> Result<Vec<f32>> {
    let mut floats = memory::with_capacity(numbers.len())?;
    floats.extend(numbers);
    Ok(floats)
}

/// Writes named tensors as safetensors.
pub(super) fn write(path: &Path, tensors: &[(String, Tensor)], dtype: FloatDType) -> Result<()> {
    let tensors: Vec<(String, Vec<usize>, Vec<f32>)> = tensors
        .iter()
        .map(|(name, tensor)| {
            let (dims, data) = nchw(tensor).map_err(|e| e.at(format!("tensor `{name}`")))?;
            Ok((name.clone(), dims, data))
        })
        .collect::<Result<_>>()?;
    write_safetensors(path, tensors, &BTreeMap::new(), dtype)
}
