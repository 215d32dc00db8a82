//! p log(p / q).

use super::terms::{Real, Term};

#[inline(always)]
pub(super) fn term<R: Real>(log_p: R, log_q: R) -> Term<R> {
    let p = log_p.exp();
    Term { value: if p > R::ZERO { p * (log_p - log_q) } else { R::ZERO }, slope: -p }
}
