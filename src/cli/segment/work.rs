//! Decoding, the network, and writing at the same time: while one picture is on the device, the next is decoded and the one before
//! is written. Pictures and clips share it.

use std::ops::ControlFlow;
use std::sync::mpsc::sync_channel;

/// Pictures that may wait between two stages. More would only take memory.
const WAITING: usize = 2;

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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

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
}
