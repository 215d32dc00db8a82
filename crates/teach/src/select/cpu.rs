//! One row: which classes, what of them is written, and what that costs.

use super::lanes::{sum_exp, summarise};
use super::sample::Draw;
use super::tail::TailSummary;
use super::top::TopClasses;
use logitcask_core::{Gold, Keep, RowErrors, Selection, SoftRow, SoftRows, Tail};
use std::fmt;

/// Nearer to `p` than this, a nucleus' mass is computed again in f64: f32 exponentials are no judge of it.
const NUCLEUS_DOUBT: f64 = 1e-6;

/// Why a row cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RowProblem {
    /// It holds a NaN or an infinity.
    NotFinite,
    /// A kept class or the label lies below what [`Keep::values`] can write.
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
            Self::NotFinite => write!(f, "a logit is not a finite number"),
            Self::TooSmall { class_id, log_prob } => {
                write!(f, "class {class_id} has log-probability {log_prob}, below all that can be written")
            }
        }
    }
}

impl std::error::Error for RowProblem {}

/// A row of raw logits and its log-partition.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    /// Raw.
    pub(super) logits: &'a [f32],
    /// log sum exp of all of them.
    pub(super) log_z: f64,
}

impl Row<'_> {
    /// log p at T = 1.
    pub(super) fn log_prob(&self, id: u32) -> f64 {
        f64::from(self.logits[id as usize]) - self.log_z
    }
}

/// Selects row after row with the same buffers.
pub struct RowSelector {
    keep: Keep,
    block_max: Vec<f32>,
    top: TopClasses,
    draw: Draw,
    tail: Option<TailSummary>,
    sure: Vec<u32>,
    drawn: Vec<u32>,
    /// Code and id of a part's classes.
    codes: Vec<u64>,
    class_ids: Vec<u32>,
    log_probs: Vec<f32>,
}

impl RowSelector {
    /// For rows of which `keep` is kept.
    pub fn new(keep: &Keep) -> Self {
        Self {
            keep: keep.clone(),
            block_max: Vec::new(),
            top: TopClasses::default(),
            draw: Draw::default(),
            tail: keep.tail.map(TailSummary::new),
            sure: Vec::new(),
            drawn: Vec::new(),
            codes: Vec::new(),
            class_ids: Vec::new(),
            log_probs: Vec::new(),
        }
    }

    /// Appends to `out` what is kept of one row of raw logits and counts in `errors` what writing it costs; neither
    /// changes on `Err`. `lot` is [`Selection::lot`] of the position.
    ///
    /// Agrees with [`logitcask_core::select::select_reference`] in ids and ranks exactly, but for draws whose lot falls
    /// within 1e-6 of the border between two classes, and in log_z to 1e-5.
    ///
    /// # Panics
    /// Where `gold_id` is outside the row, or `keep` asks for more than it has: a mistake of the caller.
    pub fn select(
        &mut self,
        logits: &[f32],
        gold_id: u32,
        lot: f64,
        out: &mut SoftRows,
        errors: &mut RowErrors,
    ) -> Result<(), RowProblem> {
        assert!((gold_id as usize) < logits.len(), "label {gold_id} is outside the row");
        let summary = summarise(logits, gold_id, &mut self.block_max).ok_or(RowProblem::NotFinite)?;
        let log_z = f64::from(summary.max) + sum_exp(logits, summary.max, 1.0).ln();
        let mut row = Row { logits, log_z };
        let tail_top = self.choose(&mut row, summary.max, lot);

        self.class_ids.clear();
        self.log_probs.clear();
        self.write(row, false)?;
        self.write(row, true)?;
        let gold = Gold { log_prob: self.round(row, gold_id)?, rank: summary.rank };
        let sure = self.sure.len();
        if let Some(tail) = &mut self.tail {
            tail.summarise(row, &self.sure, tail_top);
            tail.count_errors(row, &self.class_ids[..sure], &self.log_probs[..sure], errors);
        }
        for (&id, &written) in self.class_ids.iter().zip(&self.log_probs) {
            errors.codec.add(f64::from(written) - row.log_prob(id));
        }
        out.push(SoftRow {
            class_ids: &self.class_ids,
            log_probs: &self.log_probs,
            drawn: self.drawn.len(),
            log_z: row.log_z as f32,
            gold,
            tail: self.tail.as_ref().map_or(Tail::default(), TailSummary::view),
        });
        Ok(())
    }

    /// Fills `sure` and `drawn`, in any order; the largest logit outside `sure`, if anything is.
    fn choose(&mut self, row: &mut Row<'_>, max: f32, lot: f64) -> Option<f32> {
        self.sure.clear();
        self.drawn.clear();
        let always = &self.keep.always_keep;
        match self.keep.selection {
            Selection::Dense => {
                self.sure.extend(0..row.logits.len() as u32);
                None
            }
            Selection::TopK { k } => {
                self.top.find(row.logits, &self.block_max, k as usize + always.len() + 1);
                self.take(row.logits, k as usize)
            }
            Selection::TopP { p, k } => {
                self.top.find(row.logits, &self.block_max, k as usize + always.len() + 1);
                let (mut size, doubt) = self.nucleus(*row, p);
                if doubt < NUCLEUS_DOUBT {
                    row.log_z = exact_log_z(row.logits, max);
                    (size, _) = self.nucleus(*row, p);
                }
                self.take(row.logits, size.min(k as usize))
            }
            Selection::Sample { n, .. } => {
                let places = n as usize - always.len();
                self.top.find(row.logits, &self.block_max, n as usize + 1);
                self.draw.draw(*row, self.top.ids(), always, places, lot, (&mut self.sure, &mut self.drawn))
            }
        }
    }

    /// Takes the `count` largest and what is always kept; the largest logit of those left.
    fn take(&mut self, logits: &[f32], count: usize) -> Option<f32> {
        let always = &self.keep.always_keep;
        let skipped = always.iter().filter(|&&id| !self.top.holds(logits, id, count));
        self.sure.extend(self.top.ids().take(count).chain(skipped.copied()));
        let left = self.top.ids().skip(count).find(|id| always.binary_search(id).is_err());
        left.map(|id| logits[id as usize])
    }

    /// How many of the largest classes it takes to reach the mass p, and how close the decision was.
    fn nucleus(&self, row: Row<'_>, p: f64) -> (usize, f64) {
        let (mut mass, mut doubt) = (0.0f64, f64::INFINITY);
        let short = self.top.ids().take_while(|&id| {
            mass += row.log_prob(id).exp();
            doubt = doubt.min((mass - p).abs());
            mass < p
        });
        (1 + short.count(), doubt)
    }

    /// Appends the sure or the drawn classes as they are written: by rounded value, largest first, ties to the lower
    /// id.
    fn write(&mut self, row: Row<'_>, is_drawn: bool) -> Result<(), RowProblem> {
        let part = if is_drawn { &self.drawn } else { &self.sure };
        let values = self.keep.values;
        self.codes.clear();
        for &class_id in part {
            let log_prob = row.log_prob(class_id) as f32;
            let code = values.code(log_prob).ok_or(RowProblem::TooSmall { class_id, log_prob })?;
            self.codes.push(u64::from(code) << 32 | u64::from(class_id));
        }
        if !self.keep.is_dense() {
            self.codes.sort_unstable();
        }
        self.class_ids.extend(self.codes.iter().map(|&key| key as u32));
        self.log_probs.extend(self.codes.iter().map(|&key| values.value((key >> 32) as u16)));
        Ok(())
    }

    /// A class's log-probability as it is written.
    fn round(&self, row: Row<'_>, class_id: u32) -> Result<f32, RowProblem> {
        let log_prob = row.log_prob(class_id) as f32;
        self.keep.values.round(log_prob).ok_or(RowProblem::TooSmall { class_id, log_prob })
    }
}

/// log sum exp in f64, in the reference's order.
fn exact_log_z(logits: &[f32], max: f32) -> f64 {
    let max = f64::from(max);
    max + logits.iter().map(|&z| (f64::from(z) - max).exp()).sum::<f64>().ln()
}
