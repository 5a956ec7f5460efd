//! Fallible thread creation ([`std::thread::spawn`] panics if the system cannot create a thread), and
//! blocking a thread on a device.

use crate::error::{Error, ErrorKind, Result, error};
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::thread::{Builder, JoinHandle};
#[cfg(feature = "cli")]
use std::thread::{Scope, ScopedJoinHandle};

/// Runs a future that waits only for a device to completion.
///
/// # Errors
/// Returns the error of the future. In browsers, where blocking is impossible, also returns an
/// error if the future is not ready.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    if cfg!(not(target_arch = "wasm32")) {
        // The future is usually ready when first polled. But if several threads wait for a device,
        // one of them may receive the notification for another, and forward it a moment later.
        return pollster::block_on(future);
    }
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(error!(Usage, "cannot block on a device in a browser")
            .advice("use the asynchronous functions")),
    }
}

/// Starts a thread. `purpose` completes "could not start a thread ...": "to read images".
///
/// # Errors
/// Returns an error of kind [`ErrorKind::OutOfMemory`] if a limit on memory or processes prevents
/// it.
pub(crate) fn spawn<T: Send + 'static>(
    purpose: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>> {
    Builder::new().name(name(purpose)).spawn(work).map_err(|e| spawn_error(purpose, e))
}

/// Like [`spawn`], for a thread that ends with `scope`.
///
/// # Errors
/// Returns an error under the same conditions as [`spawn`].
#[cfg(feature = "cli")]
pub(crate) fn spawn_scoped<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    purpose: &str,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>> {
    Builder::new()
        .name(name(purpose))
        .spawn_scoped(scope, work)
        .map_err(|e| spawn_error(purpose, e))
}

/// Returns the thread name that debuggers and panic messages show.
fn name(purpose: &str) -> String {
    purpose.trim_start_matches("to ").to_owned()
}

fn spawn_error(purpose: &str, source: io::Error) -> Error {
    Error::new(ErrorKind::OutOfMemory, format!("could not start a thread {purpose}"))
        .source(source)
        .advice("raise the limits on memory and processes (`ulimit -v`, `ulimit -u`)")
}

#[cfg(all(test, feature = "cli"))]
mod tests {
    #[test]
    fn a_thread_carries_its_purpose_as_its_name() {
        let name = || std::thread::current().name().map(str::to_owned);
        assert_eq!(
            super::spawn("to read images", name).unwrap().join().unwrap().as_deref(),
            Some("read images")
        );
        let scoped = std::thread::scope(|scope| {
            super::spawn_scoped(scope, "to write", name).unwrap().join().unwrap()
        });
        assert_eq!(scoped.as_deref(), Some("write"));
    }
}
