//! beta p log(p / m) + (1 - beta) q log(q / m), m = beta p + (1 - beta) q.

use super::log_mix;
use burn::tensor::Tensor;

pub(super) fn cells(beta: f64, log_p: Tensor<2>, log_q: Tensor<2>) -> Tensor<2> {
    let log_m = log_mix(beta, log_p.clone(), log_q.clone());
    let part = |log_x: Tensor<2>, share: f64| log_x.clone().exp() * (log_x - log_m.clone()) * share;
    part(log_p, beta) + part(log_q, 1.0 - beta)
}
