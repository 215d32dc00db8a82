//! The gradients of one step.

use crate::batch::Batch;
use crate::decisions::TokenDecisions;
use crate::layer_inputs::LayerInputs;
use crate::loss::{LossAtStep, LossTotals, RelationalLoss, collect_stats, head_loss};
use crate::metrics::StepMetrics;
use crate::rules::{Rules, StepTotals};
use crate::tensors::{add, int_tensor};
use crate::{Error, Result};
use burn::module::{ModuleVisitor, Param, ParamId};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{DType, Tensor};
use logitcask_core::temperature::{RequiredStats, Temperatures, TokenStats};
use logitcask_model::{CausalLm, Head};
use rayon::prelude::*;

/// A step's samples and its place in the run.
pub(crate) struct Update<'a> {
    /// Equal parts, whose gradients are added up in order.
    pub(crate) parts: &'a [Batch],
    /// Completed share of the run.
    pub(crate) done: f64,
    /// Whether to process the parts in parallel. A CPU has idle cores during the small operations of one part; a GPU
    /// has not.
    pub(crate) side_by_side: bool,
    /// Whether layers are computed a second time in the backward pass.
    pub(crate) by_layer: bool,
    /// Number format of the forward and backward pass.
    pub(crate) dtype: DType,
    /// The loss on the relations between samples, if there is one: its mean over the parts.
    pub(crate) relations: Option<RelationalLoss>,
}

/// Results of a step before the optimizer.
pub(crate) struct Gradients {
    pub(crate) grads: GradientsParams,
    /// Metrics of the step, except for those of the optimizer.
    pub(crate) metrics: StepMetrics,
    /// Statistics of each part's positions, if they were requested.
    pub(crate) seen: Vec<Vec<TokenStats>>,
}

/// A part after its forward pass. Its model is a fork with its own graph over the same weights: with a common graph,
/// backward passes would wait for each other.
struct Forward<'a, M> {
    model: M,
    hidden: Tensor<2>,
    batch: &'a Batch,
    kept: Option<LayerInputs>,
}

/// A part after its backward pass.
struct Backward {
    grads: GradientsParams,
    loss: f64,
    /// The loss on the relations between the part's samples.
    relations: f64,
    totals: StepTotals,
}

impl Update<'_> {
    /// Gradients of the mean loss over the step's positions, in f32. `diverged` converts a value that is not finite to
    /// an error.
    pub(crate) fn gradients<M: CausalLm>(
        &self,
        masters: &M,
        rules: &mut Rules,
        diverged: &dyn Fn(String) -> Error,
    ) -> Result<Gradients> {
        let positions: usize = self.parts.iter().map(|part| part.positions.len()).sum();
        let loss = rules.loss(self.done);
        let model = &masters.computing_in(self.dtype);
        // One copy for all parts, which share the weights.
        let head = detached_head(model);
        let needs = rules.needs();
        // Rules are only used if the teacher is.
        let is_soft = loss.alpha > 0.0;
        let (done, decisions, seen) = if needs.needs_positions() && is_soft {
            // Every part is examined before decisions are made: a rule sees a whole step, however it is divided.
            let seen = self
                .each(self.parts.iter().collect(), |part| look(forward(model, part, self.by_layer), &head, &needs))?;
            let (forwards, seen): (Vec<Forward<M>>, Vec<Vec<TokenStats>>) = seen.into_iter().unzip();
            let decisions = rules.decide(self.done, &seen.concat(), positions);
            decisions.check().map_err(diverged)?;
            let parts = forwards.into_iter().zip(self.split(&decisions)).collect();
            let done =
                self.each(parts, |(forward, decisions)| self.backward(forward, &head, &decisions, &loss, positions))?;
            (done, decisions, seen)
        } else {
            let decisions = if is_soft { rules.decide(self.done, &[], positions) } else { TokenDecisions::default() };
            decisions.check().map_err(diverged)?;
            let parts = self.parts.iter().zip(self.split(&decisions)).collect();
            let both = |(part, decisions): (&Batch, TokenDecisions)| {
                self.backward(forward(model, part, self.by_layer), &head, &decisions, &loss, positions)
            };
            (self.each(parts, both)?, decisions, Vec::new())
        };
        let mut accumulator = GradientsAccumulator::new();
        let (mut sum, mut relations, mut totals) = (0.0, 0.0, StepTotals::default());
        for part in done {
            accumulator.accumulate(model, part.grads);
            sum += part.loss;
            relations += part.relations;
            totals.add(part.totals);
        }
        totals.teacher_cross_entropy = self
            .parts
            .iter()
            .filter_map(|part| part.targets.as_ref())
            .flat_map(|t| &t.gold_log_probs)
            .map(|lp| -f64::from(*lp))
            .sum();
        if is_soft {
            rules.observe(&totals, positions);
        }
        let mut metrics = metrics(&loss, &decisions, sum, &totals, positions);
        metrics.relations = self.relations.map(|_| relations / self.parts.len() as f64);
        metrics.loss += metrics.relations.unwrap_or(0.0);
        Ok(Gradients { grads: accumulator.grads(), metrics, seen })
    }

    fn backward(
        &self,
        forward: Forward<'_, impl CausalLm>,
        head: &Head,
        decisions: &TokenDecisions,
        loss: &LossAtStep,
        positions: usize,
    ) -> Result<Backward> {
        let Forward { model, hidden, batch, kept } = forward;
        let relations = self.relations.as_ref().and_then(|relations| relations.loss(hidden.clone(), batch));
        let mut sums = head_loss(hidden, head, batch, decisions, loss, model.logits_chunk());
        // The mean over the parts, as all else is the mean over the positions: `gradients` divides by their number.
        let factor = positions as f64 / self.parts.len() as f64;
        add(&mut sums.surrogate, relations.clone().map(|relations| relations * factor));
        let grads = match kept {
            None => gradients(&model, &mut sums, positions)?,
            Some(kept) => kept.gradients(&model, &mut sums, batch, positions)?,
        };
        Ok(Backward {
            grads,
            loss: scalar(sums.loss.clone())?,
            relations: scalar(relations)?,
            totals: StepTotals::of(sums)?,
        })
    }

    /// The decisions of each part.
    fn split(&self, decisions: &TokenDecisions) -> Vec<TokenDecisions> {
        let mut start = 0;
        let part = |part: &Batch| {
            let range = start..start + part.positions.len();
            start = range.end;
            decisions.part(range)
        };
        self.parts.iter().map(part).collect()
    }

    fn each<T: Send, R: Send>(&self, parts: Vec<T>, work: impl Fn(T) -> Result<R> + Sync + Send) -> Result<Vec<R>> {
        match self.side_by_side {
            true => parts.into_par_iter().map(work).collect(),
            false => parts.into_iter().map(work).collect(),
        }
    }
}

fn forward<'a, M: CausalLm>(model: &M, batch: &'a Batch, by_layer: bool) -> Forward<'a, M> {
    let model = model.clone().fork(&model.device());
    if by_layer && trains_hidden(&model) {
        let (hidden, kept) = LayerInputs::of(&model, batch);
        return Forward { model, hidden, batch, kept: Some(kept) };
    }
    let hidden = hidden_at(&model, batch);
    Forward { model, hidden, batch, kept: None }
}

/// Hidden states at the positions of a batch.
pub(crate) fn hidden_at(model: &impl CausalLm, batch: &Batch) -> Tensor<2> {
    let device = model.device();
    let tokens = int_tensor(&batch.tokens, batch.sequences.shape(), &device);
    model.hidden_at(tokens, &batch.sequences, int_tensor(&batch.positions, [batch.positions.len()], &device))
}

fn look<'a, M: CausalLm>(
    forward: Forward<'a, M>,
    head: &Head,
    needs: &RequiredStats,
) -> Result<(Forward<'a, M>, Vec<TokenStats>)> {
    let Forward { model, hidden, batch, .. } = &forward;
    let seen = collect_stats(hidden, head, batch, needs, model.logits_chunk())?;
    Ok((forward, seen))
}

/// Takes the gradients out of `sums` and returns them for the mean over `positions` positions, in f32.
///
/// # Errors
/// [`Error::EmptyBatch`] for a batch without a position.
pub fn gradients(model: &impl CausalLm, sums: &mut LossTotals, positions: usize) -> Result<GradientsParams> {
    let Some(surrogate) = sums.surrogate.take() else { return Err(Error::EmptyBatch) };
    let grads = match trains_hidden(model) {
        true => GradientsParams::from_grads((surrogate / positions as f64).backward(), model),
        false => GradientsParams::new(),
    };
    Ok(with_head(model, grads, sums, positions))
}

/// The gradients of a backward pass in f32, so that sums of them lose nothing, with that of the head, which is taken out
/// of `sums`.
pub(crate) fn with_head(
    model: &impl CausalLm,
    mut grads: GradientsParams,
    sums: &mut LossTotals,
    positions: usize,
) -> GradientsParams {
    model.visit(&mut InF32(&mut grads));
    if let Some(of_head) = sums.of_head.take() {
        model.head().add_gradient(&mut grads, of_head / positions as f64);
    }
    grads
}

struct InF32<'a>(&'a mut GradientsParams);

impl ModuleVisitor for InF32<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.0.remove::<D>(param.id) {
            self.0.register(param.id, grad.cast(DType::F32));
        }
    }
}

/// The head outside any graph. No gradient is computed of a head that is frozen.
fn detached_head(model: &impl CausalLm) -> Head {
    let head = model.head();
    if head.is_trained() { head.detached() } else { head.detached().frozen() }
}

/// Whether hidden states depend on a parameter that is trained: without one they are not in any graph.
fn trains_hidden(model: &impl CausalLm) -> bool {
    let mut trained = Trained { head: model.head().own_id(), found: false };
    model.visit(&mut trained);
    trained.found
}

struct Trained {
    /// A head that hidden states do not depend on.
    head: Option<ParamId>,
    found: bool,
}

impl ModuleVisitor for Trained {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.found |= param.is_require_grad() && Some(param.id) != self.head;
    }
}

impl StepTotals {
    fn of(sums: LossTotals) -> Result<Self> {
        let slopes = |pieces: Vec<Tensor<2>>| -> Result<Vec<f64>> {
            let pieces = pieces.into_iter().map(numbers).collect::<Result<Vec<_>>>()?;
            Ok(pieces.concat())
        };
        Ok(Self {
            divergences: sums.divergences.into_iter().map(|sum| scalar(Some(sum))).collect::<Result<_>>()?,
            cross_entropy: scalar(sums.cross_entropy)?,
            teacher_cross_entropy: 0.0,
            slopes: sums.slopes.into_iter().map(slopes).collect::<Result<_>>()?,
        })
    }

    fn add(&mut self, part: Self) {
        self.divergences.resize(part.divergences.len().max(self.divergences.len()), 0.0);
        self.divergences.iter_mut().zip(part.divergences).for_each(|(sum, one)| *sum += one);
        self.cross_entropy += part.cross_entropy;
        self.slopes.resize(part.slopes.len().max(self.slopes.len()), Vec::new());
        self.slopes.iter_mut().zip(part.slopes).for_each(|(all, one)| all.extend(one));
    }
}

fn metrics(
    loss: &LossAtStep,
    decisions: &TokenDecisions,
    sum: f64,
    totals: &StepTotals,
    positions: usize,
) -> StepMetrics {
    let n = positions as f64;
    let temperature = |term: &crate::loss::TermAtStep| match decisions
        .temperatures
        .first()
        .and_then(|temperatures| temperatures.as_ref())
    {
        Some(Temperatures::Shared(pair) | Temperatures::TimesLogitStd { pair, .. }) => pair.teacher,
        Some(Temperatures::PerToken(temperatures)) => temperatures.iter().map(|pair| pair.teacher).sum::<f64>() / n,
        None => term.temperatures.teacher,
    };
    let mut divergences = totals.divergences.iter().map(|sum| sum / n);
    StepMetrics {
        step: 0,
        loss: sum / n,
        divergence: divergences.next(),
        terms: divergences.collect(),
        cross_entropy: (loss.alpha < 1.0 || loss.needs_cross_entropy).then_some(totals.cross_entropy / n),
        relations: None,
        alpha: loss.alpha,
        temperature: loss.terms.first().filter(|_| loss.alpha > 0.0).map(temperature),
        counted: decisions.weights.as_ref().map(|weights| weights.iter().filter(|w| **w > 0.0).count() as f64 / n),
        read: None,
        samples_per_source: Vec::new(),
        learning_rate: 0.0,
        gradient_norm: 0.0,
        positions: positions as u64,
    }
}

fn scalar(value: Option<Tensor<1>>) -> Result<f64> {
    let Some(value) = value else { return Ok(0.0) };
    Ok(numbers(value)?.iter().sum())
}

fn numbers<const D: usize>(value: Tensor<D>) -> Result<Vec<f64>> {
    let values = value.try_into_vec_as::<f32>().map_err(|e| Error::Device(e.to_string()))?;
    Ok(values.into_iter().map(f64::from).collect())
}

/// Forward pass and loss of one part of a step without rules. The head's product is computed only at positions with a
/// next token.
pub fn loss_totals(model: &impl CausalLm, batch: &Batch, loss: &LossAtStep) -> LossTotals {
    let hidden = hidden_at(model, batch);
    head_loss(hidden, &detached_head(model), batch, &TokenDecisions::default(), loss, model.logits_chunk())
}
