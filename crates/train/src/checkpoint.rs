//! All a run needs to go on: weights, optimizer moments, what rules remember, and how far it came. Everything else (order of the data,
//! learning rate, every random draw) is a function of seed and step.
//!
//! A checkpoint is a folder that gets its name last. In it, written last, `contents.json` lists the other files with their
//! lengths and hashes. A folder whose files are not as listed is passed over for the one before it, and the run does those
//! steps again.

use crate::contents::{Contents, Entry, read_json, remove, sync_folder};
use crate::{Error, Result};
use burn::module::Module;
use burn::optim::ModuleOptimizer;
use logitcask_core::Fingerprint;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tracing::info;

/// Checkpoints that stay: the newest, and one to fall back on.
const KEPT: usize = 2;
const MODEL: &str = "model.bpk";
const OPTIMIZER: &str = "optimizer.bpk";
/// What rules remember, see [`to_bytes`].
const MEMORY: &str = "memory.bin";
/// How far the run came, and which run it is.
const STATE: &str = "state.json";
/// The weights of the lowest validation perplexity so far, where a run asks for them.
const BEST: &str = "best.bpk";

/// How far a run came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Optimizer steps done; with the batch size it is the place in the data.
    pub step: u64,
    /// Lowest validation perplexity so far.
    pub best: Option<f64>,
    /// Hash of the file of the weights that had it, where they are kept.
    pub best_weights: Option<Fingerprint>,
    /// Evaluations since then.
    pub stale: u32,
    /// Wall seconds of all the calls it took.
    pub seconds: f64,
    /// Of these, how long steps waited for their batches.
    pub waited: f64,
    /// Did the run end, by its last step or for lack of improvement?
    pub finished: bool,
}

/// A run as it was left.
pub struct Loaded<M> {
    /// The student.
    pub model: M,
    /// Its optimizer.
    pub optimizer: ModuleOptimizer,
    /// What rules remember, a list each; `None` before the first checkpoint.
    pub memory: Option<Vec<Vec<f64>>>,
}

/// A checkpoint that is not whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its folder.
    pub path: PathBuf,
    /// Which file is wrong, and how.
    pub problem: String,
}

/// The checkpoints of a run.
pub struct Checkpoints {
    folder: PathBuf,
    run: Fingerprint,
    /// The newest that is whole.
    last: Option<(PathBuf, State)>,
    skipped: Vec<Skipped>,
}

/// state.json.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    run: Fingerprint,
    state: State,
}

impl Checkpoints {
    /// Looks for the newest whole checkpoint of the run with the id `run` in its folder `of_run`: reads and hashes all of it.
    ///
    /// # Errors
    /// [`Error::OtherRun`] where it is of another run; [`Error::Checkpoint`] where there are some and none is whole.
    pub fn open(of_run: &Path, run: Fingerprint) -> Result<Self> {
        let mut this = Self { folder: folder(of_run), run, last: None, skipped: Vec::new() };
        for (_, path) in all(&this.folder)?.into_iter().rev() {
            match read_whole(&path) {
                Ok(stored) if stored.run != run => {
                    return Err(Error::OtherRun { path, there: stored.run, wanted: run });
                }
                Ok(stored) => {
                    info!(path = %path.display(), step = stored.state.step, "checkpoint found");
                    this.last = Some((path, stored.state));
                    return Ok(this);
                }
                Err(problem) => {
                    info!(path = %path.display(), problem, "checkpoint passed over");
                    this.skipped.push(Skipped { path, problem });
                }
            }
        }
        match this.skipped.first().cloned() {
            None => Ok(this),
            Some(Skipped { path, problem }) => {
                let problem = format!("{problem}, and no other checkpoint of this run is whole");
                Err(Error::Checkpoint { path, problem })
            }
        }
    }

    /// Which runs the checkpoints in a run's folder are of, by the word of their state alone; `None` where it cannot be read.
    pub fn runs(of_run: &Path) -> Result<Vec<(PathBuf, Option<Fingerprint>)>> {
        let run = |path: &Path| read_json::<Stored>(path, STATE).ok().map(|stored| stored.run);
        Ok(all(&folder(of_run))?.into_iter().map(|(_, path)| (path.clone(), run(&path))).collect())
    }

    /// Newer ones that are not whole: the steps they were of are done again.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// How far the run came.
    pub fn state(&self) -> State {
        self.last.as_ref().map_or_else(State::default, |(_, state)| *state)
    }

    /// Folder of the checkpoint that the run goes on from.
    pub fn last(&self) -> Option<&Path> {
        self.last.as_ref().map(|(path, _)| path.as_path())
    }

    /// Loads it into a model and an optimizer of the same shape, and gives what rules remember; nothing changes where there
    /// is none.
    pub fn load<M: Module>(&self, model: M, optimizer: ModuleOptimizer) -> Result<Loaded<M>> {
        let Some(path) = self.last() else { return Ok(Loaded { model, optimizer, memory: None }) };
        let refuse = |name: &str, problem: &dyn std::fmt::Display| refuse(path, format!("{name}: {problem}"));
        let model = model.try_load_file(path.join(MODEL)).map_err(|e| refuse(MODEL, &e))?;
        let optimizer = optimizer.load(path.join(OPTIMIZER)).map_err(|e| refuse(OPTIMIZER, &e))?;
        let bytes = fs::read(path.join(MEMORY)).map_err(Error::io(path, "read"))?;
        let memory = from_bytes(&bytes).ok_or_else(|| refuse(MEMORY, &"no list of lists of numbers"))?;
        Ok(Loaded { model, optimizer, memory: Some(memory) })
    }

    /// Loads the weights of the lowest validation perplexity into a model of the same shape.
    pub fn load_best<M: Module>(&self, model: M) -> Result<M> {
        match &self.last {
            Some((path, State { best_weights: Some(_), .. })) => {
                model.try_load_file(path.join(BEST)).map_err(|e| refuse(path, format!("{BEST}: {e}")))
            }
            _ => Ok(model),
        }
    }

    /// Writes one, keeps the one before it, and removes all others; `memory`: what rules remember. `is_best`: these weights
    /// are to be kept until better ones come.
    pub fn save(
        &mut self,
        model: &impl Module,
        optimizer: &ModuleOptimizer,
        memory: &[Vec<f64>],
        state: &mut State,
        is_best: bool,
    ) -> Result<()> {
        let (work, start) = (self.folder.join(".work"), Instant::now());
        remove(&work)?;
        fs::create_dir_all(&work).map_err(Error::io(&work, "create"))?;
        let unwritten = |e: &dyn std::fmt::Display| Error::Unwritten { path: work.clone(), problem: e.to_string() };
        model.clone().into_record().save(work.join(MODEL)).map_err(|e| unwritten(&e))?;
        optimizer.save(work.join(OPTIMIZER)).map_err(|e| unwritten(&e))?;
        if is_best {
            state.best_weights = Some(Entry::of(&work, MODEL)?.blake3);
        }
        self.keep_best(&work, state, is_best)?;
        let stored = Stored { run: self.run, state: *state };
        let json = serde_json::to_vec_pretty(&stored).map_err(|e| unwritten(&e))?;
        fs::write(work.join(STATE), json).map_err(Error::io(&work, "write"))?;
        fs::write(work.join(MEMORY), to_bytes(memory)).map_err(Error::io(&work, "write"))?;
        Contents::write(&work, names(state))?;
        self.publish(&work, state)?;
        info!(step = state.step, is_best, seconds = start.elapsed().as_secs_f64(), "checkpoint written");
        Ok(())
    }

    /// Puts the best weights into a checkpoint in the making: its own, or those of the checkpoint before it. A copy of them in
    /// every checkpoint outlives what happens to one of them.
    fn keep_best(&self, work: &Path, state: &State, is_best: bool) -> Result<()> {
        let Some(wanted) = state.best_weights else { return Ok(()) };
        let (from, copy) = match self.last() {
            Some(last) if !is_best => (last.join(BEST), work.join(BEST)),
            _ => (work.join(MODEL), work.join(BEST)),
        };
        fs::copy(&from, &copy).map_err(Error::io(&from, "copy"))?;
        let found = Entry::of(work, BEST)?.blake3;
        match found == wanted {
            true => Ok(()),
            false => Err(refuse(&from, format!("its BLAKE3 is {}, {} was written", found.short(), wanted.short()))),
        }
    }

    /// Gives a finished checkpoint its name. Nothing is removed before that name lasts.
    fn publish(&mut self, work: &Path, state: &State) -> Result<()> {
        let place = self.folder.join(format!("step-{:08}", state.step));
        let aside = self.folder.join(".old");
        remove(&aside)?;
        // Only one that is not whole can be there: the run would have gone on from it.
        if place.exists() {
            fs::rename(&place, &aside).map_err(Error::io(&place, "move aside"))?;
        }
        fs::rename(work, &place).map_err(Error::io(&place, "publish"))?;
        sync_folder(&self.folder)?;
        if let Some(of_run) = self.folder.parent() {
            sync_folder(of_run)?;
        }
        remove(&aside)?;
        // Those that were passed over are no checkpoint to fall back on.
        for Skipped { path, .. } in self.skipped.drain(..).filter(|skipped| skipped.path != place) {
            remove(&path)?;
        }
        let all = all(&self.folder)?;
        // Later ones are not whole either, and their steps will be done again.
        let before = all.iter().filter(|(step, _)| *step <= state.step).count();
        let outdated = before.saturating_sub(KEPT);
        for (_, path) in all[..outdated].iter().chain(&all[before..]) {
            remove(path)?;
        }
        self.last = Some((place, *state));
        Ok(())
    }
}

fn folder(of_run: &Path) -> PathBuf {
    of_run.join("checkpoints")
}

/// Checkpoints with their steps, oldest first.
fn all(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io(folder, "list")(e)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::io(folder, "list"))?.path();
        let step = path.file_name().and_then(|name| name.to_str()?.strip_prefix("step-")?.parse().ok());
        found.extend(step.map(|step| (step, path)));
    }
    found.sort();
    Ok(found)
}

/// Files of a checkpoint, but for the list of them.
fn names(state: &State) -> impl Iterator<Item = &'static str> + Clone + use<> {
    [MODEL, OPTIMIZER, MEMORY, STATE].into_iter().chain(state.best_weights.map(|_| BEST))
}

/// What is in a checkpoint, if all of it is; else what is wrong with which file.
fn read_whole(path: &Path) -> std::result::Result<Stored, String> {
    let contents = Contents::read(path)?;
    contents.check(path, STATE)?;
    let stored: Stored = read_json(path, STATE)?;
    names(&stored.state).try_for_each(|name| contents.check(path, name))?;
    Ok(stored)
}

fn refuse(path: &Path, problem: String) -> Error {
    Error::Checkpoint { path: path.to_owned(), problem }
}

/// Each list its length and its numbers, 8 bytes each, little end first: JSON does not promise every bit of a number.
fn to_bytes(lists: &[Vec<f64>]) -> Vec<u8> {
    let list = |list: &Vec<f64>| {
        let numbers = list.iter().flat_map(|number| number.to_le_bytes());
        (list.len() as u64).to_le_bytes().into_iter().chain(numbers).collect::<Vec<u8>>()
    };
    lists.iter().flat_map(list).collect()
}

fn from_bytes(bytes: &[u8]) -> Option<Vec<Vec<f64>>> {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut words = words.iter().copied();
    let mut lists = Vec::new();
    while let Some(length) = words.next() {
        let length = usize::try_from(u64::from_le_bytes(length)).ok()?;
        let list: Vec<f64> = words.by_ref().take(length).map(f64::from_le_bytes).collect();
        (list.len() == length).then(|| lists.push(list))?;
    }
    rest.is_empty().then_some(lists)
}
