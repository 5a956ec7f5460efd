//! The table format of LevelDB, in which TensorFlow stores the index of a checkpoint: sorted keys and
//! values in blocks with checksums.
//!
//! <https://github.com/google/leveldb/blob/main/doc/table_format.md>

use super::super::format_bytes;
use super::checksum::unmask;
use crate::error::{Error, Result, error};
use crc::{CRC_32_ISCSI, Crc};
use prost::encoding::decode_varint;

/// Length of the footer in bytes.
pub(super) const FOOTER: usize = 48;
/// Last eight bytes of a table.
const MAGIC: u64 = 0xdb47_7524_8b80_fb57;
/// Length of a block's type and checksum in bytes.
const TRAILER: usize = 5;
/// Maximum length of a decompressed block in bytes. TensorFlow writes blocks of 256 KiB.
const MAX_BLOCK: usize = 16 << 20;
/// Maximum length of a key in bytes.
const MAX_KEY: usize = 2 << 10;
/// Maximum number of entries of a table. Checkpoints with the state of an optimizer have a few
/// thousand.
const MAX_ENTRIES: usize = 1 << 16;

/// Returns whether a file ends like a table.
pub(super) fn is_table(footer: &[u8]) -> bool {
    footer.len() == FOOTER && footer.ends_with(&MAGIC.to_le_bytes())
}

/// Calls `visit` with each key and value of a table, in order.
///
/// # Errors
/// Returns an error if a block is damaged, and those of `visit`.
pub(super) fn entries(
    table: &[u8],
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<()>,
) -> Result<()> {
    let footer = table.len().checked_sub(FOOTER).map(|start| &table[start..]);
    let Some(footer) = footer.filter(|footer| is_table(footer)) else {
        return Err(damaged("the footer is missing"));
    };
    let mut rest = footer;
    let _metadata = Handle::read(&mut rest)?;
    let index = Handle::read(&mut rest)?;
    let mut count = 0;
    let mut check = || {
        count += 1;
        if count > MAX_ENTRIES {
            return Err(error!(Weights, "more than {MAX_ENTRIES} entries are not supported"));
        }
        Ok(())
    };
    let mut handles = Vec::new();
    block_entries(&block(table, index)?, |_, mut value| {
        check()?;
        handles.push(Handle::read(&mut value)?);
        Ok(())
    })?;
    for handle in handles {
        block_entries(&block(table, handle)?, |key, value| {
            check()?;
            visit(key, value)
        })?;
    }
    Ok(())
}

fn damaged(what: &str) -> Error {
    error!(Weights, "the index is damaged: {what}")
}

/// Location of a block.
#[derive(Debug, Clone, Copy)]
struct Handle {
    offset: u64,
    len: u64,
}

impl Handle {
    fn read(bytes: &mut &[u8]) -> Result<Self> {
        let mut number = || decode_varint(bytes).map_err(|e| damaged("a handle").source(e));
        Ok(Self { offset: number()?, len: number()? })
    }
}

/// Returns the contents of a block, after its checksum was compared.
fn block(table: &[u8], handle: Handle) -> Result<Vec<u8>> {
    let range = || {
        let start = usize::try_from(handle.offset).ok()?;
        let end = start.checked_add(usize::try_from(handle.len).ok()?)?;
        Some((table.get(start..end)?, table.get(end..end.checked_add(TRAILER)?)?))
    };
    let (contents, trailer) =
        range().ok_or_else(|| damaged("a block ends past the end of the file"))?;
    let crc = Crc::<u32>::new(&CRC_32_ISCSI);
    let mut digest = crc.digest();
    digest.update(contents);
    digest.update(&trailer[..1]);
    let stored = [trailer[1], trailer[2], trailer[3], trailer[4]];
    if digest.finalize() != unmask(u32::from_le_bytes(stored)) {
        return Err(damaged("the checksum of a block does not match"));
    }
    match trailer[0] {
        0 => Ok(contents.to_vec()),
        1 => {
            let snappy = |e| damaged("a compressed block").source(e);
            let len = snap::raw::decompress_len(contents).map_err(snappy)?;
            if len > MAX_BLOCK {
                let (len, max) = (format_bytes(len as u64), format_bytes(MAX_BLOCK as u64));
                return Err(error!(Weights, "a block has {len}, at most {max} are supported"));
            }
            snap::raw::Decoder::new().decompress_vec(contents).map_err(snappy)
        }
        other => Err(error!(Weights, "unsupported compression {other} of the index")),
    }
}

/// Calls `visit` with each key and value of a block. A key is stored without the prefix that it
/// shares with the previous one.
fn block_entries(block: &[u8], mut visit: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
    let entries = || {
        let (rest, restarts) = block.split_last_chunk::<4>()?;
        let restarts = usize::try_from(u32::from_le_bytes(*restarts)).ok()?;
        rest.get(..rest.len().checked_sub(restarts.checked_mul(4)?)?)
    };
    let mut rest = entries().ok_or_else(|| damaged("a block is too short"))?;
    let mut key = Vec::new();
    while !rest.is_empty() {
        let mut number =
            || decode_varint(&mut rest).ok().and_then(|n| usize::try_from(n).ok()).ok_or(());
        let lengths = (number(), number(), number());
        let (Ok(shared), Ok(unshared), Ok(value_len)) = lengths else {
            return Err(damaged("the lengths of an entry"));
        };
        if shared > key.len() || shared.saturating_add(unshared) > MAX_KEY {
            return Err(damaged("the length of a key"));
        }
        let split = |bytes: &'_ [u8]| {
            let (key, rest) = bytes.split_at_checked(unshared)?;
            let (value, rest) = rest.split_at_checked(value_len)?;
            Some((key.len(), value.len(), bytes.len() - rest.len()))
        };
        let Some((key_len, value_len, total)) = split(rest) else {
            return Err(damaged("an entry ends past the end of its block"));
        };
        key.truncate(shared);
        key.extend_from_slice(&rest[..key_len]);
        visit(&key, &rest[key_len..key_len + value_len])?;
        rest = &rest[total..];
    }
    Ok(())
}
