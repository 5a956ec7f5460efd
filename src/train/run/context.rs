//! What a run needs to know beside its recipe.

use crate::error::{Result, error};
use crate::exec::Device;
use crate::thread;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

/// How often a thread that waits looks whether it is to stop.
const POLL: Duration = Duration::from_millis(50);

/// What a run needs to know beside its recipe.
#[derive(Clone, Copy)]
pub struct RunContext<'a> {
    /// Where the training runs.
    pub device: &'a Device,
    /// Threads that make batches; 0 lets the loader choose.
    pub workers: usize,
    /// The command line, for the records.
    pub command: &'a str,
    /// Ends beginning or resuming early, with an error, once it is set; nothing is written then.
    pub stop: Option<&'a AtomicBool>,
}

impl RunContext<'_> {
    /// Errors once it is to stop.
    pub(crate) fn check(&self) -> Result<()> {
        match self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
            true => Err(error!(Training, "stopped before the first step; nothing was changed")),
            false => Ok(()),
        }
    }

    /// What `work` returns, made on a thread of its own. Errors once it is to stop; the thread is
    /// left to itself then, since it may wait for a disk that does not answer.
    pub(crate) fn wait_for<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (done, waiting) = sync_channel(1);
        thread::spawn("to set up the run", move || {
            // Nobody waits any more where it was stopped.
            let _ = done.send(work());
        })?;
        loop {
            self.check()?;
            match waiting.recv_timeout(POLL) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(error!(Data, "the thread that reads panicked"));
                }
            }
        }
    }

    /// The device as far as it decides about bits: the number of threads does not.
    pub(in crate::train) fn device_name(&self) -> String {
        match self.device {
            Device::Cpu => "the processor".to_owned(),
            device @ Device::Gpu(_) => device.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_for_what_never_comes_ends_when_it_is_stopped() {
        let stop = AtomicBool::new(false);
        let setting =
            RunContext { device: &Device::Cpu, workers: 0, command: "", stop: Some(&stop) };
        assert_eq!(setting.wait_for(|| Ok(3)).unwrap(), 3);
        let (_never, waiting) = sync_channel::<()>(1);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(POLL);
                stop.store(true, Ordering::Relaxed);
            });
            let stalled = setting.wait_for(move || Ok(waiting.recv().is_ok()));
            assert!(stalled.unwrap_err().to_string().contains("stopped before the first step"));
        });
        assert!(setting.check().is_err());
    }
}
