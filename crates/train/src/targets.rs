//! What the teacher said about a batch, laid out for a device: as the cache has it, so that any temperature can be asked.

use crate::loss::Reading;
use crate::source::Taught;
use crate::{Error, Result};
use logitcask_core::tail::ATOM_STEP;
use logitcask_core::{SoftRow, SoftRows, TailAtom, TailPolicy};
use std::ops::Range;

/// Log-probability of a place that holds no class, and log-weight of one that holds no atom: e^-1e4 is 0 in any float, at
/// any temperature of use, and 0 · -1e4 is still 0.
pub const NO_CLASS: f32 = -1e4;

/// One row a position, filled up to common widths.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SoftTargets {
    /// Classes a row has room for.
    pub width: usize,
    /// \[positions, width\]; 0 where a row holds fewer classes.
    pub class_ids: Vec<u32>,
    /// \[positions, width\], log p at T = 1; [`NO_CLASS`] where a row holds fewer.
    pub log_probs: Vec<f32>,
    /// \[positions, width\]: how many classes each stands for, 0 where a row holds fewer; `None`: 1 everywhere.
    pub counts: Option<Vec<f32>>,
    /// \[positions, width\]: 0 for a class that was drawn by lot and so is one of the tail, 1 else; `None`: 1 everywhere.
    pub is_sure: Option<Vec<f32>>,
    /// Pseudo-classes of the tail that a row has room for.
    pub tail_width: usize,
    /// \[positions, tail_width\]: their logits x relative to log_z.
    pub tail_logits: Vec<f32>,
    /// \[positions, tail_width\]: log-weights w at b = 0; at inverse temperature b one adds e^(w + b x) to the tail's
    /// partition function. [`NO_CLASS`] where a row has fewer.
    pub tail_log_weights: Vec<f32>,
    /// \[positions\], the teacher's first choice.
    pub best_ids: Vec<u32>,
}

impl SoftTargets {
    /// What `reading` wants of the rows of `samples`.
    pub fn new(samples: &[Taught], reading: Reading) -> Result<Self> {
        let taught: Vec<&SoftRows> = samples.iter().filter_map(|(_, rows)| rows.as_ref()).collect();
        if taught.len() < samples.len() {
            return Err(Error::NoTeacher);
        }
        let rows: Vec<SoftRow> =
            taught.iter().flat_map(|rows| rows.iter()).map(|row| shortened(row, reading)).collect();
        Ok(Self::of_rows(&rows, reading.tail))
    }

    /// Lays out `rows`. Classes drawn by lot are left out but where `policy` is [`TailPolicy::Sampled`].
    pub fn of_rows(rows: &[SoftRow], policy: TailPolicy) -> Self {
        let known = |row: &SoftRow| match policy {
            TailPolicy::Sampled => row.class_ids.len(),
            _ => row.sure().len(),
        };
        let tail = |row: &SoftRow| row.tail.atoms.len() + row.tail.joined.len();
        // A row of drawn classes alone has no class for sure: one empty place keeps the tensors' shape.
        let width = rows.iter().map(known).max().unwrap_or(0).max(1);
        let tail_width = rows.iter().map(tail).max().unwrap_or(0);
        let mut out = Self { width, tail_width, ..Self::default() };
        let has_counts = rows.iter().any(|row| known(row) < width || known(row) > row.sure().len());
        let (mut counts, mut is_sure) = (Vec::new(), Vec::new());
        for row in rows {
            let (sure, known) = (row.sure().len(), known(row));
            let padding = width - known;
            out.class_ids.extend_from_slice(&row.class_ids[..known]);
            out.class_ids.extend(std::iter::repeat_n(0, padding));
            out.log_probs.extend_from_slice(&row.log_probs[..known]);
            out.log_probs.extend(std::iter::repeat_n(NO_CLASS, padding));
            counts.extend(row.counts().take(known).map(|count| count as f32));
            counts.extend(std::iter::repeat_n(0.0, padding));
            is_sure.extend((0..width).map(|i| if i < sure || i >= known { 1.0 } else { 0.0 }));
            out.push_tail(row);
            out.best_ids.push(row.best());
        }
        out.counts = has_counts.then_some(counts);
        out.is_sure = (policy == TailPolicy::Sampled).then_some(is_sure);
        out
    }

    fn push_tail(&mut self, row: &SoftRow) {
        for atom in row.tail.atoms {
            let logit = ATOM_STEP * f64::from(atom.log_prob);
            let is_none = *atom == TailAtom::NONE;
            let weight = atom.log_term(0.0, row.tail.reference).max(f64::from(NO_CLASS));
            self.tail_logits.push(if is_none { 0.0 } else { logit as f32 });
            self.tail_log_weights.push(weight as f32);
        }
        // A single class is an atom of weight 1.
        self.tail_logits.extend_from_slice(row.tail.joined);
        self.tail_log_weights.extend(row.tail.joined.iter().map(|_| 0.0));
        let padding = self.tail_width - row.tail.atoms.len() - row.tail.joined.len();
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
            best_ids: self.best_ids[range].to_vec(),
        }
    }
}

fn shortened(row: SoftRow, reading: Reading) -> SoftRow {
    match reading.classes {
        Some(classes) if (classes as usize) < row.class_ids.len() => row.prefix(classes as usize),
        _ => row,
    }
}
