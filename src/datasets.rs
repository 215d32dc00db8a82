//! Opens a recipe's dataset: a small one in memory, a large one from disk.

use crate::answers;
use crate::output::note;
use anyhow::Result;
use indicatif::HumanDuration;
use logitcask_data::{
    Dataset, DatasetConfig, PartMade, Preparation, PreparedDataset, TextDataset, TextTokenizer, source_files,
};
use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Name of the folder beside a cache's that holds prepared datasets. Caches of the same texts share one.
const FOLDER: &str = "_datasets";
/// Bytes of source files from which a dataset is prepared on disk.
const LARGE: u64 = 64 << 20;
/// Least time between two lines about the progress.
const EVERY: Duration = Duration::from_secs(10);

/// An opened dataset, and what is to be said about it.
pub type Opened = (Arc<dyn Dataset>, Vec<String>);

/// The folder of prepared datasets for this cache's folder.
pub fn folder(cache: &Path) -> PathBuf {
    cache.with_file_name(FOLDER)
}

/// Opens a dataset, or the answers to its prompts if a teacher writes them. A large one is prepared first, unless it is
/// already.
pub fn open(config: &DatasetConfig, tokenizer: &TextTokenizer, max_length: usize, cache: &Path) -> Result<Opened> {
    let config = &answers::dataset(config)?;
    let Some(bytes) = bytes(config)? else { return in_memory(config, tokenizer, max_length) };
    let preparation = Preparation::new(config, tokenizer, max_length, &folder(cache))?;
    let dataset = match preparation.open()? {
        Some(dataset) => dataset,
        None if bytes < LARGE => return in_memory(config, tokenizer, max_length),
        None => prepare(&preparation)?,
    };
    let notes = dataset.notes().to_vec();
    Ok((Arc::new(dataset), notes))
}

/// Prepares a dataset, and says how it goes on.
pub fn prepare(preparation: &Preparation<'_>) -> Result<PreparedDataset> {
    note!("preparing the dataset in {}", preparation.folder().display());
    Ok(preparation.run(&report())?)
}

/// Counts the tokens of the parts that are made, and notes from time to time how many there are, their rate and the
/// time that is left.
pub fn report() -> impl Fn(&PartMade<'_>) {
    let (start, spoken, tokens) = (Instant::now(), Cell::new(Instant::now()), Cell::new(0u64));
    move |made| {
        tokens.set(tokens.get() + made.tokens);
        if spoken.get().elapsed() < EVERY {
            return;
        }
        spoken.set(Instant::now());
        let (seconds, millions) = (start.elapsed().as_secs_f64(), tokens.get() as f64 / 1e6);
        let (read, left) = (made.bytes_read.max(1) as f64, made.bytes_left as f64);
        note!(
            "preparing: {}, {:.0} % of the files, {millions:.1} M tokens so far, {:.2} M tokens/s, ETA {}",
            made.name,
            100.0 * read / (read + left),
            millions / seconds,
            HumanDuration(Duration::from_secs_f64((seconds * left / read).min(1e9)))
        );
    }
}

fn in_memory(config: &DatasetConfig, tokenizer: &TextTokenizer, max_length: usize) -> Result<Opened> {
    let dataset = TextDataset::load(config, tokenizer, max_length)?;
    let notes = dataset.notes().to_vec();
    Ok((Arc::new(dataset), notes))
}

/// Bytes of the source files; `None` if one of them is no regular file, so that it can be read only once.
fn bytes(config: &DatasetConfig) -> Result<Option<u64>> {
    let mut bytes = 0;
    for path in source_files(config)? {
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => bytes += metadata.len(),
            _ => return Ok(None),
        }
    }
    Ok(Some(bytes))
}
