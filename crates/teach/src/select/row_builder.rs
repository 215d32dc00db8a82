//! What a row becomes once its largest classes are known, wherever they were found.

use super::tail::TailSummary;
use super::top::{TopClasses, sort};
use logitcask_core::{Gold, RowErrors, SoftRow, SoftRows, Tail, Truncation};
use std::fmt;

/// Why a row cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RowProblem {
    /// It holds a NaN or an infinity, or its largest logit is beyond 2e38.
    NotFinite,
    /// A kept class or the label lies below what [`Truncation::values`] can write.
    TooSmall {
        /// Which class.
        class_id: u32,
        /// Its log-probability at T = 1.
        log_prob: f32,
    },
}

impl fmt::Display for RowProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFinite => write!(f, "a logit is not a finite number, or the largest is beyond 2e38"),
            Self::TooSmall { class_id, log_prob } => {
                write!(f, "class {class_id} has log-probability {log_prob}, below all that can be written")
            }
        }
    }
}

impl std::error::Error for RowProblem {}

/// A row, as far as it is known: its kept classes and its label at least.
pub(super) trait LogProbs: Copy {
    /// log sum exp of all its logits.
    fn log_z(self) -> f64;

    /// log p at T = 1.
    fn log_prob(self, id: u32) -> f64;
}

/// Chooses from the largest classes, writes, and counts what that costs; with the same buffers for row after row.
pub(super) struct RowBuilder {
    pub(super) keep: Truncation,
    /// To be filled before anything is chosen.
    pub(super) top: TopClasses,
    pub(super) tail: Option<TailSummary>,
    /// Chosen, in any order.
    pub(super) sure: Vec<u32>,
    /// Drawn at random, in any order.
    pub(super) drawn: Vec<u32>,
    /// Code and id of a part's classes.
    codes: Vec<u64>,
    scratch: Vec<u64>,
    class_ids: Vec<u32>,
    log_probs: Vec<f32>,
}

impl RowBuilder {
    pub(super) fn new(keep: &Truncation) -> Self {
        Self {
            keep: keep.clone(),
            top: TopClasses::default(),
            tail: keep.tail.map(TailSummary::new),
            sure: Vec::new(),
            drawn: Vec::new(),
            codes: Vec::new(),
            scratch: Vec::new(),
            class_ids: Vec::new(),
            log_probs: Vec::new(),
        }
    }

    /// Chooses the `count` largest and what is always kept.
    pub(super) fn take(&mut self, count: usize) {
        self.sure.clear();
        self.drawn.clear();
        self.sure.extend(self.top.ids().take(count));
        for &id in &self.keep.always_keep {
            if !self.sure.contains(&id) {
                self.sure.push(id);
            }
        }
    }

    /// Classes with their logits that [`Self::take`] passes over, largest first: those of them that are known.
    pub(super) fn left(&self, count: usize) -> impl Iterator<Item = (u32, f32)> {
        self.top.classes().skip(count).filter(|(id, _)| self.keep.always_keep.binary_search(id).is_err())
    }

    /// How many of the largest classes it takes to reach the mass p, and how close the decision was.
    pub(super) fn nucleus(&self, row: impl LogProbs, p: f64) -> (usize, f64) {
        let (mut mass, mut doubt) = (0.0f64, f64::INFINITY);
        let short = self.top.ids().take_while(|&id| {
            mass += row.log_prob(id).exp();
            doubt = doubt.min((mass - p).abs());
            mass < p
        });
        (1 + short.count(), doubt)
    }

    /// Writes what was chosen and the label, which stands at `rank`.
    pub(super) fn write(&mut self, row: impl LogProbs, gold_id: u32, rank: u32) -> Result<Gold, RowProblem> {
        self.class_ids.clear();
        self.log_probs.clear();
        self.write_part(row, false)?;
        self.write_part(row, true)?;
        let log_prob = row.log_prob(gold_id) as f32;
        let written = self.keep.values.round(log_prob);
        let log_prob = written.ok_or(RowProblem::TooSmall { class_id: gold_id, log_prob })?;
        Ok(Gold { log_prob, rank })
    }

    /// Appends the sure or the drawn classes as they are written: by rounded value, largest first, ties to the lower
    /// id.
    fn write_part(&mut self, row: impl LogProbs, is_drawn: bool) -> Result<(), RowProblem> {
        let part = if is_drawn { &self.drawn } else { &self.sure };
        let values = self.keep.values;
        self.codes.clear();
        for &class_id in part {
            let log_prob = row.log_prob(class_id) as f32;
            let code = values.code(log_prob).ok_or(RowProblem::TooSmall { class_id, log_prob })?;
            self.codes.push(u64::from(code) << 32 | u64::from(class_id));
        }
        if !self.keep.is_dense() {
            sort(&mut self.codes, &mut self.scratch);
        }
        self.class_ids.extend(self.codes.iter().map(|&key| key as u32));
        self.log_probs.extend(self.codes.iter().map(|&key| values.value((key >> 32) as u16)));
        Ok(())
    }

    /// Appends the written row, its tail summed up, to `out`, and counts its errors.
    pub(super) fn push(&self, row: impl LogProbs, gold: Gold, out: &mut SoftRows, errors: &mut RowErrors) {
        let sure = self.sure.len();
        if let Some(tail) = &self.tail {
            tail.count_errors(row, &self.class_ids[..sure], &self.log_probs[..sure], errors);
        }
        for (&id, &written) in self.class_ids.iter().zip(&self.log_probs) {
            errors.codec.add(f64::from(written) - row.log_prob(id));
        }
        out.push(SoftRow {
            class_ids: &self.class_ids,
            log_probs: &self.log_probs,
            drawn: self.drawn.len(),
            log_z: row.log_z() as f32,
            gold,
            tail: self.tail.as_ref().map_or(Tail::default(), TailSummary::view),
        });
    }
}
