//! Powers of p and q against the powers of each alone.

use super::terms::{Real, Term};

#[inline(always)]
pub(super) fn term<R: Real>(alpha: f64, beta: f64, log_p: R, log_q: R) -> Term<R> {
    let sum = R::of(alpha + beta);
    let both = (R::of(alpha) * log_p + R::of(beta) * log_q).exp();
    let (p, q) = ((sum * log_p).exp(), (sum * log_q).exp());
    let [of_p, of_q, of_both] = [beta * (alpha + beta), alpha * (alpha + beta), alpha * beta].map(|x| R::of(1.0 / x));
    Term { value: of_p * p + of_q * q - of_both * both, slope: R::of(1.0 / alpha) * (q - both) }
}
