//! q log(q / p).

use super::cells::Cell;

pub(super) fn cell(log_p: f64, log_q: f64) -> Cell {
    let q = log_q.exp();
    let value = if q > 0.0 { q * (log_q - log_p) } else { 0.0 };
    Cell { value, slope: value + q }
}
