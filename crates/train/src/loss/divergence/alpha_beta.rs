//! Powers of p and q against the powers of each alone.

use burn::tensor::Tensor;

pub(super) fn cells(alpha: f64, beta: f64, log_p: Tensor<2>, log_q: Tensor<2>) -> Tensor<2> {
    let sum = alpha + beta;
    let each = (log_p.clone() * sum).exp() * (1.0 / (beta * sum)) + (log_q.clone() * sum).exp() * (1.0 / (alpha * sum));
    each - (log_p * alpha + log_q * beta).exp() * (1.0 / (alpha * beta))
}
