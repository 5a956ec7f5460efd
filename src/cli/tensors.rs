//! Named tensors in files, in PyTorch's order, for `infer` and `verify`.

use crate::error::{Result, error};
use crate::tensor::{Elements, Tensor};
use crate::weights::{FloatDType, WeightFile, write_safetensors};
use std::collections::BTreeMap;
use std::path::Path;

/// A tensor `[N, C, H, W]` of a file; fewer dimensions are filled up with ones in front.
pub(super) fn read(file: &WeightFile, name: &str) -> Result<Tensor> {
    let (dims, data) = file.read_finite(name, "inputs and references must be finite")?;
    let dims4 = match *dims.as_slice() {
        [n, c, h, w] => [n, c, h, w],
        [c, h, w] => [1, c, h, w],
        _ => {
            return Err(error!(Usage, "tensor `{name}` has dimensions {dims:?}, not [N, C, H, W]").file(file.path()));
        }
    };
    let [n, c, h, w] = dims4;
    if data.is_empty() {
        return Err(error!(Usage, "tensor `{name}` is empty").file(file.path()));
    }
    Tensor::from_nchw(n, c, h, w, &data)
}

/// Dimensions and elements of a tensor in PyTorch's order; class numbers become floats.
pub(super) fn nchw(tensor: &Tensor) -> (Vec<usize>, Vec<f32>) {
    let s = tensor.shape();
    let data = match tensor.data() {
        Elements::F32(_) => tensor.to_nchw(),
        // One channel: the order is the same.
        Elements::U32(v) => v.iter().map(|&v| v as f32).collect(),
        Elements::U8(v) => v.iter().map(|&v| f32::from(v)).collect(),
    };
    (vec![s.n, s.c, s.h, s.w], data)
}

/// Writes named tensors as safetensors.
pub(super) fn write(path: &Path, tensors: &[(String, Tensor)], dtype: FloatDType) -> Result<()> {
    let tensors: Vec<(String, Vec<usize>, Vec<f32>)> = tensors
        .iter()
        .map(|(name, tensor)| {
            let (dims, data) = nchw(tensor);
            (name.clone(), dims, data)
        })
        .collect();
    write_safetensors(path, tensors, &BTreeMap::new(), dtype)
}
