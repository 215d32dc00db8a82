//! [`logitcask_core::divergence`] on tensors, the same formulas: a scalar function of a cell, or a function of a row.
//!
//! Log-probabilities of classes that are not there are [`NO_CLASS`]: every function here is finite at them, values and
//! slopes, so that a count of 0 makes them nothing.
//!
//! [`NO_CLASS`]: crate::target_batch::NO_CLASS

mod alpha_beta;
mod decoupled;
mod forward_kl;
mod hellinger;
mod jensen_shannon;
mod mean_squares;
mod pearson;
mod reverse_kl;
mod skew_kl;
mod spearman;
mod total_variation;

use crate::loss::{ChunkTerm, DeviceTargets, Student, Temperature, TermAtStep};
use burn::tensor::Tensor;
use logitcask_core::{Divergence, TailPolicy};

/// The divergence at each position, \[n, 1\]; `None` where what it needs was not read.
pub fn rows(student: &Student, teacher: &DeviceTargets, term: &ChunkTerm) -> Option<Tensor<2>> {
    match term.step.divergence {
        Divergence::MeanSquares { centred } => mean_squares::rows(centred, student, teacher, term),
        Divergence::Decoupled { label, others } => decoupled::rows(label, others, student, teacher, term),
        Divergence::Pearson { columns } => pearson::rows(columns, student, teacher, term),
        Divergence::Spearman {} => spearman::rows(student, teacher, term),
        _ => sums(student, teacher, term),
    }
}

/// Divergences that are sums over cells.
fn sums(student: &Student, teacher: &DeviceTargets, term: &ChunkTerm) -> Option<Tensor<2>> {
    let divergence = term.step.divergence;
    let tempered = teacher.at(&term.teacher, term.step.tail);
    let log_q = student.log_probs(term.view)?;
    let kept = cells(divergence, tempered.log_probs, log_q.kept);
    let kept = match &teacher.counts {
        None => kept,
        Some(counts) => kept * counts.clone(),
    };
    let kept = kept.sum_dim(1);
    let Some(log_mass) = tempered.log_mass else { return Some(kept) };
    let is_there = has_mass(&log_mass);
    let Some(all) = student.all.as_ref().filter(|_| term.step.tail == TailPolicy::Uniform) else {
        return Some(kept + cells(divergence, log_mass, log_q.other) * is_there);
    };
    let outside = all.is_outside.clone().sum_dim(1).clamp_min(1.0);
    let log_each: Tensor<2> = (log_mass - outside.log()).expand(all.logits.dims());
    let (temperature, _) = &student.views[term.view];
    let log_q = temperature.divide(all.logits.clone()) - student.log_z(term.view);
    Some(kept + (cells(divergence, log_each, log_q) * all.is_outside.clone()).sum_dim(1) * is_there)
}

/// 1 where there are classes outside, 0 where a row holds every class: it has no cell for them, whatever the student thinks.
fn has_mass(log_mass: &Tensor<2>) -> Tensor<2> {
    log_mass.clone().greater_elem(NOTHING).float()
}

/// Log of a mass that is none: no tail that was stored is as light.
pub(super) const NOTHING: f32 = -500.0;

/// What each cell adds. log_p, log_q: \[n, cells\], or \[n, 1\] for a teacher who finds all alike; output: \[n, cells\].
fn cells(divergence: Divergence, log_p: Tensor<2>, log_q: Tensor<2>) -> Tensor<2> {
    match divergence {
        Divergence::ForwardKl {} => forward_kl::cells(log_p, log_q),
        Divergence::ReverseKl {} => reverse_kl::cells(log_p, log_q),
        Divergence::JensenShannon { beta } => jensen_shannon::cells(beta, log_p, log_q),
        Divergence::SkewForwardKl { lambda } => skew_kl::forward(lambda, log_p, log_q),
        Divergence::SkewReverseKl { lambda } => skew_kl::reverse(lambda, log_p, log_q),
        Divergence::TotalVariation {} => total_variation::cells(log_p, log_q),
        Divergence::Hellinger {} => hellinger::cells(log_p, log_q),
        Divergence::AlphaBeta { alpha, beta } => alpha_beta::cells(alpha, beta, log_p, log_q),
        Divergence::MeanSquares { .. }
        | Divergence::Decoupled { .. }
        | Divergence::Pearson { .. }
        | Divergence::Spearman {} => unreachable!("it looks at a whole row"),
    }
}

/// H² = 1 - Σ √(p q) at T = 1 under a bucket, \[n, 1\]: how far a student is, for rules that ask.
pub fn squared_hellinger(student: &Student, teacher: &DeviceTargets, view: usize) -> Option<Tensor<2>> {
    let step = TermAtStep { divergence: Divergence::Hellinger {}, ..TermAtStep::FORWARD_KL };
    let term = ChunkTerm { step, teacher: Temperature::Same(1.0), view, half_view: None, slope: None };
    sums(student, teacher, &term)
}

/// log(share e^a + (1 - share) e^b), finite where both are.
fn log_mix(share: f64, a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    let (a, b) = (a + share.ln(), b + (1.0 - share).ln());
    let max = a.clone().detach().max_pair(b.clone().detach());
    ((a - max.clone()).exp() + (b - max.clone()).exp()).log() + max
}
