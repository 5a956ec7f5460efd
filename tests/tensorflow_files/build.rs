//! Writing small files of TensorFlow's formats, sound and unsound.

use crc::{CRC_32_ISCSI, Crc};
use std::io::Write;

/// Appends a variable-length integer.
pub fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Returns a field with bytes: text, a message, or a packed list.
pub fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint(&mut out, u64::from(number << 3 | 2));
    varint(&mut out, bytes.len() as u64);
    out.extend(bytes);
    out
}

/// Returns a field with an integer.
pub fn int(number: u32, value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    varint(&mut out, u64::from(number << 3));
    varint(&mut out, value);
    out
}

/// Returns an attribute of a node.
pub fn attribute(name: &str, value: &[u8]) -> Vec<u8> {
    field(5, &[field(1, name.as_bytes()), field(2, value)].concat())
}

/// Returns a node of a graph.
pub fn node(name: &str, op: &str, inputs: &[&str], attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut body = [field(1, name.as_bytes()), field(2, op.as_bytes())].concat();
    inputs.iter().for_each(|input| body.extend(field(3, input.as_bytes())));
    attributes.iter().for_each(|attribute| body.extend(attribute));
    field(1, &body)
}

/// Returns a constant of f32 with these dimensions and bytes.
pub fn constant(name: &str, dims: &[u64], content: &[u8]) -> Vec<u8> {
    let shape: Vec<u8> = dims.iter().flat_map(|&d| field(2, &int(1, d))).collect();
    let tensor = [int(1, 1), field(2, &shape), field(4, content)].concat();
    node(name, "Const", &[], &[attribute("value", &field(8, &tensor))])
}

/// Returns a convolution.
pub fn conv(name: &str, inputs: &[&str], strides: [u64; 4], padding: &str) -> Vec<u8> {
    let mut packed = Vec::new();
    strides.iter().for_each(|&n| varint(&mut packed, n));
    let strides = attribute("strides", &field(1, &field(3, &packed)));
    let padding = attribute("padding", &field(2, padding.as_bytes()));
    node(name, "Conv2D", inputs, &[strides, padding])
}

/// Returns a masked checksum.
fn masked(bytes: &[u8]) -> u32 {
    let crc = Crc::<u32>::new(&CRC_32_ISCSI).checksum(bytes);
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Appends a block of entries with the type and checksum of a table. Returns its handle.
pub fn block(out: &mut Vec<u8>, contents: &[u8], kind: u8) -> Vec<u8> {
    let (start, mut block) = (out.len(), contents.to_vec());
    block.push(kind);
    out.extend(&block);
    out.extend(masked(&block).to_le_bytes());
    let mut handle = Vec::new();
    varint(&mut handle, start as u64);
    varint(&mut handle, contents.len() as u64);
    handle
}

/// Returns the contents of a block: keys without a common prefix, and values.
pub fn entries(entries: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in entries {
        out.push(0);
        varint(&mut out, key.len() as u64);
        varint(&mut out, value.len() as u64);
        out.extend(*key);
        out.extend(*value);
    }
    // One restart, at the first byte.
    out.extend([0, 0, 0, 0, 1, 0, 0, 0]);
    out
}

/// Appends index and footer to blocks of a table.
pub fn finish_table(mut out: Vec<u8>, handles: &[Vec<u8>]) -> Vec<u8> {
    let keys: Vec<Vec<u8>> = (0..handles.len()).map(|i| vec![b'a' + i as u8]).collect();
    let pairs: Vec<_> = keys.iter().zip(handles).map(|(k, h)| (&k[..], &h[..])).collect();
    let metadata = block(&mut out, &entries(&[]), 0);
    let index = block(&mut out, &entries(&pairs), 0);
    let mut footer = [metadata, index].concat();
    footer.resize(40, 0);
    out.extend(footer);
    out.extend(0xdb47_7524_8b80_fb57u64.to_le_bytes());
    out
}

/// Returns a table with one block.
pub fn table(contents: &[u8], kind: u8) -> Vec<u8> {
    let mut out = Vec::new();
    let handle = block(&mut out, contents, kind);
    finish_table(out, &[handle])
}

/// Returns an entry of a checkpoint's index: f32 in the first data file.
pub fn bundle_entry(dims: &[u64], offset: u64, len: u64) -> Vec<u8> {
    let shape: Vec<u8> = dims.iter().flat_map(|&d| field(2, &int(1, d))).collect();
    [int(1, 1), field(2, &shape), int(4, offset), int(5, len)].concat()
}

/// Compresses bytes with gzip.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// Returns a tar archive of one file that claims `len` bytes.
pub fn tar(name: &str, kind: tar::EntryType, len: u64, bytes: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).unwrap();
    header.set_size(len);
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_cksum();
    let mut out = header.as_bytes().to_vec();
    out.extend(bytes);
    out.resize(out.len().next_multiple_of(512) + 1024, 0);
    out
}
