//! Comparison of the log-probabilities that states give with those of another source.

use crate::Result;
use crate::teacher::{Logits, Outputs, Teacher};
use logitcask_core::Sample;
use logitcask_core::math::log_sum_exp;
use logitcask_data::batches::batch_by_length;

/// How close two lists of log-probabilities of the same tokens are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Agreement {
    /// Number of tokens that both know.
    pub tokens: usize,
    /// Mean of the absolute differences, in nats; 0 without tokens.
    pub mean: f64,
    /// The largest of them.
    pub worst: f64,
}

impl Agreement {
    /// That of two lists for the same samples. Numbers that are not finite are passed over.
    pub fn of(some: &[Vec<f64>], others: &[Vec<f64>]) -> Self {
        let pairs = some.iter().zip(others).flat_map(|(some, others)| some.iter().zip(others));
        let differences = pairs.map(|(a, b)| (a - b).abs()).filter(|difference| difference.is_finite());
        let (tokens, sum, worst) = differences.fold((0, 0.0, 0f64), |(tokens, sum, worst), difference| {
            (tokens + 1, sum + difference, worst.max(difference))
        });
        Self { tokens, mean: sum / tokens.max(1) as f64, worst }
    }
}

/// The log-probability at T = 1 that the teacher gives the label of each position of each sample. Samples are numbered
/// from 0.
///
/// # Errors
/// An error of the teacher.
pub fn label_log_probs(teacher: &dyn Teacher, samples: &[Sample], batch_tokens: usize) -> Result<Vec<Vec<f64>>> {
    let mut all: Vec<Vec<f64>> = samples.iter().map(|_| Vec::new()).collect();
    for batch in batch_by_length(samples, batch_tokens) {
        teacher.outputs(&batch, &mut |outputs: Outputs| {
            let Outputs { positions, logits, .. } = outputs.in_memory()?;
            let Logits::Host(logits) = logits else { return Ok(()) };
            for (position, row) in positions.zip(logits.chunks_exact(teacher.vocab_size())) {
                let row: Vec<f64> = row.iter().map(|&logit| logit.into()).collect();
                let label = row[batch.labels[position] as usize];
                all[batch.indices[batch.positions[position].0]].push(label - log_sum_exp(&row));
            }
            Ok(())
        })?;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_of_them_does_not_know_is_passed_over() {
        let told = [vec![f64::NAN, -1.0, f64::NEG_INFINITY], vec![-2.0]];
        let agreement = Agreement::of(&told, &[vec![-9.0, -1.5, -3.0], vec![-1.0]]);
        assert_eq!(agreement, Agreement { tokens: 2, mean: 0.75, worst: 1.0 });
        assert_eq!(Agreement::of(&[], &[]).tokens, 0);
    }
}
