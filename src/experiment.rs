//! A recipe with its teacher, tokenizer and dataset opened, as every command of stage 1 needs them.

use crate::answers;
use crate::datasets;
use crate::devices;
use crate::output::note;
use crate::recipe::{CacheConfig, Recipe, TeacherConfig};
use crate::recipe_file;
use crate::recipe_teacher::RecipeTeacher;
use crate::server_teacher;
use crate::tail_atoms;
use crate::teacher_source::TeacherSource;
use crate::tokenizers;
use anyhow::{Context, Result, anyhow, bail};
use logitcask_cache::companions::pins;
use logitcask_cache::{AddedToken, ArtifactRef, CacheWriter, FORMAT_VERSION, Plan};
use logitcask_core::{ExtraColumn, PositionChoice, SampleId, Selection, TailSource, Truncation};
use logitcask_data::Dataset;
use logitcask_data::tokenizer::TextTokenizer;
use logitcask_model::{Companions, DeviceChoice};
use logitcask_teach::{LocalTeacher, Pipeline, Teacher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An opened recipe.
pub struct Experiment {
    /// The recipe.
    pub recipe: Recipe,
    /// Its teacher.
    pub teacher: TeacherConfig,
    /// The cache's folder.
    pub folder: PathBuf,
    /// The teacher's files, or its server.
    pub source: TeacherSource,
    /// The teacher's tokenizer.
    pub tokenizer: TextTokenizer,
    /// What the teacher's answers were made from, if the dataset consists of these.
    pub answers: Option<answers::Record>,
    /// The texts, cut into windows.
    pub dataset: Arc<dyn Dataset>,
    /// Other files of the teacher that students inherit.
    pub companions: Companions,
    /// Number of rows of the teacher's head that belong to no token.
    padding: u32,
}

/// The companions of students whose data the model of `companions` wrote: with the recipe's own chat template, if it
/// names one, since they learn conversations in that form.
pub fn companions_of_students(companions: Companions, recipe: &Recipe) -> Result<Companions> {
    let template = recipe.dataset.as_ref().and_then(|dataset| dataset.chat.template.as_ref());
    let Some(path) = template else { return Ok(companions) };
    Ok(companions.with_chat_template(std::fs::read(path).with_context(|| path.display().to_string())?))
}

impl Experiment {
    /// Opens everything but the weights, and notes anything unusual.
    pub fn open(path: &Path) -> Result<Self> {
        let recipe = recipe_file::read(path)?;
        let teacher = RecipeTeacher::open(&recipe, path)?;
        Self::of(recipe, path, teacher)
    }

    /// Opens everything that the recipe at `path` names but the weights, given its teacher.
    pub fn of(recipe: Recipe, path: &Path, teacher: RecipeTeacher) -> Result<Self> {
        let (folder, padding) = (recipe.cache_folder(path), teacher.padding());
        let texts = recipe.texts().with_context(|| path.display().to_string())?;
        let RecipeTeacher { config: teacher, source, tokenizer } = teacher;
        let answers = source.files().map(|files| answers::of_experiment(&recipe, path, (files, &tokenizer)));
        let answers = answers.transpose()?.flatten();
        let (dataset, notes) = datasets::open(texts, &tokenizer, recipe.cache.max_length, &folder)?;
        let companions = companions_of_students(source.companions()?, &recipe)?;
        source.files().map(|files| tokenizers::ends(files, &tokenizer)).transpose()?;
        let this = Self { recipe, teacher, folder, source, tokenizer, answers, dataset, companions, padding };
        notes.iter().for_each(|text| note!("{text}"));
        if this.answers.is_some() {
            this.note_share()?;
        }
        this.check().with_context(|| path.display().to_string())?;
        Ok(this)
    }

    /// Notes how many tokens of the teacher's answers and their prompts are learned, as of other conversations.
    fn note_share(&self) -> Result<()> {
        let of = |choice| all_positions(&*self.dataset, &choice);
        let (learned, all) = (of(PositionChoice::Marked {})?, of(PositionChoice::All {})?);
        let share = 100.0 * learned as f64 / all.max(1) as f64;
        note!("{}: {learned} of {all} tokens ({share:.1} %) are answers", self.recipe.texts()?.path.display());
        Ok(())
    }

    /// Rejects a cache that the teacher or the dataset cannot serve.
    fn check(&self) -> Result<()> {
        check_length(self.recipe.cache.max_length, &self.source)?;
        self.check_positions()?;
        for extra in self.extras() {
            extra.check().map_err(|error| error.within(&format!("[cache.extras.{}]", extra.name)))?;
        }
        Ok(self.keep(*tail_atoms::RANGE.end()).check(self.vocab_size()).map_err(|error| error.within("[cache]"))?)
    }

    /// Which positions are cached.
    pub fn positions(&self) -> PositionChoice {
        let default = if self.dataset.marks_positions() { PositionChoice::Marked {} } else { PositionChoice::All {} };
        self.recipe.cache.positions.unwrap_or(default)
    }

    /// Rejects a choice of positions that the dataset cannot serve.
    fn check_positions(&self) -> Result<()> {
        let choice = self.positions();
        choice.check().map_err(|error| error.within("positions").within("[cache]"))?;
        if choice == (PositionChoice::Marked {}) && !self.dataset.marks_positions() {
            bail!(
                "[cache] positions = {{ kind = \"marked\" }}: {} marks no positions. Plain text has none to mark; use \
                 \"all\" or \"share\"",
                self.recipe.texts()?.path.display()
            );
        }
        Ok(())
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
                self.recipe.texts()?.path.display(),
                there.join(", "),
                missing_split_help(split, &there)
            ),
            None => Ok(()),
        }
    }

    /// Number of classes that are tokens; only these can be kept.
    pub fn vocab_size(&self) -> u32 {
        self.tokenizer.vocab_size()
    }

    /// What the recipe keeps of a row, with this number of tail atoms.
    pub fn keep(&self, atoms: u32) -> Truncation {
        self.keep_of(self.recipe.cache.selection, atoms)
    }

    /// [`Self::keep`], with another selection.
    pub fn keep_of(&self, selection: Selection, atoms: u32) -> Truncation {
        let cache = CacheConfig { selection, ..self.recipe.cache.clone() };
        server_teacher::keep(&self.teacher, Truncation { padding: self.padding, ..cache.keep(atoms) })
    }

    /// The columns that are cached beside the logits.
    fn extras(&self) -> Vec<ExtraColumn> {
        self.recipe.cache.extras(self.source.hidden_size())
    }

    /// Stage 1 of this experiment.
    pub fn pipeline<'a>(&'a self, teacher: &'a dyn Teacher, writer: &'a CacheWriter) -> Pipeline<'a> {
        Pipeline { dataset: &*self.dataset, teacher, writer, batch_tokens: self.teacher.batch_tokens }
    }

    /// The teacher: loaded on the chosen device, or asked on its server. Also returns the device's name.
    pub fn teacher_on(&self, choice: &DeviceChoice) -> Result<(Box<dyn Teacher>, String)> {
        let TeacherSource::Server(server) = &self.source else {
            let (teacher, device) = self.load_on(choice)?;
            return Ok((Box::new(teacher), device));
        };
        let (split, _) =
            self.dataset.splits().into_iter().next().ok_or_else(|| anyhow!("the dataset has no sample"))?;
        let sample = self.dataset.sample(&split, SampleId(0))?;
        let teacher = server.teacher(self.keep(0), self.vocab_size(), &split, sample)?;
        Ok((Box::new(teacher), "server".to_owned()))
    }

    /// Loads a teacher that runs here on the chosen device; also returns the device's name.
    pub fn load_on(&self, choice: &DeviceChoice) -> Result<(LocalTeacher, String)> {
        let TeacherSource::Files(files) = &self.source else {
            bail!("[teacher] server: this needs the teacher's logits, which a server does not give");
        };
        let (device, device_name) = devices::open(*choice)?;
        let parameters = files.config().parameters() as f64 / 1e6;
        note!("teacher {} ({parameters:.2} M parameters) on {device_name}", files.name());
        if self.padding > 0 {
            note!(
                "{} of the teacher's {} classes belong to no token: they are part of log Z and of the tail, and never \
                 kept",
                self.padding,
                files.config().vocab_size()
            );
        }
        let teacher = LocalTeacher::new(files.load(&device, self.teacher.precision)?);
        Ok((teacher.with_extras(self.extras()), device_name))
    }

    /// Everything that determines the cache's bytes.
    pub fn plan(&self, keep: Truncation) -> Result<Plan> {
        Ok(Plan {
            format_version: FORMAT_VERSION,
            code_version: env!("CARGO_PKG_VERSION").to_owned(),
            versions: self.source.versions(),
            layout: self.recipe.cache.layout,
            vocab_size: self.vocab_size(),
            max_length: self.recipe.cache.max_length as u32,
            precision: self.source.precision(&self.teacher),
            batch_tokens: self.teacher.batch_tokens as u64,
            positions: self.positions(),
            keep,
            extras: self.extras(),
            teacher: self.source.pin()?,
            tokenizer: ArtifactRef { name: "tokenizer.json".to_owned(), fingerprint: self.tokenizer.fingerprint() },
            added_tokens: self.tokenizer.added_tokens().iter().cloned().map(added_token).collect(),
            special_tokens: self.recipe.texts()?.special_tokens.name().to_owned(),
            conversations: self.answers.as_ref().map_or_else(|| self.dataset.rendering(), answers::Record::settings),
            bos: self.tokenizer.bos(),
            end: self.tokenizer.eos(),
            dataset: ArtifactRef { name: self.dataset.name().to_owned(), fingerprint: self.dataset.fingerprint() },
            companions: pins(self.companions.iter()),
            splits: Plan::splits_of(&self.dataset.splits()),
            samples_per_unit: self.recipe.cache.samples_per_unit,
        })
    }

    /// The plan of this recipe with the number of tail atoms of an existing plan, which was chosen when its cache was begun.
    pub fn plan_with_atoms_of(&self, existing: &Plan) -> Result<Plan> {
        self.plan(self.keep(existing.keep.atoms() as u32))
    }

    /// The same with the versions of an existing plan too: they matter only to who continues its cache.
    pub fn plan_with_atoms_and_versions_of(&self, existing: &Plan) -> Result<Plan> {
        Ok(Plan { versions: existing.versions, ..self.plan_with_atoms_of(existing)? })
    }

    /// The plan of the cache that is already in the folder, if it is this recipe's.
    pub fn begun(&self) -> Result<Option<Plan>> {
        let Ok(existing) = Plan::read(&self.folder) else { return Ok(None) };
        Ok((self.plan_with_atoms_of(&existing)?.id() == existing.id()).then_some(existing))
    }

    /// The number of tail atoms that a few samples need; 0 if the selection is dense, or the teacher does not tell the
    /// shape of the tail.
    pub fn choose_tail_atoms(&self, teacher: &dyn Teacher) -> Result<u32> {
        match self.recipe.cache.selection {
            Selection::Dense {} => Ok(0),
            _ if self.keep(0).source.tail != TailSource::Atoms => Ok(0),
            selection => self.choose_tail_atoms_of(selection, teacher),
        }
    }

    /// [`Self::choose_tail_atoms`], with another selection.
    pub fn choose_tail_atoms_of(&self, selection: Selection, teacher: &dyn Teacher) -> Result<u32> {
        let keep = |atoms| self.keep_of(selection, atoms);
        tail_atoms::choose(teacher, &*self.dataset, &self.positions(), self.teacher.batch_tokens, &keep)
    }
}

/// Refuses windows that are longer than what the teacher takes.
fn check_length(max_length: usize, source: &TeacherSource) -> Result<()> {
    let Some(longest) = source.longest_window().filter(|longest| max_length > *longest) else { return Ok(()) };
    match source {
        TeacherSource::Files(_) => bail!(
            "[cache] max_length = {max_length} is longer than the teacher's context of {longest}; it has not learned \
             longer ones"
        ),
        TeacherSource::Server(_) => bail!(
            "[cache] max_length = {max_length}: the server takes windows of up to {longest} tokens; lower it, or let \
             the server take longer prompts (vLLM: --max-model-len, SGLang: --context-length)"
        ),
    }
}

fn added_token((id, content): (u32, String)) -> AddedToken {
    AddedToken { id, content }
}

/// How to obtain a split that the dataset does not have.
pub fn missing_split_help(split: &str, there: &[String]) -> String {
    match split {
        "train" => {
            return "Lower [dataset] held_out, name each text's split in a column with split_column, or divide the \
                    texts into more documents (in a .txt file, with blank lines): a document is never divided between \
                    splits"
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
        "To evaluate a student, {other}raise [dataset] held_out (a share of the texts), or name each text's split in \
         a column with [dataset] split_column"
    )
}

/// Number of positions of all splits that are chosen.
pub fn all_positions(dataset: &dyn Dataset, choice: &PositionChoice) -> Result<u64> {
    let of = |(split, len): (String, u64)| Ok(dataset.positions(&split, 0..len, choice)?);
    dataset.splits().into_iter().map(of).sum()
}
