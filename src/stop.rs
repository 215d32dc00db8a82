//! Ctrl-C: the first one stops the work at its next checkpoint, the second one ends the program immediately.

use std::sync::atomic::{AtomicBool, Ordering};

static STOP: AtomicBool = AtomicBool::new(false);

/// A flag that is set by the first Ctrl-C or SIGTERM.
pub fn flag() -> &'static AtomicBool {
    // Fails if the handler is already installed.
    let _ = ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        crate::output::note!("\nstopping at the next checkpoint; press Ctrl-C again to end immediately");
    });
    &STOP
}

/// Whether the flag is set.
pub fn was_asked() -> bool {
    STOP.load(Ordering::Relaxed)
}
