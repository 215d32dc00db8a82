//! Evaluation of a student on text it has not seen.

use crate::batch::Batch;
use crate::decisions::TokenDecisions;
use crate::loss::{ChunkLoss, DeviceTargets, LossAtStep, TermAtStep, TokenLosses, head, token_losses};
use crate::source::{Samples, Source};
use crate::target_spec::TargetSpec;
use crate::tensors::int_tensor;
use crate::update::hidden_at;
use crate::{Error, Result};
use burn::tensor::Tensor;
use logitcask_cache::{CacheReader, Plan};
use logitcask_core::TailSource;
use logitcask_model::{CausalLm, Head};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tracing::info;

const ROWS: usize = 16;

/// A student's metrics on a split.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// e^(mean cross entropy of the observed next tokens).
    pub perplexity: f64,
    /// Mean forward KL from the teacher at T = 1, with all classes except the deterministically kept ones as one
    /// bucket: a lower bound of the full KL. Sampled classes are in the bucket, so the bound is loose on a cache of
    /// samples. Absent without a teacher, and if its rows do not tell the probability of the other classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl_to_teacher: Option<f64>,
    /// Share of positions at which student and teacher have the same first choice. If the teacher's two largest values
    /// were rounded to the same number, either counts as its first choice. Absent without a teacher, and if the
    /// teacher's first choice may not have been sampled at some position.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top1_agreement: Option<f64>,
    /// Number of positions evaluated.
    pub positions: u64,
}

#[derive(Default)]
struct Sums {
    cross_entropy: f64,
    kl: f64,
    agreed: u64,
    taught: u64,
    /// Number of positions at which the teacher's first choice is known.
    known: u64,
    positions: u64,
}

/// Evaluates `model` (without gradients) on every sample of `split`. Returns `None` if `stop` was set in the meantime.
///
/// # Errors
/// [`Error::EmptySplit`], [`Error::Cache`] or [`Error::Dataset`] from the samples, [`Error::Device`].
pub fn evaluate(model: &impl CausalLm, source: &Source, split: &str, stop: &AtomicBool) -> Result<Option<Evaluation>> {
    let start = Instant::now();
    source.len(split)?;
    let head = model.head().detached();
    let is_packed = model.is_faster_packed();
    let mut samples = source.in_order(split)?;
    let mut sums = Sums::default();
    let always_kept = source.cache().map_or(0, |cache| cache.plan().keep.always_keep.len());
    let spec = TargetSpec { always_kept, ..TargetSpec::default() };
    while let Some(batch) = next_batch(&mut samples, &spec, is_packed)? {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        sums.add((model, &head), &batch, source.cache().map(CacheReader::plan))?;
    }
    info!(split, positions = sums.positions, seconds = start.elapsed().as_secs_f64(), "evaluated");
    let mean = |sum: f64| sum / sums.positions as f64;
    let taught = sums.taught > 0;
    let has_tail = source.cache().is_none_or(|cache| cache.plan().keep.source.tail != TailSource::None);
    Ok(Some(Evaluation {
        perplexity: mean(sums.cross_entropy).exp(),
        kl_to_teacher: (taught && has_tail).then(|| mean(sums.kl)),
        top1_agreement: (taught && sums.known == sums.taught).then(|| mean(sums.agreed as f64)),
        positions: sums.positions,
    }))
}

fn next_batch(samples: &mut Samples, spec: &TargetSpec, is_packed: bool) -> Result<Option<Batch>> {
    let rows: Vec<_> = samples.by_ref().take(ROWS).collect::<Result<_>>()?;
    let Some((_, taught)) = rows.first() else { return Ok(None) };
    let spec = (!taught.is_empty()).then_some(spec);
    Batch::laid_out(&rows, spec, is_packed).map(Some)
}

impl Sums {
    fn add(&mut self, (model, head): (&impl CausalLm, &Head), batch: &Batch, taught: Option<&Plan>) -> Result<()> {
        let mut start = 0;
        for hidden in hidden_at(model, batch).split(model.logits_chunk(), 0) {
            let end = start + hidden.dims()[0];
            self.add_part(head.logits(hidden), &batch.part(start..end), taught)?;
            start = end;
        }
        Ok(())
    }

    fn add_part(&mut self, logits: Tensor<2>, part: &Batch, taught: Option<&Plan>) -> Result<()> {
        let count = part.gold_ids.len();
        // The cache covers the classes that are tokens; a head may have more.
        let width = logits.dims()[1];
        let known = taught.map_or(width, |plan| width.min(plan.vocab_size as usize));
        let of_tokens = if known < width { logits.clone().narrow(1, 0, known) } else { logits.clone() };
        let judged = judge(&logits, part);
        self.positions += count as u64;
        self.cross_entropy += total(judged.cross_entropy)?;
        // A dense row has no tail, so it is compared over its own classes only.
        let divergences = match taught.is_some_and(|plan| plan.keep.is_dense()) && known < width {
            true => judge(&of_tokens, part).divergences,
            false => judged.divergences,
        };
        self.kl += total(divergences.into_iter().next())?;
        if let Some(targets) = &part.targets {
            self.taught += count as u64;
            let best = of_tokens.argmax(1).into_data();
            for (position, (mine, theirs)) in best.iter::<i64>().zip(&targets.best_ids).enumerate() {
                let Some(theirs) = *theirs else { continue };
                let row = position * targets.width..(position + 1) * targets.width;
                let (ids, log_probs) = (&targets.class_ids[row.clone()], &targets.log_probs[row]);
                let stored = |id: i64| ids.iter().position(|&kept| i64::from(kept) == id).map(|at| log_probs[at]);
                let (theirs, own) = (i64::from(theirs), stored(mine));
                // Two values rounded to the same number are both the first choice, because the larger one is not
                // stored.
                self.known += 1;
                self.agreed += u64::from(mine == theirs || (own.is_some() && own == stored(theirs)));
            }
        }
        Ok(())
    }
}

/// Computes cross entropy and forward KL from the logits of some positions.
fn judge(logits: &Tensor<2>, part: &Batch) -> TokenLosses {
    let device = logits.device();
    let gold = int_tensor(&part.gold_ids, [part.gold_ids.len(), 1], &device);
    let teacher = part.targets.as_ref().map(|targets| DeviceTargets::new(targets, &device));
    // Both labels and teacher are needed; the value of alpha does not matter.
    let both = LossAtStep { alpha: 0.5, ..LossAtStep::teacher(TermAtStep::FORWARD_KL) };
    let both = ChunkLoss::new(&both, &TokenDecisions::default(), teacher.as_ref(), logits);
    token_losses(&head::student(logits.clone(), gold, teacher.as_ref(), &both), teacher.as_ref(), &both)
}

/// Sum over positions in f64.
fn total(per_position: Option<Tensor<2>>) -> Result<f64> {
    let Some(per_position) = per_position else { return Ok(0.0) };
    let values = per_position.try_into_vec_as::<f32>().map_err(|e| Error::Device(e.to_string()))?;
    Ok(values.iter().map(|&v| f64::from(v)).sum())
}
