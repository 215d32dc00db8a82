//! The head's product and the loss together, in pieces of so many positions, with the backward by hand.
//!
//! A loss looks at a row of logits in three places: at the kept classes, at the label, and at log sum exp of all others.
//! Of these few numbers autodiff gives the slopes, and the gradient of the logits is put together from them in the one
//! buffer that holds the exponentials: softmax of the others times the slope of their log sum exp, and the slopes of the
//! kept classes where they stand. Logits, exponentials and gradients of a piece are gone before the next one starts, so
//! no buffer of all positions times the vocabulary ever exists.
//!
//! The gradients with respect to the hidden states and the head are then known, before any backward. They enter the graph
//! as constants: Σ hidden · gradient + Σ head · gradient has them for its gradients.

use crate::batch::{Batch, int_tensor};
use crate::loss::student::{NOWHERE, needs_all};
use crate::loss::{Losses, StepLoss, Student, Teacher, losses};
use burn::tensor::{IndexingUpdateOp, Int, Tensor};

/// Sums over the positions of a batch; a caller divides by the positions of the whole step.
pub struct LossSums {
    /// Its gradient is the loss's; its value means nothing. \[1\].
    pub surrogate: Tensor<1>,
    /// The divergence without T², where it was asked for. \[1\].
    pub divergence: Option<Tensor<1>>,
    /// Cross entropy on the labels, where it was asked for. \[1\].
    pub cross_entropy: Option<Tensor<1>>,
}

/// The loss of a batch. hidden: \[positions, hidden size\], in the order of `batch.positions`; head: \[hidden size,
/// vocabulary\]; `piece`: positions whose logits exist at once.
pub fn head_loss(hidden: Tensor<2>, head: Tensor<2>, batch: &Batch, config: &StepLoss, piece: usize) -> LossSums {
    let plain_head = head.clone().detach().without_autodiff();
    let (mut of_hidden, mut of_head) = (Vec::new(), None::<Tensor<2>>);
    let (mut divergence, mut cross_entropy) = (None::<Tensor<1>>, None::<Tensor<1>>);
    let mut start = 0;
    for hidden in hidden.clone().detach().without_autodiff().split(piece, 0) {
        let end = start + hidden.dims()[0];
        let logits = hidden.clone().matmul(plain_head.clone());
        let done = logits_loss(logits, &batch.part(start..end), config);
        of_hidden.push(done.gradient.clone().matmul(plain_head.clone().transpose()));
        add(&mut of_head, Some(hidden.transpose().matmul(done.gradient)));
        add(&mut divergence, done.divergence);
        add(&mut cross_entropy, done.cross_entropy);
        start = end;
    }
    let of_hidden = Tensor::cat(of_hidden, 0);
    let surrogate = (hidden * of_hidden).sum();
    let surrogate = match of_head {
        None => surrogate,
        Some(of_head) => surrogate + (head * of_head).sum(),
    };
    LossSums { surrogate, divergence, cross_entropy }
}

fn add<const D: usize>(sum: &mut Option<Tensor<D>>, one: Option<Tensor<D>>) {
    *sum = match (sum.take(), one) {
        (Some(sum), Some(one)) => Some(sum + one),
        (sum, one) => sum.or(one),
    };
}

/// The loss of some rows of logits and its gradient.
pub struct LogitsLoss {
    /// d loss / d logits, \[n, vocabulary\].
    pub gradient: Tensor<2>,
    /// Sum of the divergence without T². \[1\].
    pub divergence: Option<Tensor<1>>,
    /// Sum of the cross entropy. \[1\].
    pub cross_entropy: Option<Tensor<1>>,
}

/// logits: \[n, vocabulary\], outside any graph; `part` has as many positions.
pub fn logits_loss(logits: Tensor<2>, part: &Batch, config: &StepLoss) -> LogitsLoss {
    let device = logits.device();
    let gold_ids = int_tensor(&part.gold_ids, [part.gold_ids.len(), 1], &device);
    let targets = part.targets.as_ref().filter(|_| config.alpha > 0.0);
    let teacher = targets.map(|targets| Teacher::new(targets, &device));
    match needs_all(config) {
        true => by_autodiff(logits, gold_ids, teacher.as_ref(), config),
        false => by_hand(logits, gold_ids, teacher.as_ref(), config),
    }
}

/// exp((logit - largest) / T) of the classes that are not kept.
struct Outside {
    temperature: f64,
    /// \[n, vocabulary\].
    exps: Tensor<2>,
    /// \[n, 1\].
    sum: Tensor<2>,
    /// log sum exp(logit / T), \[n, 1\], a leaf.
    log_sum: Tensor<2>,
}

impl Outside {
    fn new(masked: Tensor<2>, temperature: f64) -> Self {
        let max = masked.clone().max_dim(1);
        let below = masked - max.clone();
        let exps = if temperature == 1.0 { below.exp() } else { (below / temperature).exp() };
        let sum = exps.clone().sum_dim(1);
        let log_sum = leaf(sum.clone().log() + max / temperature);
        Self { temperature, exps, sum, log_sum }
    }
}

fn by_hand(logits: Tensor<2>, gold_ids: Tensor<2, Int>, teacher: Option<&Teacher>, config: &StepLoss) -> LogitsLoss {
    let (kept, gold) = look(logits.clone(), teacher, gold_ids.clone());
    let (kept, gold) = (kept.map(leaf), leaf(gold));
    let masked = match teacher {
        None => logits,
        Some(teacher) => hide(logits, teacher),
    };
    let outside: Vec<Outside> =
        temperatures(teacher, config).into_iter().map(|t| Outside::new(masked.clone(), t)).collect();
    drop(masked);
    let student = Student {
        kept: kept.clone(),
        gold: gold.clone(),
        outside: outside.iter().map(|o| (o.temperature, o.log_sum.clone())).collect(),
        absence: teacher.and_then(Teacher::absence),
        all: None,
    };
    let losses = losses(&student, teacher, config);
    let grads = total(&losses, config).backward();
    let mut gradient = None;
    for Outside { temperature, exps, sum, log_sum } in outside {
        let slope = log_sum.grad(&grads).map(|slope| exps * (slope / sum / temperature));
        add(&mut gradient, slope);
    }
    let mut gradient = gradient.unwrap_or_else(|| gold.clone().without_autodiff().zeros_like());
    for (ids, leaf) in [(teacher.map(|t| t.class_ids.clone()), kept), (Some(gold_ids), Some(gold))] {
        let slope = leaf.and_then(|leaf| leaf.grad(&grads));
        if let (Some(ids), Some(slope)) = (ids, slope) {
            gradient = gradient.scatter(1, ids, slope, IndexingUpdateOp::Add);
        }
    }
    finish(gradient, losses)
}

fn by_autodiff(
    logits: Tensor<2>,
    gold_ids: Tensor<2, Int>,
    teacher: Option<&Teacher>,
    config: &StepLoss,
) -> LogitsLoss {
    let logits = leaf(logits);
    let student = student(logits.clone(), gold_ids, teacher, config);
    let losses = losses(&student, teacher, config);
    let grads = total(&losses, config).backward();
    let gradient = logits.grad(&grads).unwrap_or_else(|| logits.without_autodiff().zeros_like());
    finish(gradient, losses)
}

/// What a loss needs of these logits, all of it by tensor operations that autodiff can follow. logits: \[n, vocabulary\].
pub fn student(logits: Tensor<2>, gold_ids: Tensor<2, Int>, teacher: Option<&Teacher>, config: &StepLoss) -> Student {
    let masked = match teacher {
        None => logits.clone(),
        Some(teacher) => hide(logits.clone(), teacher),
    };
    let (kept, gold) = look(logits.clone(), teacher, gold_ids);
    let at = |t: f64| (t, super::log_sum_exp(masked.clone() / t));
    let all = teacher.filter(|_| needs_all(config)).map(|_| {
        let is_outside = masked.clone().detach().greater_elem(NOWHERE / 2.0).float();
        (logits, is_outside)
    });
    Student {
        kept,
        gold,
        outside: temperatures(teacher, config).into_iter().map(at).collect(),
        absence: teacher.and_then(Teacher::absence),
        all,
    }
}

/// Where the student's log-partition is wanted.
fn temperatures(teacher: Option<&Teacher>, config: &StepLoss) -> Vec<f64> {
    let soft = teacher.map(|_| config.temperature);
    let hard = (config.alpha < 1.0 && soft != Some(1.0)).then_some(1.0);
    soft.into_iter().chain(hard).collect()
}

/// The logits of the teacher's kept classes, \[n, width\], and of the label, \[n, 1\].
fn look(logits: Tensor<2>, teacher: Option<&Teacher>, gold_ids: Tensor<2, Int>) -> (Option<Tensor<2>>, Tensor<2>) {
    let Some(teacher) = teacher else { return (None, logits.gather(1, gold_ids)) };
    // One look for both: burn 0.22 fuses a gather into a wider kernel without broadcasting its indices, and the label's
    // alone, one column beside many, would read class 0.
    let [n, width] = teacher.class_ids.dims();
    let ids = Tensor::cat(vec![teacher.class_ids.clone(), gold_ids], 1);
    let found = logits.gather(1, ids);
    (Some(found.clone().slice([0..n, 0..width])), found.slice([0..n, width..width + 1]))
}

/// The logits with the teacher's kept classes out of sight.
fn hide(logits: Tensor<2>, teacher: &Teacher) -> Tensor<2> {
    let away = match &teacher.counts {
        None => teacher.class_ids.clone().float().zeros_like() + NOWHERE,
        Some(counts) => counts.clone().greater_elem(0.0).float() * NOWHERE,
    };
    logits.scatter(1, teacher.class_ids.clone(), away, IndexingUpdateOp::Add)
}

/// A tensor whose gradient is wanted, the first of a graph of its own.
fn leaf(x: Tensor<2>) -> Tensor<2> {
    x.autodiff().require_grad()
}

/// alpha · T² · divergence + (1 - alpha) · cross entropy, summed.
fn total(losses: &Losses, config: &StepLoss) -> Tensor<1> {
    let soft = losses.divergence.clone().map(|d| d.sum() * (config.alpha * config.temperature.powi(2)));
    let hard = losses.cross_entropy.clone().map(|c| c.sum() * (1.0 - config.alpha));
    let mut sum = None;
    add(&mut sum, soft);
    add(&mut sum, hard);
    sum.unwrap_or_else(|| unreachable!("alpha > 0 without targets was refused when the batch was made"))
}

fn finish(gradient: Tensor<2>, losses: Losses) -> LogitsLoss {
    let sum = |per_position: Tensor<2>| per_position.detach().without_autodiff().sum();
    LogitsLoss { gradient, divergence: losses.divergence.map(sum), cross_entropy: losses.cross_entropy.map(sum) }
}
