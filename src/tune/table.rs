//! What was measured, kept in a file: one for each adapter, driver and version of this crate.

use crate::error::{Error, Result};
use crate::files::{atomic_write, read_bytes, refuse_special};
use crate::gpu::AdapterSummary;
use crate::text;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, TryLockError};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The longest table that is read. A choice takes about 200 bytes.
const MOST_BYTES: u64 = 16 << 20;
/// How long to wait for another process to write the table. One write takes milliseconds; a process
/// that was stopped may hold the lock for ever.
const PATIENCE: Duration = Duration::from_secs(2);

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
    /// The table in the file, or an empty one where there is none, or it is damaged, or it was made
    /// for another device.
    pub(super) fn open(adapter: &AdapterSummary, path: Option<PathBuf>) -> Self {
        let device = Header::of(adapter);
        let choices = path.as_deref().map(|path| read(path, &device)).unwrap_or_default();
        Self { path, content: Content { device, choices } }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Choice> {
        self.content.choices.get(key)
    }

    /// Remembers a choice, on disk too. Where that fails, the choice is good for this process
    /// alone.
    pub(super) fn insert(&mut self, key: String, choice: Choice) {
        self.content.choices.insert(key, choice);
        let Some(path) = &self.path else { return };
        if let Err(e) = merge(path, &mut self.content, PATIENCE) {
            warn_once(path, "unwritable", || {
                format!("what was measured is not kept for the next time: {e}")
            });
            // Dozens of kernels are measured in a row, and none of their choices can be written
            // either.
            self.path = None;
        }
    }
}

/// Warns about a table, once for each kind of trouble: every network that a program makes ready
/// opens the table anew.
fn warn_once(path: &Path, trouble: &'static str, words: impl FnOnce() -> String) {
    static WARNED: LazyLock<Mutex<HashSet<(PathBuf, &'static str)>>> =
        LazyLock::new(Mutex::default);
    if WARNED.lock().unwrap_or_else(PoisonError::into_inner).insert((path.to_owned(), trouble)) {
        let words = words();
        log::warn!("{words}");
    }
}

/// Writes the table with what other processes have put into the file meanwhile.
fn merge(path: &Path, content: &mut Content, patience: Duration) -> Result<()> {
    let directory = path.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(directory)
        .map_err(|e| Error::io(directory, "the directory cannot be made", e))?;
    // Between reading and writing nobody else may write. The lock is a file of its own, since the
    // table is replaced by a rename, and it is left where it is: deleting it would let two
    // processes hold a lock each.
    let lock_path = path.with_extension("lock");
    refuse_special(&lock_path, "a lock file")?;
    let lock =
        File::create(&lock_path).map_err(|e| Error::io(&lock_path, "could not be written", e))?;
    if let Err(e) = wait_for(&lock, patience) {
        // Some network directories have no locks. A lost entry is measured again.
        log::debug!("{}: no lock: {e}", text::path(&lock_path));
    }
    for (key, choice) in read(path, &content.device) {
        content.choices.entry(key).or_insert(choice);
    }
    atomic_write(path, |file| Ok(serde_json::to_writer_pretty(file, content)?))
    // The lock ends with its handle.
}

/// Takes a lock, or gives up after `patience`. The standard library has no waiting with a limit.
fn wait_for(lock: &File, patience: Duration) -> std::io::Result<()> {
    let begun = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(e)) => return Err(e),
            Err(TryLockError::WouldBlock) if begun.elapsed() >= patience => {
                return Err(std::io::Error::other(format!(
                    "another process held it for {patience:.1?}"
                )));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn read(path: &Path, device: &Header) -> BTreeMap<String, Choice> {
    if fs::symlink_metadata(path).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
        return BTreeMap::new();
    }
    let ignored = |why: String| {
        warn_once(path, "unreadable", || {
            format!("the kernels chosen by measurement are not used: {why}")
        });
        BTreeMap::new()
    };
    let bytes = match read_bytes(path, "a table of measured kernels", MOST_BYTES) {
        Ok(bytes) => bytes,
        Err(e) => return ignored(e.to_string()),
    };
    let named = text::path(path);
    match serde_json::from_slice::<Content>(&bytes) {
        Ok(content) if content.device == *device => content.choices,
        Ok(_) => ignored(format!("{named} is of another device or version")),
        Err(e) => ignored(format!(
            "{named} is damaged ({}); the next `--tune on` replaces it",
            text::excerpt(&e.to_string())
        )),
    }
}

/// Where the table of an adapter is kept: in the directory `ATROUS_CACHE`, else in `atrous` in the
/// user's cache directory (`XDG_CACHE_HOME`, `LOCALAPPDATA`, `~/Library/Caches` on macOS,
/// `~/.cache`). `None` where the user has none.
pub fn table_path(adapter: &AdapterSummary) -> Option<PathBuf> {
    let directory =
        |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let usual = if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" };
    let cache = directory("ATROUS_CACHE")
        .or_else(|| directory("XDG_CACHE_HOME").map(|f| f.join("atrous")))
        .or_else(|| directory("LOCALAPPDATA").map(|f| f.join("atrous")))
        .or_else(|| directory("HOME").map(|f| f.join(usual).join("atrous")))?;
    // The hash only keeps the files of different devices apart; the header inside decides whether a
    // table is taken.
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

    fn choice() -> Choice {
        Choice { kernel: "k".to_owned(), microseconds: 1.0 }
    }

    #[test]
    fn a_lock_that_is_held_for_ever_does_not_hang_the_tuner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tune.json");
        let held = File::create(path.with_extension("lock")).unwrap();
        held.lock().unwrap();
        let mut content = Table::open(&adapter(), None).content;
        content.choices.insert("a".to_owned(), choice());
        merge(&path, &mut content, Duration::from_millis(30)).unwrap();
        assert_eq!(Table::open(&adapter(), Some(path)).get("a"), Some(&choice()));
    }

    #[cfg(unix)]
    #[test]
    fn a_fifo_in_the_place_of_table_or_lock_does_not_hang_the_tuner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tune.json");
        let lock = path.with_extension("lock");
        for fifo in [&path, &lock] {
            assert!(std::process::Command::new("mkfifo").arg(fifo).status().unwrap().success());
        }
        let mut table = Table::open(&adapter(), Some(path.clone()));
        table.insert("a".to_owned(), choice());
        assert_eq!(
            (table.get("a"), &table.path),
            (Some(&choice()), &None),
            "kept in memory, and not tried again"
        );
    }

    #[test]
    fn a_table_that_is_longer_than_any_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tune.json");
        // Sparse: no disk is taken for it.
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert!(Table::open(&adapter(), Some(path)).content.choices.is_empty());
    }

    #[test]
    fn trouble_with_a_table_is_told_once() {
        let mut told = 0;
        for (path, trouble) in [
            ("a", "unreadable"),
            ("a", "unreadable"),
            ("a", "unwritable"),
            ("b", "unreadable"),
            ("a", "unreadable"),
        ] {
            warn_once(Path::new(path), trouble, || {
                told += 1;
                String::new()
            });
        }
        assert_eq!(told, 3);
    }

    #[test]
    fn writers_at_the_same_time_lose_no_choice() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tune.json");
        const WRITERS: usize = 8;
        const CHOICES: usize = 12;
        // A lock belongs to an open file, so threads with tables of their own are to each other as
        // processes are.
        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let mut table = Table::open(&adapter(), Some(path.clone()));
                scope.spawn(move || {
                    for i in 0..CHOICES {
                        table.insert(format!("{writer} {i}"), choice());
                    }
                });
            }
        });
        assert_eq!(Table::open(&adapter(), Some(path)).content.choices.len(), WRITERS * CHOICES);
    }
}
