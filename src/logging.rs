//! Prints the events of the libraries on standard error, if `-v`, `-vv` or `RUST_LOG` is given.

use crate::output::{self, note};
use crate::progress;
use clap::{ArgAction, Args};
use std::io::{self, Write};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

/// Prefix of the targets of the program's and its libraries' events.
const OWN: &str = "logitcask";
/// Name of the variable that selects events, in `tracing`'s notation: `debug`, `logitcask_cache=debug,info`.
const FILTER: &str = "RUST_LOG";

/// How much a command reports about its work.
#[derive(Clone, Copy, Debug, Args)]
pub struct Verbosity {
    /// Report on standard error what is done and how long it took; -vv also reports every shard and unit
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// Print only results and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

/// Starts printing the requested events. To be called once, before any work.
pub fn start(verbosity: Verbosity) {
    if verbosity.quiet {
        output::quieten();
        return;
    }
    let level = match verbosity.verbose {
        0 => None,
        1 => Some(LevelFilter::INFO),
        _ => Some(LevelFilter::DEBUG),
    };
    let named = targets();
    if level.is_none() && named.is_none() {
        return;
    }
    // RUST_LOG comes second: its level for a single library overrides the level of -v, which is for all of them.
    let mut targets = Targets::new().with_targets(level.map(|level| (OWN, level)));
    if let Some(named) = named {
        targets = named.default_level().map_or(targets.clone(), |level| targets.with_default(level));
        targets = targets.with_targets(named);
    }
    let events = fmt::layer().with_ansi(false).with_timer(fmt::time::uptime()).with_writer(|| BesideBar);
    tracing_subscriber::registry().with(events.with_filter(targets)).init();
}

/// The events that [`FILTER`] selects, if it is set.
fn targets() -> Option<Targets> {
    let text = std::env::var(FILTER).ok().filter(|text| !text.is_empty())?;
    text.parse().inspect_err(|error| note!("{FILTER}={text} is not used: {error}")).ok()
}

/// Standard error, with the progress bar hidden while an event is written.
struct BesideBar;

impl Write for BesideBar {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        // An error of standard error is ignored, as for every note.
        let _ = progress::beside_bar(|| io::stderr().lock().write_all(event));
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
