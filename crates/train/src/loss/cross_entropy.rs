//! The observed label.

use burn::tensor::{Int, Tensor};

/// -log q(label). logits: \[n, vocabulary\]; log_z, their log sum exp: \[n, 1\]; gold: \[n, 1\]; output: \[n, 1\].
pub fn cross_entropy(logits: Tensor<2>, log_z: Tensor<2>, gold: Tensor<2, Int>) -> Tensor<2> {
    log_z - logits.gather(1, gold)
}
