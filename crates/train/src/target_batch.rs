//! The teacher's rows for a batch, laid out for a device in the form in which they are cached, so that they can be
//! evaluated at any temperature.

use crate::source::DistillSample;
use crate::target_spec::TargetSpec;
use crate::{Error, Result};
use logitcask_core::tail::{ATOM_STEP, KnownTail};
use logitcask_core::temperature::{LogitStats, temperature_of_entropy};
use logitcask_core::{ConfigError, SoftRow, SoftRows, TailAtom, TargetTransform, TransformedRow};
use std::ops::Range;

/// Padding value for the log-probability of a missing class and the log-weight of a missing atom: e^-1e4 is 0 in any
/// float type at any practical temperature, and 0 · -1e4 is still 0.
pub const NO_CLASS: f32 = logitcask_core::divergence::NO_CLASS as f32;

/// One row per position, padded to common widths.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TargetBatch {
    /// Number of classes per row, including padding.
    pub width: usize,
    /// \[positions, width\]; padded with 0.
    pub class_ids: Vec<u32>,
    /// \[positions, width\], log p at T = 1; padded with [`NO_CLASS`].
    pub log_probs: Vec<f32>,
    /// \[positions, width\]: number of classes that each stands for, 0 for padding; `None` means 1 everywhere.
    pub counts: Option<Vec<f32>>,
    /// \[positions, width\]: 0 for a sampled class, which is therefore part of the tail, and 1 otherwise; `None` means
    /// 1 everywhere.
    pub is_sure: Option<Vec<f32>>,
    /// Number of pseudo-classes of the tail per row, including padding.
    pub tail_width: usize,
    /// \[positions, tail_width\]: their logits x relative to log_z.
    pub tail_logits: Vec<f32>,
    /// \[positions, tail_width\]: log-weights w at b = 0; at inverse temperature b each adds e^(w + b x) to the tail's
    /// partition function. Padded with [`NO_CLASS`].
    pub tail_log_weights: Vec<f32>,
    /// \[positions\], log-probability at T = 1 of a class that was removed from the tail, [`NO_CLASS`] if none was;
    /// `None` if there is no such class anywhere.
    pub without: Option<Vec<f32>>,
    /// \[positions, width\], 1 for the label; `None` if no loss needs it.
    pub is_label: Option<Vec<f32>>,
    /// \[positions\], the teacher's log-probability of the label at T = 1.
    pub gold_log_probs: Vec<f32>,
    /// \[positions\], further statistics of the teacher's rows; `None` if they are not needed.
    pub stats: Option<Vec<TeacherStats>>,
}

/// Statistics of a teacher's row as it was cached, besides its classes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TeacherStats {
    /// The statistics for rules.
    pub teacher: LogitStats,
    /// Number of classes that the teacher ranks before the label.
    pub gold_rank: u32,
    /// Mean of the raw logits, with equal weight for all classes.
    pub mean: f64,
    /// Their standard deviation.
    pub std: f64,
    /// The temperature at which its entropy is the requested one; 1 if none is requested.
    pub target_temperature: f64,
}

impl TeacherStats {
    fn new(row: &SoftRow<'_>, spec: &TargetSpec) -> Self {
        let log_z = f64::from(row.log_z);
        let largest = row.log_probs.iter().copied().fold(NO_CLASS, f32::max);
        let (mean, std) = row.logit_moments(0.0);
        let (largest, label) = (f64::from(largest) + log_z, f64::from(row.gold.log_prob));
        Self {
            teacher: LogitStats { log_z, largest, entropy: row.entropy(1.0), label, ..LogitStats::default() },
            gold_rank: row.gold.rank,
            mean,
            std,
            target_temperature: spec.entropy.map_or(1.0, |(nats, range)| temperature_of_entropy(row, nats, range)),
        }
    }
}

impl TargetBatch {
    /// Lays out the rows of the teacher with this index for `samples`, as far as `spec` needs them.
    ///
    /// # Errors
    /// [`Error::NoTeacher`] if a sample has no rows of that teacher; [`Error::Refused`] for a label that
    /// `spec.similarity` does not have.
    pub fn new(samples: &[DistillSample], teacher: usize, spec: &TargetSpec) -> Result<Self> {
        let taught: Vec<&SoftRows> = samples.iter().filter_map(|(_, rows)| rows.get(teacher)).collect();
        if taught.len() < samples.len() {
            return Err(Error::NoTeacher);
        }
        let rows: Vec<SoftRow> = taught.iter().flat_map(|rows| rows.iter()).map(|row| shortened(row, spec)).collect();
        let labels: Vec<u32> = samples.iter().flat_map(|(sample, _)| sample.labels().into_owned()).collect();
        if let Some(similarity) = &spec.similarity
            && let Some(label) = labels.iter().find(|label| **label as usize >= similarity.labels())
        {
            let error = ConfigError::new("[loss] target", "similar", "left out for these samples");
            return Err(Error::Refused(error.because(format!(
                "a sample has the label {label}, but the teacher's head, from which the similarity is computed, has \
                 {} classes",
                similarity.labels()
            ))));
        }
        Ok(Self::of_rows(&rows, &labels, spec))
    }

    /// Lays out `rows`, whose labels are `labels`.
    ///
    /// # Panics
    /// If `spec.similarity` does not have a label.
    pub fn of_rows(rows: &[SoftRow<'_>], labels: &[u32], spec: &TargetSpec) -> Self {
        let stats = spec.stats.then(|| rows.iter().map(|row| TeacherStats::new(row, spec)).collect());
        let gold_log_probs = rows.iter().map(|row| row.gold.log_prob).collect();
        let out = if let Some(similarity) = &spec.similarity {
            let row =
                |label: &u32| similarity.row(*label).unwrap_or_else(|| unreachable!("no label {label} in the head"));
            let rows: Vec<SoftRow> = labels.iter().map(row).collect();
            Self::of_known(&rows, spec)
        } else if spec.target == (TargetTransform::Teacher {}) && !spec.label {
            Self::of_known(rows, spec)
        } else {
            let edit = |(row, &label): (&SoftRow<'_>, &u32)| {
                let mut edited = TransformedRow::new(row, label, spec.target);
                if spec.label {
                    edited.expose_label(label, row.gold.log_prob);
                }
                edited
            };
            let edited: Vec<TransformedRow> = rows.iter().zip(labels).map(edit).collect();
            let rows: Vec<SoftRow> = edited.iter().zip(rows).map(|(edited, row)| edited.view(row)).collect();
            Self::of_known(&rows, spec).with_labels(labels, spec)
        };
        Self { stats, gold_log_probs, ..out }
    }

    fn of_known(rows: &[SoftRow<'_>], spec: &TargetSpec) -> Self {
        let known = |row: &SoftRow| if spec.include_sampled { row.class_ids.len() } else { row.certain().len() };
        // A row with sampled classes only has no deterministic class; one padding place keeps the tensors' shape valid.
        let width = rows.iter().map(known).max().unwrap_or(0).max(1);
        let tail_width = rows.iter().map(tail_terms).max().unwrap_or(0);
        let mut out = Self { width, tail_width, ..Self::default() };
        let has_counts = rows.iter().any(|row| known(row) < width || known(row) > row.certain().len());
        let (mut counts, mut is_sure) = (Vec::new(), Vec::new());
        for row in rows {
            let (sure, known) = (row.certain().len(), known(row));
            let padding = width - known;
            out.class_ids.extend_from_slice(&row.class_ids[..known]);
            out.class_ids.extend(std::iter::repeat_n(0, padding));
            out.log_probs.extend_from_slice(&row.log_probs[..known]);
            out.log_probs.extend(std::iter::repeat_n(NO_CLASS, padding));
            counts.extend(row.importance_weights().take(known).map(|count| count as f32));
            counts.extend(std::iter::repeat_n(0.0, padding));
            is_sure.extend((0..width).map(|i| if i < sure || i >= known { 1.0 } else { 0.0 }));
            out.push_tail(row);
        }
        let without = || rows.iter().map(|row| row.tail.without.unwrap_or(NO_CLASS)).collect();
        out.without = rows.iter().any(|row| row.tail.without.is_some()).then(without);
        out.counts = has_counts.then_some(counts);
        out.is_sure = spec.include_sampled.then_some(is_sure);
        out
    }

    fn with_labels(mut self, labels: &[u32], spec: &TargetSpec) -> Self {
        let width = self.width;
        // Padding comes after the classes, so the first occurrence of id 0 is the class itself.
        let place = |(row, label): (&[u32], &u32)| row.iter().position(|id| id == label);
        let places: Vec<Option<usize>> = self.class_ids.chunks_exact(width).zip(labels).map(place).collect();
        let row = |place: &Option<usize>| (0..width).map(|i| f32::from(*place == Some(i))).collect::<Vec<_>>();
        self.is_label = spec.label.then(|| places.iter().flat_map(row).collect());
        self
    }

    fn push_tail(&mut self, row: &SoftRow) {
        for atom in row.tail.atoms {
            let logit = ATOM_STEP * f64::from(atom.log_prob);
            let is_none = *atom == TailAtom::NONE;
            let weight = atom.log_term(0.0, row.tail.reference).max(f64::from(NO_CLASS));
            self.tail_logits.push(if is_none { 0.0 } else { logit as f32 });
            self.tail_log_weights.push(weight as f32);
        }
        // Losses ask for it at T = 1 alone, where the logit of the whole tail does not matter.
        if let KnownTail::Mass { log_mass } = row.tail.known {
            self.tail_logits.push(0.0);
            self.tail_log_weights.push(log_mass.max(f64::from(NO_CLASS)) as f32);
        }
        // A single class is an atom of weight 1.
        self.tail_logits.extend_from_slice(row.tail.joined);
        self.tail_log_weights.extend(row.tail.joined.iter().map(|_| 0.0));
        let padding = self.tail_width - tail_terms(row);
        self.tail_logits.extend(std::iter::repeat_n(0.0, padding));
        self.tail_log_weights.extend(std::iter::repeat_n(NO_CLASS, padding));
    }

    /// The rows of some of the positions.
    pub(crate) fn part(&self, range: Range<usize>) -> Self {
        let classes = range.start * self.width..range.end * self.width;
        let atoms = range.start * self.tail_width..range.end * self.tail_width;
        let cut = |all: &Option<Vec<f32>>| all.as_ref().map(|all| all[classes.clone()].to_vec());
        Self {
            width: self.width,
            class_ids: self.class_ids[classes.clone()].to_vec(),
            log_probs: self.log_probs[classes.clone()].to_vec(),
            counts: cut(&self.counts),
            is_sure: cut(&self.is_sure),
            tail_width: self.tail_width,
            tail_logits: self.tail_logits[atoms.clone()].to_vec(),
            tail_log_weights: self.tail_log_weights[atoms].to_vec(),
            without: self.without.as_ref().map(|all| all[range.clone()].to_vec()),
            is_label: cut(&self.is_label),
            gold_log_probs: self.gold_log_probs[range.clone()].to_vec(),
            stats: self.stats.as_ref().map(|all| all[range].to_vec()),
        }
    }
}

/// Number of pseudo-classes of a row's tail.
fn tail_terms(row: &SoftRow<'_>) -> usize {
    let mass = usize::from(matches!(row.tail.known, KnownTail::Mass { .. }));
    row.tail.atoms.len() + row.tail.joined.len() + mass
}

fn shortened<'a>(row: SoftRow<'a>, spec: &TargetSpec) -> SoftRow<'a> {
    match spec.classes {
        Some(classes) if (classes as usize) < row.class_ids.len() => row.prefix(classes as usize),
        _ => row,
    }
}
