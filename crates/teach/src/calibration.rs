//! Runs a few samples through the teacher and truncates the rows in several ways at once, to estimate the size and the
//! accuracy of a cache.

use crate::open_unit::{Wanted, add_rows};
use crate::teacher::{Outputs, Teacher};
use crate::{Error, Result};
use logitcask_core::{Fingerprint, PositionChoice, RowErrors, Sample, SampleId, SoftRows, Truncation};
use logitcask_data::Dataset;
use logitcask_data::batches::batch_by_length;
use std::time::Instant;
use tracing::info;

/// The calibration samples under one truncation.
pub struct Trial {
    /// The samples, numbered from 0, with their rows.
    pub rows: Vec<(Sample, SoftRows)>,
    /// The errors of the encoded rows.
    pub errors: RowErrors,
}

/// Result of [`calibrate`].
pub struct Calibration {
    /// One trial for each truncation, in the same order.
    pub trials: Vec<Trial>,
    /// Positions that went through the teacher.
    pub positions: u64,
}

/// The calibration samples as a dataset with one split, so that the whole pipeline can run over them.
pub struct CalibrationSet {
    /// Name of the split.
    pub split: String,
    /// The samples, numbered from 0.
    pub samples: Vec<Sample>,
}

impl CalibrationSet {
    fn find(&self, split: &str, sample: SampleId) -> logitcask_data::Result<&Sample> {
        let found = usize::try_from(sample.0).ok().and_then(|index| self.samples.get(index));
        found.filter(|_| split == self.split).ok_or_else(|| logitcask_data::Error::NoSample {
            split: split.to_owned(),
            sample,
            samples: self.len(split),
        })
    }
}

impl Dataset for CalibrationSet {
    fn splits(&self) -> Vec<(String, u64)> {
        vec![(self.split.clone(), self.samples.len() as u64)]
    }

    fn len(&self, split: &str) -> u64 {
        if split == self.split { self.samples.len() as u64 } else { 0 }
    }

    fn length_of(&self, split: &str, id: SampleId) -> logitcask_data::Result<usize> {
        self.find(split, id).map(|sample| sample.input_ids.len())
    }

    fn sample(&self, split: &str, id: SampleId) -> logitcask_data::Result<Sample> {
        self.find(split, id).cloned()
    }

    fn position_count(&self, split: &str, id: SampleId) -> logitcask_data::Result<usize> {
        self.find(split, id).map(Sample::position_count)
    }

    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.samples.iter().flat_map(|sample| sample.input_hash().0).collect::<Vec<u8>>())
    }

    fn name(&self) -> &str {
        "calibration"
    }

    fn max_length(&self) -> usize {
        self.samples.iter().map(|sample| sample.input_ids.len()).max().unwrap_or(0)
    }
}

/// Up to `count` samples spread evenly over `split`, renumbered from 0, at the positions that `choice` chooses.
///
/// # Errors
/// [`Error::Dataset`] if a sample cannot be read.
pub fn calibration_samples(
    dataset: &dyn Dataset,
    split: &str,
    count: u64,
    choice: &PositionChoice,
) -> Result<Vec<Sample>> {
    let len = dataset.len(split);
    let count = count.min(len);
    let pick = |i: u64| {
        let mut sample = dataset.sample(split, SampleId(i * len / count))?;
        choice.apply(split, &mut sample);
        Ok(Sample { id: SampleId(i), ..sample })
    };
    (0..count).map(pick).collect()
}

/// Runs `samples` through the teacher once and selects from every row with each of the truncations `keeps`.
///
/// # Errors
/// [`Error::BadRow`] names a row that cannot be kept under one of the truncations. [`Error::Device`] reports that
/// logits could not be read back.
pub fn calibrate(
    teacher: &dyn Teacher,
    split: &str,
    samples: &[Sample],
    keeps: &[Truncation],
    batch_tokens: usize,
) -> Result<Calibration> {
    let empty = |keep: &Truncation| Trial {
        rows: samples.iter().map(|sample| (sample.clone(), SoftRows::new(keep))).collect(),
        errors: RowErrors::new(keep),
    };
    let start = Instant::now();
    let mut out = Calibration { trials: keeps.iter().map(empty).collect(), positions: 0 };
    for batch in batch_by_length(samples, batch_tokens) {
        teacher.outputs(&batch, &mut |outputs: Outputs| {
            out.positions += outputs.positions.len() as u64;
            // The few rows are read back once: a GPU would compile its kernel for every number of atoms, seconds each.
            let outputs = outputs.in_memory()?;
            for (keep, trial) in keeps.iter().zip(&mut out.trials) {
                let wanted = Wanted { split, keep, extras: teacher.extras() };
                add_rows(wanted, &batch, &outputs, &mut trial.rows, &mut trial.errors)?;
            }
            Ok::<(), Error>(())
        })?;
    }
    let (samples, seconds) = (samples.len(), start.elapsed().as_secs_f64());
    info!(split, samples, positions = out.positions, ways = keeps.len(), seconds, "calibration samples read");
    Ok(out)
}
