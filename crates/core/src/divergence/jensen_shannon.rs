//! beta p log(p / m) + (1 - beta) q log(q / m), m = beta p + (1 - beta) q.

use super::terms::{Real, Term};

#[inline(always)]
pub(super) fn term<R: Real>(beta: f64, log_p: R, log_q: R) -> Term<R> {
    let (theirs, ours) = (R::of(beta), R::of(1.0 - beta));
    let (p, q) = (log_p.exp(), log_q.exp());
    let log_m = (theirs * p + ours * q).ln();
    let part = |x: R, log_x: R| if x > R::ZERO { x * (log_x - log_m) } else { R::ZERO };
    // The terms in 1 / m of the slope cancel: beta p + (1 - beta) q over m is 1.
    let slope = ours * part(q, log_q);
    Term { value: theirs * part(p, log_p) + slope, slope }
}
