//! Loss and gradient of rows of logits on a CPU, one row at a time while it is in the cache of its core.
//!
//! A divergence that is a sum over cells has its slope written down beside it ([`logitcask_core::divergence`]), so that no
//! graph is needed for it: a row is read, judged and turned into its own gradient where it stands. Cells are judged in
//! f32, many at once; what other losses ask goes through autodiff ([`super::head`]).

mod row;
mod temper;

use crate::decisions::TokenDecisions;
use crate::loss::{LossAtStep, Scale};
use crate::target_batch::TargetBatch;
use burn::tensor::{Tensor, TensorData};
use logitcask_core::TailPolicy;
use logitcask_core::temperature::{TemperaturePair, Temperatures};
use logitcask_model::memory::{is_in_memory, numbers};
use pulp::Arch;
use rayon::prelude::*;
use row::{RowBuffers, RowKernel};

/// A loss at some positions.
pub(super) struct FusedCpu<'a> {
    pub(super) loss: &'a LossAtStep,
    pub(super) decisions: &'a TokenDecisions,
    /// `None`: the labels alone.
    pub(super) targets: Option<&'a TargetBatch>,
    pub(super) gold_ids: &'a [u32],
}

/// What came of it: sums over the positions.
pub(super) struct Sums {
    /// Of each term, without factor, scale and weight.
    pub(super) divergences: Vec<f64>,
    /// Where it was asked for.
    pub(super) cross_entropy: Option<f64>,
    /// What is minimised.
    pub(super) loss: f64,
}

impl FusedCpu<'_> {
    /// Can this be done here? logits: \[n, vocabulary\].
    pub(super) fn serves(&self, logits: &Tensor<2>) -> bool {
        let is_known = |term: &super::TermAtStep| {
            let is_plain = term.spread.is_none() && !term.needs_slopes && term.tail != TailPolicy::Uniform;
            is_plain && term.divergence.is_sum_over_classes()
        };
        is_in_memory(logits) && (self.targets.is_none() || self.loss.terms.iter().all(is_known))
    }

    /// The gradient of the sum over all rows, \[n, vocabulary\], and the sums. logits: \[n, vocabulary\], outside any graph;
    /// taken over where nobody else has them.
    pub(super) fn run(&self, logits: Tensor<2>) -> (Tensor<2>, Sums) {
        let (device, [n, vocab_size]) = (logits.device(), logits.dims());
        let mut logits = numbers(logits);
        // Of each row: its divergences, its cross entropy, its loss.
        let terms = if self.targets.is_some() { self.loss.terms.len() } else { 0 };
        let mut figures = vec![0.0f32; n * (terms + 2)];
        let rows = logits.par_chunks_exact_mut(vocab_size).zip(figures.par_chunks_exact_mut(terms + 2)).enumerate();
        rows.for_each_init(RowBuffers::default, |scratch, (i, (row, figures))| {
            Arch::new().dispatch(RowKernel { all: self, i, row, figures, scratch });
        });
        let column = |place| figures.iter().skip(place).step_by(terms + 2).map(|&x| f64::from(x)).sum::<f64>();
        let sums = Sums {
            divergences: (0..terms).map(column).collect(),
            cross_entropy: self.sees_labels().then(|| column(terms)),
            loss: column(terms + 1),
        };
        (Tensor::from_data(TensorData::new(logits, [n, vocab_size]), &device), sums)
    }

    /// Is the cross entropy asked for?
    fn sees_labels(&self) -> bool {
        self.targets.is_none() || self.loss.alpha < 1.0 || self.loss.needs_cross_entropy
    }

    /// Temperatures of a term at position i.
    fn temperatures(&self, term: usize, i: usize) -> TemperaturePair {
        match self.decisions.temperatures.get(term).and_then(Option::as_ref) {
            None => self.loss.terms[term].temperatures,
            Some(Temperatures::Shared(pair)) => *pair,
            Some(Temperatures::PerToken(temperatures)) => temperatures[i],
        }
    }

    /// What the divergence of a term is multiplied by at position i.
    fn weight(&self, term: usize, i: usize, pair: TemperaturePair) -> f32 {
        let term = &self.loss.terms[term];
        let scale = match term.scale {
            Scale::Squared => pair.teacher * pair.teacher,
            Scale::Product => pair.teacher * pair.student,
            Scale::None => 1.0,
        };
        let weight = self.decisions.weights.as_ref().map_or(1.0, |weights| f64::from(weights[i]));
        (self.loss.alpha * term.factor * scale * weight) as f32
    }
}
