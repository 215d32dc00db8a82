//! A loss at one step, and at one piece of it.

use crate::decisions::TokenDecisions;
use crate::loss::student::logit_std;
use crate::loss::{DeviceTargets, Temperature};
use crate::tensors::float_tensor;
use burn::tensor::{Device, Tensor};
use logitcask_core::divergence::{ForwardKl, OverRows, Properties, Settings};
use logitcask_core::temperature::{TemperaturePair, Temperatures};
use logitcask_core::{Divergence, TailPolicy};
use serde::{Deserialize, Serialize};

/// What a divergence is multiplied by, so that its gradient does not fade as temperatures rise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// The teacher's temperature squared.
    #[default]
    Squared,
    /// The teacher's temperature times the student's.
    Product,
    /// 1.
    None,
}

/// A loss at one step: alpha · Σ factor · scale · divergence over the terms + (1 - alpha) · cross entropy.
#[derive(Clone, Debug, PartialEq)]
pub struct LossAtStep {
    /// Weight of the soft targets.
    pub alpha: f64,
    /// What is asked of the teacher.
    pub terms: Vec<TermAtStep>,
    /// Is the cross entropy wanted where it is no part of the loss?
    pub needs_cross_entropy: bool,
}

/// One comparison at one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TermAtStep {
    /// Multiplies it.
    pub factor: f64,
    /// How teacher and student are compared.
    pub divergence: Divergence,
    /// At which temperatures, where no rule says another.
    pub temperatures: TemperaturePair,
    /// See [`Scale`].
    pub scale: Scale,
    /// What is done about classes the cache did not keep.
    pub tail: TailPolicy,
    /// Is the slope of the loss along the temperature wanted?
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

    /// Must a loss see every class of the student one by one?
    fn needs_all(&self) -> bool {
        let is_uniform = self.tail == TailPolicy::Uniform && self.divergence.is_sum_over_classes();
        is_uniform || self.divergence.needs_mean_logit()
    }
}

impl LossAtStep {
    /// The labels alone.
    pub const LABELS: Self = Self { alpha: 0.0, terms: Vec::new(), needs_cross_entropy: false };

    /// The teacher alone.
    pub fn teacher(term: TermAtStep) -> Self {
        Self { alpha: 1.0, terms: vec![term], needs_cross_entropy: false }
    }

    /// Must it see every class of the student one by one, where this was decided?
    pub fn needs_all(&self, decisions: &TokenDecisions) -> bool {
        self.alpha > 0.0 && (self.terms.iter().any(TermAtStep::needs_all) || decisions.follow_logit_std())
    }

    /// Most positions whose every pair of kept classes fits a buffer of 64 MiB, where a loss looks at pairs.
    pub fn most_positions(&self, width: usize) -> usize {
        let has_pairs = self.alpha > 0.0 && self.terms.iter().any(|term| term.divergence.compares_pairs());
        if has_pairs { ((64 << 20) / (4 * width * width)).max(1) } else { usize::MAX }
    }
}

/// A loss at n positions of a step.
pub struct ChunkLoss {
    /// Weight of the soft targets.
    pub alpha: f64,
    /// Temperatures at which the student's log-partition is wanted.
    pub views: Vec<Temperature>,
    /// Which of them is T = 1, where labels are asked for.
    pub label_view: Option<usize>,
    /// What is asked of the teacher; none without one.
    pub terms: Vec<ChunkTerm>,
    /// How much of the soft part each position has, \[n, 1\]; `None`: 1.
    pub weights: Option<Tensor<2>>,
}

/// One comparison at n positions.
pub struct ChunkTerm {
    /// What holds for the whole step.
    pub step: TermAtStep,
    /// The teacher's temperature.
    pub teacher: Temperature,
    /// Which of [`ChunkLoss::views`] the student's is.
    pub view: usize,
    /// Which of them is half of it, where squares are asked for.
    pub half_view: Option<usize>,
    /// A leaf for the slope along the temperature, \[n, 1\].
    pub slope: Option<Tensor<2>>,
}

impl ChunkLoss {
    /// `loss` with what was decided at these positions. logits: \[n, vocabulary\], in the graph where one is wanted.
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

    /// What a second teacher adds to `loss`: the soft part alone.
    pub fn second(loss: &LossAtStep, decisions: &TokenDecisions, teacher: &DeviceTargets, logits: &Tensor<2>) -> Self {
        // Labels are no part of it, so that alpha is a factor and no share.
        let alone = LossAtStep { alpha: 1.0, needs_cross_entropy: false, ..loss.clone() };
        let decisions = TokenDecisions { weights: decisions.second.clone(), ..decisions.clone() };
        Self { alpha: loss.alpha, ..Self::new(&alone, &decisions, Some(teacher), logits) }
    }

    /// Must it see every class of the student one by one?
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

    /// The place of a temperature among the views.
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
