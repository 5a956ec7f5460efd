//! Writing `.pth` files that `torch.load(..., weights_only=True)` reads.

use super::super::dtype::{FloatDType, StoredDType};
use super::super::save;
use crate::error::{Result, error};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

/// Alignment of storages in the archive in bytes, as in PyTorch.
const ALIGNMENT: u16 = 64;

/// A checkpoint dict around the state dict, as training scripts write it.
#[derive(Debug, Clone, Copy)]
pub struct CheckpointDict<'a> {
    /// Key of the state dict: `state_dict`, `model_state`, ...
    pub key: &'a str,
    /// String entries next to the state dict.
    pub metadata: &'a BTreeMap<String, String>,
}

/// Writes tensors as a zip `.pth`: an ordered dict of tensors, at the top level or in a checkpoint
/// dict. Each tensor is its name, its dimensions, and its elements in row-major order.
///
/// The file appears at `path` once it is complete. The same arguments produce the same bytes.
///
/// # Errors
/// Returns an error if two names are equal, if the number of elements does not match the
/// dimensions, if a value is NaN, infinite or outside the range of `dtype`, if the metadata
/// contains the key of the state dict, or if the file cannot be written.
pub fn write_pth<N: Into<String>, D: AsRef<[usize]>, V: AsRef<[f32]>>(
    path: impl AsRef<Path>,
    tensors: impl IntoIterator<Item = (N, D, V)>,
    checkpoint: Option<CheckpointDict<'_>>,
    dtype: FloatDType,
) -> Result<()> {
    let path = path.as_ref();
    let tensors = save::collect(tensors, dtype).map_err(|e| e.file(path))?;
    if let Some(checkpoint) = checkpoint.filter(|dict| dict.metadata.contains_key(dict.key)) {
        return Err(error!(
            Usage,
            "the metadata contains `{}`, the key of the state dict", checkpoint.key
        )
        .file(path));
    }
    let descriptions =
        tensors.iter().map(|t| (t.name.as_str(), t.dims.as_ref(), t.data.as_ref().len(), t.dtype));
    let pickle = pickle(descriptions, checkpoint);
    // A fixed time, so that the same weights produce the same file.
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default())
        .with_alignment(ALIGNMENT);
    save::replace(path, |to| {
        let mut to = FirstError { to, position: 0, error: None };
        let mut zip = ZipWriter::new(&mut to);
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
            save::write_elements(&mut zip, t, dtype)?;
        }
        zip.finish().map_err(io::Error::from)?;
        to.error.map_or(Ok(()), Err)
    })
}

/// A file that remembers its first error and reports success from then on, at plausible positions:
/// a [`ZipWriter`] that is dropped after an error tries again and prints to standard error.
struct FirstError<'a, 'f> {
    to: &'a mut BufWriter<&'f File>,
    position: u64,
    error: Option<io::Error>,
}

impl Write for FirstError<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = bytes.len();
        if self.error.is_none() {
            match self.to.write(bytes) {
                Ok(count) => written = count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => return Err(e),
                Err(e) => self.error = Some(e),
            }
        }
        self.position += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.error.is_none() {
            self.error = self.to.flush().err();
        }
        Ok(())
    }
}

impl Seek for FirstError<'_, '_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        if self.error.is_none() {
            match self.to.seek(to) {
                Ok(position) => {
                    self.position = position;
                    return Ok(position);
                }
                Err(e) => self.error = Some(e),
            }
        }
        self.position = match to {
            SeekFrom::Start(position) => position,
            SeekFrom::Current(distance) | SeekFrom::End(distance) => {
                self.position.saturating_add_signed(distance)
            }
        };
        Ok(self.position)
    }
}

/// Returns a pickle (protocol 2) that builds the state dict. It does not use the memo: class names
/// repeat.
fn pickle<'a>(
    tensors: impl Iterator<Item = (&'a str, &'a [usize], usize, StoredDType)>,
    checkpoint: Option<CheckpointDict<'_>>,
) -> Vec<u8> {
    let mut out = b"\x80\x02".to_vec();
    if let Some(checkpoint) = checkpoint {
        out.extend(b"}(");
        for (key, value) in checkpoint.metadata {
            string(&mut out, key);
            string(&mut out, value);
        }
        string(&mut out, checkpoint.key);
    }
    out.extend(b"ccollections\nOrderedDict\n)R(");
    for (key, (name, dims, len, dtype)) in tensors.enumerate() {
        string(&mut out, name);
        tensor(&mut out, &key.to_string(), dims, len, dtype);
    }
    out.extend(if checkpoint.is_some() { &b"uu."[..] } else { b"u." });
    out
}

/// Appends `_rebuild_tensor_v2(storage, 0, dims, strides, False, OrderedDict())`.
fn tensor(out: &mut Vec<u8>, key: &str, dims: &[usize], len: usize, dtype: StoredDType) {
    out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
    string(out, "storage");
    out.extend(match dtype {
        StoredDType::I64 => &b"ctorch\nLongStorage\n"[..],
        StoredDType::F16 => b"ctorch\nHalfStorage\n",
        StoredDType::BF16 => b"ctorch\nBFloat16Storage\n",
        _ => b"ctorch\nFloatStorage\n",
    });
    string(out, key);
    string(out, "cpu");
    number(out, len);
    out.extend(b"tQ");
    number(out, 0);
    let mut strides = vec![1; dims.len()];
    for axis in (1..dims.len()).rev() {
        // An axis of size zero counts as one, as in PyTorch.
        strides[axis - 1] = strides[axis] * dims[axis].max(1);
    }
    for numbers in [dims, &strides] {
        out.push(b'(');
        for &n in numbers {
            number(out, n);
        }
        out.push(b't');
    }
    out.extend(b"\x89ccollections\nOrderedDict\n)RtR");
}

/// Appends a `BINUNICODE`.
fn string(out: &mut Vec<u8>, text: &str) {
    // Names and metadata are far shorter than 4 GiB.
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

/// Appends a `BININT` if the number fits, else a `LONG1`.
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
