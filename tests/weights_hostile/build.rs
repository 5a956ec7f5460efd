//! Building blocks of weight files, valid and invalid.

use std::io::{Cursor, Write};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Expected outcome of opening and reading a file.
#[derive(Debug, Clone, Copy)]
pub enum Outcome {
    /// An error that names the file and contains this text.
    Fails(&'static str),
    /// Success, with finite values only.
    Loads,
    /// Either of the two: a flipped bit can be in a value, a name, or a length.
    Either,
}
pub use Outcome::*;

#[derive(Debug)]
pub struct Case {
    pub name: String,
    pub bytes: Vec<u8>,
    pub outcome: Outcome,
}

pub fn case(name: impl Into<String>, bytes: impl Into<Vec<u8>>, outcome: Outcome) -> Case {
    Case { name: name.into(), bytes: bytes.into(), outcome }
}

/// Creates a safetensors file from a header and data.
pub fn safetensors(header: &[u8], data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, data].concat()
}

/// 32 bytes that are finite both as f32 and as f16.
pub const DATA: [u8; 32] = *b"\x00\x3c\x00\x3c\x00\x3d\x00\x3d\x00\x3e\x00\x3e\x00\x3f\x00\x3f\
                              \x00\x3c\x00\x3c\x00\x3d\x00\x3d\x00\x3e\x00\x3e\x00\x3f\x00\x3f";

/// Creates a zip archive like PyTorch, in the directory `archive`.
pub fn archive(entries: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        zip.start_file(
            format!("archive/{name}"),
            SimpleFileOptions::default().compression_method(method),
        )
        .unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// Creates an uncompressed archive of a pickle and one storage, [`DATA`] with the key 0.
pub fn pth(pickle: &[u8]) -> Vec<u8> {
    archive(&[("data.pkl", pickle), ("data/0", &DATA)], CompressionMethod::Stored)
}

/// Creates a pickle of protocol 2.
pub fn pickle(parts: &[&[u8]]) -> Vec<u8> {
    [b"\x80\x02", &parts.concat()[..], b"."].concat()
}

pub fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

pub fn int(n: i64) -> Vec<u8> {
    [b"\x8a\x08", &n.to_le_bytes()[..]].concat()
}

pub fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

pub fn tuple(parts: &[&[u8]]) -> Vec<u8> {
    [b"(", &parts.concat()[..], b"t"].concat()
}

pub fn call(module: &str, name: &str, args: &[&[u8]]) -> Vec<u8> {
    [global(module, name), tuple(args), b"R".to_vec()].concat()
}

pub fn dict(items: &[(&str, &[u8])]) -> Vec<u8> {
    let items: Vec<u8> =
        items.iter().flat_map(|(key, value)| [text(key), value.to_vec()].concat()).collect();
    [b"}(", &items[..], b"u"].concat()
}

pub fn storage(class: &str, key: &str, len: i64) -> Vec<u8> {
    let id =
        tuple(&[&text("storage"), &global("torch", class), &text(key), &text("cpu"), &int(len)]);
    [id, b"Q".to_vec()].concat()
}

pub fn numbers(numbers: &[i64]) -> Vec<u8> {
    tuple(&[&numbers.iter().flat_map(|&n| int(n)).collect::<Vec<_>>()])
}

/// Creates a call of `_rebuild_tensor_v2`.
pub fn tensor(storage: &[u8], offset: i64, dims: &[i64], strides: &[i64]) -> Vec<u8> {
    let hooks = call("collections", "OrderedDict", &[]);
    call(
        "torch._utils",
        "_rebuild_tensor_v2",
        &[storage, &int(offset), &numbers(dims), &numbers(strides), b"\x89", &hooks],
    )
}

/// Creates a tensor of the eight f32 in [`DATA`].
pub fn good_tensor() -> Vec<u8> {
    tensor(&storage("FloatStorage", "0", 8), 0, &[2, 4], &[4, 1])
}

/// Creates a file in the format before PyTorch 1.6 from its parts.
pub fn legacy(
    version: i64,
    machine: &[u8],
    object: &[u8],
    keys: &[u8],
    storages: &[(i64, &[u8])],
) -> Vec<u8> {
    let mut file = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.".to_vec();
    for part in [&int(version)[..], machine, object, keys] {
        file.extend(pickle(&[part]));
    }
    for (count, data) in storages {
        file.extend(count.to_le_bytes());
        file.extend(*data);
    }
    file
}

/// Creates a persistent id in the format before 1.6, which has a field for views.
pub fn legacy_storage(class: &str, key: &str, len: i64, view: &[u8]) -> Vec<u8> {
    let id = tuple(&[
        &text("storage"),
        &global("torch", class),
        &text(key),
        &text("cpu"),
        &int(len),
        view,
    ]);
    [id, b"Q".to_vec()].concat()
}
