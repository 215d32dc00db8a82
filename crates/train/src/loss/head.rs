//! The head's product fused with the loss, in pieces of a bounded number of positions, with a hand-written backward
//! pass.
//!
//! A loss depends on few numbers of a row of logits: the kept classes, the label, and the log-sum-exp of all others at
//! each temperature. Autodiff computes the slopes of these few numbers. The gradient of the logits is assembled from
//! them in the buffer that holds the exponentials: softmax of the others times the slope of their log-sum-exp, plus the
//! slopes of the kept classes at their places. Logits, exponentials and gradients of a piece are freed before the next
//! one starts, so no buffer of all positions times the vocabulary ever exists.
//!
//! The gradients with respect to the hidden states and the head are therefore known before any backward pass. The
//! former enters the graph as a constant: its product Σ hidden · gradient has it as its gradient. The latter is
//! returned directly: with many classes it is the largest tensor of a step, and passing it through the graph would cost
//! another pass over all of it.

use crate::batch::Batch;
use crate::decisions::TokenDecisions;
use crate::loss::fused_cpu::{self, FusedCpu};
use crate::loss::logit_rows::{LogitRows, Slopes, hide, look};
use crate::loss::positions::{token_losses, total};
use crate::loss::student::{AllClasses, NOWHERE};
use crate::loss::{ChunkLoss, DeviceTargets, LossAtStep, Student, Temperature};
use crate::tensors::{add, int_tensor};
use burn::tensor::{DType, Device, Int, Tensor};
use logitcask_model::Head;
use std::borrow::Cow;

/// Sums over the positions of a batch; the caller divides by the number of positions of the whole step.
#[derive(Default)]
pub struct LossTotals {
    /// Scalar whose gradient with respect to the hidden states is the loss's; its value has no meaning. \[1\].
    pub surrogate: Option<Tensor<1>>,
    /// d loss / d head, \[vocabulary, hidden size\], outside any graph.
    pub of_head: Option<Tensor<2>>,
    /// The loss that is minimised. \[1\].
    pub loss: Option<Tensor<1>>,
    /// The divergence of each term, without factor, scale and weights, followed by those of a second teacher. \[1\]
    /// each.
    pub divergences: Vec<Tensor<1>>,
    /// Cross entropy on the labels, if it was requested. \[1\].
    pub cross_entropy: Option<Tensor<1>>,
    /// d loss / d T of each term at each position, if it was requested; in pieces, \[n, 1\].
    pub slopes: Vec<Vec<Tensor<2>>>,
}

/// Computes the loss of a batch, in f32 whatever the head computes in. hidden: \[positions, hidden size\], in the order
/// of `batch.positions`; `decisions` holds the rules' choices at these positions; `piece` is the maximum number of
/// positions whose logits exist at once.
pub fn head_loss(
    hidden: Tensor<2>,
    head: &Head,
    batch: &Batch,
    decisions: &TokenDecisions,
    loss: &LossAtStep,
    piece: usize,
) -> LossTotals {
    let mut of_hidden = Vec::new();
    let mut sums = LossTotals::default();
    let mut start = 0;
    let width = batch.targets.iter().map(|targets| targets.width).max().unwrap_or(1);
    for hidden in hidden.clone().detach().without_autodiff().split(piece.min(loss.most_positions(width)), 0) {
        let end = start + hidden.dims()[0];
        let logits = head.logits(hidden.clone()).cast(DType::F32);
        let (part, decisions) = match end - start == batch.positions.len() {
            true => (Cow::Borrowed(batch), Cow::Borrowed(decisions)),
            false => (Cow::Owned(batch.part(start..end)), Cow::Owned(decisions.part(start..end))),
        };
        let cap_slopes = head.cap_slopes(&logits);
        let mut gradient = logits_loss(logits, &part, &decisions, loss, &mut sums);
        if let Some(slopes) = cap_slopes {
            gradient = gradient * slopes;
        }
        of_hidden.push(head.backward(hidden, gradient, &mut sums.of_head));
        start = end;
    }
    sums.surrogate = Some((hidden.cast(DType::F32) * Tensor::cat(of_hidden, 0).cast(DType::F32)).sum());
    sums
}

impl LossTotals {
    fn add(&mut self, figures: fused_cpu::Sums, device: &Device) {
        let number = |x: f64| Tensor::<1>::from_floats([x as f32], device);
        let fused_cpu::Sums { divergences, cross_entropy, loss } = figures;
        self.add_divergences(0, divergences.into_iter().map(number), device);
        add(&mut self.cross_entropy, cross_entropy.map(number));
        add(&mut self.loss, Some(number(loss)));
    }

    /// `place` is the index of the first of these divergences.
    fn add_divergences(&mut self, place: usize, sums: impl ExactSizeIterator<Item = Tensor<1>>, device: &Device) {
        let there = self.divergences.len().max(place + sums.len());
        self.divergences.resize_with(there, || Tensor::zeros([1], device));
        for (sum, one) in self.divergences[place..].iter_mut().zip(sums) {
            *sum = sum.clone() + one;
        }
    }
}

/// Returns the gradient of the loss of some rows of logits, \[n, vocabulary\], and adds the results to `sums`. logits:
/// \[n, vocabulary\], outside any graph; `part` and `decisions` have as many positions.
pub fn logits_loss(
    logits: Tensor<2>,
    part: &Batch,
    decisions: &TokenDecisions,
    loss: &LossAtStep,
    sums: &mut LossTotals,
) -> Tensor<2> {
    let is_soft = loss.alpha > 0.0;
    let targets = part.targets.as_ref().filter(|_| is_soft);
    let in_place = FusedCpu { loss, decisions, targets, gold_ids: &part.gold_ids };
    if in_place.serves(&logits) && (part.second.is_none() || !is_soft) {
        let (gradient, figures) = in_place.run(logits);
        sums.add(figures, &gradient.device());
        return gradient;
    }
    let device = logits.device();
    let [first, second] = [&part.targets, &part.second]
        .map(|targets| targets.as_ref().filter(|_| is_soft).map(|targets| DeviceTargets::new(targets, &device)));
    let all = loss.needs_all(decisions).then(|| leaf(logits.clone()));
    let seen = all.as_ref().unwrap_or(&logits);
    let chunk = ChunkLoss::new(loss, decisions, first.as_ref(), seen);
    let Some(teacher) = &second else { return one_teacher(logits, all, part, first.as_ref(), &chunk, 0, sums) };
    let second_chunk = ChunkLoss::second(loss, decisions, teacher, seen);
    let gradient = one_teacher(logits.clone(), all.clone(), part, first.as_ref(), &chunk, 0, sums);
    gradient + one_teacher(logits, all, part, second.as_ref(), &second_chunk, loss.terms.len(), sums)
}

/// The part of the logits' gradient that comes from one teacher. logits: \[n, vocabulary\], outside any graph; `all` is
/// the same tensor as a leaf, if the loss uses every class; `place` is the index of its first divergence in `sums`.
fn one_teacher(
    logits: Tensor<2>,
    all: Option<Tensor<2>>,
    part: &Batch,
    teacher: Option<&DeviceTargets>,
    loss: &ChunkLoss,
    place: usize,
    sums: &mut LossTotals,
) -> Tensor<2> {
    let (device, [n, vocab_size]) = (logits.device(), logits.dims());
    let gold_ids = int_tensor(&part.gold_ids, [n, 1], &device);
    let rows = LogitRows::new(logits, gold_ids, teacher, &loss.views);
    let (kept, gold) = (rows.kept.clone().map(leaf), leaf(rows.gold.clone()));
    let log_sums: Vec<Tensor<2>> = rows.log_sums().into_iter().map(leaf).collect();
    let student = Student {
        kept: kept.clone(),
        gold: gold.clone(),
        views: loss.views.iter().enumerate().map(|(i, t)| (t.clone(), moving(t, &log_sums[i], &rows, i))).collect(),
        absence: teacher.and_then(DeviceTargets::absence),
        all: all.clone().map(|logits| AllClasses { logits, is_outside: rows.is_outside() }),
        vocab_size,
    };
    let losses = token_losses(&student, teacher, loss);
    let total = total(&losses, loss, &student);
    let grads = total.clone().backward();
    let sum = |per_position: Tensor<2>| per_position.detach().without_autodiff().sum();
    sums.add_divergences(place, losses.divergences.into_iter().map(sum), &device);
    add(&mut sums.cross_entropy, losses.cross_entropy.map(sum));
    add(&mut sums.loss, Some(total.detach().without_autodiff()));
    sums.slopes.resize(loss.terms.len().max(sums.slopes.len()), Vec::new());
    let slopes = loss.terms.iter().map(|term| term.slope.as_ref()?.grad(&grads));
    sums.slopes.iter_mut().zip(slopes).for_each(|(all, one)| all.extend(one));
    let mut gradient = Some(rows.gradient(Slopes {
        kept: kept.and_then(|kept| kept.grad(&grads)),
        gold: gold.grad(&grads),
        log_sums: log_sums.iter().map(|log_sum| log_sum.grad(&grads)).collect(),
    }));
    add(&mut gradient, all.and_then(|all| all.grad(&grads)));
    gradient.unwrap_or_else(|| unreachable!("the rows' own gradient is there"))
}

/// The log-sum-exp at a temperature. If the temperature is in a graph, it depends on it as log_sum + slope · (T - T),
/// where the second T is a constant.
fn moving(temperature: &Temperature, log_sum: &Tensor<2>, rows: &LogitRows, view: usize) -> Tensor<2> {
    let Temperature::Each(t) = temperature else { return log_sum.clone() };
    if !t.is_autodiff() {
        return log_sum.clone();
    }
    let moved = (**t).clone() - (**t).clone().detach();
    // Computed in this process: burn 0.22's fusion on wgpu uses a number other than the reduction's result if that is
    // only used in a graph (tests/wgpu.rs, losses with a temperature per position).
    let slope = rows.slope_of_temperature(view);
    let device = slope.device();
    log_sum.clone() + moved * Tensor::from_data(slope.into_data(), &device)
}

/// Collects what a loss needs of these logits, by tensor operations that autodiff can follow. logits: \[n,
/// vocabulary\].
pub fn student(
    logits: Tensor<2>,
    gold_ids: Tensor<2, Int>,
    teacher: Option<&DeviceTargets>,
    loss: &ChunkLoss,
) -> Student {
    let masked = match teacher {
        None => logits.clone(),
        Some(teacher) => hide(logits.clone(), teacher),
    };
    let (kept, gold) = look(logits.clone(), teacher, gold_ids);
    let view = |t: &Temperature| (t.clone(), super::log_sum_exp(t.divide(masked.clone())));
    let views = loss.views.iter().map(view).collect();
    let [_, vocab_size] = logits.dims();
    let all = loss.needs_all().then(|| {
        let is_outside = masked.detach().greater_elem(NOWHERE / 2.0).float();
        AllClasses { logits, is_outside }
    });
    Student { kept, gold, views, absence: teacher.and_then(DeviceTargets::absence), all, vocab_size }
}

/// A tensor that starts its own graph and whose gradient is wanted.
pub(super) fn leaf(x: Tensor<2>) -> Tensor<2> {
    x.autodiff().require_grad()
}
