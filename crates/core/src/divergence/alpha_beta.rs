//! Powers of p and q against the powers of each alone.

use super::cells::{Cell, Real};

#[inline(always)]
pub(super) fn cell<R: Real>(alpha: f64, beta: f64, log_p: R, log_q: R) -> Cell<R> {
    let sum = R::of(alpha + beta);
    let both = (R::of(alpha) * log_p + R::of(beta) * log_q).exp();
    let (p, q) = ((sum * log_p).exp(), (sum * log_q).exp());
    let [of_p, of_q, of_both] = [beta * (alpha + beta), alpha * (alpha + beta), alpha * beta].map(|x| R::of(1.0 / x));
    Cell { value: of_p * p + of_q * q - of_both * both, slope: R::of(1.0 / alpha) * (q - both) }
}
