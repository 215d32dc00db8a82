//! KL against a mixture that has some of the first distribution in it, so that it stays finite.

use super::cells::Cell;

/// p log(p / m), m = lambda p + (1 - lambda) q.
pub(super) fn forward(lambda: f64, log_p: f64, log_q: f64) -> Cell {
    let (p, q) = (log_p.exp(), (1.0 - lambda) * log_q.exp());
    let m = lambda * p + q;
    if p > 0.0 { Cell { value: p * (log_p - m.ln()), slope: -p * q / m } } else { Cell { value: 0.0, slope: 0.0 } }
}

/// q log(q / m), m = lambda q + (1 - lambda) p.
pub(super) fn reverse(lambda: f64, log_p: f64, log_q: f64) -> Cell {
    let q = log_q.exp();
    if q == 0.0 {
        return Cell { value: 0.0, slope: 0.0 };
    }
    let m = lambda * q + (1.0 - lambda) * log_p.exp();
    let value = q * (log_q - m.ln());
    Cell { value, slope: value + q - lambda * q * q / m }
}
