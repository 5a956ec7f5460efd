//! Ctrl-C.

use crate::error::{Result, error};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flag that Ctrl-C sets, saying `message`. A second Ctrl-C ends the program at once.
pub(super) fn on_interrupt(message: &'static str) -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    let handler = move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        anstream::eprintln!("\n{message}; once more ends at once");
    };
    ctrlc::set_handler(handler).map_err(|e| error!(Io, "Ctrl-C cannot be caught: {e}"))?;
    Ok(stop)
}
