//! Evaluation of a model on text that it was not trained on.

mod cluster_mean;
mod comparison;
mod judged;
#[cfg(test)]
mod tests;

pub use cluster_mean::Estimate;
pub use comparison::{Comparison, TeacherComparison, compare};

use crate::batch::Batch;
use crate::loss::logit_rows::LogitRows;
use crate::loss::{DeviceTargets, Temperature};
use crate::source::{DistillSample, Source};
use crate::target_spec::TargetSpec;
use crate::tensors::int_tensor;
use crate::update::hidden_at;
use crate::{Error, Result};
use burn::tensor::{DType, Tensor};
use judged::{Judged, ModelRow};
use logitcask_cache::{CacheReader, Plan};
use logitcask_core::{SoftRow, SoftRows, TailSource};
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

/// Evaluates `model` (without gradients) on every sample of `split`. Returns `None` if `stop` was set in the meantime.
///
/// # Errors
/// [`Error::EmptySplit`], [`Error::Cache`] or [`Error::Dataset`] from the samples, [`Error::Device`].
pub fn evaluate(model: &impl CausalLm, source: &Source, split: &str, stop: &AtomicBool) -> Result<Option<Evaluation>> {
    let (mut cross_entropy, mut kl, mut agreed) = (0.0, 0.0, 0);
    let (mut positions, mut first_choices) = (0, 0);
    let is_whole = for_each_sample(model, source, split, stop, &mut |of_sample| {
        positions += of_sample.len() as u64;
        for judged in of_sample {
            cross_entropy -= judged.label;
            kl += judged.kl;
            first_choices += u64::from(judged.agrees.is_some());
            agreed += u64::from(judged.agrees == Some(true));
        }
    })?;
    let mean = |sum: f64| sum / positions as f64;
    Ok(is_whole.then(|| Evaluation {
        perplexity: mean(cross_entropy).exp(),
        kl_to_teacher: source.cache().is_some_and(has_tail).then(|| mean(kl)),
        top1_agreement: (source.cache().is_some() && first_choices == positions).then(|| mean(agreed as f64)),
        positions,
    }))
}

/// Whether the rows tell the probability of the classes that are not kept.
fn has_tail(cache: &CacheReader) -> bool {
    cache.plan().keep.source.tail != TailSource::None
}

/// Calls `each` with the judged positions of every sample of `split`, in order. Returns false if `stop` was set in the
/// meantime.
fn for_each_sample(
    model: &impl CausalLm,
    source: &Source,
    split: &str,
    stop: &AtomicBool,
    each: &mut dyn FnMut(&[Judged]),
) -> Result<bool> {
    let start = Instant::now();
    source.len(split)?;
    let judge = Judge { head: model.head().detached(), model, plan: source.cache().map(CacheReader::plan) };
    let mut samples = source.in_order(split)?;
    let mut positions = 0;
    loop {
        let batch: Vec<DistillSample> = samples.by_ref().take(ROWS).collect::<Result<_>>()?;
        if batch.is_empty() {
            info!(split, positions, seconds = start.elapsed().as_secs_f64(), "evaluated");
            return Ok(true);
        }
        if stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let judged = judge.judge(&batch)?;
        positions += judged.len();
        let mut rest = &judged[..];
        for (sample, _) in &batch {
            let (of_sample, others) = rest.split_at(sample.position_indices().count());
            each(of_sample);
            rest = others;
        }
    }
}

/// A model, and the plan of the cache that it is compared with.
struct Judge<'a, M: CausalLm> {
    model: &'a M,
    head: Head,
    plan: Option<&'a Plan>,
}

impl<M: CausalLm> Judge<'_, M> {
    /// Judges every position of some samples, in order.
    fn judge(&self, samples: &[DistillSample]) -> Result<Vec<Judged>> {
        let spec = self.plan.map(|_| TargetSpec::default());
        let batch = Batch::packed(samples, spec.as_ref(), self.model.packing())?;
        let taught: Vec<&SoftRows> = samples.iter().filter_map(|(_, rows)| rows.first()).collect();
        let rows: Vec<SoftRow> = taught.iter().flat_map(|rows| rows.iter()).collect();
        let mut judged = Vec::with_capacity(batch.gold_ids.len());
        for hidden in hidden_at(self.model, &batch).split(self.model.logits_chunk(), 0) {
            let part = judged.len()..judged.len() + hidden.dims()[0];
            let rows = rows.get(part.clone()).unwrap_or_default();
            self.judge_part(self.head.logits(hidden), &batch.part(part), rows, &mut judged)?;
        }
        Ok(judged)
    }

    /// Judges the positions of `part`, whose logits are `logits` and the teacher's rows `rows` (none without a teacher).
    /// Only the few numbers that the comparison needs leave the device.
    fn judge_part(&self, logits: Tensor<2>, part: &Batch, rows: &[SoftRow], out: &mut Vec<Judged>) -> Result<()> {
        let device = logits.device();
        let [n, width] = logits.dims();
        let teacher = part.targets.as_ref().map(|targets| DeviceTargets::new(targets, &device));
        // The cache covers the classes that are tokens; a head may have more.
        let tokens = self.plan.map_or(width, |plan| width.min(plan.vocab_size as usize));
        let best = logits.clone().narrow(1, 0, tokens).argmax(1).into_data();
        let labels = int_tensor(&part.gold_ids, [n, 1], &device);
        let read = LogitRows::new(logits, labels, teacher.as_ref(), &[Temperature::Same(1.0)]);
        let others = read.log_sums().into_iter().map(numbers).collect::<Result<Vec<_>>>()?.concat();
        let kept = read.kept.map(numbers).transpose()?.unwrap_or_default();
        let labels = numbers(read.gold)?;
        let is_dense = self.plan.is_some_and(|plan| plan.keep.is_dense());
        let always_kept = self.plan.map_or(0, |plan| plan.keep.always_keep.len());
        let columns = part.targets.as_ref().map_or(0, |targets| targets.width);
        for (position, best) in best.iter::<i64>().enumerate() {
            let (others, label, best) = (others[position], labels[position], best as u32);
            let Some(row) = rows.get(position) else {
                out.push(Judged::without_teacher(ModelRow { kept: &[], others, label, best }));
                continue;
            };
            let kept = &kept[position * columns..][..row.certain().len()];
            let model = ModelRow { kept, others, label, best };
            out.push(Judged::new(model, row, part.gold_ids[position], is_dense, always_kept));
        }
        Ok(())
    }
}

/// Reads a tensor back.
fn numbers(values: Tensor<2>) -> Result<Vec<f32>> {
    values.cast(DType::F32).try_into_vec_as::<f32>().map_err(|e| Error::Device(e.to_string()))
}
