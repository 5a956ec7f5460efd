//! A reserve for the command line's last allocations.
//!
//! Large buffers are checked and allocated fallibly, but strings, tables and libraries allocate
//! small pieces infallibly, and Rust aborts the process if one of those fails. With a limit on the
//! address space (`ulimit -v`) that limit is real, and every program has a band of limits in which
//! some small piece is the first to fail. The reserve turns such an abort into an error: it is given
//! up for the piece that failed, and from then on no memory counts as available, so the next check
//! returns an error of kind `OutOfMemory`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::time::Duration;

/// Size of the reserve in bytes: more than reporting an error and exiting takes.
const BYTES: usize = 16 << 20;
/// Allocations from this size on are expected to be fallible, so their failure may be returned.
const LARGE: usize = 4 << 20;
const LAYOUT: Layout = match Layout::from_size_align(BYTES, 4096) {
    Ok(layout) => layout,
    Err(_) => panic!("invariant: the layout is valid"),
};

static RESERVE: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
static EXHAUSTED: AtomicBool = AtomicBool::new(false);
#[cfg(all(unix, feature = "cli"))]
static EXITING: AtomicBool = AtomicBool::new(false);
/// Set once the reserve is in use.
static ON_EXIT: OnceLock<fn()> = OnceLock::new();
/// Attempts of a small allocation after the reserve was given up, and the time between them.
const ATTEMPTS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(2);

/// The system's allocator, with a reserve for small allocations once `arm` was called.
pub struct ReserveAllocator;

// SAFETY: all methods forward to `System`, with the layouts that they were given; a retry after a
// null pointer is a new call.
unsafe impl GlobalAlloc for ReserveAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract is that of `System`.
        or_from_reserve(layout.size(), || unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`.
        or_from_reserve(layout.size(), || unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as in `alloc`; every pointer comes from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as in `dealloc`; a failed `realloc` leaves the block as it was.
        or_from_reserve(size, || unsafe { System.realloc(pointer, layout, size) })
    }
}

/// Returns what `allocate` returns; if that is null, releases the reserve and tries once more.
fn or_from_reserve(size: usize, allocate: impl Fn() -> *mut u8) -> *mut u8 {
    let pointer = allocate();
    if pointer.is_null() { retry(size, allocate) } else { pointer }
}

#[cold]
fn retry(size: usize, allocate: impl Fn() -> *mut u8) -> *mut u8 {
    let reserve = RESERVE.swap(ptr::null_mut(), Ordering::AcqRel);
    if !reserve.is_null() {
        // SAFETY: `hold` allocated it with this layout, and the swap made this call its only owner.
        unsafe { System.dealloc(reserve, LAYOUT) };
        let pointer = allocate();
        if pointer.is_null() && size >= LARGE {
            // Too large for the reserve as well: keep it for smaller pieces.
            hold();
            return pointer;
        }
        EXHAUSTED.store(true, Ordering::Release);
        if !pointer.is_null() {
            return pointer;
        }
    }
    if size < LARGE && ON_EXIT.get().is_some() {
        // Another thread may have taken what the reserve gave up, and return it in a moment.
        for _ in 0..ATTEMPTS {
            std::thread::sleep(PAUSE);
            let pointer = allocate();
            if !pointer.is_null() {
                EXHAUSTED.store(true, Ordering::Release);
                return pointer;
            }
        }
        exit();
    }
    ptr::null_mut()
}

/// Allocates the reserve and keeps it for small allocations. `on_exit` is called before the process
/// exits because even the reserve is used up; it must not allocate.
pub(crate) fn arm(on_exit: fn()) {
    ON_EXIT.get_or_init(|| on_exit);
    hold();
}

/// Allocates the reserve, unless it is held already. Returns whether it is held.
fn hold() -> bool {
    if !RESERVE.load(Ordering::Acquire).is_null() {
        return true;
    }
    // SAFETY: the layout has a size above zero.
    let reserve = unsafe { System.alloc(LAYOUT) };
    if reserve.is_null() {
        return false;
    }
    let held =
        RESERVE.compare_exchange(ptr::null_mut(), reserve, Ordering::AcqRel, Ordering::Acquire);
    if held.is_err() {
        // SAFETY: allocated above, and owned by nobody else, since another thread was faster.
        unsafe { System.dealloc(reserve, LAYOUT) };
    }
    true
}

/// Whether the reserve was given up and cannot be replaced yet.
pub(crate) fn is_exhausted() -> bool {
    if !EXHAUSTED.load(Ordering::Acquire) {
        return false;
    }
    let exhausted = !hold();
    EXHAUSTED.store(exhausted, Ordering::Release);
    exhausted
}

/// Ends the process with an error instead of an abort: the reserve is used up and a small
/// allocation failed, so nothing that allocates can run any more.
fn exit() {
    #[cfg(all(unix, feature = "cli"))]
    {
        const MESSAGE: &[u8] =
            b"error: out of memory; raise the limit on memory (`ulimit -v`) or process less\n";
        // Once, also if `on_exit` allocates after all or another thread gets here.
        if !EXITING.swap(true, Ordering::AcqRel) {
            // SAFETY: the buffer is valid for its length.
            unsafe { libc::write(2, MESSAGE.as_ptr().cast(), MESSAGE.len()) };
            if let Some(on_exit) = ON_EXIT.get() {
                on_exit();
            }
        }
        // SAFETY: `_exit` runs no handlers, which might allocate.
        unsafe { libc::_exit(1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// One test, since the reserve belongs to the process.
    #[test]
    fn the_reserve_is_given_up_for_a_failed_piece_and_replaced_later() {
        let fails = Cell::new(1);
        let piece = 8 as *mut u8;
        let allocate = || {
            fails.set(fails.get() - 1);
            if fails.get() >= 0 { ptr::null_mut() } else { piece }
        };
        assert!(or_from_reserve(100, allocate).is_null(), "there is no reserve before `hold`");
        assert!(hold() && hold());
        fails.set(1);
        assert_eq!(or_from_reserve(100, allocate), piece);
        assert!(EXHAUSTED.load(Ordering::Acquire) && RESERVE.load(Ordering::Acquire).is_null());
        assert!(!is_exhausted(), "memory was freed meanwhile, so the reserve is replaced");
        fails.set(2);
        assert!(or_from_reserve(1 << 30, allocate).is_null(), "too large for the reserve");
        assert!(!RESERVE.load(Ordering::Acquire).is_null(), "and it is kept");
    }
}
