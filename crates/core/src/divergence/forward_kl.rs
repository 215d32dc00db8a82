//! p log(p / q).

use super::cells::Cell;

pub(super) fn cell(log_p: f64, log_q: f64) -> Cell {
    let p = log_p.exp();
    Cell { value: if p > 0.0 { p * (log_p - log_q) } else { 0.0 }, slope: -p }
}
