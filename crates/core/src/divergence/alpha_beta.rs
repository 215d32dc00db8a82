//! Powers of p and q against the powers of each alone.

use super::cells::Cell;

pub(super) fn cell(alpha: f64, beta: f64, log_p: f64, log_q: f64) -> Cell {
    let sum = alpha + beta;
    let both = (alpha * log_p + beta * log_q).exp();
    let (p, q) = ((sum * log_p).exp(), (sum * log_q).exp());
    Cell { value: (alpha * p + beta * q) / (alpha * beta * sum) - both / (alpha * beta), slope: (q - both) / alpha }
}
