//! `.pth` as PyTorch wrote it before 1.6: five pickles in a row, then the storages.
//!
//! The pickles are a magic number, the version 1001, facts about the machine, the object, and the
//! storages' keys in the order in which their data follows. Each storage is its number of elements
//! in eight bytes, then the elements.

use super::super::human;
use super::super::raw::{Contents, Place, Storage};
use super::super::source::Source;
use super::tensor::{StorageRef, storage_ref};
use super::value::{Id, Node, Values};
use super::{MAX_PICKLE, bytes, contents, fault, pickle, shortened};
use crate::error::{Result, error};
use pickle::Fault;
use std::collections::HashMap;

/// `LONG1` of ten bytes, then 0x1950a86a20f9469cfc6c.
const MAGIC: [u8; 12] = [0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const VERSION: u64 = 1001;
/// What is read at first to find the pickles in, and by how much more when they do not end there.
const FIRST_READ: u64 = 1 << 20;
const GROWTH: u64 = 8;

/// Whether a file starts with the pickled magic number.
pub(in super::super) fn is_legacy(head: &[u8]) -> bool {
    // Before it stand the protocol and, from protocol 4 on, a frame's length.
    head.first() == Some(&0x80) && head.windows(MAGIC.len()).take(16).any(|window| window == MAGIC)
}

/// Reads the pickles and walks over the storages.
pub(in super::super) fn open(source: &Source) -> Result<Contents> {
    let mut reach = FIRST_READ;
    loop {
        let head = source.bytes(0, source.len().min(reach).min(MAX_PICKLE) as usize)?;
        match Pickles::read(&head) {
            Ok(pickles) => return pickles.contents(source),
            Err(Fault::End) if (head.len() as u64) < source.len().min(MAX_PICKLE) => {
                reach *= GROWTH
            }
            Err(Fault::End) if source.len() > MAX_PICKLE => {
                return Err(error!(Weights, "the pickle takes more than {}", human(MAX_PICKLE)));
            }
            Err(e) => return Err(fault(e)),
        }
    }
}

struct Pickles<'a> {
    version: Values<'a>,
    machine: Values<'a>,
    object: Values<'a>,
    keys: Values<'a>,
    /// Where the storages begin.
    end: u64,
}

impl<'a> Pickles<'a> {
    fn read(bytes: &'a [u8]) -> std::result::Result<Self, Fault> {
        let mut at = 0;
        let mut next = || {
            let (values, len) = pickle::read(&bytes[at..]).map_err(|fault| match fault {
                Fault::Bad { at: inner, what } => Fault::Bad { at: at + inner, what },
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
                "a .pth of before PyTorch 1.6, but not of the one version that is known ({VERSION})"
            ));
        }
        let facts = self.machine.entries(self.machine.root).unwrap_or_default();
        let little = facts.iter().find(|&&(key, _)| self.machine.str(key) == Some("little_endian"));
        if little.is_some_and(|&(_, value)| matches!(self.machine.get(value), Node::Bool(false))) {
            return Err(error!(Weights, "the numbers are in big-endian order, which is not read"));
        }
        let (storages, by_key) = self.storages(source)?;
        let mut contents = contents(&self.object, |storage| match by_key.get(storage.key) {
            Some(&index) if storages[index].len == bytes(storage) => {
                Ok((index, storages[index].len))
            }
            Some(_) => Err(error!(
                Weights,
                "its storage {} is described in two ways",
                shortened(storage.key)
            )),
            None => {
                Err(error!(Weights, "its storage {} is not in the file", shortened(storage.key)))
            }
        })?;
        contents.storages = storages;
        Ok(contents)
    }

    /// Every storage's place. They follow each other, so that all must be known to find the last
    /// one.
    fn storages(&self, source: &Source) -> Result<(Vec<Storage>, HashMap<&'a str, usize>)> {
        let described = self.described();
        let Some(keys) = self.keys.sequence(self.keys.root) else {
            return Err(error!(
                Weights,
                "the list of storages is {}",
                self.keys.describe(self.keys.root)
            ));
        };
        let (mut storages, mut by_key) =
            (Vec::with_capacity(keys.len()), HashMap::with_capacity(keys.len()));
        let mut at = self.end;
        for &key in keys {
            let Some(storage) = self.keys.str(key).and_then(|key| described.get(key)) else {
                return Err(error!(Weights, "the list of storages names one that no tensor uses"));
            };
            let name = || format!("storage {}", shortened(storage.key));
            let start = at + 8;
            let len = bytes(storage);
            let end = start.saturating_add(len);
            if end > source.len() {
                let past = human(end - source.len());
                return Err(error!(
                    Weights,
                    "it ends {past} past the file's end: the file was cut short"
                )
                .at(name()));
            }
            let mut count = [0; 8];
            source.read_at(at, &mut count)?;
            let count = u64::from_le_bytes(count);
            if count != storage.len {
                return Err(error!(
                    Weights,
                    "its data says {count} elements, the pickle {}", storage.len
                )
                .at(name()));
            }
            by_key.insert(storage.key, storages.len());
            storages.push(Storage { place: Place::Plain(start), len });
            at = end;
        }
        Ok((storages, by_key))
    }

    /// Every storage that the object refers to, also outside of the state dict.
    fn described(&self) -> HashMap<&'a str, StorageRef<'a>> {
        let ids = 0..self.object.nodes.len() as Id;
        ids.filter_map(|id| storage_ref(&self.object, id))
            .map(|storage| (storage.key, storage))
            .collect()
    }
}
