//! Cache of measured choices, one file per adapter, driver and version of this crate.

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

/// Size limit of a cache file. A choice takes about 200 bytes.
const MAX_BYTES: u64 = 16 << 20;
/// Timeout for another process to write the table. A write takes milliseconds; a stopped process
/// may keep the lock forever.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// A measured choice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Choice {
    /// The kernel's label.
    pub kernel: String,
    /// Time of one run.
    pub microseconds: f64,
}

/// Identifies the device and version that all choices of a file were measured with.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Header {
    version: String,
    adapter: String,
    backend: String,
    driver: String,
    /// Debug builds keep bounds checks in shaders, which changes the timings.
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
    /// Opens the table in the file. It is empty if there is no file, or if it is damaged or from
    /// another device.
    pub(super) fn open(adapter: &AdapterSummary, path: Option<PathBuf>) -> Self {
        let device = Header::of(adapter);
        let choices = path.as_deref().map(|path| read(path, &device)).unwrap_or_default();
        Self { path, content: Content { device, choices } }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Choice> {
        self.content.choices.get(key)
    }

    /// Adds a choice, also on disk. If that fails, the choice is valid only in this process.
    pub(super) fn insert(&mut self, key: String, choice: Choice) {
        self.content.choices.insert(key, choice);
        let Some(path) = &self.path else { return };
        if let Err(e) = merge(path, &mut self.content, LOCK_TIMEOUT) {
            warn_once(path, "unwritable", || {
                format!("kernel measurements could not be cached: {e}")
            });
            // Do not try again: dozens of kernels are measured in a row.
            self.path = None;
        }
    }
}

/// Warns about a table, once per kind of problem, because every network that a program prepares
/// reopens the table.
fn warn_once(path: &Path, problem: &'static str, message: impl FnOnce() -> String) {
    static WARNED: LazyLock<Mutex<HashSet<(PathBuf, &'static str)>>> =
        LazyLock::new(Mutex::default);
    if WARNED.lock().unwrap_or_else(PoisonError::into_inner).insert((path.to_owned(), problem)) {
        let message = message();
        log::warn!("{message}");
    }
}

/// Writes the table, merged with choices that other processes have written in the meantime.
fn merge(path: &Path, content: &mut Content, timeout: Duration) -> Result<()> {
    let directory = path.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(directory)
        .map_err(|e| Error::io(directory, "could not create the directory", e))?;
    // No other process may write between reading and writing. The lock is a separate file, because
    // the table is replaced by a rename. The file is not deleted: two processes could then lock
    // different files.
    let lock_path = path.with_extension("lock");
    refuse_special(&lock_path, "a lock file")?;
    let lock =
        File::create(&lock_path).map_err(|e| Error::io(&lock_path, "could not be written", e))?;
    if let Err(e) = wait_for(&lock, timeout) {
        // Some network file systems do not support locks. A lost entry is measured again.
        log::debug!("{}: could not lock: {e}", text::path(&lock_path));
    }
    for (key, choice) in read(path, &content.device) {
        content.choices.entry(key).or_insert(choice);
    }
    atomic_write(path, |file| Ok(serde_json::to_writer_pretty(file, content)?))
    // Dropping the handle releases the lock.
}

/// Acquires a lock, or fails after `timeout`. The standard library has no lock with a timeout.
fn wait_for(lock: &File, timeout: Duration) -> std::io::Result<()> {
    let start = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(e)) => return Err(e),
            Err(TryLockError::WouldBlock) if start.elapsed() >= timeout => {
                return Err(std::io::Error::other(format!(
                    "another process held the lock for {timeout:.1?}"
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
    let ignore = |reason: String| {
        warn_once(path, "unreadable", || format!("ignoring cached kernel measurements: {reason}"));
        BTreeMap::new()
    };
    let bytes = match read_bytes(path, "a cache of kernel measurements", MAX_BYTES) {
        Ok(bytes) => bytes,
        Err(e) => return ignore(e.to_string()),
    };
    let name = text::path(path);
    match serde_json::from_slice::<Content>(&bytes) {
        Ok(content) if content.device == *device => content.choices,
        Ok(_) => ignore(format!("{name} is from another device or version")),
        Err(e) => ignore(format!(
            "{name} is damaged ({}); the next `--tune on` replaces it",
            text::excerpt(&e.to_string())
        )),
    }
}

/// Returns the path of an adapter's cache file: in the directory `ATROUS_CACHE`, else in `atrous`
/// in the user's cache directory (`XDG_CACHE_HOME`, `LOCALAPPDATA`, `~/Library/Caches` on macOS,
/// `~/.cache`). `None` if there is no such directory.
pub fn table_path(adapter: &AdapterSummary) -> Option<PathBuf> {
    let directory =
        |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let default = if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" };
    let cache = directory("ATROUS_CACHE")
        .or_else(|| directory("XDG_CACHE_HOME").map(|f| f.join("atrous")))
        .or_else(|| directory("LOCALAPPDATA").map(|f| f.join("atrous")))
        .or_else(|| directory("HOME").map(|f| f.join(default).join("atrous")))?;
    // The hash only separates the files of different devices; the header inside decides whether a
    // table is used.
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
        // A sparse file, which uses no disk space.
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert!(Table::open(&adapter(), Some(path)).content.choices.is_empty());
    }

    #[test]
    fn trouble_with_a_table_is_told_once() {
        let mut warnings = 0;
        for (path, problem) in [
            ("a", "unreadable"),
            ("a", "unreadable"),
            ("a", "unwritable"),
            ("b", "unreadable"),
            ("a", "unreadable"),
        ] {
            warn_once(Path::new(path), problem, || {
                warnings += 1;
                String::new()
            });
        }
        assert_eq!(warnings, 3);
    }

    #[test]
    fn writers_at_the_same_time_lose_no_choice() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tune.json");
        const WRITERS: usize = 8;
        const CHOICES: usize = 12;
        // A lock belongs to an open file, so threads with separate tables behave like processes.
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
