//! Log-probabilities of the tokens of prompts, for a server of a model: those of the likeliest classes and of the next
//! token at every position.

use crate::select::{SelectProblem, select_logits};
use crate::teacher::{Logits, Outputs, Teacher};
use crate::{Error, Result};
use logitcask_core::{
    LogProbPrecision, Origin, RowSource, Sample, SampleId, Selection, SoftRow, SoftRows, TailSource, Truncation,
};
use logitcask_data::batches::{TokenBatch, batch_by_length};
use logitcask_remote::{PositionLogProbs, PromptLogProbs};
use rayon::prelude::*;

/// The log-probabilities of `teacher` at every token of these lists that has a next one: those of the `k` likeliest of
/// its first `classes` classes, and of the next token. They are over all its classes and not rounded.
///
/// # Errors
/// [`Error::Device`] if logits cannot be read back; [`Error::BadPrompt`] if they are not finite.
pub fn prompt_log_probs(
    teacher: &dyn Teacher,
    lists: &[Vec<u32>],
    k: u32,
    classes: usize,
    batch_tokens: usize,
) -> Result<Vec<PromptLogProbs>> {
    let sample = |(id, tokens): (usize, &Vec<u32>)| {
        Sample::new(SampleId(id as u64), Origin { document: 0, offset: 0 }, tokens.clone())
    };
    let samples = lists.iter().enumerate().map(sample);
    let samples: Vec<Sample> = samples.filter(|sample| sample.position_count() > 0).collect();
    let keep = keep(k, teacher.vocab_size().saturating_sub(classes));
    let mut log_probs: Vec<PromptLogProbs> = lists.iter().map(|_| Vec::new()).collect();
    for batch in batch_by_length(&samples, batch_tokens) {
        teacher.outputs(&batch, &mut |outputs: Outputs| {
            let outputs = outputs.in_memory()?;
            let rows = log_probs_at(&batch, &outputs, &keep)?;
            for (position, row) in outputs.positions.clone().zip(rows) {
                log_probs[prompt(&batch, position).0].push(row);
            }
            Ok(())
        })?;
    }
    Ok(log_probs)
}

/// The index of the list that has a position of a batch, and the position in it.
fn prompt(batch: &TokenBatch, position: usize) -> (usize, usize) {
    let (sample, position) = batch.positions[position];
    (batch.samples[sample].id.0 as usize, position)
}

/// The truncation with which the likeliest classes are found.
fn keep(k: u32, padding: usize) -> Truncation {
    Truncation {
        selection: Selection::TopK { k },
        always_keep: Vec::new(),
        values: LogProbPrecision::F16 {},
        tail: None,
        padding: padding as u32,
        source: RowSource { tail: TailSource::Mass, ..RowSource::FULL },
    }
}

/// What the outputs say of their positions.
fn log_probs_at(batch: &TokenBatch, outputs: &Outputs, keep: &Truncation) -> Result<Vec<PositionLogProbs>> {
    let labels = &batch.labels[outputs.positions.clone()];
    let Logits::Host(logits) = &outputs.logits else {
        return Err(Error::Device("the logits are not in memory".to_owned()));
    };
    let selected = select_logits(&outputs.logits, labels, &vec![0.0; labels.len()], keep);
    let (selected, _) = selected.map_err(|problem| match problem {
        SelectProblem::Device(problem) => Error::Device(problem),
        SelectProblem::Row(row, problem) => {
            let (prompt, position) = prompt(batch, outputs.positions.start + row);
            Error::BadPrompt { prompt, position, problem }
        }
    })?;
    let rows: Vec<SoftRow<'_>> = selected.iter().flat_map(SoftRows::iter).collect();
    let width = logits.len() / labels.len().max(1);
    let of = |((row, &label), logits): ((&SoftRow<'_>, &u32), &[f32])| {
        let classes = &logits[..logits.len() - keep.padding as usize];
        exact(row, label, classes)
    };
    Ok(rows.par_iter().zip(labels).zip(logits.par_chunks(width)).map(of).collect())
}

/// The values of a row without the rounding of its selection.
fn exact(row: &SoftRow<'_>, label: u32, logits: &[f32]) -> PositionLogProbs {
    let log_prob = |class: u32| (f64::from(logits[class as usize]) - f64::from(row.log_z)) as f32;
    let mut likeliest: Vec<(u32, f32)> = row.class_ids.iter().map(|&class| (class, log_prob(class))).collect();
    likeliest.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let own = logits[label as usize];
    let label_rank = logits.iter().filter(|logit| **logit >= own).count() as u64;
    PositionLogProbs { likeliest, label_log_prob: log_prob(label), label_rank }
}
