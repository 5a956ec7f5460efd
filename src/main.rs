//! The command line's entry: exit codes only.

use std::process::ExitCode;

/// Reports running out of memory as an error instead of aborting.
#[global_allocator]
static ALLOCATOR: atrous::engine::memory::ReserveAllocator =
    atrous::engine::memory::ReserveAllocator;

fn main() -> ExitCode {
    quiet_device_selection();
    atrous::cli::main()
}

/// Turns Mesa's device-selection layer off, unless the user has set it: it asks the window system
/// for its order of devices, which prints errors where there is none, and `--device` has an order
/// of its own.
fn quiet_device_selection() {
    const LAYER: &str = "NODEVICE_SELECT";
    if cfg!(target_os = "linux") && std::env::var_os(LAYER).is_none() {
        // SAFETY: this is the first thing that the program does, so no other thread reads the
        // environment meanwhile.
        unsafe { std::env::set_var(LAYER, "1") };
    }
}
