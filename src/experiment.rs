//! A recipe with its teacher, tokenizer and dataset opened: what every command of stage 1 begins with.

use crate::devices;
use crate::output::note;
use crate::recipe::{CacheConfig, Recipe, TeacherConfig};
use crate::tokenizers;
use anyhow::{Context, Result, anyhow, bail};
use logitcask_cache::companions::pins;
use logitcask_cache::{AddedToken, ArtifactRef, CODEC_VERSION, FORMAT_VERSION, Plan, Versions};
use logitcask_core::{RowErrors, Selection, Truncation};
use logitcask_data::tokenizer::TextTokenizer;
use logitcask_data::{Dataset, TOKENISATION_VERSION, TextDataset};
use logitcask_model::{Companions, DeviceChoice, PretrainedModel};
use logitcask_teach::calibration::Trial;
use logitcask_teach::select::SELECTION_VERSION;
use logitcask_teach::{LocalTeacher, calibrate, calibration_samples};
use std::path::{Path, PathBuf};

/// Of what this program makes of texts and logits.
pub const VERSIONS: Versions =
    Versions { tokenisation: TOKENISATION_VERSION, selection: SELECTION_VERSION, codec: CODEC_VERSION };
/// Error of log Z, in nats, up to which fewer atoms are enough.
const TOLERATED: f64 = 2e-3;
/// Samples from which the number of atoms is settled.
const CALIBRATION_SAMPLES: u64 = 8;
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
    pub files: PretrainedModel,
    /// The teacher's tokenizer.
    pub tokenizer: TextTokenizer,
    /// The texts, cut into windows.
    pub dataset: TextDataset,
    /// What goes from the teacher's folder to its students.
    pub companions: Companions,
}

impl Experiment {
    /// Opens everything but the weights, and says what is odd about it.
    pub fn open(path: &Path) -> Result<Self> {
        Self::of(Recipe::read(path)?, path)
    }

    /// Opens everything that a recipe names but the weights; `path` is the recipe's.
    pub fn of(recipe: Recipe, path: &Path) -> Result<Self> {
        let teacher = recipe.teacher.clone().ok_or_else(|| {
            anyhow!(
                "{}: it has no [teacher], so there is nothing to cache; `logitcask train` runs it as it is",
                path.display()
            )
        })?;
        let folder = recipe.cache_folder(path);
        let files = PretrainedModel::open(&teacher.model)?;
        let tokenizer = tokenizers::of_model(&files)?;
        let dataset = TextDataset::load(&recipe.dataset, &tokenizer, recipe.cache.max_length)?;
        let context = files.config().max_position_embeddings();
        if recipe.cache.max_length > context {
            return Err(anyhow!(
                "[cache] max_length = {} is longer than the teacher's context of {context}; its words beyond it mean nothing",
                recipe.cache.max_length
            ));
        }
        let companions = files.companions()?;
        if let Some(id) = companions.end_tokens().iter().find(|&&id| id as usize >= files.config().vocab_size()) {
            bail!(
                "{}: generation_config.json or config.json ends texts with token {id}, and the model has {} classes",
                teacher.model.display(),
                files.config().vocab_size()
            );
        }
        let this = Self { recipe, teacher, folder, files, tokenizer, dataset, companions };
        this.dataset.notes().iter().for_each(|text| note!("{text}"));
        this.keep(*ATOMS.end()).check(this.vocab_size()).map_err(|e| anyhow!("{}: [cache] {e}", path.display()))?;
        Ok(this)
    }

    /// Refuses a recipe whose student needs a split that no text fell into. `train` refuses it too, but only after the
    /// teacher has run. A recipe without a student needs no particular split.
    pub fn check_splits(&self) -> Result<()> {
        let (Some(train), Some(_)) = (&self.recipe.train, &self.recipe.student) else { return Ok(()) };
        let there: Vec<String> = self.dataset.splits().into_iter().map(|(name, _)| name).collect();
        let validation = (train.validate_every > 0).then_some(("validation", "[train] validate_every"));
        let wanted = [Some(("train", "training")), Some((&*self.recipe.eval.split, "[eval] split")), validation];
        match wanted.into_iter().flatten().find(|(split, _)| !there.iter().any(|name| name == split)) {
            Some((split, needed_by)) => bail!(
                "{}: no text fell into the split `{split}`, which {needed_by} needs; the splits are {}. {}",
                self.recipe.dataset.path.display(),
                there.join(", "),
                missing_split_help(split, &there)
            ),
            None => Ok(()),
        }
    }

    /// Classes that may be kept: those that a token has.
    pub fn vocab_size(&self) -> u32 {
        self.tokenizer.vocab_size()
    }

    /// Rows of the teacher's head that no token has.
    fn padding(&self) -> u32 {
        (self.files.config().vocab_size() as u32).saturating_sub(self.vocab_size())
    }

    /// What the recipe keeps of a row.
    pub fn keep(&self, atoms: u32) -> Truncation {
        self.keep_of(self.recipe.cache.selection, atoms)
    }

    /// What it would keep with this selection.
    pub fn keep_of(&self, selection: Selection, atoms: u32) -> Truncation {
        let cache = CacheConfig { selection, ..self.recipe.cache.clone() };
        Truncation { padding: self.padding(), ..cache.keep(atoms) }
    }

    /// Loads the teacher on the device that was chosen and says so; gives the device's name too.
    pub fn load_on(&self, choice: &DeviceChoice) -> Result<(LocalTeacher, String)> {
        let (device, device_name) = devices::open(*choice)?;
        let parameters = self.files.config().parameters() as f64 / 1e6;
        note!("teacher {} ({parameters:.2} M parameters) on {device_name}", self.files.name());
        if self.padding() > 0 {
            note!(
                "{} of the teacher's {} classes belong to no token: they are part of log Z and of the tail, and never kept",
                self.padding(),
                self.files.config().vocab_size()
            );
        }
        Ok((LocalTeacher::new(self.files.load(&device, self.teacher.precision)?), device_name))
    }

    /// Everything that decides the cache's bytes.
    pub fn plan(&self, keep: Truncation) -> Result<Plan> {
        Ok(Plan {
            format_version: FORMAT_VERSION,
            code_version: env!("CARGO_PKG_VERSION").to_owned(),
            versions: VERSIONS,
            layout: self.recipe.cache.layout,
            vocab_size: self.vocab_size(),
            max_length: self.recipe.cache.max_length as u32,
            precision: self.teacher.precision.to_string(),
            batch_tokens: self.teacher.batch_tokens as u64,
            keep,
            teacher: ArtifactRef { name: self.files.name(), fingerprint: self.files.fingerprint()? },
            tokenizer: ArtifactRef { name: "tokenizer.json".to_owned(), fingerprint: self.tokenizer.fingerprint() },
            added_tokens: self.tokenizer.added_tokens().iter().cloned().map(added_token).collect(),
            special_tokens: self.recipe.dataset.special_tokens.name().to_owned(),
            bos: self.tokenizer.bos(),
            end: self.tokenizer.eos(),
            dataset: ArtifactRef { name: self.dataset.name().to_owned(), fingerprint: self.dataset.fingerprint() },
            companions: pins(self.companions.iter()),
            units: Plan::units_of(&self.dataset.splits(), self.recipe.cache.samples_per_unit),
        })
    }

    /// The plan of the cache that is already in the folder, if it is this recipe's but for the number of atoms, which
    /// was settled when it was begun.
    pub fn begun(&self) -> Result<Option<Plan>> {
        let Ok(there) = Plan::read(&self.folder) else { return Ok(None) };
        let wanted = self.plan(self.keep(there.keep.atoms() as u32))?;
        Ok((wanted.id() == there.id()).then_some(there))
    }

    /// The fewest atoms whose log Z is right to [`TOLERATED`] over the whole temperature range, on a few samples; none
    /// where no class is left out.
    pub fn choose_tail_atoms(&self, teacher: &LocalTeacher) -> Result<u32> {
        match self.recipe.cache.selection {
            Selection::Dense {} => Ok(0),
            selection => self.choose_tail_atoms_of(selection, teacher),
        }
    }

    /// [`Self::choose_tail_atoms`], were this the recipe's selection.
    pub fn choose_tail_atoms_of(&self, selection: Selection, teacher: &LocalTeacher) -> Result<u32> {
        let split = self.dataset.splits().first().map(|(name, _)| name.clone()).unwrap_or_default();
        let samples = calibration_samples(&self.dataset, &split, CALIBRATION_SAMPLES)?;
        // Rounding of the kept classes is another matter, and no atom mends it.
        let keep = |atoms| Truncation { values: Default::default(), ..self.keep_of(selection, atoms) };
        let keeps: Vec<Truncation> = ATOMS.map(keep).collect();
        let outcome = calibrate(teacher, &split, &samples, &keeps, self.teacher.batch_tokens)
            .context("the calibration samples")?;
        let is_enough = |kept: &Trial| worst_log_z(&kept.errors) <= TOLERATED;
        let enough = outcome.trials.iter().position(is_enough).unwrap_or(keeps.len() - 1);
        let worst = worst_log_z(&outcome.trials[enough].errors);
        tracing::info!(atoms = keeps[enough].atoms(), worst, tolerated = TOLERATED, "number of tail atoms chosen");
        Ok(ATOMS.start() + enough as u32)
    }
}

fn added_token((id, content): (u32, String)) -> AddedToken {
    AddedToken { id, content }
}

/// How to have a split that is not there.
pub fn missing_split_help(split: &str, there: &[String]) -> String {
    match split {
        "train" => {
            return "Lower [dataset] held_out, name the texts to train on in a column with split_column, or cut the texts \
                    into more documents (for a .txt file, by blank lines): each is in one split as a whole"
                .to_owned();
        }
        "validation" => {
            return "Set [dataset] held_out_validation to a share of the texts, name each text's split in a column with \
                    split_column, or leave out [train] validate_every"
                .to_owned();
        }
        _ => {}
    }
    let other = there.iter().find(|name| *name != "train");
    let other = other.map_or(String::new(), |name| format!("set [eval] split = \"{name}\", or "));
    format!(
        "To evaluate a student, {other}raise [dataset] held_out (a share of the texts), or name each text's split in a column \
         with [dataset] split_column"
    )
}

/// The largest error of log Z at any temperature that was looked at, in nats.
pub fn worst_log_z(errors: &RowErrors) -> f64 {
    errors.log_z.iter().map(|e| e.worst()).fold(0.0, f64::max)
}
