//! All a run needs to go on: weights, optimizer moments, what rules remember, and how far it came. Everything else (order of the data,
//! learning rate, every random draw) is a function of seed and step.

use crate::{Error, Result};
use burn::module::Module;
use burn::optim::ModuleOptimizer;
use logitcask_model::Llama;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Checkpoints that stay: the newest, and one to fall back on.
const KEPT: usize = 2;
/// What rules remember, see [`to_bytes`].
const MEMORY: &str = "memory.bin";

/// How far a run came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Optimizer steps done; with the batch size it is the place in the data.
    pub step: u64,
    /// Lowest validation perplexity so far.
    pub best: Option<f64>,
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
pub struct Loaded {
    /// The student.
    pub model: Llama,
    /// Its optimizer.
    pub optimizer: ModuleOptimizer,
    /// What rules remember, a list each; `None` before the first checkpoint.
    pub memory: Option<Vec<Vec<f64>>>,
    /// How far it came.
    pub state: State,
}

/// The checkpoints of a run.
pub struct Checkpoints {
    folder: PathBuf,
}

impl Checkpoints {
    /// Those under `run`.
    pub fn new(run: &Path) -> Self {
        Self { folder: run.join("checkpoints") }
    }

    /// Where they lie.
    pub fn folder(&self) -> PathBuf {
        self.folder.clone()
    }

    /// Folder of the newest one.
    pub fn newest(&self) -> Result<Option<PathBuf>> {
        Ok(self.all()?.pop())
    }

    /// Complete checkpoints, oldest first: they get their name last, so a name means it is whole.
    fn all(&self) -> Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::io(&self.folder, "list")(e)),
        };
        let is_checkpoint = |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("step-"));
        let mut found: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).filter(is_checkpoint).collect();
        found.sort();
        Ok(found)
    }

    /// Writes one and removes the oldest beyond two; `memory`: what rules remember.
    pub fn save(&self, model: &Llama, optimizer: &ModuleOptimizer, memory: &[Vec<f64>], state: &State) -> Result<()> {
        let work = self.folder.join(".work");
        let _ = fs::remove_dir_all(&work);
        fs::create_dir_all(&work).map_err(Error::io(&work, "create"))?;
        let refuse = |e: &dyn std::fmt::Display| Error::Checkpoint { path: work.clone(), problem: e.to_string() };
        model.clone().into_record().save(work.join("model.bpk")).map_err(|e| refuse(&e))?;
        optimizer.save(work.join("optimizer.bpk")).map_err(|e| refuse(&e))?;
        let json = serde_json::to_vec_pretty(state).map_err(|e| refuse(&e))?;
        fs::write(work.join("state.json"), json).map_err(Error::io(&work, "write"))?;
        fs::write(work.join(MEMORY), to_bytes(memory)).map_err(Error::io(&work, "write"))?;
        for name in ["model.bpk", "optimizer.bpk", MEMORY, "state.json"] {
            let path = work.join(name);
            File::open(&path).and_then(|file| file.sync_all()).map_err(Error::io(&path, "sync"))?;
        }
        let place = self.folder.join(format!("step-{:08}", state.step));
        let _ = fs::remove_dir_all(&place);
        fs::rename(&work, &place).map_err(Error::io(&place, "publish"))?;
        let all = self.all()?;
        for old in &all[..all.len().saturating_sub(KEPT)] {
            fs::remove_dir_all(old).map_err(Error::io(old, "remove"))?;
        }
        Ok(())
    }

    /// Loads the newest one into a model and an optimizer of the same shape, and gives what rules remember; nothing changes
    /// where there is none.
    pub fn load(&self, model: Llama, optimizer: ModuleOptimizer) -> Result<Loaded> {
        let Some(path) = self.newest()? else {
            return Ok(Loaded { model, optimizer, memory: None, state: State::default() });
        };
        let refuse = |e: &dyn std::fmt::Display| Error::Checkpoint { path: path.clone(), problem: e.to_string() };
        let model = model.try_load_file(path.join("model.bpk")).map_err(|e| refuse(&e))?;
        let optimizer = optimizer.load(path.join("optimizer.bpk")).map_err(|e| refuse(&e))?;
        let bytes = fs::read(path.join(MEMORY)).map_err(Error::io(&path, "read"))?;
        let memory = from_bytes(&bytes).ok_or_else(|| refuse(&format!("{MEMORY} is no list of lists of numbers")))?;
        let json = fs::read(path.join("state.json")).map_err(Error::io(&path, "read"))?;
        let state = serde_json::from_slice(&json).map_err(|e| refuse(&e))?;
        Ok(Loaded { model, optimizer, memory: Some(memory), state })
    }

    /// How far the newest one came, without reading its tensors.
    pub fn state(&self) -> Result<State> {
        let Some(path) = self.newest()? else { return Ok(State::default()) };
        let json = fs::read(path.join("state.json")).map_err(Error::io(&path, "read"))?;
        serde_json::from_slice(&json).map_err(|e| Error::Checkpoint { path, problem: e.to_string() })
    }
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
