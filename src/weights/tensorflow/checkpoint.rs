//! Checkpoints of TensorFlow (`tf.train.Saver`, version 2): an index, `NAME.index`, and the elements in
//! data files, `NAME.data-00000-of-00002`. They contain variables but no graph.

use super::super::dtype::StoredDType;
use super::super::format_bytes;
use super::super::raw::{Contents, Ignored, Location, RawTensor, Shard, Storage};
use super::super::source::Source;
use super::checksum::unmask;
use super::proto::{self, BundleEntry, BundleHeader};
use super::table::entries;
use crate::error::{Error, Result, error};
use crate::text::excerpt;
use prost::Message;
use prost::bytes::Bytes;
use std::path::{Path, PathBuf};

/// Maximum length of an index in bytes. Those of the largest networks have 0.2 MiB.
const MAX_INDEX: u64 = 64 << 20;
/// Maximum number of data files.
const MAX_SHARDS: usize = 256;

/// Opens the data file with a suffix such as `.data-00000-of-00001`.
pub(super) type Locate<'a> = &'a mut dyn FnMut(&str) -> Result<Source>;

/// Reads an index, and opens the data files that it refers to.
pub(super) fn open(index: &Source, locate: Locate) -> Result<Contents> {
    if index.len() > MAX_INDEX {
        let (len, max) = (format_bytes(index.len()), format_bytes(MAX_INDEX));
        return Err(error!(Weights, "the index has {len}, at most {max} are supported"));
    }
    let table = index.bytes(0, index.len() as usize)?;
    let mut reader = Reader::default();
    entries(&table, |key, value| reader.add(key, Bytes::copy_from_slice(value)))?;
    if reader.num_shards.is_none() {
        return Err(error!(Weights, "the index has no header: the file is damaged"));
    }
    reader.finish(locate)
}

/// An entry of the index.
struct Entry {
    name: String,
    dtype: StoredDType,
    dims: Vec<usize>,
    shard: usize,
    offset: u64,
    len: u64,
    checksum: u32,
}

#[derive(Default)]
struct Reader {
    num_shards: Option<usize>,
    entries: Vec<Entry>,
    ignored: Vec<Ignored>,
}

impl Reader {
    fn add(&mut self, key: &[u8], value: Bytes) -> Result<()> {
        if key.is_empty() {
            self.num_shards = Some(header(value)?);
            return Ok(());
        }
        let name = std::str::from_utf8(key)
            .map_err(|e| error!(Weights, "a name is not valid UTF-8").source(e))?;
        let at = |e: Error| e.at(format!("tensor `{}`", excerpt(name)));
        let entry = BundleEntry::decode(value).map_err(|e| at(proto::damaged(e)))?;
        let unsupported = match (&entry.slices, proto::dtype(entry.dtype)) {
            (Some(_), _) => Some("a tensor in slices".to_owned()),
            (None, None) => Some(format!("a tensor of type {}", proto::type_name(entry.dtype))),
            (None, Some(_)) => None,
        };
        if let Some(kind) = unsupported {
            self.ignored.push(Ignored { name: name.to_owned(), kind });
            return Ok(());
        }
        self.entries.push(self.entry(name, &entry).map_err(at)?);
        Ok(())
    }

    fn entry(&self, name: &str, entry: &BundleEntry) -> Result<Entry> {
        let dtype = proto::dtype(entry.dtype)
            .ok_or_else(|| error!(Weights, "unsupported type {}", entry.dtype))?;
        let dims = proto::fixed_shape(&entry.shape)?;
        let negative = || error!(Weights, "its location is negative");
        let shard = usize::try_from(entry.shard_id).map_err(|_| negative())?;
        let offset = u64::try_from(entry.offset).map_err(|_| negative())?;
        let len = u64::try_from(entry.size).map_err(|_| negative())?;
        let bytes = dims.iter().try_fold(dtype.size() as u64, |n, &d| n.checked_mul(d as u64));
        if bytes != Some(len) {
            return Err(error!(Weights, "{dims:?} of {dtype} does not have {}", format_bytes(len)));
        }
        match self.num_shards {
            Some(shards) if shard < shards => {}
            _ => return Err(error!(Weights, "it is in data file {shard}, which does not exist")),
        }
        let checksum = unmask(entry.crc32c);
        Ok(Entry { name: name.to_owned(), dtype, dims, shard, offset, len, checksum })
    }

    /// Opens the data files that have tensors.
    fn finish(self, locate: Locate) -> Result<Contents> {
        let total = self.num_shards.unwrap_or(0);
        let mut contents = Contents { ignored: self.ignored, ..Contents::default() };
        contents.notes.push(
            "a checkpoint has no graph: assuming no multi-grid and image values from -1 to 1; use --preprocess for others"
                .to_owned(),
        );
        let mut opened: Vec<Option<usize>> = vec![None; total];
        for entry in self.entries {
            let shard = match opened[entry.shard] {
                Some(shard) => shard,
                None => {
                    let suffix = format!(".data-{:05}-of-{total:05}", entry.shard);
                    contents.shards.push(locate(&suffix)?);
                    let shard = contents.shards.len() - 1;
                    opened[entry.shard] = Some(shard);
                    shard
                }
            };
            let source = &contents.shards[shard];
            if entry.offset.checked_add(entry.len).is_none_or(|end| end > source.len()) {
                return Err(error!(
                    Weights,
                    "tensor `{}` ends past the end of the file: the file is truncated",
                    excerpt(&entry.name)
                )
                .file(source.path()));
            }
            let location = Location::Plain(entry.offset);
            let shard = Some(Shard { index: shard, checksum: entry.checksum });
            contents.storages.push(Storage { location, len: entry.len, shard });
            let location = (contents.storages.len() - 1, 0, entry.len);
            let tensor = RawTensor::new(entry.name, entry.dtype, entry.dims, None, location)?;
            contents.tensors.push(tensor);
        }
        Ok(contents)
    }
}

/// Returns the number of data files.
fn header(value: Bytes) -> Result<usize> {
    let header = BundleHeader::decode(value).map_err(|e| {
        error!(Weights, "the index has no header of version 2").source(e).advice(
            "if the checkpoint is of version 1, load it in TensorFlow and save it with tf.train.Saver",
        )
    })?;
    if header.endianness != 0 {
        return Err(error!(Weights, "big-endian files are not supported"));
    }
    match usize::try_from(header.num_shards) {
        Ok(shards) if (1..=MAX_SHARDS).contains(&shards) => Ok(shards),
        _ => Err(error!(
            Weights,
            "{} data files, 1 to {MAX_SHARDS} are supported", header.num_shards
        )),
    }
}

/// Opens a data file beside an index on disk.
pub(super) fn beside(index: &Path, suffix: &str) -> Result<Source> {
    let Some(prefix) = strip_suffix(index, ".index") else {
        return Err(error!(Weights, "the name of a checkpoint's index must end in .index")
            .advice("rename it, so that its data files can be found"));
    };
    let path = append(&prefix, suffix);
    if !path.exists() {
        return Err(error!(Weights, "the data file `{}` is missing", crate::text::path(&path))
            .advice("a checkpoint consists of its index and all of its data files"));
    }
    Source::open(&path)
}

/// Returns the index of a checkpoint that is named by its prefix, its graph or one of its data
/// files. `None` if the path is something else.
pub(super) fn index_of(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let data = name.rsplit_once(".data-").filter(|(_, numbers)| {
        numbers.split_once("-of-").is_some_and(|(number, total)| {
            [number, total].iter().all(|n| n.len() == 5 && n.bytes().all(|b| b.is_ascii_digit()))
        })
    });
    let prefix = match data {
        Some((prefix, _)) => path.with_file_name(prefix),
        None if path.is_file() => strip_suffix(path, ".meta")?,
        None => path.to_path_buf(),
    };
    let index = append(&prefix, ".index");
    (data.is_some() || index.is_file()).then_some(index)
}

fn append(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn strip_suffix(path: &Path, suffix: &str) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?.strip_suffix(suffix)?;
    Some(path.with_file_name(name))
}
