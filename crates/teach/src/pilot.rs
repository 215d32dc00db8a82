//! A few samples through the teacher, kept in several ways at once: what a whole run would give and take.

use crate::pipeline::{place_rows, places};
use crate::teacher::{LogitsChunk, Teacher};
use crate::{Error, Result};
use logitcask_core::{Keep, RowErrors, Sample, SampleId, SoftRows};
use logitcask_data::Dataset;
use logitcask_data::batches::batch_by_length;
use std::time::Instant;

/// What one way of keeping made of the pilot sample.
pub struct Kept {
    /// The samples with their rows, numbered from 0.
    pub rows: Vec<(Sample, SoftRows)>,
    /// What writing them costs in truth.
    pub errors: RowErrors,
    /// Seconds that selection took.
    pub seconds: f64,
}

/// A pilot run.
pub struct Pilot {
    /// One for each way of keeping.
    pub kept: Vec<Kept>,
    /// Positions that went through the teacher.
    pub positions: u64,
    /// Seconds that the teacher took.
    pub seconds: f64,
}

/// Samples of `split`, evenly spread over it, numbered from 0 so that they make a small dataset of their own.
pub fn pilot_samples(dataset: &dyn Dataset, split: &str, count: u64) -> Vec<Sample> {
    let len = dataset.splits().iter().find(|(name, _)| name == split).map_or(0, |(_, len)| *len);
    let count = count.min(len);
    let pick = |i: u64| Some(Sample { id: SampleId(i), ..dataset.sample(split, SampleId(i * len / count))? });
    (0..count).filter_map(pick).collect()
}

/// Runs `samples` through the teacher once and keeps of every row what each of `keeps` asks for.
pub fn pilot(
    teacher: &dyn Teacher,
    split: &str,
    samples: &[Sample],
    keeps: &[Keep],
    batch_tokens: usize,
) -> Result<Pilot> {
    let empty = |keep: &Keep| Kept {
        rows: samples.iter().map(|sample| (sample.clone(), SoftRows::new(keep))).collect(),
        errors: RowErrors::new(keep),
        seconds: 0.0,
    };
    let mut out = Pilot { kept: keeps.iter().map(empty).collect(), positions: 0, seconds: 0.0 };
    let start = Instant::now();
    for batch in batch_by_length(samples, batch_tokens) {
        let places = places(&batch);
        teacher.logits(&batch, &mut |chunk: LogitsChunk| {
            let count = chunk.logits.len() / teacher.vocab_size();
            let places = &places[chunk.first_position..chunk.first_position + count];
            out.positions += count as u64;
            for (keep, kept) in keeps.iter().zip(&mut out.kept) {
                let start = Instant::now();
                place_rows(split, keep, places, &chunk.logits, &mut kept.rows, &mut kept.errors)?;
                kept.seconds += start.elapsed().as_secs_f64();
            }
            Ok::<(), Error>(())
        })?;
    }
    let selecting: f64 = out.kept.iter().map(|kept| kept.seconds).sum();
    out.seconds = start.elapsed().as_secs_f64() - selecting;
    Ok(out)
}
