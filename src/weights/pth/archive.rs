//! The zip format of `.pth`: `NAME/data.pkl`, and one entry `NAME/data/KEY` per storage.

use super::super::format_bytes;
use super::super::raw::{Contents, Location, Storage};
use super::super::source::Source;
use super::tensor::StorageRef;
use super::{MAX_PICKLE, bytes, contents, pickle, pickle_error};
use crate::error::{Error, Result, error};
use std::collections::HashMap;
use std::io::{BufReader, Read};
use zip::read::{ArchiveOffset, Config, HasZipMetadata, OwnedZipFileEntry};
use zip::{CompressionMethod, ZipArchive, ZipReadOptions};

/// Maximum number of entries of an archive: one per storage and a few more.
const MAX_ENTRIES: u64 = 1 << 16;
/// Maximum length of the records at the end of a zip archive, in bytes: the locator of the zip64
/// record (20), the end record (22) and its comment (up to 65,535).
const TAIL: u64 = 20 + 22 + 65_535;
/// Maximum size of the deflated entries as a multiple of the file's length, plus
/// [`EXPANSION_EXTRA`] bytes. Weights are hardly compressible.
const MAX_EXPANSION: u64 = 16;
const EXPANSION_EXTRA: u64 = 1 << 20;

/// Reads the archive's directory and the pickle in it.
pub(in super::super) fn open(source: &Source) -> Result<Contents> {
    let mut archive = Archive::open(source)?;
    let pickle = archive.pickle()?;
    let (values, _) = pickle::read(&pickle).map_err(pickle_error)?;
    let mut contents = contents(&values, |storage| archive.locate(storage)).map_err(|e| {
        if archive.is_torch_script() {
            e.advice("the file is a TorchScript archive: save the model's state_dict() instead")
        } else {
            e
        }
    })?;
    contents.storages = archive.storages;
    Ok(contents)
}

struct Archive<'a> {
    source: &'a Source,
    /// Entries by their name relative to the archive's root directory.
    entries: HashMap<String, OwnedZipFileEntry>,
    storages: Vec<Storage>,
    by_key: HashMap<String, usize>,
    /// Remaining size limit of deflated entries, in bytes.
    remaining: u64,
}

impl<'a> Archive<'a> {
    fn open(source: &'a Source) -> Result<Self> {
        let claimed = claimed_entries(source)?;
        if claimed > MAX_ENTRIES {
            return Err(error!(
                Weights,
                "the zip archive claims {claimed} entries, at most {MAX_ENTRIES} are supported"
            ));
        }
        let damaged = |e| error!(Weights, "the zip archive is damaged or truncated").source(e);
        // PyTorch's archives start at the first byte of the file, so no search is needed.
        let config = Config { archive_offset: ArchiveOffset::Known(0) };
        let directory = ZipArchive::with_config(config, BufReader::new(source.cursor()))
            .map_err(damaged)?
            .metadata();
        if directory.has_duplicate_names() {
            return Err(error!(Weights, "the zip archive has entries with duplicate names"));
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
            return Err(error!(Weights, "a zip archive without `data.pkl`, not a PyTorch file"));
        };
        let entries = all
            .into_iter()
            .filter_map(|(name, e)| Some((name.strip_prefix(&root)?.to_owned(), e)))
            .collect();
        let remaining = source.len().saturating_mul(MAX_EXPANSION).saturating_add(EXPANSION_EXTRA);
        Ok(Self { source, entries, storages: Vec::new(), by_key: HashMap::new(), remaining })
    }

    fn is_torch_script(&self) -> bool {
        self.entries.contains_key("constants.pkl")
    }

    fn pickle(&mut self) -> Result<Vec<u8>> {
        if let Some(order) = self.entries.remove("byteorder")
            && self.read_entry(order, 16)? == b"big"
        {
            return Err(error!(Weights, "big-endian files are not supported"));
        }
        let entry = self
            .entries
            .remove("data.pkl")
            .expect("invariant: the root directory was derived from this entry");
        self.read_entry(entry, MAX_PICKLE)
    }

    /// Reads an entry of at most `max_len` bytes.
    fn read_entry(&mut self, entry: OwnedZipFileEntry, max_len: u64) -> Result<Vec<u8>> {
        let name = entry.name_raw().escape_ascii().to_string();
        let read = || {
            if entry.size() > max_len {
                return Err(error!(
                    Weights,
                    "the entry has {}, at most {} are supported",
                    format_bytes(entry.size()),
                    format_bytes(max_len)
                ));
            }
            let storage = self.storage(entry)?;
            match storage.location {
                Location::Plain(start) => self.source.bytes(start, storage.len as usize),
                Location::Deflated(entry) => inflate(self.source, &entry),
            }
        };
        read().map_err(|e| e.at(name))
    }

    /// Returns the index and the length of a storage that the pickle refers to.
    fn locate(&mut self, storage: &StorageRef<'_>) -> Result<(usize, u64)> {
        let name = || format!("data/{}", super::truncated(storage.key));
        let index = match self.by_key.get(storage.key) {
            Some(&index) => index,
            None => {
                let Some(entry) = self.entries.remove(&format!("data/{}", storage.key)) else {
                    return Err(error!(Weights, "the archive has no entry {}", name()));
                };
                let located = self.storage(entry).map_err(|e| e.at(name()))?;
                self.storages.push(located);
                self.by_key.insert(storage.key.to_owned(), self.storages.len() - 1);
                self.storages.len() - 1
            }
        };
        let (actual, expected) = (self.storages[index].len, bytes(storage));
        if actual != expected {
            return Err(error!(
                Weights,
                "entry {} has {}, the pickle specifies {}",
                name(),
                format_bytes(actual),
                format_bytes(expected)
            ));
        }
        Ok((index, actual))
    }

    /// Returns the location of an entry's data, checked against the file and the size limit.
    fn storage(&mut self, entry: OwnedZipFileEntry) -> Result<Storage> {
        if entry.encrypted() {
            return Err(error!(Weights, "the entry is encrypted"));
        }
        let len = entry.size();
        let damaged = |e| error!(Weights, "the header of the entry is damaged").source(e);
        let start = entry.get_metadata().data_start(&mut self.source.cursor()).map_err(damaged)?;
        if start.checked_add(entry.compressed_size()).is_none_or(|end| end > self.source.len()) {
            return Err(error!(
                Weights,
                "the entry ends past the end of the file: the file is truncated"
            ));
        }
        let location = match entry.compression() {
            CompressionMethod::Stored if entry.compressed_size() == len => Location::Plain(start),
            CompressionMethod::Stored => {
                return Err(error!(Weights, "the entry has two different lengths"));
            }
            CompressionMethod::Deflated => {
                self.remaining = self.remaining.checked_sub(len).ok_or_else(|| {
                    let (inflated, file) = (format_bytes(len), format_bytes(self.source.len()));
                    error!(
                        Weights,
                        "the entry would inflate to {inflated}, too much for a weight file of {file}"
                    )
                })?;
                Location::Deflated(Box::new(entry))
            }
            other => {
                return Err(error!(Weights, "unsupported compression method {other:?}"));
            }
        };
        Ok(Storage { location, len, shard: None })
    }
}

/// Returns the number of entries in the zip64 records. Archives without them cannot have more than
/// [`MAX_ENTRIES`]. The zip crate allocates memory for all of the entries before it reads the
/// first.
fn claimed_entries(source: &Source) -> Result<u64> {
    let start = source.len().saturating_sub(TAIL);
    let tail = source.bytes(start, (source.len() - start) as usize)?;
    let mut claimed = 0;
    for locator in tail.windows(16).filter(|w| w.starts_with(b"PK\x06\x07")) {
        let at =
            u64::from_le_bytes(locator[8..].try_into().expect("invariant: eight of sixteen bytes"));
        let mut record = [0; 40];
        if at.checked_add(40).is_some_and(|end| end <= source.len()) {
            source.read_at(at, &mut record)?;
        }
        if record.starts_with(b"PK\x06\x06") {
            claimed = claimed.max(u64::from_le_bytes(
                record[32..].try_into().expect("invariant: eight of forty bytes"),
            ));
        }
    }
    Ok(claimed)
}

/// Inflates an entry, whose length the caller has checked.
pub(in super::super) fn inflate(source: &Source, entry: &OwnedZipFileEntry) -> Result<Vec<u8>> {
    let damaged = |e: Box<dyn std::error::Error + Send + Sync>| {
        error!(Weights, "entry {} of the zip archive is damaged", entry.name_raw().escape_ascii())
            .source(e)
    };
    let mut reader = BufReader::new(source.cursor());
    // PyTorch can write archives without valid checksums (`torch.serialization.set_crc32_options`).
    let options = ZipReadOptions::new().ignore_crc32(true);
    let mut inflating =
        entry.as_ref().with_reader(&mut reader, options).map_err(|e| damaged(e.into()))?;
    let mut out = Vec::new();
    let len = entry.size();
    if out.try_reserve_exact(len as usize).is_err() {
        return Err(Error::new(
            crate::ErrorKind::OutOfMemory,
            format!("could not allocate {}", format_bytes(len)),
        ));
    }
    inflating.by_ref().take(len).read_to_end(&mut out).map_err(|e| damaged(e.into()))?;
    if out.len() as u64 != len {
        return Err(damaged(
            format!(
                "it inflates to {}, expected {}",
                format_bytes(out.len() as u64),
                format_bytes(len)
            )
            .into(),
        ));
    }
    Ok(out)
}
