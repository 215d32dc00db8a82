//! p log(p / q).

use burn::tensor::Tensor;

pub(super) fn cells(log_p: Tensor<2>, log_q: Tensor<2>) -> Tensor<2> {
    log_p.clone().exp() * (log_p - log_q)
}
