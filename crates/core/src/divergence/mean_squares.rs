//! Mean of (z_p / T - z_q / T)² over the terms; the classes outside are one, of logit log sum exp.

use super::{Comparison, Remainder, Student, TemperedRow};

pub(super) fn compare(centred: bool, student: &Student, target: &TemperedRow) -> Comparison {
    let vocab_size = student.scaled.len() as f64;
    let (mut theirs, mut ours) = (target.log_z, 0.0);
    if centred {
        theirs -= target.mean_logit;
        ours = student.scaled.iter().sum::<f64>() / vocab_size;
    }
    let mut gradient = vec![0.0; student.scaled.len()];
    let (mut loss, mut terms) = (0.0, 0.0);
    for ((&id, &log_p), &count) in target.class_ids.iter().zip(&target.log_probs).zip(&target.counts) {
        let off = student.scaled[id as usize] - ours - (log_p + theirs);
        gradient[id as usize] += 2.0 * count * off;
        loss += count * off * off;
        terms += count;
    }
    if let Remainder::Bucket { log_mass } | Remainder::Uniform { log_mass } = target.rest {
        let log_other = student.log_other();
        let off = log_other + student.log_z - ours - (log_mass + theirs);
        student.outside.iter().for_each(|&i| gradient[i] = 2.0 * off * (student.log_q[i] - log_other).exp());
        loss += off * off;
        terms += 1.0;
    }
    let shift = if centred { gradient.iter().sum::<f64>() / vocab_size } else { 0.0 };
    gradient.iter_mut().for_each(|g| *g = (*g - shift) / (terms * student.temperature));
    Comparison { loss: loss / terms, gradient }
}
