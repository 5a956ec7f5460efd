//! Decoding, the network, and writing at the same time: while one picture is on the device, the next is decoded and the one before
//! is written.

use crate::cli::interrupt::POLL;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;

/// Pictures that may wait between two stages. More would only take memory.
pub(super) const WAITING: usize = 2;

/// Takes all that `decoded` gives through `network` to `write`, in order, each stage on a thread of its own. It ends where nothing more comes, or
/// `write` breaks off.
pub(super) fn overlapped<A: Send, B: Send>(
    decoded: impl Iterator<Item = A> + Send,
    mut network: impl FnMut(A) -> B + Send,
    mut write: impl FnMut(B) -> ControlFlow<()>,
) {
    std::thread::scope(|scope| {
        let (to_network, pictures) = sync_channel::<A>(WAITING);
        let (to_write, found) = sync_channel::<B>(WAITING);
        // Whoever finds nobody listening any more ends, so breaking off ends all.
        scope.spawn(move || {
            for picture in decoded {
                if to_network.send(picture).is_err() {
                    return;
                }
            }
        });
        scope.spawn(move || {
            for picture in pictures {
                if to_write.send(network(picture)).is_err() {
                    return;
                }
            }
        });
        for result in found {
            if write(result).is_break() {
                return;
            }
        }
    });
}

/// As [`overlapped`], for a source that may wait for ever for what comes next (a pipe, another program). Once `stop` is set nothing more is
/// read, and what was read before is taken to the end. Nobody waits for the source then, nor where `write` breaks off: its thread is left
/// behind.
pub(super) fn interruptible<A: Send + 'static, B: Send>(
    decoded: impl Iterator<Item = A> + Send + 'static,
    stop: &Arc<AtomicBool>,
    mut network: impl FnMut(A) -> B + Send,
    mut write: impl FnMut(B) -> ControlFlow<()>,
) {
    let (to_network, pictures) = sync_channel::<A>(WAITING);
    let flag = stop.clone();
    let mut reader = Some(std::thread::spawn(move || {
        // A signal reaches the other end of a pipe too: what it leaves broken is no error.
        for picture in decoded.take_while(|_| !flag.load(Ordering::Relaxed)) {
            if to_network.send(picture).is_err() {
                return;
            }
        }
    }));
    let broken = &AtomicBool::new(false);
    let mut next = move || loop {
        match pictures.recv_timeout(POLL) {
            Ok(picture) => return Some(picture),
            Err(RecvTimeoutError::Timeout) if stop.load(Ordering::Relaxed) || broken.load(Ordering::Relaxed) => return None,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                // A reader that panicked must not pass for one that is done.
                if let Some(Err(panic)) = reader.take().map(JoinHandle::join) {
                    std::panic::resume_unwind(panic);
                }
                return None;
            }
        }
    };
    std::thread::scope(|scope| {
        let broken = Breaks(broken);
        let (to_write, found) = sync_channel::<B>(WAITING);
        scope.spawn(move || {
            while let Some(picture) = next() {
                if to_write.send(network(picture)).is_err() {
                    return;
                }
            }
        });
        for result in found {
            if write(result).is_break() {
                break;
            }
        }
        drop(broken);
    });
}

/// Tells the other stages that nobody writes any more, also where that is because of a panic.
struct Breaks<'a>(&'a AtomicBool);

impl Drop for Breaks<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::time::{Duration, Instant};

    #[test]
    fn order_is_kept_and_breaking_off_ends_all_stages() {
        let (mut seen, read) = (Vec::new(), AtomicUsize::new(0));
        let source = || (0..1000).inspect(|_| _ = read.fetch_add(1, Ordering::Relaxed));
        overlapped(
            source(),
            |n| 2 * n,
            |n| {
                seen.push(n);
                ControlFlow::Continue(())
            },
        );
        assert_eq!(seen, (0..1000).map(|n| 2 * n).collect::<Vec<_>>());
        read.store(0, Ordering::Relaxed);
        let mut left = 10;
        overlapped(
            source(),
            |n| n,
            |_| {
                left -= 1;
                if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            },
        );
        assert!(read.load(Ordering::Relaxed) < 30, "no stage ran far ahead");
    }

    /// `many` numbers, and then nothing, without an end.
    fn stalling(many: usize) -> impl Iterator<Item = usize> + Send + 'static {
        (0..).inspect(move |n| {
            if *n == many {
                std::thread::sleep(Duration::from_secs(1000));
            }
        })
    }

    #[test]
    fn a_source_that_stalls_does_not_delay_the_end() {
        let begun = Instant::now();
        let stop = Arc::new(AtomicBool::new(false));
        let (flag, mut seen) = (stop.clone(), Vec::new());
        interruptible(
            stalling(5),
            &stop,
            |n| n,
            |n| {
                seen.push(n);
                if n == 4 {
                    flag.store(true, Ordering::Relaxed);
                }
                ControlFlow::Continue(())
            },
        );
        assert_eq!(seen, [0, 1, 2, 3, 4], "what was read before the signal is taken to the end");
        interruptible(
            stalling(5),
            &Arc::default(),
            |n| n,
            |n| if n == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) },
        );
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }

    #[test]
    fn a_source_that_panics_is_not_taken_for_one_that_ends() {
        let source = (0..3).inspect(|n| assert!(*n < 2, "the decoder has a bug"));
        let run = || interruptible(source, &Arc::default(), |n| n, |_| ControlFlow::Continue(()));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err());
    }
}
