//! Divergences that are sums over cells.

use super::{
    Comparison, Divergence, Rest, Student, Target, alpha_beta, forward_kl, hellinger, jensen_shannon, reverse_kl,
    skew_kl, total_variation,
};

/// What one cell adds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cell {
    /// Nats.
    pub(super) value: f64,
    /// d value / d log q.
    pub(super) slope: f64,
}

/// What a teacher's e^log_p beside a student's e^log_q adds.
fn cell(divergence: Divergence, log_p: f64, log_q: f64) -> Cell {
    match divergence {
        Divergence::ForwardKl {} => forward_kl::cell(log_p, log_q),
        Divergence::ReverseKl {} => reverse_kl::cell(log_p, log_q),
        Divergence::JensenShannon { beta } => jensen_shannon::cell(beta, log_p, log_q),
        Divergence::SkewForwardKl { lambda } => skew_kl::forward(lambda, log_p, log_q),
        Divergence::SkewReverseKl { lambda } => skew_kl::reverse(lambda, log_p, log_q),
        Divergence::TotalVariation {} => total_variation::cell(log_p, log_q),
        Divergence::Hellinger {} => hellinger::cell(log_p, log_q),
        Divergence::AlphaBeta { alpha, beta } => alpha_beta::cell(alpha, beta, log_p, log_q),
        Divergence::MeanSquares { .. }
        | Divergence::Decoupled { .. }
        | Divergence::Pearson { .. }
        | Divergence::Spearman {} => unreachable!("it looks at a whole row"),
    }
}

/// A class inside the bucket has the share q / q_other of the bucket's slope.
pub(super) fn compare(divergence: Divergence, student: &Student, target: &Target) -> Comparison {
    let log_q = &student.log_q;
    let (mut slopes, mut loss) = (vec![0.0; log_q.len()], 0.0);
    for ((&id, &log_p), &count) in target.class_ids.iter().zip(&target.log_probs).zip(&target.counts) {
        let cell = cell(divergence, log_p, log_q[id as usize]);
        slopes[id as usize] += count * cell.slope;
        loss += count * cell.value;
    }
    match target.rest {
        Rest::Nothing => {}
        Rest::Bucket { log_mass } => {
            let log_other = student.log_other();
            let cell = cell(divergence, log_mass, log_other);
            loss += cell.value;
            student.outside.iter().for_each(|&i| slopes[i] = cell.slope * (log_q[i] - log_other).exp());
        }
        Rest::Uniform { log_mass } => {
            let log_each = log_mass - (student.outside.len() as f64).ln();
            for &i in &student.outside {
                let cell = cell(divergence, log_each, log_q[i]);
                loss += cell.value;
                slopes[i] = cell.slope;
            }
        }
    }
    Comparison { loss, gradient: student.gradient_of_slopes(&slopes) }
}
