//! ½ |p - q|.

use super::cells::Cell;

pub(super) fn cell(log_p: f64, log_q: f64) -> Cell {
    let (p, q) = (log_p.exp(), log_q.exp());
    let slope = match q.total_cmp(&p) {
        std::cmp::Ordering::Less => -0.5 * q,
        std::cmp::Ordering::Equal => 0.0,
        std::cmp::Ordering::Greater => 0.5 * q,
    };
    Cell { value: 0.5 * (p - q).abs(), slope }
}
