//! The training loop.

use crate::batch::Batch;
use crate::checkpoint::{Checkpoints, Loaded, State};
use crate::clip::clip_global_norm;
use crate::eval::evaluate;
use crate::finite::first_not_finite;
use crate::loader::{Batches, Loader};
use crate::loss::{LossConfig, RelationalLoss};
use crate::metrics::{MetricsLog, StepMetrics, ValidationMetrics};
use crate::mixture::check_sources;
use crate::pruning::{Pruner, Stage};
use crate::rules::Rules;
use crate::similarity::Similarity;
use crate::target_spec::TargetSpec;
use crate::trained_parts::{LearningRates, optimizer, prepared};
use crate::update::{Gradients, Update};
use crate::{Error, Result, Source, TrainConfig, WeightedSource};
use burn::module::Module;
use burn::optim::ModuleOptimizer;
use burn::tensor::{DType, Device};
use logitcask_core::ConfigError;
use logitcask_model::{Model, ModelConfig, Packing, PrunedModel, weights};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};
use tracing::{debug, info};

/// A step that waits longer than this for its samples is logged.
const LONG_WAIT: Duration = Duration::from_millis(100);

/// The result of a run.
pub struct Outcome {
    /// The student, without gradients and with adapters merged into its weights: the best one if `patience` is set,
    /// otherwise the last.
    pub model: Model,
    /// The progress of the run.
    pub state: State,
}

/// Everything a run needs.
pub struct Trainer<'a> {
    /// The student's shape.
    pub model: &'a ModelConfig,
    /// The model of this shape that the student starts as; `None`: from random weights.
    pub start: Option<&'a PrunedModel>,
    /// The training settings.
    pub config: &'a TrainConfig,
    /// The loss settings.
    pub loss: &'a LossConfig,
    /// Source of the samples, and of those that the student is evaluated on.
    pub source: &'a Source,
    /// Further caches whose samples are mixed in, each with its weight relative to `source`, which has 1.
    pub other_sources: &'a [WeightedSource],
    /// Folder for the metrics.
    pub folder: &'a Path,
    /// Device of the tensors.
    pub device: &'a Device,
    /// Similarity of the teacher's classes, if that is the target.
    pub similarity: Option<Arc<Similarity>>,
}

impl Trainer<'_> {
    /// Trains from the last of `checkpoints` to the end, or until the step after `stop` is set. `on_step` is called
    /// after every step.
    ///
    /// # Errors
    /// [`Error::Refused`] for a recipe that does not fit itself, the cache or the student; [`Error::Diverged`] at the step
    /// whose loss or weights are no longer finite; whatever stops the loader, a checkpoint or the device.
    pub fn run(
        &self,
        mut checkpoints: Checkpoints,
        stop: &AtomicBool,
        on_step: &mut dyn FnMut(&StepMetrics),
    ) -> Result<Outcome> {
        self.check()?;
        std::fs::create_dir_all(self.folder).map_err(Error::io(self.folder, "create"))?;
        let (mut learner, mut model, mut optimizer) = self.start(&checkpoints)?;
        let mut state = checkpoints.state();
        let mut log = MetricsLog::open(&self.folder.join("metrics.jsonl"), state.step)?;
        let mut batches = None;
        let mut clock = Instant::now();
        let mut stopping = stop.load(Ordering::Relaxed);
        while !state.finished && !stopping {
            let asked = Instant::now();
            let parts = match &mut batches {
                Some(batches) => batches,
                none => none.insert(self.batches(&mut learner, state.step)?),
            }
            .next()?;
            let waited = asked.elapsed();
            state.waited += waited.as_secs_f64();
            if waited > LONG_WAIT {
                debug!(step = state.step + 1, seconds = waited.as_secs_f64(), "a step waited for its samples");
            }
            let metrics;
            (model, metrics) = self.step(model, &mut optimizer, &mut learner, &parts, state.step)?;
            state.step += 1;
            state.finished = state.step == self.config.steps;
            log.append(&metrics)?;
            on_step(&metrics);
            let is_best = self.validate(&model, &mut state, &mut log)?;
            let is_due = state.step.is_multiple_of(self.config.checkpoint_every);
            // Read once per step, so that a run never ends on a step that it did not save.
            stopping = stop.load(Ordering::Relaxed);
            if state.finished || is_best || is_due || stopping {
                check_weights(&model, state.step, "there is nothing to keep")?;
                state.seconds += clock.elapsed().as_secs_f64();
                clock = Instant::now();
                checkpoints.save(&model, &optimizer, &learner.state(), &mut state, is_best)?;
            }
        }
        let is_over = state.finished && self.config.patience.is_some();
        let model = if is_over { checkpoints.load_best(model)? } else { model };
        Ok(Outcome { model: model.valid().materialize(), state })
    }

    /// Refuses numbers that make no sense together, and what the cached rows cannot answer.
    fn check(&self) -> std::result::Result<(), ConfigError> {
        self.config.check()?;
        self.loss.check()?;
        check_sources(self.config, self.loss, &self.sources())?;
        self.config.check_parts(self.model)?;
        match &self.similarity {
            Some(similarity) if similarity.labels() != self.model.vocab_size() => {
                let expected = format!("left out for a student of {} classes", self.model.vocab_size());
                Err(ConfigError::new("target", "similar", expected).within("[loss]").because(format!(
                    "the teacher's head, which tells how alike classes are, has {} of them",
                    similarity.labels()
                )))
            }
            _ => Ok(()),
        }
    }

    fn relational_loss(&self) -> std::result::Result<Option<RelationalLoss>, ConfigError> {
        let relations = self.loss.relations.as_ref().zip(self.source.cache());
        relations.map(|(relations, cache)| RelationalLoss::new(relations, cache.plan())).transpose()
    }

    /// A CPU has idle cores during the small operations of one part of a step.
    fn is_cpu(&self) -> bool {
        self.device == &Device::flex()
    }

    /// All sources with their weights, the first of them `source`.
    fn sources(&self) -> Vec<WeightedSource> {
        WeightedSource::all(self.source, self.other_sources)
    }

    /// Student, optimizer and rules as stored in the last checkpoint, or their initial state.
    fn start(&self, checkpoints: &Checkpoints) -> Result<(Learner<'_>, Model, ModuleOptimizer)> {
        let sources = self.sources();
        let keeps = sources.iter().filter_map(|one| one.source.cache()).map(|cache| &cache.plan().keep);
        let device = self.device.clone().autodiff();
        let fresh = match self.start {
            None => weights::init(self.model, self.config.seed, &device),
            Some(start) => start.load(&device)?,
        };
        let fresh = prepared(fresh, self.config);
        let mut learner = Learner {
            rules: Rules::new(self.loss, self.config.seed, keeps, self.model.vocab_size()),
            pruner: self.pruner()?,
            rates: LearningRates::new(&fresh, self.config),
            dtype: self.config.precision.dtype(self.device)?,
        };
        let optimizer = optimizer(&fresh, self.config);
        let Loaded { model, optimizer, memory } = checkpoints.load(fresh, optimizer)?;
        info!(folder = %self.folder.display(), step = checkpoints.state().step, steps = self.config.steps, "training begins");
        if let (Some(memory), Some(path)) = (memory, checkpoints.last()) {
            let refuse = |problem| Error::Checkpoint { path: path.to_owned(), problem };
            learner.restore(memory).map_err(refuse)?;
        }
        Ok((learner, model, optimizer))
    }

    /// The batches of every step from `first` on.
    fn batches(&self, learner: &mut Learner<'_>, first: u64) -> Result<Batches> {
        let stages = learner.stages();
        let spec = learner.rules.spec();
        let spec = spec.map(|spec| TargetSpec { similarity: self.similarity.clone(), ..spec });
        let mut sources = self.sources();
        if let Some(relations) = &self.loss.relations {
            for one in &mut sources {
                one.source = one.source.with_vectors(&relations.column)?;
            }
        }
        let packing = Packing::fastest(self.device, learner.dtype);
        Ok(Loader::new(&sources, self.config, first, packing, stages)?.start(spec))
    }

    /// The pruner if the recipe prunes its samples. A student of labels only uses all of them.
    fn pruner(&self) -> Result<Option<Pruner>> {
        match (self.config.pruning, self.source.cache()) {
            (Some(rule), Some(cache)) if self.loss.needs_teacher() => {
                Pruner::new(rule, cache, self.config.batch_size).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn step(
        &self,
        model: Model,
        optimizer: &mut ModuleOptimizer,
        learner: &mut Learner<'_>,
        parts: &[Batch],
        step: u64,
    ) -> Result<(Model, StepMetrics)> {
        let c = self.config;
        let diverged = |what| Error::Diverged { step: step + 1, what };
        let relations = self.relational_loss()?;
        let update = Update {
            parts,
            done: step as f64 / c.steps as f64,
            side_by_side: self.is_cpu(),
            by_layer: c.gradient_checkpointing,
            dtype: learner.dtype,
            relations,
        };
        let Gradients { mut grads, mut metrics, seen } = update.gradients(&model, &mut learner.rules, &diverged)?;
        metrics.step = step + 1;
        metrics.samples_per_source = self.count_samples(parts);
        metrics.read = learner.pruner.as_ref().map(Pruner::share);
        if !metrics.loss.is_finite() {
            let loss = format!("the loss is {}", metrics.loss);
            check_weights(&model, step + 1, &loss)?;
            return Err(diverged(loss));
        }
        metrics.gradient_norm = clip_global_norm(&model, &mut grads, c.clip_norm)?;
        if !metrics.gradient_norm.is_finite() {
            let (norm, loss) = (metrics.gradient_norm, metrics.loss);
            let norm = format!("the norm of the gradient is {norm} (the loss is {loss:.4})");
            check_weights(&model, step + 1, &norm)?;
            return Err(diverged(norm));
        }
        if let Some(pruner) = &mut learner.pruner {
            parts.iter().zip(&seen).for_each(|(part, seen)| pruner.see(part, seen));
            pruner.decide((step + 1) * c.batch_size as u64, c.batch_size as u64);
        }
        let rates;
        (rates, metrics.learning_rate) = learner.rates.at(step);
        Ok((optimizer.step(rates, model, grads), metrics))
    }

    /// Number of samples of a step from each source; empty if there is only one.
    fn count_samples(&self, parts: &[Batch]) -> Vec<u64> {
        let mut counts = vec![0; if self.other_sources.is_empty() { 0 } else { 1 + self.other_sources.len() }];
        parts.iter().flat_map(|part| &part.sources).for_each(|&source| counts[source] += 1);
        counts
    }

    /// Runs the evaluation that is due after this step, if any; returns true if it is the best so far and its weights
    /// are to be kept. It is not interrupted: a resumed run must see the same as an uninterrupted one.
    fn validate(&self, model: &Model, state: &mut State, log: &mut MetricsLog) -> Result<bool> {
        let every = self.config.validate_every;
        if every == 0 || (!state.step.is_multiple_of(every) && !state.finished) {
            return Ok(false);
        }
        let start = Instant::now();
        let evaluation = evaluate(&model.valid(), self.source, "validation", &AtomicBool::new(false))?;
        let Some(validation) = evaluation else { return Ok(false) };
        if !validation.perplexity.is_finite() {
            let what = format!("the validation perplexity is {}", validation.perplexity);
            check_weights(model, state.step, &what)?;
            return Err(Error::Diverged { step: state.step, what });
        }
        let (perplexity, seconds) = (validation.perplexity, start.elapsed().as_secs_f64());
        info!(step = state.step, perplexity, best = state.best, stale = state.stale, seconds, "validated");
        log.append(&ValidationMetrics { step: state.step, validation })?;
        if state.best.is_some_and(|best| validation.perplexity >= best) {
            state.stale += 1;
            state.finished |= self.config.patience.is_some_and(|patience| state.stale >= patience);
            return Ok(false);
        }
        state.best = Some(validation.perplexity);
        state.stale = 0;
        Ok(self.config.patience.is_some())
    }
}

/// Returns an error if a weight is not finite; `so` states the consequence.
fn check_weights(model: &Model, step: u64, so: &str) -> Result<()> {
    match first_not_finite(&model.valid())? {
        Some(name) => Err(Error::Diverged { step, what: format!("the weight {name} is no longer finite, so {so}") }),
        None => Ok(()),
    }
}

/// The parts of a run besides the student and its optimizer.
struct Learner<'a> {
    rules: Rules,
    pruner: Option<Pruner>,
    rates: LearningRates<'a>,
    /// Number format of the forward and backward pass.
    dtype: DType,
}

impl Learner<'_> {
    /// The stages of the samples, if these change.
    fn stages(&mut self) -> Option<(Vec<Stage>, Receiver<Stage>)> {
        let pruner = self.pruner.as_mut()?;
        self.rules.watch(Pruner::NEEDS);
        Some(pruner.stages())
    }

    fn state(&self) -> Vec<Vec<f64>> {
        self.rules.state().into_iter().chain(self.pruner.as_ref().map(Pruner::state)).collect()
    }

    fn restore(&mut self, mut memory: Vec<Vec<f64>>) -> std::result::Result<(), String> {
        let pruned = self.pruner.as_ref().and_then(|_| memory.pop());
        if let (Some(pruner), Some(state)) = (&mut self.pruner, pruned)
            && !pruner.restore(&state)
        {
            return Err("what it remembers of its samples is of another cache".into());
        }
        match self.rules.restore(&memory) {
            true => Ok(()),
            false => Err("what it remembers is of other rules than this recipe's".into()),
        }
    }
}
