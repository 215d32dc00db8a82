//! Datasets that are tokenised once and read from disk, in memory that does not grow with them.
//!
//! A prepared dataset is a folder of parts, one for each source file or 64 MiB of its text (small files share parts).
//! Its samples, their order and its fingerprint are those of a [`TextDataset`](crate::TextDataset) of the same files.
//! Nothing in it is overwritten, every file carries its hash, and `dataset.json`, which lists the parts, is written
//! last: a preparation that was killed goes on at the part where it stopped, and several processes may share one.

mod build;
mod dataset;
pub(crate) mod error;
mod key;
mod part;
mod progress;
mod reader;
#[cfg(test)]
mod tests;

pub use dataset::PreparedDataset;
pub use error::PreparedError;
pub use progress::PartMade;

use crate::chat::{ChatCounts, Renderer};
use crate::encode::Encoder;
use crate::error::{Error, Result};
use crate::source::{DatasetConfig, Source, Tally};
use crate::split_rule::SplitRule;
use crate::text_dataset::{check_length, no_windows, renderer, stem};
use crate::tokenizer::TextTokenizer;
use build::{Builder, Group, part_name};
use dataset::Described;
use key::Stats;
use logitcask_core::Fingerprint;
use logitcask_files::{AtomicFile, sync_folder};
use part::{Record, TEMP, file};
use progress::Progress;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tracing::info;

/// Name of the file that is written last.
const MANIFEST: &str = "dataset.json";
/// Characters of the key in the folder's name.
const KEY_CHARACTERS: usize = 16;

/// A complete prepared dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    /// Hash of everything that it was made from.
    key: Fingerprint,
    fingerprint: Fingerprint,
    groups: Vec<Group>,
    /// The records of all parts, in order.
    parts: Vec<Record>,
}

/// The place of a prepared dataset, and everything that it is made from.
pub struct Preparation<'a> {
    source: Source<'a>,
    config: &'a DatasetConfig,
    tokenizer: &'a TextTokenizer,
    max_length: usize,
    renderer: Option<Renderer>,
    stats: Stats,
    key: Fingerprint,
    folder: PathBuf,
}

impl<'a> Preparation<'a> {
    /// Inspects the source files, without reading them, and determines the folder within `below`.
    ///
    /// # Errors
    /// A path or an option that cannot be used; a source that is no regular file.
    pub fn new(
        config: &'a DatasetConfig,
        tokenizer: &'a TextTokenizer,
        max_length: usize,
        below: &Path,
    ) -> Result<Self> {
        check_length(max_length)?;
        let source = Source::open(config)?;
        let stats = Stats::of(&source)?;
        let renderer = renderer(&source, config, tokenizer)?;
        let key = stats.key(&source, config, tokenizer, max_length, renderer.as_ref())?;
        let short: String = key.to_string().chars().take(KEY_CHARACTERS).collect();
        let folder = below.join(format!("{}-{short}", stem(&config.path)));
        Ok(Self { source, config, tokenizer, max_length, renderer, stats, key, folder })
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Bytes of the source files.
    pub fn source_bytes(&self) -> u64 {
        self.stats.all_bytes()
    }

    /// Opens the dataset if it is complete.
    ///
    /// # Errors
    /// A manifest that cannot be read.
    pub fn open(&self) -> Result<Option<PreparedDataset>> {
        let path = self.folder.join(MANIFEST);
        match read_json::<Manifest>(&path)? {
            Some(manifest) if manifest.key == self.key => Ok(Some(self.dataset(manifest)?)),
            Some(_) => Err(PreparedError::damaged(&path, "belongs to another dataset").into()),
            None => Ok(None),
        }
    }

    /// Makes the dataset, or what is missing of it, and opens it. `made` is called with every part that this process has
    /// made.
    ///
    /// # Errors
    /// Any error of [`TextDataset::load`](crate::TextDataset::load), and of [`PreparedError`].
    pub fn run(&self, made: &dyn Fn(&PartMade<'_>)) -> Result<PreparedDataset> {
        match self.open()? {
            Some(dataset) => Ok(dataset),
            None => self.make(made).inspect_err(|_| self.remove_without_parts()),
        }
    }

    /// Makes the dataset, or what is missing of it.
    fn make(&self, made: &dyn Fn(&PartMade<'_>)) -> Result<PreparedDataset> {
        fs::create_dir_all(&self.folder).map_err(PreparedError::write(&self.folder))?;
        self.stats.settle();
        let rule = SplitRule::of(&self.source, self.config);
        let encoder = {
            let (special, renderer) = (self.config.special_tokens, self.renderer.as_ref());
            Encoder::new(&self.source, special, self.tokenizer, rule, renderer)
        };
        let groups = self.stats.groups();
        let builder = Builder {
            source: &self.source,
            stats: &self.stats,
            encoder: &encoder,
            tokenizer: self.tokenizer,
            max_length: self.max_length,
            folder: &self.folder,
            groups: &groups,
            has_limit: self.config.max_documents.is_some(),
            made,
            progress: Progress::new(self.stats.all_bytes()),
        };
        let groups = builder.run()?;
        self.stats.check(&self.source, 0..self.source.files().len())?;
        let mut tally = Tally::default();
        groups.iter().for_each(|group| group.add_to(&mut tally));
        self.source.notes(&tally)?;
        if !rule.holds(&self.source, self.config, &tally) {
            return Err(PreparedError::OnlyTrain { path: self.config.path.clone() }.into());
        }
        let parts = groups.iter().enumerate().flat_map(|(group, done)| (0..done.parts).map(move |part| (group, part)));
        let record = |(group, part)| {
            let name = part_name(group, part);
            let missing = || PreparedError::damaged(&file(&self.folder, &name, "json"), "was removed meanwhile").into();
            Record::read(&self.folder, &name)?.ok_or_else(missing)
        };
        let parts: Vec<Record> = parts.map(record).collect::<Result<_>>()?;
        if parts.iter().all(|part| part.windows() == 0) {
            return Err(no_windows(self.config, tally.kept(), &chats(&parts), self.max_length));
        }
        let unfinished = Manifest { key: self.key, fingerprint: Fingerprint::of(b""), groups, parts };
        let fingerprint = self.dataset(unfinished.clone())?.compute_fingerprint()?;
        let manifest = Manifest { fingerprint, ..unfinished };
        create_json(&self.folder.join(MANIFEST), &manifest)?;
        self.remove_leftovers();
        info!(folder = %self.folder.display(), parts = manifest.parts.len(), "dataset prepared");
        self.dataset(manifest)
    }

    /// Compares all parts with their hashes, and makes those again that are damaged. Returns their number.
    ///
    /// # Errors
    /// The same as for [`Self::run`]; source files that now give another dataset.
    pub fn repair(&self, made: &dyn Fn(&PartMade<'_>)) -> Result<usize> {
        let path = self.folder.join(MANIFEST);
        let Some(manifest) = read_json::<Manifest>(&path)? else { return Ok(0) };
        let mut damaged = vec![];
        for (name, record) in names(&manifest.groups).zip(&manifest.parts) {
            if record.check(&self.folder, &name).is_err() || Record::read(&self.folder, &name)?.as_ref() != Some(record)
            {
                damaged.push(name);
            }
        }
        if damaged.is_empty() {
            return Ok(0);
        }
        // The manifest goes first, so that nobody relies on parts that are being made.
        let remove = |path: &Path| match fs::remove_file(path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(PreparedError::write(path)(cause)),
            _ => Ok(()),
        };
        remove(&path)?;
        for name in &damaged {
            remove(&file(&self.folder, name, "json"))?;
        }
        let again = self.run(made)?;
        match again.manifest_fingerprint() == manifest.fingerprint {
            true => Ok(damaged.len()),
            false => Err(PreparedError::OtherDataset { path: self.folder.clone() }.into()),
        }
    }

    fn dataset(&self, manifest: Manifest) -> Result<PreparedDataset> {
        let mut tally = Tally::default();
        manifest.groups.iter().for_each(|group| group.add_to(&mut tally));
        let mut notes = self.source.notes(&tally)?;
        notes.extend(chats(&manifest.parts).notes(&self.config.path, self.max_length));
        let name = stem(&self.config.path);
        let rendering = self.renderer.as_ref().map(|renderer| renderer.settings().clone()).unwrap_or_default();
        PreparedDataset::new(&self.folder, manifest, Described { name, max_length: self.max_length, rendering, notes })
    }

    /// Removes the folder of a dataset that could not be made, if it has no part that a later run could go on from.
    fn remove_without_parts(&self) {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        let is_record = |path: &PathBuf| path.file_name().is_some_and(|name| build::is_record(&name.to_string_lossy()));
        if paths.iter().all(is_record) {
            paths.iter().for_each(|path| _ = fs::remove_file(path));
            let _ = fs::remove_dir(&self.folder);
        }
    }

    /// Removes what killed processes left. Others that still work on the dataset would only make duplicates.
    fn remove_leftovers(&self) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(TEMP) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// What became of the conversations of all parts.
fn chats(parts: &[Record]) -> ChatCounts {
    let mut chats = ChatCounts::default();
    parts.iter().flat_map(|part| &part.splits).for_each(|split| chats.add(&split.chats));
    chats
}

/// Names of all parts, in order.
fn names(groups: &[Group]) -> impl Iterator<Item = String> {
    groups.iter().enumerate().flat_map(|(group, done)| (0..done.parts).map(move |part| part_name(group, part)))
}

/// Reads a JSON file; `None` if it does not exist.
fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let bytes = match fs::read(path) {
        // If the folder cannot exist, the error of its creation says more.
        Err(cause) if matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        bytes => bytes.map_err(Error::io(path))?,
    };
    let damaged = |cause| PreparedError::damaged(path, format!("is no valid JSON ({cause}); remove this file"));
    Ok(Some(serde_json::from_slice(&bytes).map_err(damaged)?))
}

/// Creates a JSON file. If another process has created it already, that one stays.
fn create_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let create = || {
        let mut file = AtomicFile::create(path, TEMP)?;
        file.write_all(&serde_json::to_vec(value)?)?;
        file.sync()?;
        file.persist_new()?;
        sync_folder(path.parent().unwrap_or(Path::new(".")))
    };
    Ok(create().map_err(PreparedError::write(path))?)
}
