//! Signals that end the program: Ctrl-C (SIGINT), SIGTERM and SIGHUP, which all do the same.
//!
//! A command that can stop in good order asks for a flag with [`on_interrupt`]; the first signal
//! sets it. Without one, and with the second signal, the program ends at once. Destructors do not
//! run then, so child processes and temporary files are taken care of here.

use crate::error::Result;
use crate::thread;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often whoever waits looks at the flag.
pub(super) const POLL: Duration = Duration::from_millis(50);

/// The flag of the command that is running, and what is printed when it is set.
static GRACEFUL: Mutex<Option<(Arc<AtomicBool>, &'static str)>> = Mutex::new(None);

/// The first signal that came, 0 for none.
static CAUGHT: AtomicI32 = AtomicI32::new(0);

/// Catches the signals from here on.
///
/// # Errors
/// The system allows no thread or no handler.
pub(super) fn install() -> Result<()> {
    platform::install()
}

/// A flag that the first signal sets, printing `message`. A second signal ends the program at once.
///
/// # Errors
/// None so far; a signal that cannot be caught is reported by [`install`].
pub(super) fn on_interrupt(message: &'static str) -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    *GRACEFUL.lock().unwrap_or_else(PoisonError::into_inner) = Some((stop.clone(), message));
    Ok(stop)
}

/// The first signal that came.
pub(super) fn caught() -> Option<i32> {
    Some(CAUGHT.load(Ordering::Relaxed)).filter(|signal| *signal != 0)
}

/// Ends child processes and removes temporary files. Only for a process that ends right after it.
pub(super) fn clean_up() {
    crate::video::kill_children();
    crate::files::remove_temporaries();
}

/// Runs on a thread of its own, so that it may lock and print.
fn handle(signal: i32) {
    let _ = CAUGHT.compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed);
    let graceful = GRACEFUL.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match graceful {
        Some((flag, message)) if !flag.swap(true, Ordering::Relaxed) => {
            super::args::say(&format!("\n{message}; once more ends at once"));
        }
        _ => {
            clean_up();
            platform::exit(128 + signal);
        }
    }
}

/// What `work` returns, or `None` as soon as `stop` is set. It runs on a thread of its own, which
/// is left behind then: a read that never comes back must not hold up the exit.
pub(super) fn unless_stopped<T: Send + 'static>(
    stop: &AtomicBool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<Option<T>> {
    let (sender, done) = sync_channel(1);
    let thread = thread::spawn("to read", move || drop(sender.send(work())))?;
    loop {
        match done.recv_timeout(POLL) {
            Ok(value) => return Ok(Some(value)),
            Err(RecvTimeoutError::Timeout) if stop.load(Ordering::Relaxed) => return Ok(None),
            Err(RecvTimeoutError::Timeout) => {}
            // The sender is gone without a value: a panic, which belongs to the caller.
            Err(RecvTimeoutError::Disconnected) => match thread.join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(()) => return Ok(None),
            },
        }
    }
}

#[cfg(unix)]
mod platform {
    use crate::error::{Error, ErrorKind, Result};
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;
    use std::sync::mpsc::sync_channel;

    /// The thread begins before the signals are caught: caught ones that nobody handles would be
    /// lost.
    pub(super) fn install() -> Result<()> {
        let failed = |e| Error::new(ErrorKind::Io, "signals cannot be caught").source(e);
        let (sender, begun) = sync_channel(1);
        let work = move || {
            // `nohup` and its like have SIGHUP ignored, and the program must outlive the terminal.
            let wanted = [SIGINT, SIGTERM, SIGHUP]
                .into_iter()
                .filter(|s| *s != SIGHUP || !is_ignored(SIGHUP));
            match Signals::new(wanted) {
                Ok(mut signals) => {
                    let _ = sender.send(Ok(()));
                    signals.forever().for_each(super::handle);
                }
                Err(e) => drop(sender.send(Err(e))),
            }
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(work).map_err(failed)?;
        begun.recv().unwrap_or(Ok(())).map_err(failed)
    }

    /// Whether the process was begun with the signal ignored.
    fn is_ignored(signal: i32) -> bool {
        let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: without a new action, `sigaction` changes nothing and fills in `action`, which is
        // large enough and, being plain data, valid as zeros should it fail.
        let action = unsafe {
            libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr());
            action.assume_init()
        };
        action.sa_sigaction == libc::SIG_IGN
    }

    /// At once: neither destructors nor functions that drivers have registered for the exit, which
    /// may wait for what hangs.
    pub(super) fn exit(code: i32) -> ! {
        signal_hook::low_level::exit(code)
    }
}

#[cfg(not(unix))]
mod platform {
    use crate::error::{Result, error};

    /// Stands for Ctrl-C, Ctrl-Break and a closed console alike.
    const SIGINT: i32 = 2;

    pub(super) fn install() -> Result<()> {
        ctrlc::set_handler(|| super::handle(SIGINT))
            .map_err(|e| error!(Io, "Ctrl-C cannot be caught: {e}"))
    }

    pub(super) fn exit(code: i32) -> ! {
        std::process::exit(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn what_never_comes_back_is_left_behind_once_the_flag_is_set() {
        let stop = Arc::new(AtomicBool::new(false));
        assert_eq!(unless_stopped(&stop, || 7).unwrap(), Some(7));
        let (_never, stalled) = sync_channel::<()>(0);
        let flag = stop.clone();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            flag.store(true, Ordering::Relaxed);
        });
        let begun = Instant::now();
        assert_eq!(unless_stopped(&stop, move || stalled.recv()).unwrap(), None);
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}
