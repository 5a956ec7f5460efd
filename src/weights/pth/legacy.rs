//! The `.pth` format of PyTorch before 1.6: five consecutive pickles, then the storages.
//!
//! The pickles are a magic number, the version 1001, properties of the machine, the object, and the
//! keys of the storages in file order. Each storage is its number of elements in eight bytes, then
//! the elements.

use super::super::format_bytes;
use super::super::raw::{Contents, Location, Storage};
use super::super::source::Source;
use super::tensor::{StorageRef, storage_ref};
use super::value::{Id, Node, Values};
use super::{MAX_PICKLE, bytes, contents, pickle, pickle_error, truncated};
use crate::error::{Result, error};
use pickle::Fault;
use std::collections::HashMap;

/// `LONG1` of ten bytes, then 0x1950a86a20f9469cfc6c.
const MAGIC: [u8; 12] = [0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const VERSION: u64 = 1001;
/// Bytes of the first attempt to read the pickles.
const FIRST_READ: u64 = 1 << 20;
/// Factor by which each further attempt reads more.
const GROWTH: u64 = 8;

/// Returns whether a file starts with the pickled magic number.
pub(in super::super) fn is_legacy(head: &[u8]) -> bool {
    // The protocol precedes it, and since protocol 4 the length of a frame.
    head.first() == Some(&0x80) && head.windows(MAGIC.len()).take(16).any(|window| window == MAGIC)
}

/// Reads the pickles and locates the storages.
pub(in super::super) fn open(source: &Source) -> Result<Contents> {
    let mut read_len = FIRST_READ;
    loop {
        let head = source.bytes(0, source.len().min(read_len).min(MAX_PICKLE) as usize)?;
        match Pickles::read(&head) {
            Ok(pickles) => return pickles.contents(source),
            Err(Fault::End) if (head.len() as u64) < source.len().min(MAX_PICKLE) => {
                read_len *= GROWTH
            }
            Err(Fault::End) if source.len() > MAX_PICKLE => {
                let max = format_bytes(MAX_PICKLE);
                return Err(error!(Weights, "the pickle is longer than {max}"));
            }
            Err(fault) => return Err(pickle_error(fault)),
        }
    }
}

struct Pickles<'a> {
    version: Values<'a>,
    machine: Values<'a>,
    object: Values<'a>,
    keys: Values<'a>,
    /// End of the pickles, where the storages begin, in bytes.
    end: u64,
}

impl<'a> Pickles<'a> {
    fn read(bytes: &'a [u8]) -> std::result::Result<Self, Fault> {
        let mut at = 0;
        let mut next = || {
            let (values, len) = pickle::read(&bytes[at..]).map_err(|fault| match fault {
                Fault::Invalid { at: inner, message } => Fault::Invalid { at: at + inner, message },
                Fault::End => Fault::End,
            })?;
            at += len;
            Ok::<_, Fault>(values)
        };
        let _magic = next()?;
        let (version, machine, object, keys) = (next()?, next()?, next()?, next()?);
        Ok(Self { version, machine, object, keys, end: at as u64 })
    }

    fn contents(&self, source: &Source) -> Result<Contents> {
        if self.version.size(self.version.root) != Some(VERSION) {
            return Err(error!(
                Weights,
                "unsupported version of the .pth format before PyTorch 1.6, expected {VERSION}"
            ));
        }
        let machine = self.machine.entries(self.machine.root).unwrap_or_default();
        let little_endian =
            machine.iter().find(|&&(key, _)| self.machine.str(key) == Some("little_endian"));
        if let Some(&(_, value)) = little_endian
            && matches!(self.machine.get(value), Node::Bool(false))
        {
            return Err(error!(Weights, "big-endian files are not supported"));
        }
        let (storages, by_key) = self.storages(source)?;
        let mut contents = contents(&self.object, |storage| match by_key.get(storage.key) {
            Some(&index) if storages[index].len == bytes(storage) => {
                Ok((index, storages[index].len))
            }
            Some(_) => Err(error!(
                Weights,
                "storage {} has two different descriptions",
                truncated(storage.key)
            )),
            None => Err(error!(Weights, "storage {} is not in the file", truncated(storage.key))),
        })?;
        contents.storages = storages;
        Ok(contents)
    }

    /// Locates all storages, and indexes them by key. They are consecutive, so locating the last
    /// one requires the lengths of all of them.
    fn storages(&self, source: &Source) -> Result<(Vec<Storage>, HashMap<&'a str, usize>)> {
        let referenced = self.referenced_storages();
        let Some(keys) = self.keys.sequence(self.keys.root) else {
            return Err(error!(
                Weights,
                "expected a list of storages, got {}",
                self.keys.describe(self.keys.root)
            ));
        };
        let mut storages = Vec::with_capacity(keys.len());
        let mut by_key = HashMap::with_capacity(keys.len());
        let mut at = self.end;
        for &key in keys {
            let Some(storage) = self.keys.str(key).and_then(|key| referenced.get(key)) else {
                return Err(error!(
                    Weights,
                    "the list of storages contains a storage that no tensor uses"
                ));
            };
            let name = || format!("storage {}", truncated(storage.key));
            let start = at + 8;
            let len = bytes(storage);
            let end = start.saturating_add(len);
            if end > source.len() {
                let excess = format_bytes(end - source.len());
                return Err(error!(
                    Weights,
                    "ends {excess} past the end of the file: the file is truncated"
                )
                .at(name()));
            }
            let mut count = [0; 8];
            source.read_at(at, &mut count)?;
            let count = u64::from_le_bytes(count);
            if count != storage.len {
                return Err(error!(
                    Weights,
                    "has {count} elements, the pickle specifies {}", storage.len
                )
                .at(name()));
            }
            by_key.insert(storage.key, storages.len());
            storages.push(Storage { location: Location::Plain(start), len, shard: None });
            at = end;
        }
        Ok((storages, by_key))
    }

    /// Returns all storages that the object refers to, including those outside of the state dict.
    fn referenced_storages(&self) -> HashMap<&'a str, StorageRef<'a>> {
        let ids = 0..self.object.nodes.len() as Id;
        ids.filter_map(|id| storage_ref(&self.object, id))
            .map(|storage| (storage.key, storage))
            .collect()
    }
}
