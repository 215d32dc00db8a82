//! `logitcask import hidden`: stage 1 for a teacher whose layers ran elsewhere.

use super::norm_check::NormChecker;
use super::report::say_recipe;
use super::teacher::{Rows, Teacher, tokenizer_of};
use super::{names_of, open_writer};
use crate::args::{HiddenArgs, NamedSource};
use crate::caches;
use crate::commands::cache::{Run, fill};
use crate::devices;
use crate::models;
use crate::output::{note, say};
use crate::recipe::CacheConfig;
use crate::tail_atoms;
use crate::teacher_source::VERSIONS;
use anyhow::{Context, Result, bail};
use logitcask_cache::Error::OtherPlan;
use logitcask_cache::{ArtifactRef, Plan};
use logitcask_core::{PositionChoice, Selection, Truncation};
use logitcask_data::Dataset;
use logitcask_files::natural_order;
use logitcask_model::{Precision, PretrainedModel};
use logitcask_teach::hidden_states::{HiddenStates, Reading, SplitFiles, files_of};
use logitcask_teach::{Pipeline, StatesTeacher};
use std::time::Instant;

/// Tokens of a batch, which share a read of the head.
const BATCH_TOKENS: usize = 2048;

/// The opened files, and the model that made them.
struct Import<'a> {
    args: &'a HiddenArgs,
    files: PretrainedModel,
    teacher: Teacher,
    states: HiddenStates,
}

/// Makes a cache from hidden states.
pub(super) fn run(args: &HiddenArgs) -> Result<()> {
    let (start, out) = (Instant::now(), &args.target.out);
    let import = Import::open(args)?;
    let begun = import.begun()?;
    if let Some(plan) = &begun {
        import.teacher.remove_damaged_parts(out, plan.clone())?;
    }
    if let (Some(_), Ok(cache)) = (&begun, caches::open_whole(out)) {
        say!("{} is up to date (cache id {}): everything was there already", out.display(), cache.cache_id().short());
        return Ok(());
    }
    let (device, device_name) = devices::open(args.device)?;
    let layers = import.files.load_final_layers(&device, Precision::F32)?;
    NormChecker { args, files: &import.files, states: &import.states, layers: &layers, device: &device }.check()?;
    let teacher = StatesTeacher::new(&import.states, &layers, args.norm, device);
    let plan = match begun {
        Some(plan) => plan,
        None => import.plan(import.keep(import.choose_tail_atoms(&teacher)?)),
    };
    let writer = open_writer(&args.target, plan, import.teacher.tokenizer.json())?;
    writer.lay_companions(import.teacher.companions.iter())?;
    let pipeline = Pipeline { dataset: &import.states, teacher: &teacher, writer: &writer, batch_tokens: BATCH_TOKENS };
    fill(&pipeline, out, &Run { start, device: device_name, recipe: None, tokenizer: &import.teacher.tokenizer })?;
    say_recipe(out, writer.plan());
    Ok(())
}

impl<'a> Import<'a> {
    fn open(args: &'a HiddenArgs) -> Result<Self> {
        let files = models::open(&args.target.teacher)
            .context("the head of the teacher is applied here, so its files must be on this machine")?;
        let splits = splits(&args.target.sources)?;
        let tokenizer = tokenizer_of(&args.target, &files)?;
        let reading = Reading {
            states: args.states.clone(),
            tokens: args.tokens.clone(),
            side: args.norm,
            width: files.config().states_width(args.norm),
            vocab_size: tokenizer.0.vocab_size(),
        };
        let states = HiddenStates::open(&splits, &reading)?;
        if states.left_out() > 0 {
            note!("{} sequences of one token have no position to predict and are left out", states.left_out());
        }
        let files = files.for_texts_of(states.max_length());
        let teacher = Teacher::of_files(&args.target, &files, tokenizer)?;
        let this = Self { args, files, teacher, states };
        this.check()?;
        Ok(this)
    }

    /// Refuses what cannot be kept.
    fn check(&self) -> Result<()> {
        let (tokens, classes) = (self.teacher.tokenizer.vocab_size(), self.files.config().vocab_size());
        if tokens as usize > classes {
            bail!(
                "--tokenizer: it has {tokens} tokens, but the head of {} only {classes} classes: they do not belong \
                 together",
                self.files.name()
            );
        }
        Ok(self.keep(*tail_atoms::RANGE.end()).check(tokens).map_err(|error| error.within("--selection"))?)
    }

    fn selection(&self) -> Selection {
        self.args.selection.unwrap_or(Selection::TopK { k: self.args.classes })
    }

    fn keep(&self, atoms: u32) -> Truncation {
        let cache = CacheConfig { selection: self.selection(), ..CacheConfig::default() };
        Truncation { padding: self.teacher.padding, ..cache.keep(atoms) }
    }

    fn choose_tail_atoms(&self, teacher: &StatesTeacher<'_>) -> Result<u32> {
        match self.selection() {
            Selection::Dense {} => Ok(0),
            _ => tail_atoms::choose(teacher, &self.states, &PositionChoice::All {}, BATCH_TOKENS, &|atoms| {
                self.keep(atoms)
            }),
        }
    }

    fn plan(&self, keep: Truncation) -> Plan {
        self.teacher.plan(Rows {
            versions: VERSIONS,
            precision: Precision::F32.to_string(),
            batch_tokens: BATCH_TOKENS as u64,
            positions: PositionChoice::All {},
            keep,
            dataset: ArtifactRef { name: names_of(&self.args.target), fingerprint: self.states.fingerprint() },
            splits: self.states.splits(),
            max_length: self.states.max_length() as u32,
        })
    }

    /// The plan of the cache that is already in the folder, if it is of the same files and arguments. The number of
    /// tail atoms, which was chosen when the cache was begun, may be any.
    fn begun(&self) -> Result<Option<Plan>> {
        let out = &self.args.target.out;
        let Ok(existing) = Plan::read(out) else { return Ok(None) };
        let wanted = self.plan(self.keep(existing.keep.atoms() as u32));
        if wanted.id() == existing.id() {
            return Ok(Some(existing));
        }
        if !self.args.target.replace {
            let error = OtherPlan { path: out.clone(), differences: existing.differences(&wanted) };
            bail!("{error}; --replace moves it aside");
        }
        Ok(None)
    }
}

/// The files of each split, which may have several sources.
fn splits(sources: &[NamedSource]) -> Result<Vec<SplitFiles>> {
    let mut splits: Vec<SplitFiles> = Vec::new();
    for NamedSource { split, path } in sources {
        let files = files_of(path)?;
        match splits.iter_mut().find(|there| there.name == *split) {
            Some(there) => there.files.extend(files),
            None => splits.push(SplitFiles { name: split.clone(), files }),
        }
    }
    splits.iter_mut().for_each(|split| split.files.sort_by(|a, b| natural_order(a, b)));
    for split in &splits {
        if let Some(twice) = split.files.windows(2).find(|pair| pair[0] == pair[1]) {
            bail!("{}: the split `{}` has this file twice", twice[0].display(), split.name);
        }
    }
    Ok(splits)
}
