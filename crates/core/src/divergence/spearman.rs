//! 1 - correlation of ranks among the known classes.

use super::{Comparison, Student, TemperedRow};

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The teacher's ranks are whole (halves for ties), the student's 1 + Σ_j sigmoid((z_j - z_i) / T). A single class, or
/// classes that are all alike to the teacher, have no order to learn: 0.
pub(super) fn compare(student: &Student, target: &TemperedRow) -> Comparison {
    let mut gradient = vec![0.0; student.scaled.len()];
    let known: Vec<f64> = target.class_ids.iter().map(|&id| student.scaled[id as usize]).collect();
    let k = known.len();
    let middle = (k as f64 + 1.0) / 2.0;
    let rank =
        |i: usize, before: &dyn Fn(usize) -> f64| 1.0 + (0..k).filter(|j| *j != i).map(before).sum::<f64>() - middle;
    let theirs: Vec<f64> = (0..k)
        .map(|i| {
            rank(i, &|j| match target.log_probs[j].total_cmp(&target.log_probs[i]) {
                std::cmp::Ordering::Greater => 1.0,
                std::cmp::Ordering::Equal => 0.5,
                std::cmp::Ordering::Less => 0.0,
            })
        })
        .collect();
    let ours: Vec<f64> = (0..k).map(|i| rank(i, &|j| sigmoid(known[j] - known[i]))).collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let (spread, own) = (dot(&theirs, &theirs), dot(&ours, &ours));
    // Students that find all alike have no direction to go either.
    let scale = (spread * own).sqrt();
    if scale < SMALLEST {
        return Comparison { loss: if spread == 0.0 { 0.0 } else { 1.0 }, gradient };
    }
    let r = dot(&theirs, &ours) / scale;
    let slopes: Vec<f64> = theirs.iter().zip(&ours).map(|(t, o)| -t / scale + r * o / own).collect();
    for i in 0..k {
        for j in (0..k).filter(|j| *j != i) {
            let s = sigmoid(known[j] - known[i]);
            let slope = slopes[i] * s * (1.0 - s) / student.temperature;
            gradient[target.class_ids[j] as usize] += slope;
            gradient[target.class_ids[i] as usize] -= slope;
        }
    }
    Comparison { loss: 1.0 - r, gradient }
}

/// Below it there is no spread to correlate.
const SMALLEST: f64 = 1e-12;
