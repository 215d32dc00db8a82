//! Ctrl-C: the first one asks the work to stop at its next boundary, the second one ends the program at once.

use std::sync::atomic::{AtomicBool, Ordering};

static STOP: AtomicBool = AtomicBool::new(false);

/// The flag that work looks at; raised by the first Ctrl-C (and by SIGTERM).
pub fn flag() -> &'static AtomicBool {
    // A second call finds the handler in place, which is as good.
    let _ = ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        crate::output::note!("\nstopping at the next boundary; Ctrl-C again ends at once");
    });
    &STOP
}

/// Was the work asked to stop?
pub fn was_asked() -> bool {
    STOP.load(Ordering::Relaxed)
}
