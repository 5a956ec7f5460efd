//! Main memory: what may still be taken, and by whom it will be.
//!
//! Graphs that run on the processor, and what the host keeps for those on a device, are checked
//! before anything is allocated for them: against the limit of [`set_limit`], else against the
//! memory that is available. Behind the check allocations are fallible, so that memory which runs
//! out all the same is an error of kind [`OutOfMemory`](crate::ErrorKind::OutOfMemory).
//!
//! Zeroed memory takes no pages until it is written. So what was promised to a graph that has not
//! run yet is no longer available, though the system still counts it: a reservation keeps the
//! account.

#[cfg(feature = "cli")]
mod reserve;
mod system;

#[cfg(feature = "cli")]
pub use reserve::ReserveAllocator;
#[cfg(feature = "cli")]
pub(crate) use reserve::hold as hold_reserve;

use crate::error::{Error, Result, error};
use bytemuck::Zeroable;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use system::Free;

/// Of what is available, 1 / `MARGIN` is left for decoded images, stacks, and other programs.
const MARGIN: u64 = 16;
/// No less is left of the machine's memory, and no more.
const MARGIN_OF_MEMORY: (u64, u64) = (32 << 20, 1 << 30);
/// The same of the process's address space, which nobody else takes. Below it, what libraries
/// allocate in small pieces ends the program.
const MARGIN_OF_PROCESS: (u64, u64) = (16 << 20, 128 << 20);

/// The account of the process.
static LEDGER: Mutex<Ledger> = Mutex::new(Ledger { limit: None, held: 0, pending: 0 });

#[derive(Debug, Clone, Copy)]
struct Ledger {
    limit: Option<u64>,
    /// Bytes of all reservations.
    held: u64,
    /// Those of them that the system does not count yet.
    pending: u64,
}

/// Sets how many bytes all prepared graphs of this process may take together, with their inputs and
/// outputs, on the processor and on devices; with `None`, the default, it is the main memory that
/// is available when a graph is made ready. Weights and decoded images come on top.
///
/// It holds for the whole process, since memory is the process's. Graphs that are ready already
/// keep what they have. A limit past what is available is taken at its word: then the system may
/// swap, or end the process.
pub fn set_limit(bytes: Option<u64>) {
    ledger().limit = bytes;
}

/// What [`set_limit`] was given.
pub fn limit() -> Option<u64> {
    ledger().limit
}

/// Bytes that a graph which is made ready now may take. `None` where neither a limit is set nor the
/// system states what it has: everywhere but on Linux.
pub fn available() -> Option<u64> {
    ledger().room(Free::now()).map(|room| room.bytes)
}

fn ledger() -> MutexGuard<'static, Ledger> {
    LEDGER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes that may be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// How many.
    pub bytes: u64,
    /// Whether [`set_limit`] is the reason that there are no more.
    pub is_limit: bool,
}

impl fmt::Display for Room {
    /// `4000 MiB of memory are available`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.bytes >> 20;
        match self.is_limit {
            true => write!(f, "the memory limit leaves {mib} MiB"),
            false => write!(f, "{mib} MiB of memory are available"),
        }
    }
}

impl Ledger {
    fn room(&self, free: Free) -> Option<Room> {
        #[cfg(feature = "cli")]
        if reserve::is_exhausted() {
            return Some(Room { bytes: 0, is_limit: false });
        }
        let spared = |bytes: u64, (least, most)| {
            let margin = (bytes / MARGIN).clamp(least, most);
            Room {
                bytes: bytes.saturating_sub(margin).saturating_sub(self.pending),
                is_limit: false,
            }
        };
        let own = match self.limit {
            Some(limit) => Some(Room { bytes: limit.saturating_sub(self.held), is_limit: true }),
            None => free.memory.map(|bytes| spared(bytes, MARGIN_OF_MEMORY)),
        };
        // A limit in words does not move those of the process.
        let of_process = free.process.map(|bytes| spared(bytes, MARGIN_OF_PROCESS));
        [own, of_process].into_iter().flatten().min_by_key(|room| room.bytes)
    }
}

/// Memory that was promised to somebody, and is not available to others until it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    bytes: u64,
    is_used: AtomicBool,
}

impl Reservation {
    /// Promises `bytes` that will be written soon and kept, where they and `beside` (what others
    /// allocate at once) are available; else says how many are.
    pub(crate) fn new(bytes: u64, beside: u64) -> Result<Self, Room> {
        let mut ledger = ledger();
        match ledger.room(Free::now()) {
            Some(room) if bytes.saturating_add(beside) > room.bytes => Err(room),
            _ => {
                ledger.held = ledger.held.saturating_add(bytes);
                ledger.pending = ledger.pending.saturating_add(bytes);
                Ok(Self { bytes, is_used: AtomicBool::new(false) })
            }
        }
    }

    /// Promises `bytes` of a device's own memory, of which [`set_limit`] alone is known to limit
    /// anything.
    pub(crate) fn on_device(bytes: u64) -> Result<Self, Room> {
        let mut ledger = ledger();
        match ledger.room(Free::default()) {
            Some(room) if bytes > room.bytes => Err(room),
            _ => {
                ledger.held = ledger.held.saturating_add(bytes);
                Ok(Self { bytes, is_used: AtomicBool::new(true) })
            }
        }
    }

    /// Notes that the memory was written, so that the system counts it.
    pub(crate) fn used(&self) {
        if !self.is_used.swap(true, Ordering::Relaxed) {
            let mut ledger = ledger();
            ledger.pending = ledger.pending.saturating_sub(self.bytes);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.used();
        let mut ledger = ledger();
        ledger.held = ledger.held.saturating_sub(self.bytes);
    }
}

/// Checks that `bytes` are available, for what no limit covers; `what` takes them: "decoding".
///
/// # Errors
/// Of kind `OutOfMemory`, where they are not.
pub(crate) fn check(bytes: u64, what: impl fmt::Display) -> Result<()> {
    let ledger = *ledger();
    let free = Free::now();
    // Who sets a limit past what is available is taken at their word here too.
    let free = if ledger.limit.is_some() { Free { memory: None, ..free } } else { free };
    match (Ledger { limit: None, ..ledger }).room(free) {
        Some(room) if bytes > room.bytes => {
            Err(error!(OutOfMemory, "{what} takes {}, but {room}", mib(bytes)))
        }
        _ => Ok(()),
    }
}

/// As [`check`], for what is allocated in small pieces: they also come out of what the allocator
/// has set apart.
#[cfg(feature = "cli")]
pub(crate) fn check_pieces(bytes: u64, what: impl fmt::Display) -> Result<()> {
    check(bytes, what).or_else(|e| if system::set_apart() >= bytes { Ok(()) } else { Err(e) })
}

/// Address space that the process may still take, where that is limited.
#[cfg(feature = "cli")]
pub(crate) fn address_space() -> Option<u64> {
    Free::now().process
}

/// Zeros that take no pages until they are written.
///
/// # Errors
/// Of kind `OutOfMemory`, where the system refuses.
pub(crate) fn zeros<T: Zeroable>(len: usize) -> Result<Vec<T>> {
    bytemuck::allocation::try_zeroed_vec(len).map_err(|()| refused(len, size_of::<T>()))
}

/// An empty vector with room for `len` elements.
///
/// # Errors
/// As [`zeros`].
pub(crate) fn with_capacity<T>(len: usize) -> Result<Vec<T>> {
    let mut values = Vec::new();
    values.try_reserve_exact(len).map_err(|_| refused(len, size_of::<T>()))?;
    Ok(values)
}

/// A copy.
///
/// # Errors
/// As [`zeros`].
pub(crate) fn copy<T: Copy>(values: &[T]) -> Result<Vec<T>> {
    let mut copy = with_capacity(values.len())?;
    copy.extend_from_slice(values);
    Ok(copy)
}

/// The values of an iterator, of which there are `len`.
///
/// # Errors
/// As [`zeros`].
pub(crate) fn collect<T>(len: usize, values: impl IntoIterator<Item = T>) -> Result<Vec<T>> {
    let mut all = with_capacity(len)?;
    all.extend(values);
    Ok(all)
}

fn refused(len: usize, size: usize) -> Error {
    error!(OutOfMemory, "could not allocate {}", mib((len as u64).saturating_mul(size as u64)))
}

/// Bytes in words, rounded up to whole MiB.
pub(crate) fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    const NONE: Free = Free { memory: None, process: None };

    #[test]
    fn a_limit_replaces_the_memory_available_but_not_the_limits_of_the_process() {
        let free = Free { memory: Some(16 * GIB), process: None };
        let account = |limit, held, pending| Ledger { limit, held, pending };
        assert_eq!(account(None, 0, 0).room(NONE), None);
        assert_eq!(
            account(None, 5 * GIB, 0).room(free),
            Some(Room { bytes: 15 * GIB, is_limit: false })
        );
        assert_eq!(
            account(None, 5 * GIB, 5 * GIB).room(free),
            Some(Room { bytes: 10 * GIB, is_limit: false })
        );
        assert_eq!(
            account(Some(32 * GIB), 5 * GIB, 5 * GIB).room(free),
            Some(Room { bytes: 27 * GIB, is_limit: true })
        );
        let bound = Free { process: Some(GIB), ..free };
        assert_eq!(
            account(Some(32 * GIB), 0, 0).room(bound),
            Some(Room { bytes: GIB - GIB / 16, is_limit: false })
        );
        assert_eq!(account(Some(0), 0, 0).room(bound), Some(Room { bytes: 0, is_limit: true }));
        assert_eq!(
            account(None, 0, 0).room(Free { memory: Some(1), process: None }).unwrap().bytes,
            0
        );
    }

    #[test]
    fn what_cannot_be_allocated_is_an_error_and_no_abort() {
        let most = isize::MAX as usize;
        assert_eq!(zeros::<f32>(most / 4).unwrap_err().kind(), crate::ErrorKind::OutOfMemory);
        assert_eq!(with_capacity::<u8>(most).unwrap_err().kind(), crate::ErrorKind::OutOfMemory);
        assert_eq!(
            zeros::<f32>(usize::MAX).unwrap_err().to_string(),
            format!("could not allocate {}", mib(u64::MAX))
        );
        assert_eq!((zeros::<u32>(3).unwrap(), copy(&[1, 2]).unwrap()), (vec![0; 3], vec![1, 2]));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn no_more_is_promised_than_there_is() {
        let room = Reservation::new(u64::MAX, 0).unwrap_err();
        assert!(room.bytes > 0 && !room.is_limit, "{room}");
        assert_eq!(check(1 << 60, "it").unwrap_err().kind(), crate::ErrorKind::OutOfMemory);
        let reserved = Reservation::new(1 << 20, 0).unwrap();
        reserved.used();
        reserved.used();
    }
}
