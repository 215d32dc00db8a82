//! Ctrl-C: the first one stops the work where it can go on, the second one ends the program immediately.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

static STOP: AtomicBool = AtomicBool::new(false);
/// What the first Ctrl-C says.
static WORDS: Mutex<&str> = Mutex::new("stopping");

/// A flag that is set by the first Ctrl-C or SIGTERM, which then says `words`: what is still done, or what is lost.
pub fn flag(words: &'static str) -> &'static AtomicBool {
    *WORDS.lock().unwrap_or_else(PoisonError::into_inner) = words;
    // Fails if the handler is already installed.
    let _ = ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        let words = *WORDS.lock().unwrap_or_else(PoisonError::into_inner);
        crate::output::note!("\n{words}; press Ctrl-C again to end immediately");
    });
    &STOP
}

/// Whether the flag is set.
pub fn was_asked() -> bool {
    STOP.load(Ordering::Relaxed)
}
