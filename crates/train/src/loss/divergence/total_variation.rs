//! ½ |p - q|.

use burn::tensor::Tensor;

pub(super) fn cells(log_p: Tensor<2>, log_q: Tensor<2>) -> Tensor<2> {
    (log_p.exp() - log_q.exp()).abs() * 0.5
}
