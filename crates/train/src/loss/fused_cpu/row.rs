//! Evaluation of one row of logits, which is replaced by its gradient.

use super::FusedCpu;
use crate::loss::lanes::{exp_in_place, log_add_exp, log_sum_exp, sum_exp};
use crate::loss::student::NOWHERE;
use crate::target_batch::{NO_CLASS, TargetBatch};
use logitcask_core::divergence::{Dual, NO_MASS};
use logitcask_core::exp::exp_nonpositive;
use logitcask_core::lanes::{largest, sum};

/// Intermediate values of a row, reused for all rows to avoid allocation.
#[derive(Default)]
pub(super) struct RowBuffers {
    /// Logits of the kept classes; [`NO_CLASS`] for padding.
    kept: Vec<f32>,
    /// d loss / d logits of the kept classes.
    of_kept: Vec<f32>,
    views: Vec<View>,
    log_p: Vec<f32>,
    log_q: Vec<f32>,
    values: Vec<f32>,
    slopes: Vec<f32>,
}

/// The row at one of the student's temperatures.
struct View {
    temperature: f32,
    /// Σ exp((logit - largest) / T) over the classes that are not kept.
    sum: f32,
    /// log sum exp(logit / T) over the same classes.
    log_sum: f32,
    /// log sum exp(logit / T) over all classes.
    log_z: f32,
    /// d loss / d log_sum.
    slope: f32,
}

/// Processes row `i`; its divergences, cross entropy and loss are written to `figures`.
pub(super) struct RowKernel<'a, 'b> {
    pub(super) all: &'a FusedCpu<'b>,
    pub(super) i: usize,
    pub(super) row: &'a mut [f32],
    pub(super) figures: &'a mut [f32],
    pub(super) buffers: &'a mut RowBuffers,
}

impl RowKernel<'_, '_> {
    /// `teacher` returns, for a term, the log-probabilities at its temperature of the kept classes and of all others
    /// together.
    #[inline(always)]
    pub(super) fn run<'t>(self, teacher: impl Fn(usize) -> (&'t [f32], Option<f32>)) {
        let Self { all, i, row, figures, buffers } = self;
        let gold_id = all.gold_ids[i] as usize;
        let gold = row[gold_id];
        buffers.take_kept(row, all.targets, i);
        buffers.see_temperatures(all, i);
        let largest = largest(row);
        buffers.sum_up(row, largest);
        let (divergences, rest) = figures.split_at_mut(figures.len() - 2);
        let mut loss = 0.0;
        if let Some(targets) = all.targets {
            for (term, divergence) in divergences.iter_mut().enumerate() {
                let (value, weight) = buffers.compare(all, targets, term, i, teacher(term));
                *divergence = value;
                loss += weight * value;
            }
        }
        let mut of_gold = 0.0;
        if all.sees_labels() {
            let weight = if all.targets.is_some() { (1.0 - all.loss.alpha) as f32 } else { 1.0 };
            rest[0] = buffers.label(gold, weight);
            loss += weight * rest[0];
            of_gold = -weight;
        }
        rest[1] = loss;
        // e^-87 times a share is a denormal number, and a processor takes a hundred times as long for such a product.
        each_kept(all.targets, i, |_, id| row[id] = largest);
        buffers.turn(row, largest);
        each_kept(all.targets, i, |place, id| row[id] = buffers.of_kept[place]);
        row[gold_id] += of_gold;
    }
}

/// Calls `each` with the index and id of every class that row `i` keeps, skipping padding.
#[inline(always)]
fn each_kept(targets: Option<&TargetBatch>, i: usize, mut each: impl FnMut(usize, usize)) {
    let Some(targets) = targets else { return };
    let classes = i * targets.width..(i + 1) * targets.width;
    let ids = targets.class_ids[classes.clone()].iter().map(|&id| id as usize).enumerate();
    match &targets.counts {
        None => ids.for_each(|(place, id)| each(place, id)),
        Some(counts) => {
            ids.zip(&counts[classes]).filter(|(_, count)| **count > 0.0).for_each(|((place, id), _)| each(place, id));
        }
    }
}

impl RowBuffers {
    /// Reads the logits of the kept classes and masks them in the row.
    #[inline(always)]
    fn take_kept(&mut self, row: &mut [f32], targets: Option<&TargetBatch>, i: usize) {
        self.kept.clear();
        let Some(targets) = targets else { return };
        self.kept.resize(targets.width, NO_CLASS);
        each_kept(Some(targets), i, |place, id| self.kept[place] = std::mem::replace(&mut row[id], NOWHERE));
        self.of_kept.clear();
        self.of_kept.resize(self.kept.len(), 0.0);
    }

    /// Collects the distinct temperatures that the terms and the label need.
    #[inline(always)]
    fn see_temperatures(&mut self, all: &FusedCpu<'_>, i: usize) {
        self.views.clear();
        let terms = if all.targets.is_some() { all.loss.terms.len() } else { 0 };
        let asked =
            (0..terms).map(|term| all.temperatures(term, i).student as f32).chain(all.sees_labels().then_some(1.0));
        for temperature in asked {
            if self.view(temperature).is_none() {
                self.views.push(View { temperature, sum: 0.0, log_sum: 0.0, log_z: 0.0, slope: 0.0 });
            }
        }
    }

    #[inline(always)]
    fn view(&self, temperature: f32) -> Option<usize> {
        self.views.iter().position(|view| view.temperature == temperature)
    }

    /// Index of a temperature that was collected.
    #[inline(always)]
    fn seen(&self, temperature: f32) -> usize {
        self.view(temperature).unwrap_or_else(|| unreachable!("a temperature that is a number has a view"))
    }

    /// Computes the log-partitions. With a single temperature the exponentials replace the logits.
    #[inline(always)]
    fn sum_up(&mut self, row: &mut [f32], largest: f32) {
        let is_one = self.views.len() == 1;
        for view in &mut self.views {
            let inverse = 1.0 / view.temperature;
            let sum = if is_one { exp_in_place(row, largest, inverse) } else { sum_exp(row, largest, inverse) };
            view.sum = sum as f32;
            view.log_sum = view.sum.ln() + largest * inverse;
            view.log_z = view.log_sum;
            if !self.kept.is_empty() {
                self.log_q.clear();
                self.log_q.extend(self.kept.iter().map(|z| z * inverse));
                view.log_z = log_add_exp(view.log_sum, log_sum_exp(&self.log_q));
            }
        }
    }

    /// Returns a term's divergence and weight, and accumulates its slopes.
    #[inline(always)]
    fn compare(
        &mut self,
        all: &FusedCpu<'_>,
        targets: &TargetBatch,
        term: usize,
        i: usize,
        (log_p, log_mass): (&[f32], Option<f32>),
    ) -> (f32, f32) {
        let (pair, step) = (all.temperatures(term, i), &all.loss.terms[term]);
        let weight = all.weight(term, i, pair);
        let log_mass = log_mass.filter(|log_mass| *log_mass > NO_MASS as f32);
        self.log_p.clear();
        self.log_p.extend(log_p.iter().copied().chain(log_mass));
        let temperature = pair.student as f32;
        let place = self.seen(temperature);
        let (inverse, &View { log_sum, log_z, .. }) = (1.0 / temperature, &self.views[place]);
        self.log_q.clear();
        self.log_q.extend(self.kept.iter().map(|z| z * inverse - log_z));
        if log_mass.is_some() {
            self.log_q.push(log_sum - log_z);
        }
        let terms = self.log_q.len();
        self.values.resize(terms, 0.0);
        self.slopes.resize(terms, 0.0);
        step.divergence.eval_terms(&self.log_p, &self.log_q, &mut self.values, &mut self.slopes);
        if let Some(counts) = &targets.counts {
            let counts = &counts[i * targets.width..(i + 1) * targets.width];
            self.values.iter_mut().zip(counts).for_each(|(value, count)| *value *= count);
            self.slopes.iter_mut().zip(counts).for_each(|(slope, count)| *slope *= count);
        }
        let slopes = sum(&self.slopes, |x| x);
        let Dual { value, slope } = step.divergence.of_sum(Dual::variable(sum(&self.values, |x| x)));
        let strength = weight * slope;
        // d log q_j / d (z_i / T) is 1 where i = j, less q_i.
        let kept = self.of_kept.iter_mut().zip(&self.log_q).zip(&self.slopes);
        kept.for_each(|((of, &q), slope)| *of += strength * inverse * (slope - exp_nonpositive(q) * slopes));
        let of_other = if log_mass.is_some() { self.slopes[terms - 1] } else { 0.0 };
        self.views[place].slope += strength * (of_other - exp_nonpositive(log_sum - log_z) * slopes);
        (value, weight)
    }

    /// Returns the cross entropy and accumulates its slopes, except for the label's own.
    #[inline(always)]
    fn label(&mut self, gold: f32, weight: f32) -> f32 {
        let place = self.seen(1.0);
        let view = &mut self.views[place];
        let log_z = view.log_z;
        view.slope += weight * exp_nonpositive(view.log_sum - log_z);
        let kept = self.of_kept.iter_mut().zip(&self.kept);
        kept.for_each(|(of, z)| *of += weight * exp_nonpositive(z - log_z));
        log_z - gold
    }

    /// Replaces the row by softmax of the classes that are not kept times the slopes of their log-sum-exp.
    #[inline(always)]
    fn turn(&self, row: &mut [f32], largest: f32) {
        let term = |view: &View| (view.slope / (view.sum * view.temperature), 1.0 / view.temperature);
        let value = |(share, inverse): (f32, f32), z: f32| share * exp_nonpositive((z - largest) * inverse);
        match &self.views[..] {
            [one] => {
                let (share, _) = term(one);
                row.iter_mut().for_each(|e| *e *= share);
            }
            [one, two] => {
                let (one, two) = (term(one), term(two));
                row.iter_mut().for_each(|z| *z = value(one, *z) + value(two, *z));
            }
            views => row.iter_mut().for_each(|z| *z = views.iter().map(|view| value(term(view), *z)).sum()),
        }
    }
}
