//! What the commands print. Nothing that was computed is lost because nobody reads it: a pipe that closes ends the printing,
//! not the work, and the program's exit code says so at the end.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// The first thing that went wrong with standard output.
static FAILED: Mutex<Option<io::Error>> = Mutex::new(None);
/// Are lines about the work left out?
static QUIET: AtomicBool = AtomicBool::new(false);

/// A line of results, on standard output.
macro_rules! say {
    ($($arg:tt)*) => { $crate::output::line(format_args!($($arg)*)) };
}

/// A line about the work, on standard error; whether anybody reads it changes nothing.
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

/// Why the program fails, on standard error; said even where [`quieten`] was called.
pub fn error(text: Arguments<'_>) {
    to_stderr(format_args!("error: {text}"));
}

fn to_stderr(text: Arguments<'_>) {
    // Progress that nobody can see is no reason to stop hours of work.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// From now on no line about the work is printed.
pub fn quieten() {
    QUIET.store(true, Ordering::Relaxed);
}

/// Was [`quieten`] called?
pub fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// The exit code of work that went well, if its results could be printed. 141 is what a shell reports of a program that a
/// closed pipe ended.
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
