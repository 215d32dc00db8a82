//! KL against a mixture that has some of the first distribution in it, so that it stays finite.

use super::terms::{Real, Term};

/// p log(p / m), m = lambda p + (1 - lambda) q.
#[inline(always)]
pub(super) fn forward<R: Real>(lambda: f64, log_p: R, log_q: R) -> Term<R> {
    let (p, q) = (log_p.exp(), R::of(1.0 - lambda) * log_q.exp());
    let m = R::of(lambda) * p + q;
    match p > R::ZERO {
        true => Term { value: p * (log_p - m.ln()), slope: -p * q / m },
        false => Term { value: R::ZERO, slope: R::ZERO },
    }
}

/// q log(q / m), m = lambda q + (1 - lambda) p.
#[inline(always)]
pub(super) fn reverse<R: Real>(lambda: f64, log_p: R, log_q: R) -> Term<R> {
    let q = log_q.exp();
    let ours = R::of(lambda) * q;
    let m = ours + R::of(1.0 - lambda) * log_p.exp();
    let value = q * (log_q - m.ln());
    match q > R::ZERO {
        true => Term { value, slope: value + q - ours * q / m },
        false => Term { value: R::ZERO, slope: R::ZERO },
    }
}
