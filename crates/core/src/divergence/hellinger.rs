//! ½ (√p - √q)².

use super::terms::{Real, Term};

#[inline(always)]
pub(super) fn term<R: Real>(log_p: R, log_q: R) -> Term<R> {
    let half = R::of(0.5);
    let (root_p, root_q) = ((half * log_p).exp(), (half * log_q).exp());
    let difference = root_q - root_p;
    Term { value: half * difference * difference, slope: half * root_q * difference }
}
