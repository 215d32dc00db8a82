//! Rows on a CPU: one pass that reads each row, one that turns it into its gradient where it stands.
//!
//! A tensor operation on all rows goes through memory from end to end and into new memory; a row alone stays in the cache
//! of its core, so all that is done to it costs little more than fetching it.

use super::{Rows, Slopes};
use crate::loss::Temperature;
use crate::loss::lanes::TILE;
use crate::loss::student::NOWHERE;
use crate::target_batch::TargetBatch;
use crate::tensors::float_tensor;
use burn::tensor::{Device, Tensor, TensorData};
use logitcask_core::exp::exp_nonpositive;
use logitcask_core::lanes::{LANES, largest};
use logitcask_model::memory::numbers;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// In this process's memory.
pub(in crate::loss) struct Host {
    device: Device,
    vocab_size: usize,
    /// \[n, vocabulary\], the kept classes out of sight.
    logits: Vec<f32>,
    /// \[n, width\].
    class_ids: Option<Vec<u32>>,
    kept: Option<Vec<f32>>,
    gold_ids: Vec<u32>,
    gold: Vec<f32>,
    views: Vec<View>,
}

/// Of one temperature, a number for each row.
struct View {
    temperature: Vec<f32>,
    largest: Vec<f32>,
    /// Σ exp((logit - largest) / T).
    sum: Vec<f32>,
    /// Σ exp((logit - largest) / T) · logit, over `sum`.
    mean: Vec<f32>,
}

impl Host {
    /// logits: \[n, vocabulary\] in f32, outside any graph, on a CPU; taken over where nobody else has them.
    pub(in crate::loss) fn new(
        logits: Tensor<2>,
        gold_ids: &[u32],
        targets: Option<&TargetBatch>,
        temperatures: &[Temperature],
    ) -> Self {
        let (device, [n, vocab_size]) = (logits.device(), logits.dims());
        let mut this = Self {
            device,
            vocab_size,
            logits: numbers(logits),
            class_ids: targets.map(|targets| targets.class_ids.clone()),
            kept: None,
            gold_ids: gold_ids.to_vec(),
            gold: Vec::new(),
            views: Vec::new(),
        };
        this.look(targets);
        let of_rows = |t: &Temperature| match t.plain() {
            Temperature::Same(t) => vec![t as f32; n],
            Temperature::Each(t) => numbers(*t),
        };
        this.views = temperatures.iter().map(|t| this.view(of_rows(t))).collect();
        this
    }

    /// Reads the kept classes and the labels, and takes the kept ones out of sight.
    fn look(&mut self, targets: Option<&TargetBatch>) {
        let rows = self.logits.chunks_exact(self.vocab_size);
        self.gold = rows.clone().zip(&self.gold_ids).map(|(row, &id)| row[id as usize]).collect();
        let Some(targets) = targets else { return };
        let ids = targets.class_ids.chunks_exact(targets.width);
        self.kept = Some(rows.zip(ids.clone()).flat_map(|(row, ids)| ids.iter().map(|&id| row[id as usize])).collect());
        let mut counts = targets.counts.as_ref().map(|counts| counts.chunks_exact(targets.width));
        for (row, ids) in self.logits.chunks_exact_mut(self.vocab_size).zip(ids) {
            let counts = counts.as_mut().and_then(Iterator::next);
            for (place, &id) in ids.iter().enumerate() {
                if counts.is_none_or(|counts| counts[place] > 0.0) {
                    row[id as usize] = NOWHERE;
                }
            }
        }
    }

    fn view(&self, temperature: Vec<f32>) -> View {
        let rows = self.logits.par_chunks_exact(self.vocab_size).zip(&temperature);
        let sums: Vec<Sums> = rows.map(|(row, &t)| Arch::new().dispatch(SumUp { row, inverse: 1.0 / t })).collect();
        View {
            temperature,
            largest: sums.iter().map(|s| s.largest).collect(),
            sum: sums.iter().map(|s| s.sum as f32).collect(),
            mean: sums.iter().map(|s| (s.weighted / s.sum) as f32).collect(),
        }
    }

    fn column(&self, values: impl Iterator<Item = f32>) -> Tensor<2> {
        float_tensor(&values.collect::<Vec<_>>(), [self.gold.len(), 1], &self.device)
    }
}

impl Rows for Host {
    fn kept(&self) -> Option<Tensor<2>> {
        let n = self.gold.len();
        self.kept.as_ref().map(|kept| float_tensor(kept, [n, kept.len() / n], &self.device))
    }

    fn gold(&self) -> Tensor<2> {
        self.column(self.gold.iter().copied())
    }

    fn log_sums(&self) -> Vec<Tensor<2>> {
        let log_sum = |view: &View| {
            let rows = view.sum.iter().zip(&view.largest).zip(&view.temperature);
            self.column(rows.map(|((sum, largest), t)| sum.ln() + largest / t))
        };
        self.views.iter().map(log_sum).collect()
    }

    fn along(&self, view: usize) -> Tensor<2> {
        let view = &self.views[view];
        self.column(view.mean.iter().zip(&view.temperature).map(|(mean, t)| -mean / (t * t)))
    }

    fn gradient(mut self: Box<Self>, slopes: Slopes) -> Tensor<2> {
        let (n, vocab_size) = (self.gold.len(), self.vocab_size);
        let (kept, gold) = (slopes.kept.map(numbers), slopes.gold.map(numbers));
        let shares: Vec<(View, Vec<f32>)> = self
            .views
            .drain(..)
            .zip(slopes.log_sums)
            .filter_map(|(view, slope)| {
                let slope = numbers(slope?).into_iter().zip(&view.sum).zip(&view.temperature);
                let share = slope.map(|((slope, sum), t)| slope / (sum * t)).collect();
                Some((view, share))
            })
            .collect();
        let width = self.class_ids.as_ref().map_or(0, |ids| ids.len() / n);
        self.logits.par_chunks_exact_mut(vocab_size).enumerate().for_each(|(i, row)| {
            let terms = shares.iter().map(|(view, share)| Term {
                largest: view.largest[i],
                inverse: 1.0 / view.temperature[i],
                share: share[i],
            });
            let terms: Vec<Term> = terms.collect();
            let ids = self.class_ids.as_ref().map_or(&[][..], |ids| &ids[i * width..(i + 1) * width]);
            // What is out of sight would give e^-87 times a share, which is no normal number, and a processor takes a hundred
            // times as long for such a product.
            let is_hidden = |id: &&u32| row[**id as usize] == NOWHERE;
            let hidden: Vec<u32> = ids.iter().filter(is_hidden).copied().collect();
            let visible = terms.first().map_or(0.0, |term| term.largest);
            hidden.iter().for_each(|&id| row[id as usize] = visible);
            Arch::new().dispatch(TurnInto { row, terms });
            hidden.iter().for_each(|&id| row[id as usize] = 0.0);
            if let Some(kept) = &kept {
                let slopes = &kept[i * width..(i + 1) * width];
                ids.iter().zip(slopes).for_each(|(&id, slope)| row[id as usize] += slope);
            }
            if let Some(gold) = &gold {
                row[self.gold_ids[i] as usize] += gold[i];
            }
        });
        Tensor::from_data(TensorData::new(self.logits, [n, vocab_size]), &self.device)
    }
}

struct Sums {
    largest: f32,
    sum: f64,
    /// Σ exp((z - largest) / T) z.
    weighted: f64,
}

/// Reads one row.
struct SumUp<'a> {
    row: &'a [f32],
    inverse: f32,
}

impl WithSimd for SumUp<'_> {
    type Output = Sums;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Sums {
        let (whole, rest) = self.row.as_chunks::<LANES>();
        let largest = largest(self.row);
        let (mut sum, mut weighted) = (0.0f64, 0.0f64);
        for tile in whole.chunks(TILE / LANES) {
            let (mut sums, mut weights) = ([0.0f32; LANES], [0.0f32; LANES]);
            for chunk in tile {
                for ((sum, weight), &z) in sums.iter_mut().zip(&mut weights).zip(chunk) {
                    let e = exp_nonpositive((z - largest) * self.inverse);
                    *sum += e;
                    *weight += e * z;
                }
            }
            sum += sums.iter().map(|&x| f64::from(x)).sum::<f64>();
            weighted += weights.iter().map(|&x| f64::from(x)).sum::<f64>();
        }
        for &z in rest {
            let e = exp_nonpositive((z - largest) * self.inverse);
            sum += f64::from(e);
            weighted += f64::from(e * z);
        }
        Sums { largest, sum, weighted }
    }
}

/// share · exp((z - largest) / T).
#[derive(Clone, Copy)]
struct Term {
    largest: f32,
    inverse: f32,
    share: f32,
}

/// Puts the sum of the terms in the place of each logit.
struct TurnInto<'a> {
    row: &'a mut [f32],
    terms: Vec<Term>,
}

impl WithSimd for TurnInto<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let value = |term: Term, z: f32| term.share * exp_nonpositive((z - term.largest) * term.inverse);
        match *self.terms {
            [] => self.row.fill(0.0),
            [one] => self.row.iter_mut().for_each(|z| *z = value(one, *z)),
            [one, two] => self.row.iter_mut().for_each(|z| *z = value(one, *z) + value(two, *z)),
            _ => self.row.iter_mut().for_each(|z| *z = self.terms.iter().map(|term| value(*term, *z)).sum()),
        }
    }
}
