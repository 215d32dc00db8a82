//! Every divergence in f64 with its gradient: what the tensors of a trainer must agree with.

use crate::soft_row::log_sum_exp;
use serde::{Deserialize, Serialize};

/// What a loss does about the classes a cache did not keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TailPolicy {
    /// One "other" class on both sides, with the teacher's true tail mass: a lower bound of the full divergence.
    #[default]
    Bucket,
    /// The teacher's kept classes renormalised to 1, the student over its whole vocabulary.
    #[serde(rename = "renorm")]
    Renormalize,
}

/// A divergence at one position and its gradient with respect to the student's raw logits.
#[derive(Clone, Debug)]
pub struct Divergence {
    /// In nats, without the T² factor.
    pub loss: f64,
    /// d loss / d student logit, one for each class of the vocabulary.
    pub gradient: Vec<f64>,
}

/// Forward KL: sum over kept classes of p (log p - log q), plus the bucket's p_o (log p_o - log q_o).
///
/// `log_probs` and `log_tail` are the teacher at `temperature` as [`crate::SoftRow::tempered`] gives them;
/// q = softmax(student / temperature) over the whole vocabulary, q_o = 1 - sum of the kept q.
pub fn forward_kl(
    student: &[f64],
    class_ids: &[u32],
    log_probs: &[f64],
    log_tail: Option<f64>,
    temperature: f64,
) -> Divergence {
    let scaled: Vec<f64> = student.iter().map(|s| s / temperature).collect();
    let log_z = log_sum_exp(&scaled);
    let log_q: Vec<f64> = scaled.iter().map(|s| s - log_z).collect();
    let mut kept = vec![false; student.len()];
    class_ids.iter().for_each(|&id| kept[id as usize] = true);

    // d loss / d log q, class by class: -p for a kept one, and -p_o q_i / q_o for one inside the bucket.
    let mut weight = vec![0.0; student.len()];
    let mut loss = 0.0;
    for (&id, &log_p) in class_ids.iter().zip(log_probs) {
        let p = log_p.exp();
        weight[id as usize] = p;
        loss += if p > 0.0 { p * (log_p - log_q[id as usize]) } else { 0.0 };
    }
    if let Some(log_p) = log_tail {
        let outside: Vec<f64> = log_q.iter().zip(&kept).filter(|(_, k)| !**k).map(|(q, _)| *q).collect();
        let log_other = log_sum_exp(&outside);
        loss += log_p.exp() * (log_p - log_other);
        for (i, log_q) in log_q.iter().enumerate().filter(|(i, _)| !kept[*i]) {
            weight[i] = log_p.exp() * (log_q - log_other).exp();
        }
    }
    let total: f64 = weight.iter().sum();
    let gradient = log_q.iter().zip(&weight).map(|(lq, w)| (total * lq.exp() - w) / temperature).collect();
    Divergence { loss, gradient }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::CounterRng;

    fn case(seed: u64) -> (Vec<f64>, Vec<u32>, Vec<f64>, f64) {
        let mut rng = CounterRng::new("divergence test", &[seed]);
        let student: Vec<f64> = (0..12).map(|_| 2.0 * rng.normal()).collect();
        let teacher: Vec<f64> = (0..12).map(|_| 2.0 * rng.normal()).collect();
        let log_z = log_sum_exp(&teacher);
        let ids = vec![7, 0, 3, 11];
        let log_probs: Vec<f64> = ids.iter().map(|&i| teacher[i as usize] - log_z).collect();
        let log_tail = (1.0 - log_probs.iter().map(|lp| lp.exp()).sum::<f64>()).ln();
        (student, ids, log_probs, log_tail)
    }

    #[test]
    fn gradient_agrees_with_finite_differences() {
        for seed in 0..20 {
            let (student, ids, log_probs, log_tail) = case(seed);
            for (tail, temperature) in [(Some(log_tail), 1.0), (None, 2.0), (Some(log_tail), 0.7)] {
                let at = |s: &[f64]| forward_kl(s, &ids, &log_probs, tail, temperature);
                let exact = at(&student).gradient;
                for i in 0..student.len() {
                    let moved = |by: f64| {
                        let mut s = student.clone();
                        s[i] += by;
                        at(&s).loss
                    };
                    let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                    assert!((slope - exact[i]).abs() < 1e-8, "seed {seed} class {i}: {slope} and {}", exact[i]);
                }
            }
        }
    }

    #[test]
    fn bucket_is_zero_at_the_teacher_and_never_above_full_kl() {
        let mut rng = CounterRng::new("divergence test", &[99]);
        let teacher: Vec<f64> = (0..12).map(|_| 2.0 * rng.normal()).collect();
        let log_p: Vec<f64> = teacher.iter().map(|z| z - log_sum_exp(&teacher)).collect();
        let all: Vec<u32> = (0..12).collect();
        let kept = [2u32, 5, 6];
        let kept_log_p: Vec<f64> = kept.iter().map(|&i| log_p[i as usize]).collect();
        let tail = (1.0 - kept_log_p.iter().map(|lp| lp.exp()).sum::<f64>()).ln();
        assert!(forward_kl(&teacher, &kept, &kept_log_p, Some(tail), 1.0).loss.abs() < 1e-12);
        for seed in 0..50 {
            let (student, ..) = case(seed);
            let full = forward_kl(&student, &all, &log_p, None, 1.0).loss;
            let bucket = forward_kl(&student, &kept, &kept_log_p, Some(tail), 1.0).loss;
            assert!(bucket <= full + 1e-12 && bucket >= 0.0, "{bucket} and {full}");
        }
    }
}
