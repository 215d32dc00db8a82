//! Freezing of parts, adapters, and the groups of parameters that the optimizer treats alike.

use crate::TrainConfig;
use crate::part_config::{LoraConfig, is_in_any};
use burn::lr_scheduler::constant::ConstantLr;
use burn::lr_scheduler::module_lr_scheduler::{ModuleLearningRate, ModuleLrScheduler};
use burn::module::{LoraAdapter, Module, Param, ParamGroup, Reparameterizer};
use burn::optim::{AdamW, AdamWConfig, ModuleOptimizer};
use burn::tensor::{Tensor, TensorData};
use logitcask_core::rng::CounterRng;
use logitcask_model::parts::{self, ParameterPath, is_in};
use logitcask_model::{CausalLm, Model};
use std::collections::{HashMap, HashSet};

/// The model with the parts frozen and the adapters attached that a recipe asks for.
pub(crate) fn prepared(model: Model, config: &TrainConfig) -> Model {
    if let Some(lora) = &config.lora {
        let linear: HashSet<String> = model.config().linear_maps().into_iter().collect();
        let is_target = |one: &ParameterPath| linear.contains(&one.name) && is_in_any(&one.name, &lora.targets);
        let targets = parts::parameters(&model).into_iter().filter(is_target).map(|one| one.path);
        let targets = targets.zip(0..).collect();
        return model.apply_reparameterization(Adapters { lora, seed: config.seed, targets });
    }
    let is_frozen = |one: &ParameterPath| is_in_any(&one.name, &config.freeze);
    let frozen: Vec<String> = parts::parameters(&model).into_iter().filter(is_frozen).map(|one| one.path).collect();
    if frozen.is_empty() { model } else { model.freeze_group(ParamGroup::from_paths(frozen)) }
}

/// Attaches adapters to weights, and freezes every other parameter.
struct Adapters<'a> {
    lora: &'a LoraConfig,
    seed: u64,
    /// The number of each adapter by the path of its weight.
    targets: HashMap<String, u64>,
}

impl Reparameterizer for Adapters<'_> {
    type Reparam = LoraAdapter;

    /// Every A has its own random stream, so that the same seed gives the same adapters on any device.
    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<LoraAdapter>) {
        let base = param.set_require_grad(false);
        let Some(&index) = self.targets.get(path) else { return (base, None) };
        let &[inner, outer] = &base.dims()[..] else { return (base, None) };
        let (rank, device) = (self.lora.rank, base.device());
        let mut rng = CounterRng::new("logitcask adapters", &[self.seed, index]);
        let limit = 1.0 / (inner as f64).sqrt();
        let a: Vec<f32> = (0..inner * rank).map(|_| (limit * (2.0 * rng.uniform() - 1.0)) as f32).collect();
        let adapter = LoraAdapter {
            a: Param::from_tensor(Tensor::from_data(TensorData::new(a, [inner, rank]), &device)),
            b: Param::from_tensor(Tensor::zeros([rank, outer], &device)),
            scale: self.lora.alpha / rank as f64,
        };
        (base, Some(adapter))
    }
}

/// The parameters of a part.
fn group(all: &[ParameterPath], part: &str) -> ParamGroup {
    let paths: Vec<String> = all.iter().filter(|one| is_in(&one.name, part)).map(|one| one.path.clone()).collect();
    ParamGroup::from_paths(paths)
}

/// The optimizer, with the weight decay of each part. Of several parts that a parameter belongs to, the last one counts.
pub(crate) fn optimizer(model: &Model, config: &TrainConfig) -> ModuleOptimizer {
    let adamw = |decay: f64| AdamWConfig::new().with_beta_2(0.95).with_epsilon(1e-8).with_weight_decay(decay as f32);
    let built = |decay: f64| -> AdamW { adamw(decay).build() };
    let all = parts::parameters(model);
    let mut optimizer = adamw(config.weight_decay).init();
    for (one, decay) in config.parts.iter().filter_map(|one| Some((one, one.weight_decay?))) {
        optimizer = optimizer.with_group(group(&all, &one.part), built(decay), None);
    }
    optimizer.with_group(model.no_decay(), built(0.0), None)
}

/// The learning rate of each parameter, at this share of the peak.
pub(crate) struct LearningRates<'a> {
    config: &'a TrainConfig,
    groups: Vec<(ParamGroup, f64)>,
}

impl<'a> LearningRates<'a> {
    pub(crate) fn new(model: &Model, config: &'a TrainConfig) -> Self {
        let all = parts::parameters(model);
        let with_rate = config.parts.iter().filter_map(|one| Some((group(&all, &one.part), one.learning_rate?)));
        Self { config, groups: with_rate.collect() }
    }

    /// The rates of a step, and the one of the parts without a rate of their own.
    pub(crate) fn at(&self, step: u64) -> (ModuleLearningRate, f64) {
        let c = self.config;
        let share = c.schedule.at(step, c.steps, c.warmup);
        let rate = c.learning_rate * share;
        if self.groups.is_empty() {
            return (rate.into(), rate);
        }
        let mut rates = ModuleLrScheduler::new(ConstantLr::from(rate));
        for (group, peak) in &self.groups {
            rates = rates.with_group(group.clone(), ConstantLr::from(peak * share));
        }
        (rates.step(), rate)
    }
}

#[cfg(test)]
#[path = "trained_parts_tests.rs"]
mod tests;
