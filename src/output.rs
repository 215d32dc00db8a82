//! Printing of results, notes and errors. A closed pipe ends the printing but not the work; the exit code reports it at
//! the end.

use indicatif::HumanCount;
use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// The first error of standard output.
static FAILED: Mutex<Option<io::Error>> = Mutex::new(None);
/// Whether notes are suppressed.
static QUIET: AtomicBool = AtomicBool::new(false);

/// Prints a line of results on standard output.
macro_rules! say {
    ($($arg:tt)*) => { $crate::output::line(format_args!($($arg)*)) };
}

/// Prints a note about the work on standard error; errors of printing are ignored.
macro_rules! note {
    ($($arg:tt)*) => { $crate::output::aside(format_args!($($arg)*)) };
}

pub(crate) use {note, say};

/// See [`say!`].
pub fn line(text: Arguments<'_>) {
    let mut failed = FAILED.lock().unwrap_or_else(PoisonError::into_inner);
    if failed.is_none() {
        let mut out = io::stdout().lock();
        *failed = writeln!(out, "{text}").and_then(|()| out.flush()).err();
    }
}

/// See [`note!`].
pub fn aside(text: Arguments<'_>) {
    if !is_quiet() {
        to_stderr(text);
    }
}

/// Prints an error on standard error, even after [`quieten`].
pub fn error(text: Arguments<'_>) {
    to_stderr(format_args!("error: {text}"));
}

fn to_stderr(text: Arguments<'_>) {
    // A closed standard error must not end hours of work.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// A count with its noun, which is given in the plural: `1 answer`, `1,200 answers`.
pub fn counted(count: u64, plural: &str) -> String {
    let noun = if count == 1 { plural.strip_suffix('s').unwrap_or(plural) } else { plural };
    format!("{} {noun}", HumanCount(count))
}

/// Suppresses all further notes.
pub fn quieten() {
    QUIET.store(true, Ordering::Relaxed);
}

/// Whether [`quieten`] was called.
pub fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// The exit code of successful work: a failure if its results could not be printed, or 141, which a shell reports for a
/// program that was ended by a closed pipe.
pub fn exit_code() -> ExitCode {
    match FAILED.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
        None => ExitCode::SUCCESS,
        Some(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::from(141),
        Some(error) => {
            self::error(format_args!("standard output: cannot print the results: {error}"));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_has_a_noun_in_the_singular() {
        assert_eq!([0, 1, 2].map(|count| counted(count, "texts")), ["0 texts", "1 text", "2 texts"]);
    }
}
