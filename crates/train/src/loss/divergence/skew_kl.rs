//! KL against a mixture that has some of the first distribution in it.

use super::log_mix;
use burn::tensor::Tensor;

/// p log(p / m), m = lambda p + (1 - lambda) q.
pub(super) fn forward(lambda: f64, log_p: Tensor<2>, log_q: Tensor<2>) -> Tensor<2> {
    log_p.clone().exp() * (log_p.clone() - log_mix(lambda, log_p, log_q))
}

/// q log(q / m), m = lambda q + (1 - lambda) p.
pub(super) fn reverse(lambda: f64, log_p: Tensor<2>, log_q: Tensor<2>) -> Tensor<2> {
    forward(lambda, log_q, log_p)
}
