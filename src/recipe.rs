//! Recipes: one TOML file per experiment.

use crate::student::StudentConfig;
use anyhow::{Result, anyhow};
use logitcask_cache::Layout;
use logitcask_core::{
    ColumnPrecision, ExtraColumn, ExtraSource, LogProbPrecision, PositionChoice, RowSource, Selection, TailRule,
    Truncation,
};
use logitcask_data::DatasetConfig;
use logitcask_model::Precision;
use logitcask_remote::Interface;
use logitcask_train::{LossConfig, TrainConfig};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// An experiment. Relative paths are looked up in the recipe's folder and then in the current one; unknown keys are
/// refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The recipe whose keys this one inherits. Always `None` in a recipe that was read, whose keys are merged; the
    /// field makes the error about an unknown key list this one too.
    #[serde(default, skip_serializing)]
    pub extends: Option<PathBuf>,
    /// The texts, and their splits; without them, the recipe trains from a cache that exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<DatasetConfig>,
    /// Trains a student on labels alone, then uses it as the teacher of the next one, and so on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generations: Option<Generations>,
    /// The teacher; without one, the student is trained on labels alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<TeacherConfig>,
    /// The tokenizer of a run without a teacher; with one, the teacher's own is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<TokenizerConfig>,
    /// What the cache keeps, and the length of its windows.
    #[serde(default)]
    pub cache: CacheConfig,
    /// Further caches that the student is trained on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<MixedCache>,
    /// The student: a shape that inherits vocabulary and context from the cache, or the model that it starts from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub student: Option<StudentConfig>,
    /// The loss.
    #[serde(default = "labels")]
    pub loss: LossConfig,
    /// The training settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<TrainConfig>,
    /// The evaluation settings.
    #[serde(default)]
    pub eval: EvalConfig,
    /// The settings of the exported model.
    #[serde(default)]
    pub export: ExportConfig,
}

const fn labels() -> LossConfig {
    LossConfig::LABELS
}

/// The teacher.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeacherConfig {
    /// A Hugging Face folder, a GGUF or llama2.c file, or a name on a hub; with `server`, the name that the server
    /// knows it by.
    pub model: PathBuf,
    /// Number format of its weights and activations.
    #[serde(default)]
    pub precision: Precision,
    /// Bound on the number of samples of a batch times the tokens of the longest.
    #[serde(default = "default_batch_tokens")]
    pub batch_tokens: usize,
    /// The address of a server that runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The folder of the tokenizer of a model on a server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<PathBuf>,
    /// How the server is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<Interface>,
    /// Number of requests that are under way at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<usize>,
}

impl TeacherConfig {
    /// A teacher with the default settings.
    pub fn of(model: PathBuf) -> Self {
        Self {
            model,
            precision: Precision::default(),
            batch_tokens: default_batch_tokens(),
            server: None,
            tokenizer: None,
            interface: None,
            connections: None,
        }
    }
}

const fn default_batch_tokens() -> usize {
    2048
}

/// A further cache, mixed into the samples of the recipe's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixedCache {
    /// Its folder.
    pub cache: PathBuf,
    /// Number of its samples for each sample of the recipe's own cache.
    #[serde(default = "one")]
    pub weight: f64,
}

const fn one() -> f64 {
    1.0
}

/// Settings of training in generations.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generations {
    /// Number of students that learn from a previous student.
    pub count: u32,
}

/// The tokenizer of a run without a teacher.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerConfig {
    /// Hugging Face's tokenizer.json.
    pub path: PathBuf,
    /// Id of the token that ends every document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eos: Option<u32>,
}

/// What the cache keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheConfig {
    /// The folder, by default data/caches/RECIPE. Recipes that name the same folder share the cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Largest number of tokens of a window.
    pub max_length: usize,
    /// Which positions of a window are cached; by default the marked ones if the dataset marks any, and otherwise all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub positions: Option<PositionChoice>,
    /// The rule that chooses the kept classes.
    pub selection: Selection,
    /// Classes that are kept at every position, such as end-of-text or chat markers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub always_keep: Vec<u32>,
    /// Precision of the stored log-probabilities.
    pub values: LogProbPrecision,
    /// Lowest and highest temperature that students can use; the range contains 1.
    pub temperature_range: [f64; 2],
    /// How rows are stored.
    pub layout: Layout,
    /// Columns beside the logits, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extras: BTreeMap<String, ExtraConfig>,
    /// Number of samples per unit, which is one shard and the most that a killed worker loses.
    pub samples_per_unit: u64,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            path: None,
            max_length: 256,
            positions: None,
            selection: Selection::TopK { k: 64 },
            always_keep: Vec::new(),
            values: LogProbPrecision::F16 {},
            temperature_range: [0.75, 10.0],
            layout: Layout::Plain,
            extras: BTreeMap::new(),
            samples_per_unit: 1024,
        }
    }
}

/// A column beside the logits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtraConfig {
    /// What the teacher computes.
    pub from: ExtraSource,
    /// Precision of the stored numbers.
    #[serde(default)]
    pub precision: ColumnPrecision,
}

/// The evaluation settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvalConfig {
    /// The split that the student is evaluated on.
    pub split: String,
}

impl Default for EvalConfig {
    fn default() -> Self {
        Self { split: "test".to_owned() }
    }
}

/// The settings of the exported model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExportConfig {
    /// Number format of its weights.
    pub precision: Precision,
}

impl CacheConfig {
    /// The columns beside the logits, for a teacher whose hidden states have `hidden_size`.
    pub fn extras(&self, hidden_size: usize) -> Vec<ExtraColumn> {
        let column = |(name, ExtraConfig { from, precision }): (&String, &ExtraConfig)| ExtraColumn {
            name: name.clone(),
            from: *from,
            precision: *precision,
            size: from.size(hidden_size),
        };
        self.extras.iter().map(column).collect()
    }

    /// What is kept of a row, with this number of tail atoms.
    pub fn keep(&self, atoms: u32) -> Truncation {
        let [lowest_temperature, highest_temperature] = self.temperature_range;
        let mut always_keep = self.always_keep.clone();
        always_keep.sort_unstable();
        always_keep.dedup();
        Truncation {
            selection: self.selection,
            always_keep,
            values: self.values,
            tail: (self.selection != (Selection::Dense {})).then_some(TailRule {
                lowest_temperature,
                highest_temperature,
                atoms,
            }),
            padding: 0,
            source: RowSource::FULL,
        }
    }
}

impl Recipe {
    /// Gives the answers of `[dataset.generate]` their place beside the cache, unless the recipe names one.
    pub fn place_answers(&mut self, recipe: &Path) {
        let mut file = self.cache_folder(recipe).into_os_string();
        file.push(".answers.parquet");
        if let Some(generate) = self.dataset.as_mut().and_then(|dataset| dataset.generate.as_mut()) {
            generate.path.get_or_insert(file.into());
        }
    }

    /// The texts.
    ///
    /// # Errors
    /// If the recipe has none, so that it can only train from a cache that exists.
    pub fn texts(&self) -> Result<&DatasetConfig> {
        self.dataset.as_ref().ok_or_else(|| {
            anyhow!(
                "the recipe has no [dataset], so that `logitcask train` is all that it is for: it trains from the cache \
                 that [cache] path names"
            )
        })
    }

    /// The cache's folder.
    pub fn cache_folder(&self, recipe: &Path) -> PathBuf {
        self.cache.path.clone().unwrap_or_else(|| Path::new("data/caches").join(name(recipe)))
    }
}

/// A recipe's name: its file name without the extension.
pub fn name(recipe: &Path) -> String {
    recipe.file_stem().map_or_else(|| "recipe".to_owned(), |stem| stem.to_string_lossy().into_owned())
}
