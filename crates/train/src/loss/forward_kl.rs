//! Forward KL from truncated targets.

use crate::batch::{SoftTargets, float_tensor, int_tensor};
use burn::tensor::Tensor;

/// Smallest mass a student is credited outside the kept classes: 1 - Σ q is only good to f32's rounding there.
const LEAST_MASS: f32 = 1e-7;

/// Σ_kept p (log p - log q) + p_o (log p_o - log q_o), without T². Needs only the kept columns and one log-partition of
/// the student; never a dense teacher. logits, already divided by the targets' temperature: \[n, vocabulary\]; log_z,
/// their log sum exp: \[n, 1\]; output: \[n, 1\].
pub fn forward_kl(logits: Tensor<2>, log_z: Tensor<2>, targets: &SoftTargets) -> Tensor<2> {
    let device = logits.device();
    let n = logits.dims()[0];
    let shape = [n, targets.width];
    let class_ids = int_tensor(&targets.class_ids, shape, &device);
    let log_p = float_tensor(&targets.log_probs, shape, &device);
    let p = log_p.clone().exp();
    let log_q = logits.gather(1, class_ids) - log_z;
    let kept = (p.clone() * (log_p - log_q.clone())).sum_dim(1);
    let Some(log_tail) = &targets.log_tail else { return kept };

    let log_p_other = float_tensor(log_tail, [n, 1], &device);
    let q = if targets.is_ragged {
        // A place without a class stands for class 0; its q must not be counted.
        log_q.exp() * p.greater_elem(0.0).float()
    } else {
        log_q.exp()
    };
    let log_q_other = (-q.sum_dim(1) + 1.0).clamp_min(LEAST_MASS).log();
    kept + log_p_other.clone().exp() * (log_p_other - log_q_other)
}
