//! The thread pool of the CPU executor.

use crate::error::{Error, ErrorKind, Result, error};
use crate::memory;
use crate::ops::product;
use crate::text;
use std::io;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;

/// Threads that the program starts beside the pool: to read, to write, to wait for signals.
const BESIDE: usize = 4;

/// Minimum of available memory in bytes: below it, small infallible allocations could fail.
const LEAST: u64 = 40 << 20;
/// Additional minimum per thread of the pool, which keeps a cache-sized block for matrix products.
const LEAST_OF_THREAD: u64 = 2 << 20;

/// Address space in bytes of a thread's stack and allocator arena. If the address space is limited,
/// threads get at most half of it.
const OF_THREAD: u64 = 66 << 20;

/// Starts the thread pool with one thread per core, or `RAYON_NUM_THREADS`, or as many as the
/// system allows.
///
/// By default the pool starts with its first task and panics if a thread cannot be started.
///
/// # Errors
/// Returns an error if the system allows too few threads or too little memory.
pub(super) fn start() -> Result<()> {
    let stated = std::env::var("RAYON_NUM_THREADS")
        .ok()
        .and_then(|text| text.parse().ok())
        .filter(|&n: &usize| n > 0);
    let wanted = stated.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    let room = memory::address_space()
        .map_or(usize::MAX, |bytes| usize::try_from(bytes / 2 / OF_THREAD).unwrap_or(usize::MAX));
    let wanted = wanted.min(room.max(1));
    let (started, refused) = startable(wanted.saturating_add(BESIDE));
    let count = match refused {
        None => wanted,
        Some(_) if started > BESIDE => started - BESIDE,
        Some(e) => {
            let needed = BESIDE + 1;
            return Err(Error::new(
                ErrorKind::OutOfMemory,
                format!("{} can be started, {needed} are needed", text::count(started, "thread")),
            )
            .source(e)
            .advice("raise the limits on memory and processes (`ulimit -v`, `ulimit -u`)"));
        }
    };
    if count < wanted {
        log::warn!(
            "{} can be started, not {wanted}: the limits on memory or processes are low",
            text::count(count, "thread")
        );
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(count)
        .build_global()
        .map_err(|e| error!(OutOfMemory, "{count} threads could not be started: {e}"))?;
    let least = LEAST + LEAST_OF_THREAD * count as u64;
    memory::check_small_allocations(least, "the program")
        .map_err(|e| e.advice("raise the limit on memory (`ulimit -v`)"))?;
    rayon::broadcast(|_| settle());
    memory::arm_reserve(crate::files::remove_temporaries);
    if let Some(bytes) = memory::available() {
        log::debug!("{} MiB of memory are available", bytes >> 20);
    }
    Ok(())
}

/// Makes a thread allocate its block for matrix products now, so that it is counted before graphs
/// are checked against the available memory.
fn settle() {
    /// Rows and columns of a product large enough to use the block.
    const SIDE: usize = 64;
    let (ones, mut out) = ([1.0; SIDE * SIDE], [0.0; SIDE * SIDE]);
    product(&mut out, &ones, &ones, (SIDE, SIDE, SIDE));
}

/// Returns how many threads can run at once, up to `wanted`, and the error of the first that could
/// not start. All have ended when this returns.
fn startable(wanted: usize) -> (usize, Option<io::Error>) {
    // They allocate nothing: the allocator would reserve address space for each.
    let (counted, changed) = (Mutex::new(false), Condvar::new());
    let wait = || {
        let mut done = counted.lock().unwrap_or_else(PoisonError::into_inner);
        while !*done {
            done = changed.wait(done).unwrap_or_else(PoisonError::into_inner);
        }
    };
    thread::scope(|scope| {
        let (mut started, mut refused) = (0, None);
        while started < wanted && refused.is_none() {
            match thread::Builder::new().spawn_scoped(scope, wait) {
                Ok(_) => started += 1,
                Err(e) => refused = Some(e),
            }
        }
        *counted.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
        (started, refused)
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn threads_that_can_be_started_are_counted() {
        let (count, refused) = super::startable(5);
        assert!(count == 5 && refused.is_none(), "{count} {refused:?}");
    }
}
