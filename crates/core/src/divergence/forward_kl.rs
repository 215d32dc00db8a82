//! p log(p / q).

use super::cells::{Cell, Real};

#[inline(always)]
pub(super) fn cell<R: Real>(log_p: R, log_q: R) -> Cell<R> {
    let p = log_p.exp();
    Cell { value: if p > R::ZERO { p * (log_p - log_q) } else { R::ZERO }, slope: -p }
}
