//! Ctrl-C, and the other signals that end a program where `ctrlc` is built for them.

/// Calls `act` at the first signal to end. The second one ends the program at once.
pub fn on_stop(act: impl Fn() + Send + 'static) {
    let mut told = false;
    let handler = move || {
        if std::mem::replace(&mut told, true) {
            std::process::exit(130);
        }
        act();
    };
    // Without a handler the first signal ends the program, as it would anyway.
    if let Err(e) = ctrlc::set_handler(handler) {
        eprintln!("interrupts end the program at once: {e}");
    }
}
