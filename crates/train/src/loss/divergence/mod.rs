//! [`logitcask_core::divergence`] on tensors: one scalar function of a cell for each divergence, the same formulas.
//!
//! Log-probabilities of classes that are not there are [`NO_CLASS`]: every function here is finite at them, values and
//! slopes, so that a count of 0 makes them nothing.
//!
//! [`NO_CLASS`]: crate::batch::NO_CLASS

mod alpha_beta;
mod forward_kl;
mod hellinger;
mod jensen_shannon;
mod reverse_kl;
mod skew_kl;
mod total_variation;

use burn::tensor::Tensor;
use logitcask_core::Divergence;

/// What each cell adds. log_p, log_q: \[n, cells\], or \[n, 1\] for a teacher who finds all alike; output: \[n, cells\].
pub fn cells(divergence: Divergence, log_p: Tensor<2>, log_q: Tensor<2>) -> Tensor<2> {
    match divergence {
        Divergence::ForwardKl {} => forward_kl::cells(log_p, log_q),
        Divergence::ReverseKl {} => reverse_kl::cells(log_p, log_q),
        Divergence::JensenShannon { beta } => jensen_shannon::cells(beta, log_p, log_q),
        Divergence::SkewForwardKl { lambda } => skew_kl::forward(lambda, log_p, log_q),
        Divergence::SkewReverseKl { lambda } => skew_kl::reverse(lambda, log_p, log_q),
        Divergence::TotalVariation {} => total_variation::cells(log_p, log_q),
        Divergence::Hellinger {} => hellinger::cells(log_p, log_q),
        Divergence::AlphaBeta { alpha, beta } => alpha_beta::cells(alpha, beta, log_p, log_q),
    }
}

/// log(share e^a + (1 - share) e^b), finite where both are.
fn log_mix(share: f64, a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    let (a, b) = (a + share.ln(), b + (1.0 - share).ln());
    let max = a.clone().detach().max_pair(b.clone().detach());
    ((a - max.clone()).exp() + (b - max.clone()).exp()).log() + max
}
