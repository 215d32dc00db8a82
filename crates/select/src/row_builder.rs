//! Builds the selected row once its largest classes are known, on the CPU or from a GPU's summary.

use crate::row::{LogProbs, RowProblem};
use crate::tail::TailFitter;
use crate::top::{TopClasses, sort};
use logitcask_core::{Gold, RowErrors, SoftRow, SoftRows, Tail, Truncation};

/// Chooses the kept classes, encodes them and counts the encoding errors. The buffers are reused from row to row.
pub(crate) struct RowBuilder {
    pub(crate) keep: Truncation,
    /// Must be filled before any class is chosen.
    pub(crate) top: TopClasses,
    pub(crate) tail: Option<TailFitter>,
    /// Classes kept with probability 1, in any order.
    pub(crate) certain: Vec<u32>,
    /// Classes drawn at random, in any order.
    pub(crate) drawn: Vec<u32>,
    /// Encoded value (upper 32 bits) and id (lower 32 bits) of the classes being encoded.
    codes: Vec<u64>,
    scratch: Vec<u64>,
    class_ids: Vec<u32>,
    log_probs: Vec<f32>,
}

impl RowBuilder {
    pub(crate) fn new(keep: &Truncation) -> Self {
        Self {
            keep: keep.clone(),
            top: TopClasses::default(),
            tail: keep.tail.map(TailFitter::new),
            certain: Vec::new(),
            drawn: Vec::new(),
            codes: Vec::new(),
            scratch: Vec::new(),
            class_ids: Vec::new(),
            log_probs: Vec::new(),
        }
    }

    /// Chooses the `count` largest classes and those that are always kept.
    pub(crate) fn choose_largest(&mut self, count: usize) {
        self.certain.clear();
        self.drawn.clear();
        self.certain.extend(self.top.ids().take(count));
        for &id in &self.keep.always_keep {
            if !self.certain.contains(&id) {
                self.certain.push(id);
            }
        }
    }

    /// Ids and logits of the known classes that [`Self::choose_largest`] with this `count` leaves out, largest first.
    pub(crate) fn remaining(&self, count: usize) -> impl Iterator<Item = (u32, f32)> {
        self.top.classes().skip(count).filter(|(id, _)| self.keep.always_keep.binary_search(id).is_err())
    }

    /// The number of largest classes whose total probability reaches `p`, and the margin of that decision: the smallest
    /// distance between `p` and any of the partial sums.
    pub(crate) fn nucleus_size(&self, row: impl LogProbs, p: f64) -> (usize, f64) {
        let (mut mass, mut margin) = (0.0f64, f64::INFINITY);
        let short = self.top.ids().take_while(|&id| {
            mass += row.log_prob(id).exp();
            margin = margin.min((mass - p).abs());
            mass < p
        });
        (1 + short.count(), margin)
    }

    /// Encodes the chosen classes and the label, whose rank in the row is `rank`.
    pub(crate) fn encode(&mut self, row: impl LogProbs, gold_id: u32, rank: u32) -> Result<Gold, RowProblem> {
        self.class_ids.clear();
        self.log_probs.clear();
        self.encode_part(row, false)?;
        self.encode_part(row, true)?;
        let log_prob = row.log_prob(gold_id) as f32;
        let written = self.keep.values.round(log_prob);
        let log_prob = written.ok_or(RowProblem::TooSmall { class_id: gold_id, log_prob })?;
        Ok(Gold { log_prob, rank })
    }

    /// Appends the certain or the drawn classes in the order of the format: by encoded value, largest first, with ties
    /// in the order of their ids.
    fn encode_part(&mut self, row: impl LogProbs, is_drawn: bool) -> Result<(), RowProblem> {
        let part = if is_drawn { &self.drawn } else { &self.certain };
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

    /// Appends the encoded row with its fitted tail to `out` and adds its errors to `errors`.
    pub(crate) fn push(&self, row: impl LogProbs, gold: Gold, out: &mut SoftRows, errors: &mut RowErrors) {
        let certain = self.certain.len();
        if let Some(tail) = &self.tail {
            tail.count_errors(row, &self.class_ids[..certain], &self.log_probs[..certain], errors);
        }
        for (&id, &written) in self.class_ids.iter().zip(&self.log_probs) {
            errors.codec.add(f64::from(written) - row.log_prob(id));
        }
        out.push(SoftRow {
            class_ids: &self.class_ids,
            log_probs: &self.log_probs,
            drawn: self.drawn.len(),
            log_z: self.keep.values.round_log_z(row.log_z()),
            gold,
            tail: self.tail.as_ref().map_or(Tail::default(), TailFitter::as_tail),
        });
    }
}
