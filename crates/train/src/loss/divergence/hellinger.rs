//! ½ (√p - √q)².

use burn::tensor::Tensor;

pub(super) fn cells(log_p: Tensor<2>, log_q: Tensor<2>) -> Tensor<2> {
    let difference = (log_p * 0.5).exp() - (log_q * 0.5).exp();
    difference.clone() * difference * 0.5
}
