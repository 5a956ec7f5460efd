//! What went wrong on a device apart from the calls themselves: its loss, or an uncaptured error.

use crate::error::ErrorKind;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The cause of errors of a device, reported by wgpu's callbacks on any thread.
#[derive(Default)]
pub(super) struct Fault {
    state: Mutex<State>,
    lost: Condvar,
}

#[derive(Default)]
struct State {
    cause: Option<(ErrorKind, String)>,
    /// Whether it was examined if the device is lost, which takes time.
    is_examined: bool,
}

impl Fault {
    /// Records the loss of the device. On a lost device everything fails, so the loss replaces any
    /// earlier error.
    pub(super) fn report_loss(&self, text: String) {
        self.state().cause = Some((ErrorKind::DeviceLost, text));
        self.lost.notify_all();
    }

    /// Records an error, unless there is an earlier one.
    pub(super) fn report(&self, kind: ErrorKind, text: String) {
        self.state().cause.get_or_insert((kind, text));
    }

    /// Returns whether the device is known to be lost.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self.state().cause, Some((ErrorKind::DeviceLost, _)))
    }

    /// Waits until the device is known to be lost, for at most `timeout`. In browsers it does not
    /// wait: callbacks run on the page's only thread.
    pub(super) fn wait_for_loss(&self, timeout: Duration) -> bool {
        if cfg!(target_arch = "wasm32") {
            return self.is_lost();
        }
        let is_present =
            |state: &mut State| !matches!(state.cause, Some((ErrorKind::DeviceLost, _)));
        let state = self.state();
        let waited = self.lost.wait_timeout_while(state, timeout, is_present);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Returns the cause of errors, if there is one. The first time that it is not a loss,
    /// `examine` is called, which returns after a loss was reported if there is one.
    pub(super) fn cause(&self, examine: impl FnOnce()) -> Option<(ErrorKind, String)> {
        let mut state = self.state();
        let (kind, _) = state.cause.as_ref()?;
        if *kind != ErrorKind::DeviceLost && !std::mem::replace(&mut state.is_examined, true) {
            drop(state);
            examine();
            state = self.state();
        }
        state.cause.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_examined_once_and_a_loss_replaces_it() {
        let fault = Fault::default();
        assert_eq!(fault.cause(|| unreachable!()), None);
        fault.report(ErrorKind::Device, "first".into());
        fault.report(ErrorKind::Device, "second".into());
        let mut examined = 0;
        for _ in 0..2 {
            let cause = fault.cause(|| examined += 1);
            assert_eq!(cause, Some((ErrorKind::Device, "first".into())));
        }
        assert_eq!((examined, fault.is_lost()), (1, false));
        assert!(!fault.wait_for_loss(Duration::ZERO));
        fault.report_loss("gone".into());
        assert!(fault.is_lost() && fault.wait_for_loss(Duration::MAX));
        assert_eq!(fault.cause(|| unreachable!()), Some((ErrorKind::DeviceLost, "gone".into())));
    }

    #[test]
    fn a_loss_that_another_thread_reports_ends_the_wait() {
        let fault = Fault::default();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| fault.wait_for_loss(Duration::from_secs(60)));
            fault.report_loss("gone".into());
            assert!(waiting.join().unwrap());
        });
    }

    #[test]
    fn an_examination_that_finds_a_loss_changes_the_cause() {
        let fault = Fault::default();
        fault.report(ErrorKind::OutOfMemory, "full".into());
        let cause = fault.cause(|| fault.report_loss("gone".into()));
        assert_eq!(cause, Some((ErrorKind::DeviceLost, "gone".into())));
    }
}
