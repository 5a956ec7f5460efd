//! What was measured, kept in a file: one for each adapter, driver and version of this crate.

use crate::error::{Error, Result};
use crate::files::atomic_write;
use crate::gpu::AdapterSummary;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// A measured choice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Choice {
    /// The kernel's label.
    pub kernel: String,
    /// What one run took.
    pub microseconds: f64,
}

/// What a table is good for. It is the same for all choices of a file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Header {
    version: String,
    adapter: String,
    backend: String,
    driver: String,
    /// Debug builds keep bounds checks in shaders, which changes what is fastest.
    checked: bool,
}

impl Header {
    fn of(adapter: &AdapterSummary) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            adapter: adapter.name.clone(),
            backend: adapter.backend.clone(),
            driver: adapter.driver.clone(),
            checked: cfg!(debug_assertions),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Content {
    device: Header,
    choices: BTreeMap<String, Choice>,
}

pub(super) struct Table {
    path: Option<PathBuf>,
    content: Content,
}

impl Table {
    /// The table in the file, or an empty one where there is none, or it is damaged, or it was made for another device.
    pub(super) fn open(adapter: &AdapterSummary, path: Option<PathBuf>) -> Self {
        let device = Header::of(adapter);
        let choices = path.as_deref().map(|path| read(path, &device)).unwrap_or_default();
        Self { path, content: Content { device, choices } }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Choice> {
        self.content.choices.get(key)
    }

    /// Remembers a choice, on disk too. Where that fails, the choice is good for this process alone.
    pub(super) fn insert(&mut self, key: String, choice: Choice) {
        self.content.choices.insert(key, choice);
        let Some(path) = &self.path else { return };
        if let Err(e) = merge(path, &mut self.content) {
            log::warn!("what was measured is not kept for the next time: {e}");
        }
    }
}

/// Writes the table with what other processes have put into the file meanwhile.
fn merge(path: &Path, content: &mut Content) -> Result<()> {
    let folder = path.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(|e| Error::io(folder, "the folder cannot be made", e))?;
    // Between reading and writing nobody else may write. The lock is a file of its own, since the table is replaced by a rename, and
    // it is left where it is: deleting it would let two processes hold a lock each.
    let lock_path = path.with_extension("lock");
    let lock = File::create(&lock_path).map_err(|e| Error::io(&lock_path, "could not be written", e))?;
    if let Err(e) = lock.lock() {
        // Some network folders have no locks. A lost entry is measured again.
        log::debug!("{}: no lock: {e}", lock_path.display());
    }
    for (key, choice) in read(path, &content.device) {
        content.choices.entry(key).or_insert(choice);
    }
    atomic_write(path, |file| Ok(serde_json::to_writer_pretty(file, content)?))
    // The lock ends with its handle.
}

fn read(path: &Path, device: &Header) -> BTreeMap<String, Choice> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return BTreeMap::new(),
        Err(e) => {
            log::warn!("the tuner's table {} could not be read: {e}", path.display());
            return BTreeMap::new();
        }
    };
    match serde_json::from_slice::<Content>(&bytes) {
        Ok(content) if content.device == *device => content.choices,
        Ok(_) => {
            log::warn!("the tuner's table {} is of another device or version, and is ignored", path.display());
            BTreeMap::new()
        }
        Err(e) => {
            log::warn!("the tuner's table {} is damaged, and is ignored: {e}", path.display());
            BTreeMap::new()
        }
    }
}

/// Where the table of an adapter is kept: in the folder `ATROUS_CACHE`, else in `atrous` in the user's cache directory
/// (`XDG_CACHE_HOME`, `LOCALAPPDATA`, `~/Library/Caches` on macOS, `~/.cache`). `None` where the user has none.
pub fn table_path(adapter: &AdapterSummary) -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let usual = if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" };
    let cache = folder("ATROUS_CACHE")
        .or_else(|| folder("XDG_CACHE_HOME").map(|f| f.join("atrous")))
        .or_else(|| folder("LOCALAPPDATA").map(|f| f.join("atrous")))
        .or_else(|| folder("HOME").map(|f| f.join(usual).join("atrous")))?;
    // The hash only keeps the files of different devices apart; the header inside decides whether a table is taken.
    let mut hasher = DefaultHasher::new();
    Header::of(adapter).hash(&mut hasher);
    Some(cache.join(format!("tune-{:016x}.json", hasher.finish())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kernel::Caps;

    fn adapter() -> AdapterSummary {
        let text = |t: &str| t.to_owned();
        let (name, backend, kind, driver) = (text("a"), text("vulkan"), text("other"), text("1"));
        AdapterSummary { index: 0, name, backend, kind, driver, caps: Caps::PORTABLE }
    }

    #[test]
    fn writers_at_the_same_time_lose_no_choice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tune.json");
        const WRITERS: usize = 8;
        const CHOICES: usize = 12;
        // A lock belongs to an open file, so threads with tables of their own are to each other as processes are.
        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let mut table = Table::open(&adapter(), Some(path.clone()));
                scope.spawn(move || {
                    for i in 0..CHOICES {
                        table.insert(format!("{writer} {i}"), Choice { kernel: "k".to_owned(), microseconds: 1.0 });
                    }
                });
            }
        });
        assert_eq!(Table::open(&adapter(), Some(path)).content.choices.len(), WRITERS * CHOICES);
    }
}
