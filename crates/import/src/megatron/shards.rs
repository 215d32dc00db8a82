//! The tar files of a folder: which iterations they hold, and where.

use crate::error::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tar::Archive;

/// The first member of each file.
const META: &str = "_meta.json";
const MAX_META: u64 = 16 << 20;
const PAYLOAD: &str = ".pt.zst";

/// What the first member of a file says.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Meta {
    /// Hash of seed, number of samples and names of the data.
    hash: Option<String>,
    pub saver: Saver,
}

/// The settings with which files were written.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Saver {
    pub k: u32,
    pub p: Option<f64>,
    #[serde(default = "first_version")]
    pub format_version: u64,
    /// Samples of a microbatch, ranks and samples of an iteration: since version 2.
    pub mbs_save: Option<u64>,
    pub dp_size_save: Option<u64>,
    pub gbs_save: Option<u64>,
}

const fn first_version() -> u64 {
    1
}

/// What an iteration is named by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// By its number.
    Iterations,
    /// By the numbers of its samples.
    Samples,
}

/// What a rank saved of an iteration.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub file: Arc<Path>,
    pub name: String,
    /// Where its bytes are in the file.
    pub start: u64,
    pub size: u64,
}

/// All iterations of a folder.
pub(super) struct Shards {
    pub files: Vec<Arc<Path>>,
    pub meta: Meta,
    pub unit: Unit,
    /// Each iteration, as a range of its unit. One begins where the last one ends.
    pub steps: Vec<Range<u64>>,
    pub ranks: u64,
    /// Those of each iteration, by rank.
    members: Vec<Member>,
}

impl Shards {
    /// Lists the members of the files in `folder`.
    ///
    /// # Errors
    /// Files of another form, and iterations that are missing, incomplete or there twice.
    pub fn open(folder: &Path) -> Result<Self> {
        let mut files: Vec<(u64, PathBuf)> = Vec::new();
        for entry in fs::read_dir(folder).map_err(Error::io(folder, "list the folder"))? {
            let path = entry.map_err(Error::io(folder, "list the folder"))?.path();
            if path.extension().is_some_and(|extension| extension == "tar") {
                files.push((rank_of(&path)?, path));
            }
        }
        files.sort();
        let ranks = files.last().map(|(rank, _)| rank + 1);
        let ranks = ranks
            .ok_or_else(|| Error::file(folder, "there is no .tar file in it: name the folder of --logits-save-dir"))?;
        let mut found = Found::default();
        for (rank, path) in &files {
            found.read(*rank, path)?;
        }
        let files = files.into_iter().map(|(_, path)| path.into()).collect();
        found.into_shards(folder, files, ranks)
    }

    /// What a rank saved of an iteration.
    pub fn member(&self, step: u64, rank: u64) -> &Member {
        &self.members[(step * self.ranks + rank) as usize]
    }
}

/// What was found in the files so far.
#[derive(Default)]
struct Found {
    meta: Option<(PathBuf, Meta)>,
    unit: Option<Unit>,
    /// By the range of the iteration and by rank.
    members: BTreeMap<(u64, u64), BTreeMap<u64, Member>>,
}

impl Found {
    fn read(&mut self, rank: u64, path: &Path) -> Result<()> {
        let io = || Error::io(path, "read it");
        let mut archive = Archive::new(File::open(path).map_err(io())?);
        let file: Arc<Path> = path.into();
        for (number, entry) in archive.entries_with_seek().map_err(io())?.enumerate() {
            let mut entry = entry.map_err(io())?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            if number == 0 {
                self.check_meta(path, &name, &mut entry)?;
                continue;
            }
            let step = name.strip_suffix(PAYLOAD).and_then(range_of);
            let Some((unit, range)) = step else {
                let problem = format!("it has `{name}`, only {META} and N{PAYLOAD} or FIRST-END{PAYLOAD} belong there");
                return Err(Error::file(path, problem));
            };
            if *self.unit.get_or_insert(unit) != unit {
                let problem = "some iterations are named by their number and others by their samples: the folder holds \
                               two runs; import each from a folder of its own";
                return Err(Error::file(path, problem));
            }
            let member = Member { file: file.clone(), name, start: entry.raw_file_position(), size: entry.size() };
            let of_step = self.members.entry((range.start, range.end)).or_default();
            if let Some(other) = of_step.insert(rank, member) {
                let problem = format!(
                    "{} is in {} as well: remove the file that a run wrote before it was resumed",
                    other.name,
                    other.file.display()
                );
                return Err(Error::file(path, problem));
            }
        }
        Ok(())
    }

    /// Compares the first member of a file with that of the others.
    fn check_meta(&mut self, path: &Path, name: &str, entry: &mut impl Read) -> Result<()> {
        if name != META {
            return Err(Error::file(path, format!("it begins with `{name}`, {META} belongs there")));
        }
        let mut json = Vec::new();
        entry.take(MAX_META).read_to_end(&mut json).map_err(Error::io(path, "read it"))?;
        let meta: Meta =
            serde_json::from_slice(&json).map_err(|error| Error::file(path, format!("{META}: {error}")))?;
        match &self.meta {
            Some((other, there)) if *there != meta => Err(Error::file(
                path,
                format!(
                    "its {META} differs from that of {}: they are of two runs; import each from a folder of its own",
                    other.display()
                ),
            )),
            Some(_) => Ok(()),
            None => {
                self.meta = Some((path.to_owned(), meta));
                Ok(())
            }
        }
    }

    fn into_shards(self, folder: &Path, files: Vec<Arc<Path>>, ranks: u64) -> Result<Shards> {
        let empty = || Error::file(folder, "its .tar files hold no iteration: there is nothing to import");
        let (Some((_, meta)), Some(unit)) = (self.meta, self.unit) else { return Err(empty()) };
        let mut members = Vec::new();
        let mut steps: Vec<Range<u64>> = Vec::new();
        for ((start, end), of_step) in self.members {
            if let Some(missing) = (0..ranks).find(|rank| !of_step.contains_key(rank)) {
                let there = of_step.values().next().map(|member| member.name.clone()).unwrap_or_default();
                let problem =
                    format!("{there} of rank {missing} is missing, but not that of other ranks; copy all files");
                return Err(Error::file(folder, problem));
            }
            if let Some(last) = steps.last().filter(|last| last.end != start) {
                let (last, unit) = (last.end, if unit == Unit::Samples { "sample" } else { "iteration" });
                let problem = format!(
                    "{unit} {last} is expected after the ones before it, but {start} follows: the order of the tokens \
                     would not be that of the files; copy all files, or import each run without a gap by itself"
                );
                return Err(Error::file(folder, problem));
            }
            steps.push(start..end);
            members.extend(of_step.into_values());
        }
        Ok(Shards { files, meta, unit, steps, ranks, members })
    }
}

/// The data-parallel rank that wrote a file: `dpR__...` or `cp0_dpR__...`.
fn rank_of(path: &Path) -> Result<u64> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let parts = || {
        let (cp, rest) = match name.strip_prefix("cp") {
            Some(rest) => rest.split_once('_').and_then(|(cp, rest)| Some((number(cp)?, rest)))?,
            None => (0, &*name),
        };
        let (rank, range) = rest.strip_prefix("dp")?.split_once("__")?;
        range_of(range).and_then(|_| Some((cp, number(rank)?)))
    };
    match parts() {
        Some((0, rank)) if rank < 1 << 20 => Ok(rank),
        Some((cp, _)) if cp > 0 => Err(Error::file(
            path,
            format!(
                "rank {cp} of context parallelism wrote it, which had parts of each sequence; only files with whole \
                 sequences are read (cp0 alone, or no cp in the name)"
            ),
        )),
        _ => Err(Error::file(
            path,
            "its name is neither dpRANK__FIRST-END.tar nor cp0_dpRANK__ITERATION.tar, as Megatron-LM names them",
        )),
    }
}

/// The iteration that a name stands for: `7`, or the samples `32-64`.
fn range_of(text: &str) -> Option<(Unit, Range<u64>)> {
    match text.split_once('-') {
        Some((start, end)) => {
            let range = number(start)?..number(end)?;
            (!range.is_empty()).then_some((Unit::Samples, range))
        }
        None => number(text).map(|iteration| (Unit::Iterations, iteration..iteration + 1)),
    }
}

fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.len() < 19 && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}
