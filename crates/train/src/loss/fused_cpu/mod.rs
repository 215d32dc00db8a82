//! Loss and gradient of rows of logits on a CPU, one row at a time while it is in its core's cache.
//!
//! A divergence that is a sum over terms provides its derivative ([`logitcask_core::divergence`]), so it needs no
//! autodiff graph: each row of logits is read and replaced by its own gradient in place. Terms are evaluated in f32
//! with vector instructions; other losses use autodiff ([`super::head`]).

mod floats;
mod row;

use crate::decisions::TokenDecisions;
use crate::loss::{LossAtStep, Scale};
use crate::target_batch::TargetBatch;
use burn::tensor::{Tensor, TensorData};
use floats::Floats;
use logitcask_core::TailPolicy;
use logitcask_core::divergence::{CachedRows, OverRows, Tempered};
use logitcask_core::temperature::{TemperaturePair, Temperatures};
use logitcask_model::memory::{is_in_memory, numbers};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use row::{RowBuffers, RowKernel};
use std::ops::Range;

/// Number of rows whose temperatures are applied together: their kept values fit the nearest cache.
const BLOCK: usize = 8;

/// A loss at some positions.
pub(super) struct FusedCpu<'a> {
    pub(super) loss: &'a LossAtStep,
    pub(super) decisions: &'a TokenDecisions,
    /// `None` means labels only.
    pub(super) targets: Option<&'a TargetBatch>,
    pub(super) gold_ids: &'a [u32],
}

/// Results of the loss: sums over the positions.
pub(super) struct Sums {
    /// The divergence of each term, without factor, scale and weight.
    pub(super) divergences: Vec<f64>,
    /// Present if it was requested.
    pub(super) cross_entropy: Option<f64>,
    /// The loss that is minimised.
    pub(super) loss: f64,
}

impl FusedCpu<'_> {
    /// Whether this implementation supports the loss and the device. logits: \[n, vocabulary\].
    pub(super) fn serves(&self, logits: &Tensor<2>) -> bool {
        let is_known = |term: &super::TermAtStep| {
            let is_plain = !term.needs_slopes && term.tail != TailPolicy::Uniform;
            is_plain && term.divergence.is_sum_over_classes()
        };
        let is_served = self.loss.terms.iter().all(is_known) && !self.decisions.follow_logit_std();
        is_in_memory(logits) && (self.targets.is_none() || is_served)
    }

    /// Returns the gradient of the sum over all rows, \[n, vocabulary\], and the sums. logits: \[n, vocabulary\],
    /// outside any graph; their buffer is reused if nothing else holds it.
    pub(super) fn run(&self, logits: Tensor<2>) -> (Tensor<2>, Sums) {
        let (device, [n, vocab_size]) = (logits.device(), logits.dims());
        let mut logits = numbers(logits);
        // Each row has its divergences, its cross entropy and its loss.
        let terms = if self.targets.is_some() { self.loss.terms.len() } else { 0 };
        let mut figures = vec![0.0f32; n * (terms + 2)];
        let blocks =
            logits.par_chunks_mut(BLOCK * vocab_size).zip(figures.par_chunks_mut(BLOCK * (terms + 2))).enumerate();
        blocks.for_each_init(RowBuffers::default, |buffers, (block, (rows, figures))| {
            Arch::new().dispatch(BlockKernel { all: self, start: block * BLOCK, vocab_size, rows, figures, buffers });
        });
        let column = |place| figures.iter().skip(place).step_by(terms + 2).map(|&x| f64::from(x)).sum::<f64>();
        let sums = Sums {
            divergences: (0..terms).map(column).collect(),
            cross_entropy: self.sees_labels().then(|| column(terms)),
            loss: column(terms + 1),
        };
        (Tensor::from_data(TensorData::new(logits, [n, vocab_size]), &device), sums)
    }

    /// Whether the cross entropy is requested.
    fn sees_labels(&self) -> bool {
        self.targets.is_none() || self.loss.alpha < 1.0 || self.loss.needs_cross_entropy
    }

    /// The temperatures of a term at position i.
    fn temperatures(&self, term: usize, i: usize) -> TemperaturePair {
        match self.decisions.temperatures.get(term).and_then(Option::as_ref) {
            None => self.loss.terms[term].temperatures,
            Some(Temperatures::Shared(pair) | Temperatures::TimesLogitStd { pair, .. }) => *pair,
            Some(Temperatures::PerToken(temperatures)) => temperatures[i],
        }
    }

    /// The factor of a term's divergence at position i.
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

    /// Some of the teacher's rows at the temperatures of a term.
    #[inline(always)]
    fn tempered(&self, targets: &TargetBatch, term: usize, rows: Range<usize>) -> Tempered<Floats> {
        let cut =
            |values: &[f32], width: usize| Floats::new(width, values[rows.start * width..rows.end * width].to_vec());
        let atoms = |values: &[f32]| cut(values, targets.tail_width);
        let cached = CachedRows {
            log_probs: cut(&targets.log_probs, targets.width),
            is_certain: targets.is_sure.as_ref().map(|is_certain| cut(is_certain, targets.width)),
            tail: (targets.tail_width > 0).then(|| [atoms(&targets.tail_logits), atoms(&targets.tail_log_weights)]),
            without: targets.without.as_ref().map(|without| cut(without, 1)),
        };
        let inverse = Floats::new(1, rows.map(|i| (1.0 / self.temperatures(term, i).teacher) as f32).collect());
        cached.at(|x| x * inverse.clone(), self.loss.terms[term].tail)
    }
}

/// Processes rows from `start` on; their divergences, cross entropies and losses are written to `figures`.
struct BlockKernel<'a, 'b> {
    all: &'a FusedCpu<'b>,
    start: usize,
    vocab_size: usize,
    rows: &'a mut [f32],
    figures: &'a mut [f32],
    buffers: &'a mut RowBuffers,
}

impl WithSimd for BlockKernel<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { all, start, vocab_size, rows, figures, buffers } = self;
        let n = rows.len() / vocab_size;
        // Loops, and no closures: see `Floats`.
        let mut tempered: Vec<Tempered<Floats>> = Vec::new();
        if let Some(targets) = all.targets {
            for term in 0..all.loss.terms.len() {
                tempered.push(all.tempered(targets, term, start..start + n));
            }
        }
        let figures = figures.chunks_exact_mut(tempered.len() + 2);
        for (i, (row, figures)) in rows.chunks_exact_mut(vocab_size).zip(figures).enumerate() {
            let teacher = |term: usize| -> (&[f32], Option<f32>) {
                let Tempered { log_probs, log_mass, .. } = &tempered[term];
                (log_probs.row(i), log_mass.as_ref().map(|log_mass| log_mass.row(i)[0]))
            };
            RowKernel { all, i: start + i, row, figures, buffers }.run(teacher);
        }
    }
}
