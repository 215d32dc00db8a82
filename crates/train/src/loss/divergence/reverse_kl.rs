//! q log(q / p).

use burn::tensor::Tensor;

pub(super) fn cells(log_p: Tensor<2>, log_q: Tensor<2>) -> Tensor<2> {
    log_q.clone().exp() * (log_q - log_p)
}
