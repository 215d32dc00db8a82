//! The training loop.

use crate::batch::{Batch, int_tensor};
use crate::checkpoint::{Checkpoints, State};
use crate::clip::clip_global_norm;
use crate::eval::evaluate;
use crate::loss::{LossConfig, LossSums, StepLoss, head_loss};
use crate::metrics::{MetricsLog, StepMetrics, ValidationMetrics};
use crate::source::{Samples, Taught, prefix};
use crate::{Error, Result, Schedule, Source};
use burn::module::{Module, ParamGroup};
use burn::optim::{AdamWConfig, GradientsAccumulator, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor};
use logitcask_model::{Llama, LlamaConfig, LogitsModel, weights};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

/// Steps whose batches are ready before they are wanted.
const AHEAD: usize = 4;
/// The weights of the lowest validation perplexity so far.
const BEST: &str = "best.bpk";

/// How a student is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Optimizer steps, at most.
    pub steps: u64,
    /// Samples in a step.
    pub batch_size: usize,
    /// Equal parts a step's samples are cut into, their gradients added up: one after the other on a GPU, to save memory;
    /// side by side on a CPU, to use its cores.
    #[serde(default = "one")]
    pub accumulate: usize,
    /// Peak learning rate of AdamW.
    pub learning_rate: f64,
    /// Steps of linear warm-up.
    #[serde(default)]
    pub warmup: u64,
    /// What follows the warm-up.
    #[serde(default)]
    pub schedule: Schedule,
    /// Decoupled weight decay of matrices; norms are never decayed.
    #[serde(default = "default_decay")]
    pub weight_decay: f64,
    /// Largest global gradient norm.
    #[serde(default = "default_clip")]
    pub clip_norm: f64,
    /// Decides initial weights and the order of the data.
    #[serde(default)]
    pub seed: u64,
    /// Steps between checkpoints.
    #[serde(default = "default_every")]
    pub checkpoint_every: u64,
    /// Steps between evaluations on the validation split; 0: none.
    #[serde(default)]
    pub validate_every: u64,
    /// Evaluations without a lower validation perplexity after which the run ends; its best weights are the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience: Option<u32>,
    /// Tokens of a sample that the student sees, at most. A shorter prefix is right as it is: what the teacher said at a
    /// position depends on the tokens before it alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_length: Option<u32>,
}

const fn one() -> usize {
    1
}
const fn default_decay() -> f64 {
    0.1
}
const fn default_clip() -> f64 {
    1.0
}
const fn default_every() -> u64 {
    100
}

impl TrainConfig {
    /// Refuses what cannot work.
    pub fn check(&self) -> std::result::Result<(), String> {
        if self.steps == 0 || self.batch_size == 0 || self.checkpoint_every == 0 {
            return Err("[train] steps, batch_size and checkpoint_every must be at least 1".into());
        }
        if self.accumulate == 0 || !self.batch_size.is_multiple_of(self.accumulate) {
            return Err(format!(
                "[train] accumulate = {} does not divide batch_size = {}",
                self.accumulate, self.batch_size
            ));
        }
        if !(self.learning_rate > 0.0 && self.clip_norm > 0.0 && self.weight_decay >= 0.0) {
            return Err("[train] learning_rate and clip_norm must be positive, weight_decay not negative".into());
        }
        if self.max_length.is_some_and(|length| length < 2) {
            return Err("[train] max_length must be at least 2: one token and the next".into());
        }
        if self.patience.is_some() && self.validate_every == 0 {
            return Err("[train] patience needs validate_every".into());
        }
        self.schedule.check()
    }
}

/// What a run came to.
pub struct Outcome {
    /// The student, without gradients: the best one where `patience` is set, else the last.
    pub model: Llama,
    /// How far it came.
    pub state: State,
}

/// Everything a run needs.
pub struct Trainer<'a> {
    /// The student's shape.
    pub model: &'a LlamaConfig,
    /// How it is trained.
    pub config: &'a TrainConfig,
    /// What it is compared with.
    pub loss: &'a LossConfig,
    /// Where its samples come from.
    pub source: &'a Source,
    /// Where checkpoints and metrics go; a run that was stopped goes on from here.
    pub folder: &'a Path,
    /// Where tensors live.
    pub device: &'a Device,
}

impl Trainer<'_> {
    /// Trains to the end, or to the step after `stop` is raised. `on_step` hears of every step.
    pub fn run(&self, stop: &AtomicBool, on_step: &mut dyn FnMut(&StepMetrics)) -> Result<Outcome> {
        self.config.check().and_then(|()| self.loss.check()).map_err(Error::Config)?;
        if let Source::Cache(cache) = self.source {
            self.loss.fits(&cache.plan().keep).map_err(Error::Config)?;
        }
        std::fs::create_dir_all(self.folder).map_err(Error::io(self.folder, "create"))?;
        let checkpoints = Checkpoints::new(self.folder);
        let device = self.device.clone().autodiff();
        let fresh = weights::fresh(self.model, self.config.seed, &device);
        let (mut model, mut optimizer, mut state) = checkpoints.load(fresh, self.optimizer())?;
        let mut log = MetricsLog::open(&self.folder.join("metrics.jsonl"), state.step)?;
        let batches = self.batches(state.step)?;
        let mut clock = Instant::now();
        let mut stopping = stop.load(Ordering::Relaxed);
        while !state.finished && !stopping {
            let parts = batches.recv().map_err(|_| Error::Config("the batch loader ended before the run".into()))??;
            let metrics;
            (model, metrics) = self.step(model, &mut optimizer, &parts, state.step)?;
            state.step += 1;
            state.finished = state.step == self.config.steps;
            log.append(&metrics)?;
            on_step(&metrics);
            let is_best = self.validate(&model, &mut state, &mut log)?;
            let is_due = state.step.is_multiple_of(self.config.checkpoint_every);
            // Looked at once a step, so that a run never ends on a step it did not keep.
            stopping = stop.load(Ordering::Relaxed);
            if state.finished || is_best || is_due || stopping {
                state.seconds += clock.elapsed().as_secs_f64();
                clock = Instant::now();
                checkpoints.save(&model, &optimizer, &state)?;
            }
        }
        let model = if state.finished && self.config.patience.is_some() { self.best(model)? } else { model };
        Ok(Outcome { model: model.valid(), state })
    }

    fn optimizer(&self) -> ModuleOptimizer {
        let adamw =
            |decay: f64| AdamWConfig::new().with_beta_2(0.95).with_epsilon(1e-8).with_weight_decay(decay as f32);
        let norms = ParamGroup::from_predicate("norm");
        adamw(self.config.weight_decay).init().with_group(norms, adamw(0.0).build(), None)
    }

    /// The batches of every step from `first` on, made ahead in a thread of their own.
    fn batches(&self, first: u64) -> Result<Receiver<Result<Vec<Batch>>>> {
        let (out, batches) = sync_channel(AHEAD);
        let mut loader = Loader {
            source: self.source.clone(),
            length: self.source.len("train")?,
            seed: self.config.seed,
            place: first * self.config.batch_size as u64,
            samples: Box::new(std::iter::empty()),
        };
        let (size, part) = (self.config.batch_size, self.config.batch_size / self.config.accumulate);
        let reading = self.loss.needs_teacher().then(|| self.loss.reading());
        let max_length = self.config.max_length.map_or(usize::MAX, |length| length as usize);
        std::thread::spawn(move || {
            loop {
                let step = loader.take(size).and_then(|rows| {
                    let rows: Vec<Taught> = rows.into_iter().map(|row| prefix(row, max_length)).collect();
                    rows.chunks(part).map(|rows| Batch::new(rows, reading)).collect()
                });
                let is_last = step.is_err();
                // A closed queue means that the run is over.
                if out.send(step).is_err() || is_last {
                    return;
                }
            }
        });
        Ok(batches)
    }

    fn step(
        &self,
        model: Llama,
        optimizer: &mut ModuleOptimizer,
        parts: &[Batch],
        step: u64,
    ) -> Result<(Llama, StepMetrics)> {
        let loss = self.loss.at(step as f64 / self.config.steps as f64);
        let positions: usize = parts.iter().map(|part| part.positions.len()).sum();
        let gradients = |part: &Batch| -> Result<(GradientsParams, f64, f64)> {
            // A fork has a graph of its own (over the same weights); on a common one, backward passes wait in line.
            let model = model.clone().fork(&model.device());
            let sums = loss_sums(&model, part, &loss);
            let grads = (sums.surrogate / positions as f64).backward();
            Ok((GradientsParams::from_grads(grads, &model), scalar(sums.divergence)?, scalar(sums.cross_entropy)?))
        };
        // A CPU has idle cores beside one part's small operations; a GPU has not. Added up in order either way.
        let done: Vec<_> = match self.device == &Device::flex() {
            true => parts.par_iter().map(gradients).collect::<Result<_>>()?,
            false => parts.iter().map(gradients).collect::<Result<_>>()?,
        };
        let mut accumulator = GradientsAccumulator::new();
        let (mut divergence, mut cross_entropy) = (0.0, 0.0);
        for (grads, part_divergence, part_cross_entropy) in done {
            accumulator.accumulate(&model, grads);
            divergence += part_divergence;
            cross_entropy += part_cross_entropy;
        }
        let (divergence, cross_entropy) = (divergence / positions as f64, cross_entropy / positions as f64);
        let StepLoss { alpha, temperature, .. } = loss;
        let loss = alpha * temperature.powi(2) * divergence + (1.0 - alpha) * cross_entropy;
        if !loss.is_finite() {
            return Err(Error::Diverged { step: step + 1, loss });
        }
        let mut grads = accumulator.grads();
        let gradient_norm = clip_global_norm(&model, &mut grads, self.config.clip_norm)?;
        if !gradient_norm.is_finite() {
            return Err(Error::Diverged { step: step + 1, loss });
        }
        let c = self.config;
        let learning_rate = c.learning_rate * c.schedule.at(step, c.steps, c.warmup);
        let model = optimizer.step(learning_rate, model, grads);
        let metrics = StepMetrics {
            step: step + 1,
            loss,
            divergence: (alpha > 0.0).then_some(divergence),
            cross_entropy: (alpha < 1.0).then_some(cross_entropy),
            alpha,
            temperature: (alpha > 0.0).then_some(temperature),
            learning_rate,
            gradient_norm,
            positions: positions as u64,
        };
        Ok((model, metrics))
    }

    /// The evaluation that is due after this step, if one is; true where it is the best so far and its weights were kept.
    /// It is not interrupted: a run that is resumed must have seen what an undisturbed one saw.
    fn validate(&self, model: &Llama, state: &mut State, log: &mut MetricsLog) -> Result<bool> {
        let every = self.config.validate_every;
        if every == 0 || (!state.step.is_multiple_of(every) && !state.finished) {
            return Ok(false);
        }
        let evaluation = evaluate(&model.valid(), self.source, "validation", &AtomicBool::new(false))?;
        let Some(validation) = evaluation else { return Ok(false) };
        if !validation.perplexity.is_finite() {
            return Err(Error::Diverged { step: state.step, loss: validation.perplexity.ln() });
        }
        log.append(&ValidationMetrics { step: state.step, validation })?;
        if state.best.is_some_and(|best| validation.perplexity >= best) {
            state.stale += 1;
            state.finished |= self.config.patience.is_some_and(|patience| state.stale >= patience);
            return Ok(false);
        }
        state.best = Some(validation.perplexity);
        state.stale = 0;
        if self.config.patience.is_some() {
            let path = self.folder.join(BEST);
            let work = path.with_extension("work");
            let refuse = |e: &dyn std::fmt::Display| Error::Checkpoint { path: path.clone(), problem: e.to_string() };
            model.clone().into_record().save(&work).map_err(|e| refuse(&e))?;
            std::fs::rename(&work, &path).map_err(Error::io(&path, "publish"))?;
        }
        Ok(self.config.patience.is_some())
    }

    fn best(&self, model: Llama) -> Result<Llama> {
        let path = self.folder.join(BEST);
        model.try_load_file(&path).map_err(|e| Error::Checkpoint { path: path.clone(), problem: e.to_string() })
    }
}

/// An endless stream of samples: one shuffled epoch after the other without a seam, so that the place in it is a number.
struct Loader {
    source: Source,
    length: u64,
    seed: u64,
    place: u64,
    samples: Samples,
}

impl Loader {
    fn take(&mut self, count: usize) -> Result<Vec<Taught>> {
        let mut rows = Vec::with_capacity(count);
        while rows.len() < count {
            match self.samples.next() {
                Some(row) => {
                    rows.push(row?);
                    self.place += 1;
                }
                None => {
                    let (epoch, skip) = (self.place / self.length, self.place % self.length);
                    self.samples = self.source.shuffled("train", self.seed, epoch, skip)?;
                }
            }
        }
        Ok(rows)
    }
}

/// Forward and loss of one part of a step. The head's product is taken at real positions only.
pub fn loss_sums(model: &Llama, batch: &Batch, loss: &StepLoss) -> LossSums {
    let device = model.device();
    let tokens = int_tensor(&batch.tokens, [batch.rows, batch.width], &device);
    let hidden = model.hidden_at(tokens, int_tensor(&batch.positions, [batch.positions.len()], &device));
    head_loss(hidden, model.head(), batch, loss, model.logits_chunk())
}

fn scalar(value: Option<Tensor<1>>) -> Result<f64> {
    let Some(value) = value else { return Ok(0.0) };
    let values = value.try_into_vec_as::<f32>().map_err(|e| Error::Device(e.to_string()))?;
    Ok(values.iter().map(|&v| f64::from(v)).sum())
}
