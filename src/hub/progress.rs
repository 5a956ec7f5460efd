//! What a client reports while it works.

use std::path::Path;
use std::time::Duration;

/// A step of a download, or something that the user should know about it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A download begins or is resumed.
    Started {
        /// Name of the file in its repository.
        file: &'a str,
        /// Repository, as `OWNER/NAME`, and the host that it is from.
        source: &'a str,
        /// Bytes present from an earlier, interrupted download.
        resumed: u64,
        /// Size of the file in bytes, if the hub states it.
        size: Option<u64>,
    },
    /// More of the file is present.
    Advanced {
        /// Number of bytes present, including those of earlier downloads. It decreases if the
        /// download has to start over.
        bytes: u64,
    },
    /// The file is complete, verified and in the cache.
    Finished {
        /// Path in the cache.
        path: &'a Path,
    },
    /// Another process downloads the same file, and this one waits for it.
    Waiting {
        /// Name of the file in its repository.
        file: &'a str,
        /// Lock file that the other process holds.
        lock: &'a Path,
    },
    /// A request failed and is repeated after a pause.
    Retrying {
        /// What failed.
        reason: &'a str,
        /// Length of the pause.
        pause: Duration,
    },
    /// The cached file is used, although the hub could not be asked whether there is a newer one.
    Offline {
        /// Why the hub could not be asked.
        reason: &'a str,
        /// Path in the cache.
        path: &'a Path,
    },
}

/// Receives the events of a client.
pub type Progress<'p> = dyn FnMut(Event<'_>) + 'p;
