//! A recipe with its teacher, tokenizer and dataset opened: what every command of stage 1 begins with.

use crate::commands::tokenizer_of;
use crate::recipe::{Recipe, TeacherConfig};
use anyhow::{Context, Result, anyhow};
use logitcask_cache::{FORMAT_VERSION, Pin, Plan};
use logitcask_core::{Keep, RowErrors, Selection};
use logitcask_data::TextDataset;
use logitcask_data::tokenizer::TextTokenizer;
use logitcask_model::{DeviceChoice, ModelFiles};
use logitcask_teach::pilot::Kept;
use logitcask_teach::{LocalTeacher, pilot, pilot_samples};
use std::path::{Path, PathBuf};

/// Error of log Z, in nats, up to which fewer atoms are enough.
const TOLERATED: f64 = 2e-3;
/// Samples from which the number of atoms is settled.
const PILOT_SAMPLES: u64 = 8;
/// Numbers of atoms to choose from.
const ATOMS: std::ops::RangeInclusive<u32> = 3..=8;

/// An opened recipe.
pub struct Experiment {
    /// As it was read.
    pub recipe: Recipe,
    /// Its teacher.
    pub teacher: TeacherConfig,
    /// The cache's folder.
    pub folder: PathBuf,
    /// The teacher's files.
    pub files: ModelFiles,
    /// The teacher's tokenizer.
    pub tokenizer: TextTokenizer,
    /// The texts, cut into windows.
    pub dataset: TextDataset,
}

impl Experiment {
    /// Opens everything but the weights.
    pub fn open(path: &Path) -> Result<Self> {
        let recipe = Recipe::read(path)?;
        let teacher = recipe.teacher.clone().ok_or_else(|| {
            anyhow!(
                "{}: it has no [teacher], so there is nothing to cache; `logitcask train` runs it as it is",
                path.display()
            )
        })?;
        let folder = recipe.cache_folder(path);
        let files = ModelFiles::open(&teacher.model)?;
        let tokenizer = tokenizer_of(&files)?;
        let dataset = TextDataset::load(&recipe.dataset, &tokenizer, recipe.cache.max_length)?;
        let context = files.config().max_position_embeddings;
        if recipe.cache.max_length > context {
            return Err(anyhow!(
                "[cache] max_length = {} is longer than the teacher's context of {context}; its words beyond it mean nothing",
                recipe.cache.max_length
            ));
        }
        let this = Self { recipe, teacher, folder, files, tokenizer, dataset };
        this.keep(*ATOMS.end()).check(this.vocab_size()).map_err(|e| anyhow!("{}: [cache] {e}", path.display()))?;
        Ok(this)
    }

    /// Classes of the teacher.
    pub fn vocab_size(&self) -> u32 {
        self.files.config().vocab_size as u32
    }

    /// What the recipe keeps of a row.
    pub fn keep(&self, atoms: u32) -> Keep {
        self.recipe.cache.keep(atoms)
    }

    /// Loads the teacher on the device that was chosen and says so; gives the device's name too.
    pub fn load_on(&self, choice: &DeviceChoice) -> Result<(LocalTeacher, String)> {
        let (device, device_name) = choice.open()?;
        let parameters = self.files.config().parameters() as f64 / 1e6;
        eprintln!("teacher {} ({parameters:.2} M parameters) on {device_name}", self.files.name());
        Ok((LocalTeacher::new(self.files.load(&device, self.teacher.precision)?), device_name))
    }

    /// Everything that decides the cache's bytes.
    pub fn plan(&self, keep: Keep) -> Result<Plan> {
        Ok(Plan {
            format_version: FORMAT_VERSION,
            code_version: env!("CARGO_PKG_VERSION").to_owned(),
            layout: self.recipe.cache.layout,
            vocab_size: self.vocab_size(),
            max_length: self.recipe.cache.max_length as u32,
            precision: self.teacher.precision.to_string(),
            batch_tokens: self.teacher.batch_tokens as u64,
            keep,
            teacher: Pin { name: self.files.name(), fingerprint: self.files.fingerprint()? },
            tokenizer: Pin { name: "tokenizer.json".to_owned(), fingerprint: self.tokenizer.fingerprint() },
            bos: self.tokenizer.bos(),
            end: self.tokenizer.end(),
            dataset: Pin { name: self.dataset.name().to_owned(), fingerprint: self.dataset.fingerprint() },
            units: Plan::units_of(&self.dataset.splits(), self.recipe.cache.samples_per_unit),
        })
    }

    /// The plan of the cache that is already in the folder, if it is this recipe's but for the number of atoms, which
    /// was settled when it was begun.
    pub fn begun(&self) -> Result<Option<Plan>> {
        let Ok(there) = Plan::read(&self.folder) else { return Ok(None) };
        let wanted = self.plan(self.keep(there.keep.atoms() as u32))?;
        Ok((wanted == there).then_some(there))
    }

    /// The fewest atoms whose log Z is right to [`TOLERATED`] over the whole temperature range, on a pilot sample.
    pub fn settle_atoms(&self, teacher: &LocalTeacher) -> Result<u32> {
        if self.recipe.cache.selection == Selection::Dense {
            return Ok(0);
        }
        let split = self.dataset.splits().first().map(|(name, _)| name.clone()).unwrap_or_default();
        let samples = pilot_samples(&self.dataset, &split, PILOT_SAMPLES);
        // Rounding of the kept classes is another matter, and no atom mends it.
        let keep = |atoms| Keep { values: Default::default(), ..self.keep(atoms) };
        let keeps: Vec<Keep> = ATOMS.map(keep).collect();
        let outcome =
            pilot(teacher, &split, &samples, &keeps, self.teacher.batch_tokens).context("the pilot sample")?;
        let is_enough = |kept: &Kept| worst_log_z(&kept.errors) <= TOLERATED;
        let enough = outcome.kept.iter().position(is_enough).unwrap_or(keeps.len() - 1);
        Ok(ATOMS.start() + enough as u32)
    }
}

/// The largest error of log Z at any temperature that was looked at, in nats.
pub fn worst_log_z(errors: &RowErrors) -> f64 {
    errors.log_z.iter().map(|e| e.worst()).fold(0.0, f64::max)
}
