//! Progress with rate and remaining time: a bar on a terminal, otherwise an occasional plain line.

use crate::output::{counted, is_quiet, note};
use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressStyle, WeakProgressBar};
use std::io::IsTerminal;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Least time between plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(10);
/// The bar that is currently shown.
static ON_TERMINAL: Mutex<Option<WeakProgressBar>> = Mutex::new(None);

/// Progress of one activity, counted in `unit`s.
pub struct Progress {
    name: String,
    unit: &'static str,
    start: Instant,
    bar: Option<ProgressBar>,
    plain: Mutex<Plain>,
}

struct Plain {
    total: u64,
    done: u64,
    spoken: Instant,
    note: String,
}

impl Progress {
    /// Shows a new bar at zero, unless notes are suppressed.
    pub fn new(name: impl Into<String>, unit: &'static str, total: u64) -> Self {
        let name = name.into();
        let bar = (std::io::stderr().is_terminal() && !is_quiet()).then(|| {
            let template =
                format!("{{prefix}} {{bar:28}} {{human_pos}}/{{human_len}} {unit}, {{per_sec}}, ETA {{eta}} {{msg}}");
            let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(total).with_style(style).with_prefix(name.clone())
        });
        *on_terminal() = bar.as_ref().map(ProgressBar::downgrade);
        let start = Instant::now();
        let plain = Mutex::new(Plain { total, done: 0, spoken: start, note: String::new() });
        Self { name, unit, start, bar, plain }
    }

    /// Adds `count` to what is done.
    pub fn add(&self, count: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(count);
        }
        let Ok(mut plain) = self.plain.lock() else { return };
        plain.done += count;
        if self.bar.is_none() && plain.spoken.elapsed() >= PLAIN_EVERY {
            plain.spoken = Instant::now();
            let rate = plain.done as f64 / self.start.elapsed().as_secs_f64();
            let left = plain.total.saturating_sub(plain.done) as f64 / rate;
            let eta = match plain.done {
                0 => "not known yet".to_owned(),
                _ => HumanDuration(Duration::from_secs_f64(left.min(1e9))).to_string(),
            };
            note!(
                "{}: {}/{} {}, {}/s, ETA {eta} {}",
                self.name,
                HumanCount(plain.done),
                HumanCount(plain.total),
                self.unit,
                three_digits(rate),
                plain.note,
            );
        }
    }

    /// Subtracts `count` from the total, because another process did that part.
    pub fn less(&self, count: u64) {
        let Ok(mut plain) = self.plain.lock() else { return };
        plain.total = plain.total.saturating_sub(count);
        if let Some(bar) = &self.bar {
            bar.set_length(plain.total);
        }
    }

    /// Sets a few words that are shown beside the numbers, such as the loss.
    pub fn note(&self, note: String) {
        if let Some(bar) = &self.bar {
            bar.set_message(note);
        } else if let Ok(mut plain) = self.plain.lock() {
            plain.note = note;
        }
    }

    /// How much is done so far.
    pub fn done(&self) -> u64 {
        self.plain.lock().map_or(0, |plain| plain.done)
    }

    /// Removes the bar and reports in one line what was done, if anything; returns the wall time in seconds.
    pub fn finish(&self) -> f64 {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            *on_terminal() = None;
        }
        let (seconds, done) = (self.start.elapsed().as_secs_f64(), self.done());
        if done > 0 {
            let rate = three_digits(done as f64 / seconds.max(1e-9));
            note!("{}: {} in {seconds:.1} s, {rate}/s", self.name, counted(done, self.unit));
        }
        seconds
    }
}

/// Calls `write` while the bar is hidden, so that the two do not mix on the terminal.
pub fn beside_bar<T>(write: impl FnOnce() -> T) -> T {
    let bar = on_terminal().as_ref().and_then(WeakProgressBar::upgrade);
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

fn on_terminal() -> MutexGuard<'static, Option<WeakProgressBar>> {
    ON_TERMINAL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A rate with at least three significant digits.
fn three_digits(rate: f64) -> String {
    let decimals = if rate < 10.0 { 2 } else { usize::from(rate < 100.0) };
    format!("{rate:.decimals$}")
}
