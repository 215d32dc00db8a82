//! ½ (√p - √q)².

use super::cells::Cell;

pub(super) fn cell(log_p: f64, log_q: f64) -> Cell {
    let (root_p, root_q) = ((0.5 * log_p).exp(), (0.5 * log_q).exp());
    Cell { value: 0.5 * (root_p - root_q).powi(2), slope: 0.5 * root_q * (root_q - root_p) }
}
