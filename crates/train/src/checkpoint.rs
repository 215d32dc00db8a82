//! Everything a run needs to resume: weights, optimizer moments, the state of rules, and its progress. Everything else
//! (order of the data, learning rate, every random draw) is a function of seed and step.
//!
//! A checkpoint is a folder that is renamed to its final name last. Its last file, `contents.json`, lists the other
//! files with their lengths and hashes. A folder whose files do not match the list is skipped in favour of the one
//! before it, and the run repeats those steps.

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

/// Number of checkpoints that are kept: the newest, and one to fall back on.
const KEPT: usize = 2;
const MODEL: &str = "model.bpk";
const OPTIMIZER: &str = "optimizer.bpk";
/// The state of rules, see [`to_bytes`].
const MEMORY: &str = "memory.bin";
/// The progress of the run, and the id of the run.
const STATE: &str = "state.json";
/// The weights of the lowest validation perplexity so far, if the run keeps them.
const BEST: &str = "best.bpk";

/// The progress of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Number of optimizer steps done; together with the batch size it gives the place in the data.
    pub step: u64,
    /// Lowest validation perplexity so far.
    pub best: Option<f64>,
    /// Hash of the file with the weights of that perplexity, if they are kept.
    pub best_weights: Option<Fingerprint>,
    /// Number of evaluations since then.
    pub stale: u32,
    /// Wall time in seconds, over all sessions of the run.
    pub seconds: f64,
    /// The part of it that steps spent waiting for their batches.
    pub waited: f64,
    /// Whether the run ended, by its last step or by early stopping.
    pub finished: bool,
}

/// A run restored from a checkpoint.
pub struct Loaded<M> {
    /// The student.
    pub model: M,
    /// Its optimizer.
    pub optimizer: ModuleOptimizer,
    /// The state of rules, one list each; `None` before the first checkpoint.
    pub memory: Option<Vec<Vec<f64>>>,
}

/// A checkpoint that is not intact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its folder.
    pub path: PathBuf,
    /// Which file is damaged, and how.
    pub problem: String,
}

/// The checkpoints of a run.
pub struct Checkpoints {
    folder: PathBuf,
    run: Fingerprint,
    /// The newest checkpoint that is intact.
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
    /// Finds the newest intact checkpoint of the run with the id `run` in its folder `of_run`, reading and hashing all
    /// of it.
    ///
    /// # Errors
    /// [`Error::OtherRun`] if it belongs to another run; [`Error::Checkpoint`] if there are checkpoints but none is
    /// intact.
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

    /// The run that each checkpoint in a run's folder belongs to, according to its state file alone; `None` if that
    /// cannot be read.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder of the checkpoints cannot be listed.
    pub fn runs(of_run: &Path) -> Result<Vec<(PathBuf, Option<Fingerprint>)>> {
        let run = |path: &Path| read_json::<Stored>(path, STATE).ok().map(|stored| stored.run);
        Ok(all(&folder(of_run))?.into_iter().map(|(_, path)| (path.clone(), run(&path))).collect())
    }

    /// Newer checkpoints that are not intact; the run repeats their steps.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// The progress of the run.
    pub fn state(&self) -> State {
        self.last.as_ref().map_or_else(State::default, |(_, state)| *state)
    }

    /// Folder of the checkpoint that the run resumes from.
    pub fn last(&self) -> Option<&Path> {
        self.last.as_ref().map(|(path, _)| path.as_path())
    }

    /// Loads the checkpoint into a model and an optimizer of the same shape, and returns them with the state of rules;
    /// both are returned unchanged if there is no checkpoint.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] names the file that cannot be read into these shapes.
    pub fn load<M: Module>(&self, model: M, optimizer: ModuleOptimizer) -> Result<Loaded<M>> {
        let Some(path) = self.last() else { return Ok(Loaded { model, optimizer, memory: None }) };
        let refuse = |name: &str, problem: &dyn std::fmt::Display| refuse(path, format!("{name}: {problem}"));
        let model = model.try_load_file(path.join(MODEL)).map_err(|e| refuse(MODEL, &e))?;
        let optimizer = optimizer.load(path.join(OPTIMIZER)).map_err(|e| refuse(OPTIMIZER, &e))?;
        let of_memory = path.join(MEMORY);
        let bytes = fs::read(&of_memory).map_err(Error::io(&of_memory, "read"))?;
        let memory = from_bytes(&bytes).ok_or_else(|| refuse(MEMORY, &"no list of lists of numbers"))?;
        Ok(Loaded { model, optimizer, memory: Some(memory) })
    }

    /// Loads the weights of the lowest validation perplexity into a model of the same shape.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] names the file that cannot be read into this shape.
    pub fn load_best<M: Module>(&self, model: M) -> Result<M> {
        match &self.last {
            Some((path, State { best_weights: Some(_), .. })) => {
                model.try_load_file(path.join(BEST)).map_err(|e| refuse(path, format!("{BEST}: {e}")))
            }
            _ => Ok(model),
        }
    }

    /// Writes a checkpoint, keeps the one before it, and removes all others. `memory` is the state of rules; `is_best`
    /// means that these weights are kept until better ones are found.
    ///
    /// # Errors
    /// [`Error::Unwritten`] or [`Error::Io`] names what could not be written; the checkpoints before it stay.
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
        let unwritten =
            |name: &str, e: &dyn std::fmt::Display| Error::Unwritten { path: work.join(name), problem: e.to_string() };
        model.clone().into_record().save(work.join(MODEL)).map_err(|e| unwritten(MODEL, &e))?;
        optimizer.save(work.join(OPTIMIZER)).map_err(|e| unwritten(OPTIMIZER, &e))?;
        if is_best {
            state.best_weights = Some(Entry::of(&work, MODEL)?.blake3);
        }
        self.keep_best(&work, state, is_best)?;
        let stored = Stored { run: self.run, state: *state };
        let json = serde_json::to_vec_pretty(&stored).map_err(|e| unwritten(STATE, &e))?;
        for (name, bytes) in [(STATE, json), (MEMORY, to_bytes(memory))] {
            let path = work.join(name);
            fs::write(&path, bytes).map_err(Error::io(&path, "write"))?;
        }
        Contents::write(&work, names(state))?;
        self.publish(&work, state)?;
        info!(step = state.step, is_best, seconds = start.elapsed().as_secs_f64(), "checkpoint written");
        Ok(())
    }

    /// Puts the best weights into an unfinished checkpoint: its own, or those of the checkpoint before it. Every
    /// checkpoint has a copy, so that the damage of one does not lose them.
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

    /// Renames a finished checkpoint to its final name. Nothing is removed before the rename is durable.
    fn publish(&mut self, work: &Path, state: &State) -> Result<()> {
        let place = self.folder.join(format!("step-{:08}", state.step));
        let aside = self.folder.join(".old");
        remove(&aside)?;
        // An existing folder of this name cannot be intact: the run would have resumed from it.
        if place.exists() {
            fs::rename(&place, &aside).map_err(Error::io(&place, "move aside"))?;
        }
        fs::rename(work, &place).map_err(Error::io(&place, "publish"))?;
        sync_folder(&self.folder)?;
        if let Some(of_run) = self.folder.parent() {
            sync_folder(of_run)?;
        }
        remove(&aside)?;
        // Skipped checkpoints cannot serve as a fallback.
        for Skipped { path, .. } in self.skipped.drain(..).filter(|skipped| skipped.path != place) {
            remove(&path)?;
        }
        let all = all(&self.folder)?;
        // Later checkpoints are not intact either, and the run repeats their steps.
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

/// All checkpoints with their steps, oldest first.
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

/// Names of a checkpoint's files, without the list of them.
fn names(state: &State) -> impl Iterator<Item = &'static str> + Clone + use<> {
    [MODEL, OPTIMIZER, MEMORY, STATE].into_iter().chain(state.best_weights.map(|_| BEST))
}

/// Reads a checkpoint if it is intact; otherwise returns which file is damaged and how.
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

/// Encodes each list as its length and its numbers, 8 bytes each, little-endian; JSON does not guarantee that every bit
/// of a number is preserved.
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

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::Param;
    use burn::optim::AdamWConfig;
    use burn::tensor::{Device, Tensor};

    #[test]
    fn an_error_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut checkpoints = Checkpoints::open(folder.path(), Fingerprint::of(b"run")).unwrap();
        let model = Param::from_tensor(Tensor::<1>::ones([2], &Device::flex().autodiff()));
        checkpoints.save(&model, &AdamWConfig::new().init(), &[], &mut State::default(), false).unwrap();
        let memory = checkpoints.last().unwrap().join(MEMORY);
        fs::remove_file(&memory).unwrap();
        let error = checkpoints.load(model, AdamWConfig::new().init()).err().unwrap().to_string();
        assert!(error.starts_with(&format!("{}: cannot read: ", memory.display())), "{error}");
    }
}
