//! The loss at one step, and at one piece of it.

use crate::decisions::TokenDecisions;
use crate::loss::student::logit_std;
use crate::loss::{DeviceTargets, Temperature};
use crate::tensors::float_tensor;
use burn::tensor::{Device, Tensor};
use logitcask_core::divergence::{ForwardKl, OverRows, Properties, Settings};
use logitcask_core::temperature::{TemperaturePair, Temperatures};
use logitcask_core::{Divergence, TailPolicy};
use serde::{Deserialize, Serialize};

/// Factor of a divergence that keeps its gradient from fading as temperatures rise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// The teacher's temperature squared.
    #[default]
    Squared,
    /// The teacher's temperature times the student's.
    Product,
    /// No scaling, a factor of 1.
    None,
}

/// A loss at one step: alpha · Σ factor · scale · divergence over the terms + (1 - alpha) · cross entropy.
#[derive(Clone, Debug, PartialEq)]
pub struct LossAtStep {
    /// Weight of the soft targets.
    pub alpha: f64,
    /// The comparisons with the teacher.
    pub terms: Vec<TermAtStep>,
    /// Whether the cross entropy is computed even if it is not part of the loss.
    pub needs_cross_entropy: bool,
}

/// One comparison with the teacher at one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TermAtStep {
    /// Factor of the term.
    pub factor: f64,
    /// The divergence between teacher and student.
    pub divergence: Divergence,
    /// Temperatures, unless a rule chooses others.
    pub temperatures: TemperaturePair,
    /// See [`Scale`].
    pub scale: Scale,
    /// How classes that were not cached are treated.
    pub tail: TailPolicy,
    /// Whether the slope of the loss along the temperature is needed.
    pub needs_slopes: bool,
}

impl TermAtStep {
    /// Forward KL with a bucket at T = 1.
    pub const FORWARD_KL: Self = Self {
        factor: 1.0,
        divergence: Divergence::ForwardKl(ForwardKl::DEFAULT),
        temperatures: TemperaturePair { teacher: 1.0, student: 1.0 },
        scale: Scale::Squared,
        tail: TailPolicy::Bucket,
        needs_slopes: false,
    };

    /// Whether the term uses the student's logits of every class.
    fn needs_all(&self) -> bool {
        let is_uniform = self.tail == TailPolicy::Uniform && self.divergence.is_sum_over_classes();
        is_uniform || self.divergence.needs_mean_logit()
    }
}

impl LossAtStep {
    /// The loss on labels only.
    pub const LABELS: Self = Self { alpha: 0.0, terms: Vec::new(), needs_cross_entropy: false };

    /// The loss with the teacher only.
    pub fn teacher(term: TermAtStep) -> Self {
        Self { alpha: 1.0, terms: vec![term], needs_cross_entropy: false }
    }

    /// Whether the loss uses the student's logits of every class, given these decisions.
    pub fn needs_all(&self, decisions: &TokenDecisions) -> bool {
        self.alpha > 0.0 && (self.terms.iter().any(TermAtStep::needs_all) || decisions.follow_logit_std())
    }

    /// Maximum number of positions whose pairs of kept classes fit a buffer of 64 MiB, if the loss compares pairs.
    pub fn most_positions(&self, width: usize) -> usize {
        let has_pairs = self.alpha > 0.0 && self.terms.iter().any(|term| term.divergence.compares_pairs());
        if has_pairs { ((64 << 20) / (4 * width * width)).max(1) } else { usize::MAX }
    }
}

/// A loss at n positions of a step.
pub struct ChunkLoss {
    /// Weight of the soft targets.
    pub alpha: f64,
    /// Temperatures at which the student's log-partition is needed.
    pub views: Vec<Temperature>,
    /// Index of the view at T = 1, if labels are used.
    pub label_view: Option<usize>,
    /// The comparisons with the teacher; empty without one.
    pub terms: Vec<ChunkTerm>,
    /// Weight of each position in the soft loss, \[n, 1\]; `None` means 1.
    pub weights: Option<Tensor<2>>,
}

/// One comparison with the teacher at n positions.
pub struct ChunkTerm {
    /// Settings that are the same for the whole step.
    pub step: TermAtStep,
    /// The teacher's temperature.
    pub teacher: Temperature,
    /// Index in [`ChunkLoss::views`] of the student's temperature.
    pub view: usize,
    /// Index in them of half that temperature, if sums of squares are needed.
    pub half_view: Option<usize>,
    /// A leaf for the slope along the temperature, \[n, 1\].
    pub slope: Option<Tensor<2>>,
}

impl ChunkLoss {
    /// Combines `loss` with the decisions at these positions. logits: \[n, vocabulary\], in an autodiff graph if one is
    /// used.
    pub fn new(
        loss: &LossAtStep,
        decisions: &TokenDecisions,
        teacher: Option<&DeviceTargets>,
        logits: &Tensor<2>,
    ) -> Self {
        let (n, device) = (logits.dims()[0], logits.device());
        let mut piece = Self {
            alpha: loss.alpha,
            views: Vec::new(),
            label_view: None,
            terms: Vec::new(),
            weights: decisions.weights.as_ref().map(|weights| float_tensor(weights, [n, 1], &device)),
        };
        for (i, term) in loss.terms.iter().enumerate().filter(|_| teacher.is_some()) {
            let temperatures =
                decisions.temperatures.get(i).cloned().flatten().unwrap_or(Temperatures::Shared(term.temperatures));
            piece.push(*term, &temperatures, teacher, logits);
        }
        if teacher.is_none() || loss.alpha < 1.0 || loss.needs_cross_entropy {
            piece.label_view = Some(piece.view(Temperature::Same(1.0)));
        }
        piece
    }

    /// The contribution of a second teacher to `loss`: the soft part only.
    pub fn second(loss: &LossAtStep, decisions: &TokenDecisions, teacher: &DeviceTargets, logits: &Tensor<2>) -> Self {
        // Labels are not part of it, so alpha is a factor rather than a share.
        let alone = LossAtStep { alpha: 1.0, needs_cross_entropy: false, ..loss.clone() };
        let decisions = TokenDecisions { weights: decisions.second.clone(), ..decisions.clone() };
        Self { alpha: loss.alpha, ..Self::new(&alone, &decisions, Some(teacher), logits) }
    }

    /// Whether the loss uses the student's logits of every class.
    pub fn needs_all(&self) -> bool {
        self.terms.iter().any(|term| term.step.needs_all())
    }

    fn push(
        &mut self,
        term: TermAtStep,
        temperatures: &Temperatures,
        teacher: Option<&DeviceTargets>,
        logits: &Tensor<2>,
    ) {
        let (n, device) = (logits.dims()[0], logits.device());
        let [mut theirs, mut ours] = [|h: &TemperaturePair| h.teacher, |h: &TemperaturePair| h.student]
            .map(|side| temperature(temperatures, side, &device));
        let mut slope = None;
        if term.needs_slopes {
            let values = match theirs {
                Temperature::Same(t) => Tensor::full([n, 1], t, &device),
                Temperature::Each(t) => *t,
            };
            let leaf = super::head::leaf(values);
            (theirs, ours) = (Temperature::each(leaf.clone()), Temperature::each(leaf.clone()));
            slope = Some(leaf);
        }
        let raw = teacher.and_then(|teacher| teacher.raw.as_ref());
        if let (Temperatures::TimesLogitStd { range: (low, high), .. }, Some(raw)) = (temperatures, raw) {
            theirs = Temperature::each(theirs.multiply(raw.std.clone()).clamp(*low, *high));
            ours = Temperature::each(ours.multiply(logit_std(logits.clone())));
        }
        let half = term.divergence.needs_squares().then(|| ours.half());
        let view = self.view(ours);
        let half_view = half.map(|half| self.view(half));
        self.terms.push(ChunkTerm { step: term, teacher: theirs, view, half_view, slope });
    }

    /// Index of a temperature among the views, which is added if necessary.
    fn view(&mut self, temperature: Temperature) -> usize {
        let same = |there: &Temperature| match (there, &temperature) {
            (Temperature::Same(a), Temperature::Same(b)) => a == b,
            _ => false,
        };
        self.views.iter().position(same).unwrap_or_else(|| {
            self.views.push(temperature);
            self.views.len() - 1
        })
    }
}

fn temperature(temperatures: &Temperatures, side: fn(&TemperaturePair) -> f64, device: &Device) -> Temperature {
    match temperatures {
        Temperatures::Shared(pair) | Temperatures::TimesLogitStd { pair, .. } => Temperature::Same(side(pair)),
        Temperatures::PerToken(temperatures) => {
            let values: Vec<f32> = temperatures.iter().map(|pair| side(pair) as f32).collect();
            Temperature::each(float_tensor(&values, [values.len(), 1], device))
        }
    }
}
