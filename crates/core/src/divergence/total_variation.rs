//! ½ |p - q|.

use super::terms::{Real, Term};

#[inline(always)]
pub(super) fn term<R: Real>(log_p: R, log_q: R) -> Term<R> {
    let (p, q, half) = (log_p.exp(), log_q.exp(), R::of(0.5));
    let sign = if q > p { half } else { -half };
    // Where both are the same any slope between the two is one; 0 is between them.
    Term { value: sign * (q - p), slope: if q == p { R::ZERO } else { sign * q } }
}
