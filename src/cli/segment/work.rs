//! A pipeline of three threads: while the network processes one image, the next is decoded and the
//! previous one is written.

use crate::cli::interrupt::POLL;
use crate::error::Result;
use crate::thread;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Maximum number of images waiting between two stages.
pub(super) const WAITING: usize = 2;

/// Maximum bytes of decoded images that are not written yet: two images of 12 megapixels, so that
/// the stages still overlap. A single image may be larger.
const IN_FLIGHT: usize = 96 << 20;

/// Passes all items of `decoded` through `network` to `write`, in order, each stage on its own
/// thread, until the items end or `write` breaks. `bytes` returns the size of an item, which limits
/// the number of items in flight.
///
/// # Errors
/// Returns an error if a thread cannot be started; nothing was written then.
pub(super) fn overlapped<A: Send, B: Send>(
    decoded: impl Iterator<Item = A> + Send,
    bytes: impl Fn(&A) -> usize + Send,
    mut network: impl FnMut(A) -> B + Send,
    mut write: impl FnMut(B) -> ControlFlow<()>,
) -> Result<()> {
    let in_flight = Arc::new(InFlight::default());
    std::thread::scope(|scope| {
        let (to_network, images) = sync_channel::<(A, Permit)>(WAITING);
        let (to_write, results) = sync_channel::<(B, Permit)>(WAITING);
        // A stage returns when its receiver is dropped, so a break ends all stages.
        thread::spawn_scoped(scope, "to decode", move || {
            for image in decoded {
                let permit = in_flight.wait_for(bytes(&image));
                if to_network.send((image, permit)).is_err() {
                    return;
                }
            }
        })?;
        thread::spawn_scoped(scope, "to run the network", move || {
            for (image, permit) in images {
                if to_write.send((network(image), permit)).is_err() {
                    return;
                }
            }
        })?;
        for (result, permit) in results {
            if write(result).is_break() {
                return Ok(());
            }
            drop(permit);
        }
        Ok(())
    })
}

/// As [`overlapped`], for a source that may block forever (a pipe, another program). Once `stop` is
/// set nothing more is read, and items read before are processed to the end. The thread of the
/// source is not joined then, nor after a break: it is left behind.
///
/// # Errors
/// As [`overlapped`].
pub(super) fn interruptible<A: Send + 'static, B: Send>(
    decoded: impl Iterator<Item = A> + Send + 'static,
    stop: &Arc<AtomicBool>,
    bytes: impl Fn(&A) -> usize + Send + 'static,
    mut network: impl FnMut(A) -> B + Send,
    mut write: impl FnMut(B) -> ControlFlow<()>,
) -> Result<()> {
    let (to_network, images) = sync_channel::<(A, Permit)>(WAITING);
    let (flag, in_flight) = (stop.clone(), Arc::new(InFlight::default()));
    let mut reader = Some(thread::spawn("to read frames", move || {
        // A signal also reaches the other end of a pipe; an item truncated by it is not an error.
        for image in decoded.take_while(|_| !flag.load(Ordering::Relaxed)) {
            let permit = in_flight.wait_for(bytes(&image));
            if to_network.send((image, permit)).is_err() {
                return;
            }
        }
    })?);
    let broken = &AtomicBool::new(false);
    let mut next = move || loop {
        match images.recv_timeout(POLL) {
            Ok(image) => return Some(image),
            Err(RecvTimeoutError::Timeout)
                if stop.load(Ordering::Relaxed) || broken.load(Ordering::Relaxed) =>
            {
                return None;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                // A panic of the reader must not look like the end of the items.
                if let Some(Err(panic)) = reader.take().map(JoinHandle::join) {
                    std::panic::resume_unwind(panic);
                }
                return None;
            }
        }
    };
    std::thread::scope(|scope| {
        let broken = Breaks(broken);
        let (to_write, results) = sync_channel::<(B, Permit)>(WAITING);
        thread::spawn_scoped(scope, "to run the network", move || {
            while let Some((image, permit)) = next() {
                if to_write.send((network(image), permit)).is_err() {
                    return;
                }
            }
        })?;
        for (result, permit) in results {
            if write(result).is_break() {
                break;
            }
            drop(permit);
        }
        drop(broken);
        Ok(())
    })
}

/// Sets the flag for the other stages when writing ends, including by a panic.
struct Breaks<'a>(&'a AtomicBool);

impl Drop for Breaks<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Bytes of the images between the decoder and the end of writing.
#[derive(Default)]
struct InFlight {
    bytes: Mutex<usize>,
    fewer: Condvar,
}

impl InFlight {
    /// Waits until `bytes` more stay below [`IN_FLIGHT`], or nothing else is in flight.
    fn wait_for(self: &Arc<Self>, bytes: usize) -> Permit {
        let held = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |held: &mut usize| *held > 0 && held.saturating_add(bytes) > IN_FLIGHT;
        let mut held = self.fewer.wait_while(held, full).unwrap_or_else(PoisonError::into_inner);
        *held = held.saturating_add(bytes);
        Permit { of: self.clone(), bytes }
    }
}

/// The bytes of one image in flight, until it is dropped.
struct Permit {
    of: Arc<InFlight>,
    bytes: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut held = self.of.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        *held = held.saturating_sub(self.bytes);
        self.of.fewer.notify_all();
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
            |_| 1,
            |n| 2 * n,
            |n| {
                seen.push(n);
                ControlFlow::Continue(())
            },
        )
        .unwrap();
        assert_eq!(seen, (0..1000).map(|n| 2 * n).collect::<Vec<_>>());
        read.store(0, Ordering::Relaxed);
        let mut left = 10;
        overlapped(
            source(),
            |_| 1,
            |n| n,
            |_| {
                left -= 1;
                if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            },
        )
        .unwrap();
        assert!(read.load(Ordering::Relaxed) < 30, "no stage ran far ahead");
    }

    #[test]
    fn large_images_do_not_pile_up_between_the_stages() {
        let (made, written, most) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        let source = (0..20).inspect(|_| {
            let in_flight =
                made.fetch_add(1, Ordering::SeqCst) + 1 - written.load(Ordering::SeqCst);
            most.fetch_max(in_flight, Ordering::SeqCst);
        });
        let write = |_| {
            std::thread::sleep(Duration::from_millis(2));
            written.fetch_add(1, Ordering::SeqCst);
            ControlFlow::Continue(())
        };
        overlapped(source, |_| IN_FLIGHT / 2, |n| n, write).unwrap();
        assert_eq!(written.into_inner(), 20, "none waits for ever");
        // Two in flight, one waiting for a permit, and one written whose permit is not dropped yet.
        assert!(most.load(Ordering::SeqCst) <= 4, "{most:?}");
        let mut count = 0;
        let write = |_| {
            count += 1;
            ControlFlow::Continue(())
        };
        overlapped(0..3, |_| 2 * IN_FLIGHT, |n| n, write).unwrap();
        assert_eq!(count, 3, "an image larger than all that may be in flight is processed alone");
    }

    /// Yields `many` numbers, then blocks.
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
            |_| 1,
            |n| n,
            |n| {
                seen.push(n);
                if n == 4 {
                    flag.store(true, Ordering::Relaxed);
                }
                ControlFlow::Continue(())
            },
        )
        .unwrap();
        assert_eq!(seen, [0, 1, 2, 3, 4], "what was read before the signal is taken to the end");
        interruptible(
            stalling(5),
            &Arc::default(),
            |_| 1,
            |n| n,
            |n| if n == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) },
        )
        .unwrap();
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }

    #[test]
    fn a_source_that_panics_is_not_taken_for_one_that_ends() {
        let source = (0..3).inspect(|n| assert!(*n < 2, "the decoder has a bug"));
        let run =
            || interruptible(source, &Arc::default(), |_| 1, |n| n, |_| ControlFlow::Continue(()));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err());
    }
}
