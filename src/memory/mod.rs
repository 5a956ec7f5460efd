//! Main memory: checking what is available before allocating, and tracking reservations.
//!
//! The memory of graphs on the CPU, and the host memory of graphs on a device, is checked before
//! anything is allocated: against the limit of [`set_limit`] if one is set, otherwise against the
//! available memory. Allocations after the check are still fallible, so that running out of memory
//! is an error of kind [`OutOfMemory`](crate::ErrorKind::OutOfMemory).
//!
//! Zeroed memory occupies no pages until it is written. So memory promised to a graph that has not
//! run yet still counts as available for the system; a reservation keeps track of it.

#[cfg(feature = "cli")]
mod reserve;
mod system;

#[cfg(feature = "cli")]
pub use reserve::ReserveAllocator;
#[cfg(feature = "cli")]
pub(crate) use reserve::arm as arm_reserve;

use crate::error::{Error, Result, error};
use bytemuck::Zeroable;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use system::Free;

/// 1 / `MARGIN` of the available memory is left for decoded images, stacks, and other programs.
const MARGIN: u64 = 16;
/// Minimum and maximum margin of the machine's memory, in bytes.
const MARGIN_OF_MEMORY: (u64, u64) = (32 << 20, 1 << 30);
/// Minimum and maximum margin of the process's address space, which no other program uses. Without
/// a margin, small infallible allocations in libraries would abort the program.
const MARGIN_OF_PROCESS: (u64, u64) = (16 << 20, 128 << 20);

/// The ledger of the process.
static LEDGER: Mutex<Ledger> = Mutex::new(Ledger { limit: None, reserved: 0, pending: 0 });

#[derive(Debug, Clone, Copy)]
struct Ledger {
    limit: Option<u64>,
    /// Bytes of all reservations.
    reserved: u64,
    /// Bytes of reservations that the system does not count as used yet.
    pending: u64,
}

/// Sets the maximum number of bytes that all prepared graphs of this process may use together,
/// including their inputs and outputs, on the CPU and on devices. With `None`, the default, it is
/// the main memory available when a graph is prepared. Weights and decoded images are not included.
///
/// The limit applies to the whole process. Graphs already prepared keep their memory. A limit above
/// the available memory is honored; the system may then swap or kill the process.
pub fn set_limit(bytes: Option<u64>) {
    ledger().limit = bytes;
}

/// Returns the limit set with [`set_limit`].
pub fn limit() -> Option<u64> {
    ledger().limit
}

/// Returns the number of bytes that a graph prepared now may use. `None` if no limit is set and the
/// available memory is unknown, as on all systems but Linux.
pub fn available() -> Option<u64> {
    ledger().available(Free::now()).map(|available| available.bytes)
}

fn ledger() -> MutexGuard<'static, Ledger> {
    LEDGER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Memory available for allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Available {
    /// Number of bytes.
    pub bytes: u64,
    /// Whether the number is bounded by [`set_limit`].
    pub is_limit: bool,
}

impl fmt::Display for Available {
    /// Formats as `4000 MiB of memory are available`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.bytes >> 20;
        if self.is_limit {
            write!(f, "the memory limit leaves {mib} MiB")
        } else {
            write!(f, "{mib} MiB of memory are available")
        }
    }
}

impl Ledger {
    fn available(&self, free: Free) -> Option<Available> {
        #[cfg(feature = "cli")]
        if reserve::is_exhausted() {
            return Some(Available { bytes: 0, is_limit: false });
        }
        let after_margin = |bytes: u64, (min, max)| {
            let margin = (bytes / MARGIN).clamp(min, max);
            Available {
                bytes: bytes.saturating_sub(margin).saturating_sub(self.pending),
                is_limit: false,
            }
        };
        let memory = match self.limit {
            Some(limit) => {
                Some(Available { bytes: limit.saturating_sub(self.reserved), is_limit: true })
            }
            None => free.memory.map(|bytes| after_margin(bytes, MARGIN_OF_MEMORY)),
        };
        // The limit does not replace the limits of the process.
        let process = free.process.map(|bytes| after_margin(bytes, MARGIN_OF_PROCESS));
        [memory, process].into_iter().flatten().min_by_key(|available| available.bytes)
    }
}

/// A reservation of memory, released when it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    bytes: u64,
    is_used: AtomicBool,
}

impl Reservation {
    /// Reserves `bytes` if they and `transient` bytes, which are only needed temporarily, are
    /// available. Otherwise returns the available memory as the error.
    pub(crate) fn new(bytes: u64, transient: u64) -> Result<Self, Available> {
        let mut ledger = ledger();
        match ledger.available(Free::now()) {
            Some(available) if bytes.saturating_add(transient) > available.bytes => Err(available),
            _ => {
                ledger.reserved = ledger.reserved.saturating_add(bytes);
                ledger.pending = ledger.pending.saturating_add(bytes);
                Ok(Self { bytes, is_used: AtomicBool::new(false) })
            }
        }
    }

    /// Reserves `bytes` of a device's own memory, for which [`set_limit`] is the only known limit.
    pub(crate) fn on_device(bytes: u64) -> Result<Self, Available> {
        let mut ledger = ledger();
        match ledger.available(Free::default()) {
            Some(available) if bytes > available.bytes => Err(available),
            _ => {
                ledger.reserved = ledger.reserved.saturating_add(bytes);
                Ok(Self { bytes, is_used: AtomicBool::new(true) })
            }
        }
    }

    /// Marks the memory as written, so that the system now counts it as used.
    pub(crate) fn mark_used(&self) {
        if !self.is_used.swap(true, Ordering::Relaxed) {
            let mut ledger = ledger();
            ledger.pending = ledger.pending.saturating_sub(self.bytes);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.mark_used();
        let mut ledger = ledger();
        ledger.reserved = ledger.reserved.saturating_sub(self.bytes);
    }
}

/// Checks that `bytes` are available, for allocations not covered by the limit; `what` describes
/// them in the error ("decoding").
///
/// # Errors
/// Returns an error of kind `OutOfMemory` if they are not.
pub(crate) fn check(bytes: u64, what: impl fmt::Display) -> Result<()> {
    let ledger = *ledger();
    let free = Free::now();
    // A limit above the available memory is honored here too.
    let free = if ledger.limit.is_some() { Free { memory: None, ..free } } else { free };
    match (Ledger { limit: None, ..ledger }).available(free) {
        Some(available) if bytes > available.bytes => {
            Err(error!(OutOfMemory, "{what} needs {}, but {available}", mib(bytes)))
        }
        _ => Ok(()),
    }
}

/// Like [`check`], for many small allocations, which can also use address space that the allocator
/// has already reserved.
#[cfg(feature = "cli")]
pub(crate) fn check_small_allocations(bytes: u64, what: impl fmt::Display) -> Result<()> {
    check(bytes, what)
        .or_else(|e| if system::allocator_reserve() >= bytes { Ok(()) } else { Err(e) })
}

/// Returns the remaining address space of the process if it is limited.
#[cfg(feature = "cli")]
pub(crate) fn address_space() -> Option<u64> {
    Free::now().process
}

/// Allocates zeros, which occupy no pages until they are written.
///
/// # Errors
/// Returns an error of kind `OutOfMemory` if the allocation fails.
pub(crate) fn zeros<T: Zeroable>(len: usize) -> Result<Vec<T>> {
    bytemuck::allocation::try_zeroed_vec(len).map_err(|()| allocation_failed(len, size_of::<T>()))
}

/// Allocates an empty vector with capacity for `len` elements.
///
/// # Errors
/// As for [`zeros`].
pub(crate) fn with_capacity<T>(len: usize) -> Result<Vec<T>> {
    let mut values = Vec::new();
    values.try_reserve_exact(len).map_err(|_| allocation_failed(len, size_of::<T>()))?;
    Ok(values)
}

/// Copies a slice.
/// # Errors
/// As for [`zeros`].
pub(crate) fn copy<T: Copy>(values: &[T]) -> Result<Vec<T>> {
    let mut copy = with_capacity(values.len())?;
    copy.extend_from_slice(values);
    Ok(copy)
}

/// Collects the `len` values of an iterator.
///
/// # Errors
/// As for [`zeros`].
pub(crate) fn collect<T>(len: usize, values: impl IntoIterator<Item = T>) -> Result<Vec<T>> {
    let mut all = with_capacity(len)?;
    all.extend(values);
    Ok(all)
}

fn allocation_failed(len: usize, size: usize) -> Error {
    error!(OutOfMemory, "could not allocate {}", mib((len as u64).saturating_mul(size as u64)))
}

/// Formats bytes as MiB, rounded up.
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
        let ledger = |limit, reserved, pending| Ledger { limit, reserved, pending };
        assert_eq!(ledger(None, 0, 0).available(NONE), None);
        assert_eq!(
            ledger(None, 5 * GIB, 0).available(free),
            Some(Available { bytes: 15 * GIB, is_limit: false })
        );
        assert_eq!(
            ledger(None, 5 * GIB, 5 * GIB).available(free),
            Some(Available { bytes: 10 * GIB, is_limit: false })
        );
        assert_eq!(
            ledger(Some(32 * GIB), 5 * GIB, 5 * GIB).available(free),
            Some(Available { bytes: 27 * GIB, is_limit: true })
        );
        let bound = Free { process: Some(GIB), ..free };
        assert_eq!(
            ledger(Some(32 * GIB), 0, 0).available(bound),
            Some(Available { bytes: GIB - GIB / 16, is_limit: false })
        );
        assert_eq!(
            ledger(Some(0), 0, 0).available(bound),
            Some(Available { bytes: 0, is_limit: true })
        );
        assert_eq!(
            ledger(None, 0, 0).available(Free { memory: Some(1), process: None }).unwrap().bytes,
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
        let available = Reservation::new(u64::MAX, 0).unwrap_err();
        assert!(available.bytes > 0 && !available.is_limit, "{available}");
        assert_eq!(check(1 << 60, "it").unwrap_err().kind(), crate::ErrorKind::OutOfMemory);
        let reserved = Reservation::new(1 << 20, 0).unwrap();
        reserved.mark_used();
        reserved.mark_used();
    }
}
