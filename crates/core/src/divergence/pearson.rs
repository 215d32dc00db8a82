//! 1 - correlation of probabilities.

use super::{Comparison, Remainder, Student, TemperedRow};
use crate::math::log_sum_exp;

/// Over the classes of a row: (Σ p q - 1/n) / √((Σ p² - 1/n) (Σ q² - 1/n)). The classes outside are equally probable in
/// Σ p q; Σ p² is that of all classes, known from the atoms.
pub(super) fn compare(student: &Student, target: &TemperedRow) -> Comparison {
    let q: Vec<f64> = student.log_q.iter().map(|lq| lq.exp()).collect();
    let mut p = vec![0.0; q.len()];
    for (&id, &log_p) in target.class_ids.iter().zip(&target.log_probs) {
        p[id as usize] = log_p.exp();
    }
    if let Remainder::Bucket { log_mass } | Remainder::Uniform { log_mass } = target.rest {
        let each = log_mass.exp() / student.outside.len() as f64;
        student.outside.iter().for_each(|&i| p[i] = each);
    }
    let inverse = 1.0 / q.len() as f64;
    let both: f64 = p.iter().zip(&q).map(|(p, q)| p * q).sum::<f64>() - inverse;
    let theirs = target.sum_of_squares - inverse;
    let ours = q.iter().map(|q| q * q).sum::<f64>() - inverse;
    let scale = (theirs * ours).max(0.0).sqrt();
    if scale < SMALLEST {
        return Comparison { loss: 1.0, gradient: vec![0.0; q.len()] };
    }
    let r = both / scale;
    let slopes: Vec<f64> = p.iter().zip(&q).map(|(p, q)| -q * p / scale + r * q * q / ours).collect();
    Comparison { loss: 1.0 - r, gradient: student.gradient_of_slopes(&slopes) }
}

/// Below it there is no spread to correlate.
const SMALLEST: f64 = 1e-12;

/// Over the positions of a batch, for each class, and the mean over classes; with the gradient at each position. `teacher`
/// has the probabilities of every class at every position, `student` the logits.
pub fn columns(teacher: &[Vec<f64>], student: &[Vec<f64>], temperature: f64) -> (f64, Vec<Vec<f64>>) {
    let softmax = |row: &Vec<f64>| -> Vec<f64> {
        let scaled: Vec<f64> = row.iter().map(|s| s / temperature).collect();
        let log_z = log_sum_exp(&scaled);
        scaled.iter().map(|s| (s - log_z).exp()).collect()
    };
    let q: Vec<Vec<f64>> = student.iter().map(softmax).collect();
    let classes = q.first().map_or(0, Vec::len);
    let mut slopes = vec![vec![0.0; classes]; q.len()];
    let mut loss = 0.0;
    for class in 0..classes {
        let column = |rows: &[Vec<f64>]| -> Vec<f64> {
            let mean = rows.iter().map(|row| row[class]).sum::<f64>() / rows.len() as f64;
            rows.iter().map(|row| row[class] - mean).collect()
        };
        let (p, q) = (column(teacher), column(&q));
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let scale = (dot(&p, &p) * dot(&q, &q)).sqrt();
        if scale < SMALLEST {
            loss += 1.0;
            continue;
        }
        let r = dot(&p, &q) / scale;
        loss += 1.0 - r;
        for (row, (p, c)) in p.iter().zip(&q).enumerate() {
            slopes[row][class] = -p / scale + r * c / dot(&q, &q);
        }
    }
    let classes = classes as f64;
    for (slopes, q) in slopes.iter_mut().zip(&q) {
        let total: f64 = slopes.iter().zip(q).map(|(slope, q)| slope * q).sum();
        slopes.iter_mut().zip(q).for_each(|(slope, q)| *slope = q * (*slope - total) / (temperature * classes));
    }
    (loss / classes, slopes)
}
