//! The threads that share the work on the processor.

use crate::error::{Error, ErrorKind, Result, error};
use std::io;
use std::sync::mpsc;
use std::thread;

/// Threads that the program starts beside those of the pool: to read, to write, to wait for signals.
const BESIDE: usize = 4;

/// Starts as many threads as there are processors (or as `RAYON_NUM_THREADS` states), or as many as the system gives.
///
/// Left to itself, the pool starts with its first work, and panics where one of its threads cannot be started.
///
/// # Errors
/// Where the system gives too few threads for any work.
pub(super) fn start() -> Result<()> {
    let stated = std::env::var("RAYON_NUM_THREADS").ok().and_then(|text| text.parse().ok()).filter(|&n: &usize| n > 0);
    let wanted = stated.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    let (started, refused) = startable(wanted.saturating_add(BESIDE));
    let count = match refused {
        None => wanted,
        Some(_) if started > BESIDE => started - BESIDE,
        Some(e) => {
            let needed = BESIDE + 1;
            return Err(Error::new(ErrorKind::OutOfMemory, format!("{started} threads can be started, {needed} are needed"))
                .source(e)
                .advice("raise the limits on memory and processes (`ulimit -v`, `ulimit -u`)"));
        }
    };
    if count < wanted {
        log::warn!("{count} threads can be started, not {wanted}: the limits on memory or processes are low");
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(count)
        .build_global()
        .map_err(|e| error!(OutOfMemory, "{count} threads could not be started: {e}"))
}

/// How many threads can run at once, up to `wanted`, and why no more. All have ended when this returns.
fn startable(wanted: usize) -> (usize, Option<io::Error>) {
    thread::scope(|scope| {
        let mut waiting = Vec::new();
        for _ in 0..wanted {
            let (release, released) = mpsc::channel::<()>();
            // It ends when the other end is dropped.
            match thread::Builder::new().spawn_scoped(scope, move || {
                let _ = released.recv();
            }) {
                Ok(_) => waiting.push(release),
                Err(e) => return (waiting.len(), Some(e)),
            }
        }
        (waiting.len(), None)
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
