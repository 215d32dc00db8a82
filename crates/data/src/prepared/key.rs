//! What a prepared dataset is made from, and how the source files are divided among its parts.

use super::error::PreparedError;
use crate::TOKENISATION_VERSION;
use crate::chat::Renderer;
use crate::error::{Error, Result};
use crate::source::{DatasetConfig, Source};
use crate::tokenizer::TextTokenizer;
use logitcask_core::Fingerprint;
use std::fs::{self, Metadata};
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes of source files that are read together, at least, unless one of them is larger.
const GROUP_BYTES: u64 = if cfg!(test) { 1 << 14 } else { 64 << 20 };
/// A file that changed less than this ago could change again without a change of its time.
const TICK: Duration = Duration::from_secs(if cfg!(test) { 0 } else { 2 });
/// Version of the parts and of the key.
const VERSION: u32 = 1;

/// The lengths and times of a source's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stats(Vec<(u64, u128)>);

impl Stats {
    pub(super) fn of(source: &Source<'_>) -> Result<Self> {
        let stat = |path: &PathBuf| {
            let metadata = fs::metadata(path).map_err(Error::io(path))?;
            match metadata.is_file() {
                true => Ok((metadata.len(), modified(&metadata))),
                false => Err(Error::from(PreparedError::NotAFile { path: path.clone() })),
            }
        };
        Ok(Self(source.files().iter().map(|file| stat(&file.path)).collect::<Result<_>>()?))
    }

    /// Refuses to go on if one of these files has changed since.
    pub(super) fn check(&self, source: &Source<'_>, files: Range<usize>) -> Result<()> {
        for (file, before) in source.files()[files.clone()].iter().zip(&self.0[files]) {
            let metadata = fs::metadata(&file.path).map_err(Error::io(&file.path))?;
            if (metadata.len(), modified(&metadata)) != *before {
                return Err(PreparedError::Changed { path: file.path.clone() }.into());
            }
        }
        Ok(())
    }

    /// Waits until a change of a file would change its time, too.
    pub(super) fn settle(&self) {
        let newest = self.0.iter().map(|(_, time)| *time).max().unwrap_or(0);
        let age = since(SystemTime::now()).saturating_sub(newest);
        if age < TICK.as_nanos() {
            std::thread::sleep(TICK);
        }
    }

    /// Hash of everything that determines the prepared dataset. The folder that contains the files is not part of it.
    pub(super) fn key(
        &self,
        source: &Source<'_>,
        config: &DatasetConfig,
        tokenizer: &TextTokenizer,
        max_length: usize,
        renderer: Option<&Renderer>,
    ) -> Result<Fingerprint> {
        let names: Vec<_> = source
            .files()
            .iter()
            .map(|file| (file.path.strip_prefix(&config.path).unwrap_or(&file.path), &file.split))
            .map(|(path, split)| (path.file_name().map(|_| path.as_os_str().as_encoded_bytes()), split))
            .collect();
        let mut config = DatasetConfig { path: PathBuf::new(), ..config.clone() };
        // Its text counts, not its place.
        config.chat.template = None;
        let tokenizer = (tokenizer.fingerprint(), tokenizer.added_tokens(), tokenizer.bos(), tokenizer.eos());
        let versions = (VERSION, TOKENISATION_VERSION, GROUP_BYTES);
        let json = match renderer {
            None => serde_json::to_vec(&(versions, config, tokenizer, max_length, names, &self.0)),
            Some(renderer) => {
                let rendering = (renderer.settings(), renderer.variables());
                serde_json::to_vec(&(versions, config, tokenizer, max_length, names, &self.0, rendering))
            }
        };
        json.map(|json| Fingerprint::of(&json)).map_err(|cause| Error::Table {
            path: "the dataset's settings".into(),
            format: "JSON",
            cause: cause.to_string(),
        })
    }

    /// Consecutive files that are read together: few, so that there are as many parts as there is work to share, and
    /// large, so that a folder of small files does not become one of small parts.
    pub(super) fn groups(&self) -> Vec<Range<usize>> {
        let (mut groups, mut start, mut bytes) = (vec![], 0, 0);
        for (index, (length, _)) in self.0.iter().enumerate() {
            bytes += length;
            if bytes >= GROUP_BYTES || index + 1 == self.0.len() {
                groups.push(start..index + 1);
                (start, bytes) = (index + 1, 0);
            }
        }
        groups
    }

    /// Bytes of some of the files.
    pub(super) fn bytes(&self, files: Range<usize>) -> u64 {
        self.0[files].iter().map(|(length, _)| length).sum()
    }

    /// Bytes of all files.
    pub(super) fn all_bytes(&self) -> u64 {
        self.bytes(0..self.0.len())
    }
}

fn modified(metadata: &Metadata) -> u128 {
    metadata.modified().map_or(0, since)
}

fn since(time: SystemTime) -> u128 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos())
}
