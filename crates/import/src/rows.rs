//! From what another tool stored of a sample to rows of ours: the checks and corrections that all formats share.

use crate::error::{Error, Result};
use crate::source::{Entry, ForeignPosition, ForeignSample, Place};
use logitcask_core::{Gold, Origin, RowErrors, Sample, SampleId, SoftRow, SoftRows, Truncation};
use std::ops::AddAssign;

/// Excess over 1 of the kept probabilities' sum that is put down to rounding.
pub const MASS_TOLERANCE: f64 = 0.01;

/// How rows are taken over.
#[derive(Clone, Debug)]
pub struct Rules {
    /// What is kept of a position.
    pub keep: Truncation,
    /// Number of classes.
    pub vocab_size: u32,
    /// Whether kept probabilities that sum to more than 1 are divided by their sum. Otherwise a sum beyond
    /// [`MASS_TOLERANCE`] is an error.
    pub renormalise: bool,
}

/// What was found in positions that were taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Positions.
    pub positions: u64,
    /// Positions whose values were not in falling order.
    pub sorted: u64,
    /// Positions whose kept probabilities sum to more than 1, and were left so: within [`MASS_TOLERANCE`].
    pub above_one: u64,
    /// Positions whose kept probabilities were divided by their sum, which was above 1.
    pub renormalised: u64,
    /// Positions whose label is among the kept classes.
    pub labels_kept: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.positions += other.positions;
        self.sorted += other.sorted;
        self.above_one += other.above_one;
        self.renormalised += other.renormalised;
        self.labels_kept += other.labels_kept;
    }
}

/// The rows of a sample, with the id that it gets. Adds the rounding errors to `errors` and what was found to `tally`.
///
/// # Errors
/// Names file, row and position of tokens or classes outside the vocabulary, classes that occur twice, values that are
/// no numbers, and probabilities that sum to more than 1.
pub fn take(
    foreign: ForeignSample,
    id: u64,
    rules: &Rules,
    errors: &mut RowErrors,
    tally: &mut Tally,
) -> Result<(Sample, SoftRows)> {
    let ForeignSample { place, document, input_ids, positions, rows } = foreign;
    let origin = Origin { document, offset: 0 };
    let sample =
        Sample { id: SampleId(id), origin, input_ids: tokens(&input_ids, &place, rules.vocab_size)?, positions };
    let labels = sample.labels().into_owned();
    if labels.len() != rows.len() {
        let problem = format!(
            "{} tokens have {} positions, but {} are stored: this is not the format that was named, or it is cut off",
            input_ids.len(),
            labels.len(),
            rows.len()
        );
        return Err(Error::Sample { place, problem });
    }
    let mut soft = SoftRows::new(&rules.keep);
    for (position, (row, label)) in sample.position_indices().zip(rows.into_iter().zip(labels)) {
        if let Err(problem) = push(&mut soft, row, label, rules, errors, tally) {
            return Err(Error::Position { place, position, problem });
        }
    }
    Ok((sample, soft))
}

/// The tokens as ids of the vocabulary.
fn tokens(input_ids: &[u64], place: &Place, vocab_size: u32) -> Result<Vec<u32>> {
    let token = |(index, &id): (usize, &u64)| match u32::try_from(id) {
        Ok(id) if id < vocab_size => Ok(id),
        _ => {
            let problem = format!(
                "token {index} has the id {id}, but the tokenizer has {vocab_size} tokens: name the tokenizer of the \
                 model that made these files"
            );
            Err(Error::Sample { place: place.clone(), problem })
        }
    };
    input_ids.iter().enumerate().map(token).collect()
}

/// Appends a position.
fn push(
    soft: &mut SoftRows,
    row: ForeignPosition,
    label: u32,
    rules: &Rules,
    errors: &mut RowErrors,
    tally: &mut Tally,
) -> Result<(), String> {
    let ForeignPosition { mut entries, log_z } = row;
    check_classes(&entries, rules.vocab_size)?;
    tally.positions += 1;
    tally.sorted += u64::from(entries.windows(2).any(|pair| pair[1].log_prob > pair[0].log_prob));
    bound_mass(&mut entries, rules.renormalise, tally)?;
    let mut rounded = Vec::with_capacity(entries.len());
    for Entry { id, log_prob } in entries {
        let stored = rules.keep.values.round(log_prob as f32);
        let stored =
            stored.ok_or_else(|| format!("class {id} has the log-probability {log_prob}, too low to store"))?;
        errors.codec.add(f64::from(stored) - log_prob);
        rounded.push((id as u32, stored));
    }
    rounded.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let (class_ids, log_probs): (Vec<u32>, Vec<f32>) = rounded.into_iter().unzip();
    let rank = class_ids.iter().position(|&id| id == label);
    tally.labels_kept += u64::from(rank.is_some());
    soft.push(SoftRow {
        class_ids: &class_ids,
        log_probs: &log_probs,
        log_z: log_z.map_or(f32::NAN, |log_z| rules.keep.values.round_log_z(log_z)),
        gold: rank.map_or(Gold::UNKNOWN, |place| Gold { log_prob: log_probs[place], rank: place as u32 }),
        ..SoftRow::default()
    });
    Ok(())
}

/// Rejects values that are no numbers, and classes outside the vocabulary or there twice.
fn check_classes(entries: &[Entry], vocab_size: u32) -> Result<(), String> {
    if let Some((place, entry)) = entries.iter().enumerate().find(|(_, entry)| !entry.log_prob.is_finite()) {
        return Err(format!(
            "place {place} holds the log-probability {} for class {}, a finite number belongs there: the position was \
             not filled, or the settings are those of other files",
            entry.log_prob, entry.id
        ));
    }
    if let Some((place, entry)) = entries.iter().enumerate().find(|(_, entry)| entry.id >= u64::from(vocab_size)) {
        return Err(format!(
            "place {place} holds class {}, but the tokenizer has {vocab_size} tokens: name the tokenizer of the model \
             that made these files, and their own settings",
            entry.id
        ));
    }
    let mut ids: Vec<u64> = entries.iter().map(|entry| entry.id).collect();
    ids.sort_unstable();
    match ids.windows(2).find(|pair| pair[0] == pair[1]) {
        None => Ok(()),
        Some(pair) => Err(format!(
            "class {} is there twice, each class belongs there once: the settings are those of other files, or the \
             files are damaged",
            pair[0]
        )),
    }
}

/// Bounds the sum of the kept probabilities.
fn bound_mass(entries: &mut [Entry], renormalise: bool, tally: &mut Tally) -> Result<(), String> {
    let mass: f64 = entries.iter().map(|entry| entry.log_prob.exp()).sum();
    if mass <= 1.0 {
        return Ok(());
    }
    if renormalise {
        tally.renormalised += 1;
        entries.iter_mut().for_each(|entry| entry.log_prob -= mass.ln());
        return Ok(());
    }
    if mass > 1.0 + MASS_TOLERANCE {
        return Err(format!(
            "the kept classes hold {mass:.4} of the probability, and at most {} belongs there: the settings are those \
             of other files, or values were stored too coarsely; --renormalise divides such positions by their sum",
            1.0 + MASS_TOLERANCE
        ));
    }
    tally.above_one += 1;
    Ok(())
}

#[cfg(test)]
mod tests;
