//! Ctrl-C, and the other termination signals that `ctrlc` is built for.

/// Calls `action` on the first termination signal. The second one exits immediately.
pub fn on_stop(action: impl Fn() + Send + 'static) {
    let mut signaled = false;
    let handler = move || {
        if std::mem::replace(&mut signaled, true) {
            std::process::exit(130);
        }
        action();
    };
    // Without a handler the first signal terminates the program, which is acceptable.
    if let Err(e) = ctrlc::set_handler(handler) {
        eprintln!("could not install the Ctrl-C handler: {e}");
    }
}
