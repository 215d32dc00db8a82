//! KL of the label against all others, and KL among the others alone.

use super::has_mass;
use crate::loss::student::NOWHERE;
use crate::loss::{ChunkTerm, DeviceTargets, Student, log_sum_exp};
use burn::tensor::Tensor;

pub(super) fn rows(
    label: f64,
    others: f64,
    student: &Student,
    teacher: &DeviceTargets,
    term: &ChunkTerm,
) -> Option<Tensor<2>> {
    let tempered = teacher.at(&term.teacher, term.step.tail);
    let log_q = student.log_probs(term.view)?;
    let is_label = teacher.is_label.clone()?;
    let is_other = teacher.presence() - is_label.clone();
    let (mut log_p_cells, mut log_q_cells) = (tempered.log_probs.clone(), log_q.kept.clone());
    let mut is_cell = is_other;
    if let Some(log_mass) = tempered.log_mass {
        is_cell = Tensor::cat(vec![is_cell, has_mass(&log_mass)], 1);
        log_p_cells = Tensor::cat(vec![log_p_cells, log_mass], 1);
        log_q_cells = Tensor::cat(vec![log_q_cells, log_q.other], 1);
    }
    let away = (is_cell.clone() - 1.0) * -NOWHERE;
    let log_p_others = log_sum_exp(log_p_cells.clone() + away.clone());
    let log_q_others = log_sum_exp(log_q_cells.clone() + away);
    let off = log_p_cells.clone() - log_p_others.clone() - (log_q_cells - log_q_others.clone());
    let share = (log_p_cells - log_p_others.clone()).exp() * is_cell.clone();
    let among_others = (share * (off * is_cell)).sum_dim(1);
    let the_label = |x: Tensor<2>| (x * is_label.clone()).sum_dim(1);
    let (log_p, log_q) = (the_label(tempered.log_probs), the_label(log_q.kept));
    let against = log_p.clone().exp() * (log_p - log_q) + log_p_others.clone().exp() * (log_p_others - log_q_others);
    Some(against * label + among_others * others)
}
