//! The zip form of `.pth`: `NAME/data.pkl` beside one entry `NAME/data/KEY` per storage.

use super::super::human;
use super::super::raw::{Contents, Place, Storage};
use super::super::source::Source;
use super::tensor::StorageRef;
use super::{MAX_PICKLE, bytes, contents, fault, pickle};
use crate::error::{Error, Result, error};
use std::collections::HashMap;
use std::io::{BufReader, Read};
use zip::read::{ArchiveOffset, Config, HasZipMetadata, OwnedZipFileEntry};
use zip::{CompressionMethod, ZipArchive, ZipReadOptions};

/// Entries of an archive: one per storage and a few more.
const MAX_ENTRIES: u64 = 1 << 16;
/// A zip archive's last record is 22 bytes and a comment of up to 65,535; the locator of the zip64
/// one is the 20 before it.
const TAIL: u64 = 20 + 22 + 65_535;
/// Deflated entries may take this many times the file's length, and [`EXPANSION_EXTRA`] bytes.
/// Weights hardly shrink at all.
const MAX_EXPANSION: u64 = 16;
const EXPANSION_EXTRA: u64 = 1 << 20;

/// Reads the archive's directory and the pickle in it.
pub(in super::super) fn open(source: &Source) -> Result<Contents> {
    let mut archive = Archive::open(source)?;
    let pickle = archive.pickle()?;
    let (values, _) = pickle::read(&pickle).map_err(fault)?;
    let mut contents = contents(&values, |storage| archive.locate(storage)).map_err(|e| {
        match archive.is_script() {
            true => {
                e.advice("this is a TorchScript archive: save the model's state_dict() instead")
            }
            false => e,
        }
    })?;
    contents.storages = archive.storages;
    Ok(contents)
}

struct Archive<'a> {
    source: &'a Source,
    /// By name within the archive's one directory.
    entries: HashMap<String, OwnedZipFileEntry>,
    storages: Vec<Storage>,
    by_key: HashMap<String, usize>,
    /// Bytes that deflated entries may still take.
    left: u64,
}

impl<'a> Archive<'a> {
    fn open(source: &'a Source) -> Result<Self> {
        let claimed = claimed_entries(source)?;
        if claimed > MAX_ENTRIES {
            return Err(error!(
                Weights,
                "the zip archive says that it has {claimed} entries, up to {MAX_ENTRIES} are read"
            ));
        }
        let damaged = |e| error!(Weights, "the zip archive is damaged, or was cut short").source(e);
        // PyTorch's archives start at the file's first byte: nothing is searched for.
        let config = Config { archive_offset: ArchiveOffset::Known(0) };
        let directory = ZipArchive::with_config(config, BufReader::new(source.cursor()))
            .map_err(damaged)?
            .metadata();
        if directory.has_duplicate_names() {
            return Err(error!(Weights, "two entries of the zip archive have the same name"));
        }
        let mut all = HashMap::new();
        let mut root = None;
        for index in 0..directory.len() {
            let entry = directory.entry(index).map_err(damaged)?;
            let Ok(name) = std::str::from_utf8(entry.name_raw()).map(str::to_owned) else {
                continue;
            };
            if let Some(prefix) =
                name.strip_suffix("data.pkl").filter(|p| p.is_empty() || p.ends_with('/'))
            {
                root.get_or_insert(prefix.to_owned());
            }
            all.insert(name, OwnedZipFileEntry::from(entry));
        }
        let Some(root) = root else {
            return Err(error!(
                Weights,
                "a zip archive, but not one of PyTorch: it holds no `data.pkl`"
            ));
        };
        let entries = all
            .into_iter()
            .filter_map(|(name, e)| Some((name.strip_prefix(&root)?.to_owned(), e)))
            .collect();
        let left = source.len().saturating_mul(MAX_EXPANSION).saturating_add(EXPANSION_EXTRA);
        Ok(Self { source, entries, storages: Vec::new(), by_key: HashMap::new(), left })
    }

    fn is_script(&self) -> bool {
        self.entries.contains_key("constants.pkl")
    }

    fn pickle(&mut self) -> Result<Vec<u8>> {
        if let Some(order) = self.entries.remove("byteorder")
            && self.whole(order, 16)? == b"big"
        {
            return Err(error!(Weights, "the numbers are in big-endian order, which is not read"));
        }
        let entry = self
            .entries
            .remove("data.pkl")
            .expect("invariant: the directory was found by this entry");
        self.whole(entry, MAX_PICKLE)
    }

    /// The bytes of a small entry.
    fn whole(&mut self, entry: OwnedZipFileEntry, most: u64) -> Result<Vec<u8>> {
        let name = entry.name_raw().escape_ascii().to_string();
        let read = || {
            if entry.size() > most {
                return Err(error!(
                    Weights,
                    "it takes {}, up to {} is read",
                    human(entry.size()),
                    human(most)
                ));
            }
            match self.place(entry)? {
                Storage { place: Place::Plain(at), len } => self.source.bytes(at, len as usize),
                Storage { place: Place::Deflated(entry), .. } => inflate(self.source, &entry),
            }
        };
        read().map_err(|e| e.at(name))
    }

    /// The number and length of the storage that the pickle names.
    fn locate(&mut self, storage: &StorageRef<'_>) -> Result<(usize, u64)> {
        let name = || format!("data/{}", super::shortened(storage.key));
        let index = match self.by_key.get(storage.key) {
            Some(&index) => index,
            None => {
                let Some(entry) = self.entries.remove(&format!("data/{}", storage.key)) else {
                    return Err(error!(Weights, "its entry {} is not in the archive", name()));
                };
                let place = self.place(entry).map_err(|e| e.at(name()))?;
                self.storages.push(place);
                self.by_key.insert(storage.key.to_owned(), self.storages.len() - 1);
                self.storages.len() - 1
            }
        };
        let (has, says) = (self.storages[index].len, bytes(storage));
        if has != says {
            return Err(error!(
                Weights,
                "its entry {} has {}, the pickle says {}",
                name(),
                human(has),
                human(says)
            ));
        }
        Ok((index, has))
    }

    /// Where an entry's data lies, checked against the file and against what may be taken for it.
    fn place(&mut self, entry: OwnedZipFileEntry) -> Result<Storage> {
        if entry.encrypted() {
            return Err(error!(Weights, "it is encrypted"));
        }
        let len = entry.size();
        let damaged = |e| error!(Weights, "its header in the zip archive is damaged").source(e);
        let start = entry.get_metadata().data_start(&mut self.source.cursor()).map_err(damaged)?;
        if start.checked_add(entry.compressed_size()).is_none_or(|end| end > self.source.len()) {
            return Err(error!(
                Weights,
                "its data ends past the file's end: the file was cut short"
            ));
        }
        let place = match entry.compression() {
            CompressionMethod::Stored if entry.compressed_size() == len => Place::Plain(start),
            CompressionMethod::Stored => {
                return Err(error!(Weights, "it has two different lengths"));
            }
            CompressionMethod::Deflated => {
                self.left = self.left.checked_sub(len).ok_or_else(|| {
                    let (inflated, file) = (human(len), human(self.source.len()));
                    error!(
                        Weights,
                        "it would inflate to {inflated}, more than weights in a file of {file} can"
                    )
                })?;
                Place::Deflated(Box::new(entry))
            }
            other => {
                return Err(error!(Weights, "it is compressed with {other:?}, which is not read"));
            }
        };
        Ok(Storage { place, len })
    }
}

/// The number of entries in zip64's records; other archives cannot say a number past
/// [`MAX_ENTRIES`]. The zip crate makes room for all of them before it reads the first.
fn claimed_entries(source: &Source) -> Result<u64> {
    let start = source.len().saturating_sub(TAIL);
    let tail = source.bytes(start, (source.len() - start) as usize)?;
    let mut most = 0;
    for locator in tail.windows(16).filter(|w| w.starts_with(b"PK\x06\x07")) {
        let at =
            u64::from_le_bytes(locator[8..].try_into().expect("invariant: eight of sixteen bytes"));
        let mut record = [0; 40];
        if at.checked_add(40).is_some_and(|end| end <= source.len()) {
            source.read_at(at, &mut record)?;
        }
        if record.starts_with(b"PK\x06\x06") {
            most = most.max(u64::from_le_bytes(
                record[32..].try_into().expect("invariant: eight of forty bytes"),
            ));
        }
    }
    Ok(most)
}

/// Inflates an entry whose length was checked before.
pub(in super::super) fn inflate(source: &Source, entry: &OwnedZipFileEntry) -> Result<Vec<u8>> {
    let damaged = |e: Box<dyn std::error::Error + Send + Sync>| {
        error!(Weights, "entry {} of the zip archive is damaged", entry.name_raw().escape_ascii())
            .source(e)
    };
    let mut reader = BufReader::new(source.cursor());
    // PyTorch can write archives whose checksums mean nothing
    // (`torch.serialization.set_crc32_options`).
    let options = ZipReadOptions::new().ignore_crc32(true);
    let mut inflating =
        entry.as_ref().with_reader(&mut reader, options).map_err(|e| damaged(e.into()))?;
    let mut out = Vec::new();
    let len = entry.size();
    if out.try_reserve_exact(len as usize).is_err() {
        return Err(Error::new(
            crate::ErrorKind::OutOfMemory,
            format!("no memory for {}", human(len)),
        ));
    }
    inflating.by_ref().take(len).read_to_end(&mut out).map_err(|e| damaged(e.into()))?;
    if out.len() as u64 != len {
        return Err(damaged(
            format!("it inflates to {}, not to {}", human(out.len() as u64), human(len)).into(),
        ));
    }
    Ok(out)
}
