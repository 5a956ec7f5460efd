//! The threads that share the work on the processor.

use crate::error::{Error, ErrorKind, Result, error};
use crate::memory;
use crate::ops::product;
use std::io;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;

/// Threads that the program starts beside those of the pool: to read, to write, to wait for
/// signals.
const BESIDE: usize = 4;

/// Memory without which no work is begun: what is allocated in small pieces would end the program.
const LEAST: u64 = 40 << 20;
/// The same for each thread of the pool, where matrix products keep a block as large as a cache.
const LEAST_OF_THREAD: u64 = 2 << 20;

/// Address space that a thread's stack and its part of the allocator take: where that is limited,
/// no more than half of it goes there.
const OF_THREAD: u64 = 66 << 20;

/// Starts as many threads as there are processors (or as `RAYON_NUM_THREADS` states), or as many as
/// the system gives.
///
/// Left to itself, the pool starts with its first work, and panics where one of its threads cannot
/// be started.
///
/// # Errors
/// Where the system gives too few threads for any work.
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
                format!("{started} threads can be started, {needed} are needed"),
            )
            .source(e)
            .advice("raise the limits on memory and processes (`ulimit -v`, `ulimit -u`)"));
        }
    };
    if count < wanted {
        log::warn!(
            "{count} threads can be started, not {wanted}: the limits on memory or processes are low"
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
    if let Some(bytes) = memory::available() {
        log::debug!("{} MiB of memory are available", bytes >> 20);
    }
    Ok(())
}

/// Has a thread allocate now what it keeps for its matrix products, so that it is counted before
/// graphs are checked against what is left.
fn settle() {
    /// Rows and columns for which the product uses that memory.
    const SIDE: usize = 64;
    let (ones, mut out) = ([1.0; SIDE * SIDE], [0.0; SIDE * SIDE]);
    product(&mut out, &ones, &ones, (SIDE, SIDE, SIDE));
}

/// How many threads can run at once, up to `wanted`, and why no more. All have ended when this
/// returns.
fn startable(wanted: usize) -> (usize, Option<io::Error>) {
    // They allocate nothing: the allocator would set address space apart for each.
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
