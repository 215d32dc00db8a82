//! Mean of (z_p / T - z_q / T)² over the cells.

use super::has_mass;
use crate::loss::{ChunkTerm, DeviceTargets, Student};
use burn::tensor::Tensor;

pub(super) fn rows(centred: bool, student: &Student, teacher: &DeviceTargets, term: &ChunkTerm) -> Option<Tensor<2>> {
    let tempered = teacher.at(&term.teacher, term.step.tail);
    let (temperature, outside) = &student.views[term.view];
    let [log_z, mean, _] = teacher.raw.as_ref()?;
    // Their log-probabilities are relative to the log-partition at T = 1.
    let theirs = if centred { log_z.clone() - mean.clone() } else { log_z.clone() };
    let theirs = term.teacher.divide(theirs) + tempered.log_total.clone();
    let ours = match &student.all {
        Some(all) if centred => temperature.divide(all.logits.clone().mean_dim(1)),
        _ => outside.zeros_like(),
    };
    let off = temperature.divide(student.kept.clone()?) - ours.clone() - tempered.log_probs - theirs.clone();
    let counts = match &teacher.counts {
        None => off.ones_like().detach(),
        Some(counts) => counts.clone(),
    };
    // A place without a class is far off in a way that no count of 0 mends in f32.
    let off = off * teacher.presence();
    let squares = (off.clone() * off * counts.clone()).sum_dim(1);
    let cells = counts.sum_dim(1);
    let Some(log_mass) = tempered.log_mass else { return Some(squares / cells) };
    let is_there = has_mass(&log_mass);
    let off = (outside.clone() - ours - log_mass - theirs) * is_there.clone();
    Some((squares + off.clone() * off) / (cells + is_there))
}
