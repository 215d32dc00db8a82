//! beta p log(p / m) + (1 - beta) q log(q / m), m = beta p + (1 - beta) q.

use super::cells::Cell;

pub(super) fn cell(beta: f64, log_p: f64, log_q: f64) -> Cell {
    let (p, q) = (log_p.exp(), log_q.exp());
    let log_m = (beta * p + (1.0 - beta) * q).ln();
    let part = |x: f64, log_x: f64| if x > 0.0 { x * (log_x - log_m) } else { 0.0 };
    // The terms in 1 / m of the slope cancel: beta p + (1 - beta) q over m is 1.
    let slope = (1.0 - beta) * part(q, log_q);
    Cell { value: beta * part(p, log_p) + slope, slope }
}
