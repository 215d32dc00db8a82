//! KL of the label against all others, and KL among the others alone, each with its own weight.

use super::{Comparison, Remainder, Student, TemperedRow};
use crate::math::log_sum_exp;

/// With P and Q the label's probabilities: label · (P log(P / Q) + (1 - P) log((1 - P) / (1 - Q))) + others · Σ p' log(p' / q'),
/// p' = p / (1 - P) and q' = q / (1 - Q) over the other terms. A target that does not know its label is all others.
pub(super) fn compare(label: f64, others: f64, student: &Student, target: &TemperedRow) -> Comparison {
    let mut terms: Vec<(f64, f64)> = Vec::new();
    let mut gold = None;
    for (i, (&id, &log_p)) in target.class_ids.iter().zip(&target.log_probs).enumerate() {
        match target.label == Some(i) {
            true => gold = Some((id as usize, log_p)),
            false => terms.push((log_p, student.log_q[id as usize])),
        }
    }
    let log_other = student.log_other();
    if let Remainder::Bucket { log_mass } | Remainder::Uniform { log_mass } = target.rest {
        terms.push((log_mass, log_other));
    }
    let log_p_others = log_sum_exp(&terms.iter().map(|(log_p, _)| *log_p).collect::<Vec<_>>());
    let log_q_others = log_sum_exp(&terms.iter().map(|(_, log_q)| *log_q).collect::<Vec<_>>());
    let mut slopes = vec![0.0; student.log_q.len()];
    let mut loss = 0.0;
    for (log_p, log_q) in &terms {
        let p = (log_p - log_p_others).exp();
        loss += others * if p > 0.0 { p * (log_p - log_p_others - (log_q - log_q_others)) } else { 0.0 };
    }
    // log(1 - Q) is a log-sum-exp of the other terms: its slope falls on them by their shares.
    let mut of_others = others;
    if let Some((id, log_p)) = gold {
        let (p, log_q) = (log_p.exp(), student.log_q[id]);
        loss += label * (p * (log_p - log_q) + log_p_others.exp() * (log_p_others - log_q_others));
        slopes[id] = -label * p;
        of_others -= label * log_p_others.exp();
    }
    let slope =
        |log_p: f64, log_q: f64| of_others * (log_q - log_q_others).exp() - others * (log_p - log_p_others).exp();
    for (i, (&id, &log_p)) in target.class_ids.iter().zip(&target.log_probs).enumerate() {
        if target.label != Some(i) {
            slopes[id as usize] = slope(log_p, student.log_q[id as usize]);
        }
    }
    if let Remainder::Bucket { log_mass } | Remainder::Uniform { log_mass } = target.rest {
        let slope = slope(log_mass, log_other);
        student.outside.iter().for_each(|&i| slopes[i] = slope * (student.log_q[i] - log_other).exp());
    }
    Comparison { loss, gradient: student.gradient_of_slopes(&slopes) }
}
