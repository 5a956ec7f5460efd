//! Writing `.pth` files that `torch.load(..., weights_only=True)` reads.

use super::super::dtype::FloatDType;
use super::super::save;
use crate::error::{Result, error};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

/// PyTorch's alignment of storages in the archive.
const ALIGNMENT: u16 = 64;

/// A dict around the state dict, as training scripts write one.
#[derive(Debug, Clone, Copy)]
pub struct Wrap<'a> {
    /// The key under which the state dict stands: `state_dict`, `model_state`, ...
    pub key: &'a str,
    /// Strings beside it.
    pub metadata: &'a BTreeMap<String, String>,
}

/// Writes tensors, each a name, its dimensions and its elements in row-major order, as a zip
/// `.pth`: an ordered dict of tensors, at the top or inside of `wrap`.
///
/// The file appears under `path` once it is complete. The same arguments give the same bytes.
///
/// # Errors
/// Where two names are the same, elements do not fill the dimensions, a value is NaN, infinite or
/// past the range of `dtype`, or the file cannot be written.
pub fn write_pth<N: Into<String>, D: AsRef<[usize]>, V: AsRef<[f32]>>(
    path: impl AsRef<Path>,
    tensors: impl IntoIterator<Item = (N, D, V)>,
    wrap: Option<Wrap<'_>>,
    dtype: FloatDType,
) -> Result<()> {
    let path = path.as_ref();
    let tensors = save::collect(tensors, dtype).map_err(|e| e.file(path))?;
    if let Some(wrap) = wrap.filter(|wrap| wrap.metadata.contains_key(wrap.key)) {
        return Err(
            error!(Usage, "the metadata has a key `{}`, where the tensors go", wrap.key).file(path)
        );
    }
    let described =
        tensors.iter().map(|t| (t.name.as_str(), t.dims.as_ref(), t.data.as_ref().len()));
    let pickle = pickle(described, wrap, dtype);
    // A fixed time: the same weights give the same file.
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default())
        .with_alignment(ALIGNMENT);
    save::replace(path, |to| {
        let mut zip = ZipWriter::new(to);
        for (name, content) in
            [("data.pkl", &pickle[..]), ("byteorder", b"little"), ("version", b"3\n")]
        {
            zip.start_file(format!("archive/{name}"), options)?;
            zip.write_all(content)?;
        }
        for (key, t) in tensors.iter().enumerate() {
            let data = t.data.as_ref();
            let large = data.len() as u64 * 4 >= u64::from(u32::MAX);
            zip.start_file(format!("archive/data/{key}"), options.large_file(large))?;
            save::write_elements(&mut zip, data, dtype)?;
        }
        zip.finish().map(drop).map_err(io::Error::from)
    })
}

/// A pickle of protocol 2 that builds the state dict. Nothing is put into the memo: names of
/// classes repeat.
fn pickle<'a>(
    tensors: impl Iterator<Item = (&'a str, &'a [usize], usize)>,
    wrap: Option<Wrap<'_>>,
    dtype: FloatDType,
) -> Vec<u8> {
    let mut out = b"\x80\x02".to_vec();
    if let Some(wrap) = wrap {
        out.extend(b"}(");
        for (key, value) in wrap.metadata {
            string(&mut out, key);
            string(&mut out, value);
        }
        string(&mut out, wrap.key);
    }
    out.extend(b"ccollections\nOrderedDict\n)R(");
    for (key, (name, dims, len)) in tensors.enumerate() {
        string(&mut out, name);
        tensor(&mut out, &key.to_string(), dims, len, dtype);
    }
    out.extend(if wrap.is_some() { &b"uu."[..] } else { b"u." });
    out
}

/// `_rebuild_tensor_v2(storage, 0, dims, strides, False, OrderedDict())`
fn tensor(out: &mut Vec<u8>, key: &str, dims: &[usize], len: usize, dtype: FloatDType) {
    out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
    string(out, "storage");
    out.extend(match dtype {
        FloatDType::F32 => &b"ctorch\nFloatStorage\n"[..],
        FloatDType::F16 => b"ctorch\nHalfStorage\n",
        FloatDType::BF16 => b"ctorch\nBFloat16Storage\n",
    });
    string(out, key);
    string(out, "cpu");
    number(out, len);
    out.extend(b"tQ");
    number(out, 0);
    let mut strides = vec![1; dims.len()];
    for axis in (1..dims.len()).rev() {
        // An axis of zero counts as one, as in PyTorch.
        strides[axis - 1] = strides[axis] * dims[axis].max(1);
    }
    for numbers in [dims, &strides] {
        out.push(b'(');
        numbers.iter().for_each(|&n| number(out, n));
        out.push(b't');
    }
    out.extend(b"\x89ccollections\nOrderedDict\n)RtR");
}

/// `BINUNICODE`
fn string(out: &mut Vec<u8>, text: &str) {
    // Names are short, and metadata is text for people: neither comes near 4 GiB.
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

/// `BININT` where it fits, else `LONG1`.
fn number(out: &mut Vec<u8>, n: usize) {
    match i32::try_from(n) {
        Ok(n) => {
            out.push(b'J');
            out.extend(n.to_le_bytes());
        }
        Err(_) => {
            out.extend([0x8a, 9]);
            out.extend((n as u64).to_le_bytes());
            out.push(0);
        }
    }
}
