//! The relations between the samples of a batch: distances between pairs of vectors, and angles between triples
//! (relational knowledge distillation, arXiv 1904.05068). Teacher and student may have vectors of different lengths.

use crate::batch::Batch;
use crate::config::TrainConfig;
use crate::mixture::WeightedSource;
use crate::tensors::float_tensor;
use burn::tensor::{DType, Tensor};
use logitcask_cache::Plan;
use logitcask_core::{ConfigError, ExtraColumn, HiddenPositions};
use serde::{Deserialize, Serialize};

/// Where the keys are in a recipe.
const SECTION: &str = "[loss] relations";
/// Least squared length that is divided by, for samples with the same vector.
const LEAST_SQUARE: f64 = 1e-12;

/// The part of a recipe about relations between samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relations {
    /// The cache's extra column that has the teacher's vector of each sample. The student's vector is made of its own
    /// hidden states in the same way, without a projection.
    pub column: String,
    /// Weight of the loss on distances.
    #[serde(default = "distance")]
    pub distance: f64,
    /// Weight of the loss on angles.
    #[serde(default = "angle")]
    pub angle: f64,
}

/// The weights that the paper uses beside the loss of a classifier.
const fn distance() -> f64 {
    25.0
}
const fn angle() -> f64 {
    50.0
}

impl Relations {
    /// Rejects weights that are no weights.
    ///
    /// # Errors
    /// Names the key, its value and what is accepted.
    pub fn check(&self) -> Result<(), ConfigError> {
        for (key, weight) in [("distance", self.distance), ("angle", self.angle)] {
            ConfigError::unless(weight.is_finite() && weight >= 0.0, key, weight, "a weight, 0 or more")?;
        }
        ConfigError::unless(self.distance + self.angle > 0.0, "distance", 0.0, "above 0 where angle = 0")
    }

    /// Rejects a run whose sources do not have the vectors, or whose parts of a step are too small.
    pub(crate) fn check_run(&self, config: &TrainConfig, sources: &[WeightedSource]) -> Result<(), ConfigError> {
        let mut first: Option<&ExtraColumn> = None;
        for source in sources {
            let Some(cache) = source.source.cache() else {
                let problem = ConfigError::new("column", &self.column, "left out without a cache");
                return Err(problem.within(SECTION));
            };
            let column = self.check_cache(config, &cache.plan().extras, cache.plan().max_length)?;
            let expected = "a column that is the same in all caches of the run";
            ConfigError::unless(*first.get_or_insert(column) == column, "column", &self.column, expected)
                .map_err(|error| error.within(SECTION))?;
        }
        Ok(())
    }

    /// The column of a cache that has these beside the logits, and windows of up to `max_length` tokens.
    ///
    /// # Errors
    /// Names the key of the recipe that the cache does not fit, its value and what is accepted. So it does for parts of a
    /// step that are too small, whatever the cache.
    pub fn check_cache<'a>(
        &self,
        config: &TrainConfig,
        extras: &'a [ExtraColumn],
        max_length: u32,
    ) -> Result<&'a ExtraColumn, ConfigError> {
        let column = self.column_of(extras).map_err(|error| error.within(SECTION))?;
        self.check_windows(config, max_length)?;
        let (together, needed) = (config.batch_size / config.accumulate, if self.angle > 0.0 { 3 } else { 2 });
        let expected = format!("at least {needed} samples, which are batch_size / accumulate of [train]");
        ConfigError::unless(together >= needed, "samples that are related to one another", together, expected)
            .map_err(|error| error.within(SECTION))?;
        Ok(column)
    }

    /// The column among these, which must have one vector for each sample.
    fn column_of<'a>(&self, extras: &'a [ExtraColumn]) -> Result<&'a ExtraColumn, ConfigError> {
        let refused = |expected: String| ConfigError::new("column", &self.column, expected);
        let per_sample = |extra: &&ExtraColumn| extra.per_position() == 0;
        let there: Vec<&str> = extras.iter().filter(per_sample).map(|extra| extra.name.as_str()).collect();
        let expected =
            if there.is_empty() { "a column of the cache, which has none".to_owned() } else { there.join(", ") };
        match extras.iter().find(|extra| extra.name == self.column) {
            Some(extra) if extra.per_position() == 0 => Ok(extra),
            Some(_) => {
                Err(refused(expected).because("it has a vector for each position, and relations are between samples"))
            }
            None => Err(refused(expected).because(format!(
                "make the cache with [cache.extras.{}] from = {{ kind = \"hidden\", positions = \"mean\" }}",
                self.column
            ))),
        }
    }

    /// A sample's vector is that of all its tokens, so the student has to see all of them.
    fn check_windows(&self, config: &TrainConfig, max_length: u32) -> Result<(), ConfigError> {
        match config.max_length.filter(|length| *length < max_length) {
            Some(length) => Err(ConfigError::new("[train] max_length", length, "left out beside relations")
                .because(format!("`{}` has the vectors of windows of up to {max_length} tokens", self.column))),
            None => Ok(()),
        }
    }
}

/// The loss on relations, for vectors that are made in one way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RelationalLoss {
    /// Weight of the loss on distances.
    pub distance: f64,
    /// Weight of the loss on angles.
    pub angle: f64,
    /// How the hidden states of a sample's positions become its vector.
    pub pooling: HiddenPositions,
}

impl RelationalLoss {
    /// The loss of a recipe on a cache of this plan.
    ///
    /// # Errors
    /// Names the column if the plan does not have it.
    pub fn new(relations: &Relations, plan: &Plan) -> Result<Self, ConfigError> {
        let Relations { distance, angle, .. } = *relations;
        Ok(Self { distance, angle, pooling: relations.column_of(&plan.extras)?.from.positions() })
    }

    /// The loss of a batch, \[1\]; `None` without vectors of the teacher. hidden: \[positions, hidden size\], in the order
    /// of `batch.positions`.
    pub fn loss(&self, hidden: Tensor<2>, batch: &Batch) -> Option<Tensor<1>> {
        let vectors = batch.vectors.as_ref()?;
        let (samples, device) = (batch.sample_ids.len(), hidden.device());
        let teacher = float_tensor(vectors, [samples, vectors.len() / samples], &device);
        let pooling = self.pooling_matrix(batch);
        let pooling = float_tensor(&pooling, [samples, batch.positions.len()], &device);
        let student = pooling.matmul(hidden.cast(DType::F32));
        Some(self.compare(teacher, student))
    }

    /// The loss of vectors, \[1\]. teacher: \[samples, its size\]; student: \[samples, its size\].
    pub fn compare(&self, teacher: Tensor<2>, student: Tensor<2>) -> Tensor<1> {
        let [teacher, student] = [teacher, student].map(Pairs::new);
        let mut loss = Tensor::zeros([1], &student.differences.device());
        if self.distance > 0.0 {
            loss = loss + huber(student.distances() - teacher.distances()).mean() * self.distance;
        }
        if self.angle > 0.0 {
            loss = loss + huber(student.cosines() - teacher.cosines()).mean() * self.angle;
        }
        loss
    }

    /// What the hidden states are multiplied by, \[samples, positions\].
    fn pooling_matrix(&self, batch: &Batch) -> Vec<f32> {
        let (samples, positions) = (batch.sample_ids.len(), batch.positions.len());
        let owner: Vec<usize> = batch.positions.iter().map(|&at| batch.sequences.index_of(at as usize)).collect();
        let mut counts = vec![0; samples];
        owner.iter().for_each(|&sample| counts[sample] += 1);
        let mut matrix = vec![0.0; samples * positions];
        for (position, &sample) in owner.iter().enumerate() {
            let is_last = owner.get(position + 1) != Some(&sample);
            matrix[sample * positions + position] = match self.pooling {
                HiddenPositions::Last => f32::from(is_last),
                HiddenPositions::Mean | HiddenPositions::All => 1.0 / counts[sample] as f32,
            };
        }
        matrix
    }
}

/// The pairs of samples.
struct Pairs {
    /// Vector of the second less that of the first, \[samples, samples, size\].
    differences: Tensor<3>,
    /// Lengths of the differences, \[samples, samples\]; 1e-6 for a sample and itself.
    lengths: Tensor<2>,
    /// 0 for a sample and itself, otherwise 1, \[samples, samples\].
    are_two: Tensor<2>,
}

impl Pairs {
    fn new(vectors: Tensor<2>) -> Self {
        let [samples, size] = vectors.dims();
        let differences = vectors.clone().reshape([1, samples, size]) - vectors.reshape([samples, 1, size]);
        let squares = (differences.clone() * differences.clone()).sum_dim(2).reshape([samples, samples]);
        let are_two = Tensor::ones([samples, samples], &squares.device()) - Tensor::eye(samples, &squares.device());
        Self { lengths: squares.clamp_min(LEAST_SQUARE).sqrt(), differences, are_two }
    }

    /// Distances in units of their mean, \[samples, samples\].
    fn distances(&self) -> Tensor<2> {
        let [samples, _] = self.lengths.dims();
        let distances = self.lengths.clone() * self.are_two.clone();
        let mean = distances.clone().sum() / (samples * (samples - 1)) as f64;
        distances / mean.reshape([1, 1])
    }

    /// The cosine of the angle at the first sample between the second and the third, \[samples, samples, samples\].
    fn cosines(&self) -> Tensor<3> {
        let [samples, _] = self.lengths.dims();
        let scale = self.are_two.clone() / self.lengths.clone();
        let directions = self.differences.clone() * scale.reshape([samples, samples, 1]);
        directions.clone().matmul(directions.swap_dims(1, 2))
    }
}

/// The Huber loss with a threshold of 1: x² / 2 where |x| < 1, and |x| - 1/2 elsewhere.
fn huber<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let size = x.abs();
    let near = size.clone().clamp_max(1.0);
    // For a constant a = min(|x|, 1) both cases are a |x| - a² / 2, with the gradient a sign(x).
    near.clone().detach() * size - near.clone().detach() * near.detach() / 2.0
}
