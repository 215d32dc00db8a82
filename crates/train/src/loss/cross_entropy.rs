//! The observed label.

use super::log_sum_exp;
use burn::tensor::{Int, Tensor};

/// -log q(label). logits: \[n, vocabulary\]; gold: \[n, 1\]; output: \[n, 1\].
pub fn cross_entropy(logits: Tensor<2>, gold: Tensor<2, Int>) -> Tensor<2> {
    log_sum_exp(logits.clone()) - logits.gather(1, gold)
}
