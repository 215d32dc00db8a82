//! q log(q / p).

use super::terms::{Real, Term};

#[inline(always)]
pub(super) fn term<R: Real>(log_p: R, log_q: R) -> Term<R> {
    let q = log_q.exp();
    let value = if q > R::ZERO { q * (log_q - log_p) } else { R::ZERO };
    Term { value, slope: value + q }
}
