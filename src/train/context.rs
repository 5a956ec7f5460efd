//! Context of a run: everything it needs besides its recipe.

use crate::error::{Result, error};
use crate::exec::Device;
use crate::thread;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

/// Interval at which a waiting thread checks for a stop request.
const POLL: Duration = Duration::from_millis(50);

/// Device, threads and other settings of a run that are not part of its recipe.
#[derive(Clone, Copy)]
pub struct RunContext<'a> {
    /// Device to train on.
    pub device: &'a Device,
    /// Number of threads that prepare batches; 0 lets the loader choose.
    pub workers: usize,
    /// Command line, for the log.
    pub command: &'a str,
    /// Stop flag. Once set, starting or resuming a run fails early, before anything is written.
    pub stop: Option<&'a AtomicBool>,
}

impl RunContext<'_> {
    /// Returns an error if a stop was requested.
    pub(crate) fn check(&self) -> Result<()> {
        if self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
            return Err(error!(Training, "stopped before the first step; nothing was changed"));
        }
        Ok(())
    }

    /// Runs `work` on another thread and returns its result. Returns an error once a stop is
    /// requested, and abandons the thread, since it may be blocked on a disk that does not respond.
    pub(crate) fn wait_for<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (done, waiting) = sync_channel(1);
        thread::spawn("to set up the run", move || {
            // Fails after a stop: the receiver is gone.
            let _ = done.send(work());
        })?;
        loop {
            self.check()?;
            match waiting.recv_timeout(POLL) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(error!(Data, "the reading thread panicked"));
                }
            }
        }
    }

    /// Name of the device, for comparison of runs. The number of threads does not affect results.
    pub(super) fn device_name(&self) -> String {
        if self.device.is_cpu() { "CPU".to_owned() } else { self.device.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_ends_a_wait_that_would_not_end() {
        let stop = AtomicBool::new(false);
        let context =
            RunContext { device: &Device::Cpu, workers: 0, command: "", stop: Some(&stop) };
        assert_eq!(context.wait_for(|| Ok(3)).unwrap(), 3);
        let (_never, waiting) = sync_channel::<()>(1);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(POLL);
                stop.store(true, Ordering::Relaxed);
            });
            let stalled = context.wait_for(move || Ok(waiting.recv().is_ok()));
            assert!(stalled.unwrap_err().to_string().contains("stopped before the first step"));
        });
        assert!(context.check().is_err());
    }
}
