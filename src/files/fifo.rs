//! Opening FIFOs and devices for writing.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

/// Opens a FIFO or a device for writing. A FIFO waits for its reader, until [`interrupt`] is
/// called: a plain `open` would block the exit of the program.
#[cfg(all(unix, feature = "cli"))]
pub(super) fn open(path: &Path) -> io::Result<File> {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::OpenOptionsExt;
    const POLL: std::time::Duration = std::time::Duration::from_millis(20);
    let file = loop {
        match OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(path) {
            // No reader yet.
            Err(e) if e.raw_os_error() == Some(libc::ENXIO) => {
                if interrupted::get() {
                    return Err(io::Error::other("no program reads from it"));
                }
                std::thread::sleep(POLL);
            }
            opened => break opened?,
        }
    };
    // SAFETY: the descriptor is open, and both calls only read and set its flags.
    let cleared = unsafe {
        let flags = libc::fcntl(file.as_raw_fd(), libc::F_GETFL);
        libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags & !libc::O_NONBLOCK)
    };
    if cleared == -1 { Err(io::Error::last_os_error()) } else { Ok(file) }
}

/// Opens a FIFO or a device for writing.
#[cfg(not(all(unix, feature = "cli")))]
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).open(path)
}

#[cfg(feature = "cli")]
pub(crate) use interrupted::set as interrupt;

#[cfg(feature = "cli")]
mod interrupted {
    use std::sync::atomic::{AtomicBool, Ordering};

    static INTERRUPTED: AtomicBool = AtomicBool::new(false);

    /// Ends all waits for readers of FIFOs with an error.
    pub(crate) fn set() {
        INTERRUPTED.store(true, Ordering::Relaxed);
    }

    #[cfg(unix)]
    pub(super) fn get() -> bool {
        INTERRUPTED.load(Ordering::Relaxed)
    }
}
