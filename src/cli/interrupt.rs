//! Signals that end the program: Ctrl-C (SIGINT), SIGTERM and SIGHUP, all handled alike.
//!
//! A command that can stop gracefully gets a flag from [`on_interrupt`], which the first signal
//! sets. Without a flag, and at the second signal, the program exits at once. Destructors do not
//! run then, so child processes and temporary files are cleaned up here.

use crate::error::Result;
use crate::thread;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Polling interval of the flag.
pub(super) const POLL: Duration = Duration::from_millis(50);

/// Flag of the running command, and the message printed when it is set.
static GRACEFUL: Mutex<Option<(Arc<AtomicBool>, &'static str)>> = Mutex::new(None);

/// The first signal received; 0 for none.
static CAUGHT: AtomicI32 = AtomicI32::new(0);

/// Installs the handlers.
///
/// # Errors
/// Returns an error if a thread or a handler cannot be created.
pub(super) fn install() -> Result<()> {
    platform::install()
}

/// Returns a flag that the first signal sets, printing `message`. A second signal exits at once.
///
/// # Errors
/// None at present; [`install`] reports signals that cannot be caught.
pub(super) fn on_interrupt(message: &'static str) -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    *GRACEFUL.lock().unwrap_or_else(PoisonError::into_inner) = Some((stop.clone(), message));
    Ok(stop)
}

/// Returns the first signal received.
pub(super) fn caught() -> Option<i32> {
    Some(CAUGHT.load(Ordering::Relaxed)).filter(|signal| *signal != 0)
}

/// Kills child processes and removes temporary files. The process must exit right after.
pub(super) fn clean_up() {
    crate::video::kill_children();
    crate::files::remove_temporaries();
}

/// Handles a signal, on a separate thread, where it may lock and print.
fn handle(signal: i32) {
    crate::files::interrupt();
    let _ = CAUGHT.compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed);
    let graceful = GRACEFUL.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match graceful {
        Some((flag, message)) if !flag.swap(true, Ordering::Relaxed) => {
            super::console::say(&format!("\n{message}; send the signal again to exit at once"));
        }
        _ => {
            clean_up();
            platform::exit(128 + signal);
        }
    }
}

/// Runs `work` on a separate thread and returns its result, or `None` as soon as `stop` is set. The
/// thread is left behind then, so that a blocked read does not delay the exit.
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
            // The sender was dropped without a value: propagate the panic.
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

    /// Starts the thread before the handlers are installed: signals without a thread would be lost.
    pub(super) fn install() -> Result<()> {
        let failed = |e| Error::new(ErrorKind::Io, "signals cannot be caught").source(e);
        let (sender, begun) = sync_channel(1);
        ignore(libc::SIGXFSZ);
        let work = move || {
            // `nohup` ignores SIGHUP so that the program outlives the terminal.
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

    /// Ignores a signal, so that the call that causes it returns an error instead: a file larger
    /// than `ulimit -f` would end the process and leave temporary files behind.
    fn ignore(signal: i32) {
        // SAFETY: ignoring a signal installs no handler.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }

    /// Whether the process was started with the signal ignored.
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

    /// Exits without destructors and exit handlers: those of drivers may wait for work that hangs.
    pub(super) fn exit(code: i32) -> ! {
        signal_hook::low_level::exit(code)
    }
}

#[cfg(not(unix))]
mod platform {
    use crate::error::{Result, error};

    /// Reported for Ctrl-C, Ctrl-Break and a closed console.
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
