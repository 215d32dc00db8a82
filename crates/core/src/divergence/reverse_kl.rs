//! q log(q / p).

use super::cells::{Cell, Real};

#[inline(always)]
pub(super) fn cell<R: Real>(log_p: R, log_q: R) -> Cell<R> {
    let q = log_q.exp();
    let value = if q > R::ZERO { q * (log_q - log_p) } else { R::ZERO };
    Cell { value, slope: value + q }
}
