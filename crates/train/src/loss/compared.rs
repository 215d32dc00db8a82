//! A teacher's and a student's rows on a device, prepared for a divergence.

use crate::loss::{ChunkTerm, DeviceTargets, OnDevice, Student, Temperature, TermAtStep};
use burn::tensor::Tensor;
use logitcask_core::TailPolicy;
use logitcask_core::divergence::{Compared, Hellinger, NO_MASS, OverRows, Properties, Tempered, Terms};

/// The divergence of a term at each position, \[n, 1\].
pub fn divergence_rows(student: &Student, teacher: &DeviceTargets, term: &ChunkTerm) -> Tensor<2> {
    term.step.divergence.of_rows(&compared(student, teacher, term)).0
}

/// H² = 1 - Σ √(p q) at T = 1 with the other classes as one bucket, \[n, 1\]: the student's distance, for rules that
/// request it. `view` is the index of the student's view at T = 1.
pub fn squared_hellinger(student: &Student, teacher: &DeviceTargets, view: usize) -> Tensor<2> {
    let step = TermAtStep { divergence: Hellinger {}.into(), ..TermAtStep::FORWARD_KL };
    let term = ChunkTerm { step, teacher: Temperature::Same(1.0), view, half_view: None, slope: None };
    divergence_rows(student, teacher, &term)
}

fn compared(student: &Student, teacher: &DeviceTargets, term: &ChunkTerm) -> Compared<OnDevice> {
    let properties = &term.step.divergence;
    let tempered = teacher.at(&term.teacher, term.step.tail);
    let (temperature, outside) = &student.views[term.view];
    let log_z = student.log_z(term.view);
    let log_q = |logits: Tensor<2>| OnDevice(temperature.divide(logits) - log_z.clone());
    let kept = student.kept.clone().unwrap_or_else(|| unreachable!("a student beside a teacher has kept classes"));
    let kept_log_q = log_q(kept);
    let to_logits = || {
        let raw = teacher.raw.as_ref().unwrap_or_else(|| unreachable!("statistics are read where logits are compared"));
        let theirs = match properties.needs_mean_logit() {
            false => raw.log_z.clone(),
            true => raw.log_z.clone() - raw.mean.clone(),
        };
        // Cached log-probabilities are relative to the log-partition at T = 1.
        let theirs = term.teacher.divide(theirs) + tempered.log_total.clone().0;
        let ours = match &student.all {
            Some(all) if properties.needs_mean_logit() => {
                log_z.clone() - temperature.divide(all.logits.clone().mean_dim(1))
            }
            _ => log_z.clone(),
        };
        [OnDevice(theirs), OnDevice(ours)]
    };
    let squares = || {
        let half =
            term.half_view.unwrap_or_else(|| unreachable!("half the temperature is a view where squares are asked"));
        let (_, outside) = &student.views[half];
        let kept = ((kept_log_q.0.clone() * 2.0).exp() * teacher.presence()).sum_dim(1);
        let ours = kept + (outside.clone() - log_z.clone() * 2.0).exp();
        [teacher.sum_of_squares(&term.teacher, &tempered), OnDevice(ours)]
    };
    Compared {
        kept: Terms {
            log_p: tempered.log_probs.clone(),
            log_q: kept_log_q.clone(),
            counts: teacher.counts.clone().map(OnDevice),
        },
        outside: outside_terms(student, term, &tempered, OnDevice(outside.clone() - log_z.clone()), log_q),
        label: properties.needs_label().then(|| teacher.is_label.clone()).flatten().map(OnDevice),
        log_z: properties.needs_logits().then(to_logits),
        squares: properties.needs_squares().then(squares),
        vocab_size: student.vocab_size,
    }
}

/// `log_other` is the log-probability of all classes outside together, \[n, 1\]; `log_q` converts logits to
/// log-probabilities.
fn outside_terms(
    student: &Student,
    term: &ChunkTerm,
    tempered: &Tempered<OnDevice>,
    log_other: OnDevice,
    log_q: impl Fn(Tensor<2>) -> OnDevice,
) -> Option<Terms<OnDevice>> {
    let log_mass = tempered.log_mass.clone()?.0;
    // A row that holds every class has no term for others, whatever probability the student gives them.
    let is_there = (log_mass.clone() - NO_MASS).greater_elem(0.0).float();
    let is_each = term.step.tail == TailPolicy::Uniform && term.step.divergence.is_sum_over_classes();
    Some(match student.all.as_ref().filter(|_| is_each) {
        None => Terms { log_p: OnDevice(log_mass), log_q: log_other, counts: Some(OnDevice(is_there)) },
        Some(all) => {
            let classes = all.is_outside.clone().sum_dim(1).clamp_min(1.0);
            Terms {
                log_p: OnDevice(log_mass - classes.log()),
                log_q: log_q(all.logits.clone()),
                counts: Some(OnDevice(all.is_outside.clone() * is_there)),
            }
        }
    })
}
