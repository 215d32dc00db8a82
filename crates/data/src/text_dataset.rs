//! A dataset of documents divided into windows of tokens.

use crate::dataset::Dataset;
use crate::document::{Content, Document};
use crate::error::{Error, Result};
use crate::source::{Corpus, DatasetConfig, SpecialTokens, SplitsFrom, read_documents};
use crate::split_windows::{Split, fingerprint};
use crate::tokenizer::TextTokenizer;
use logitcask_core::{Fingerprint, Positions, Sample, SampleId};
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;
use tracing::info;

/// Texts or rows of tokens, divided into windows, in memory.
///
/// A document's tokens `t` become `t ++ [end]` if the tokenizer has an end token, and these are divided into windows:
/// - with a start token, the windows partition it; each has the start token before its up to `max_length - 1` tokens;
/// - without one, windows of up to `max_length` tokens overlap by one, so that every token except a document's very
///   first is predicted once.
///
/// Rows of tokens that another program made are taken as they are: without start and end tokens, and divided as texts
/// are without a start token. If their source marks tokens, the positions before these are marked
/// ([`Positions::Chosen`]), and windows without a marked position are left out.
///
/// [`Origin::offset`](logitcask_core::Origin::offset) is the index in `t ++ [end]` of a window's first token after the
/// start token. Windows with fewer than two tokens and documents without tokens are left out.
///
/// # Examples
/// ```no_run
/// use logitcask_data::{Dataset, DatasetConfig, TextDataset, TextTokenizer};
/// use std::path::Path;
///
/// let tokenizer = TextTokenizer::from_json_file(Path::new("teacher/tokenizer.json"), Some(0))?;
/// let config = DatasetConfig { held_out: 0.1, ..DatasetConfig::at(Path::new("texts.jsonl")) };
/// let dataset = TextDataset::load(&config, &tokenizer, 256)?;
/// for (split, samples) in dataset.splits() {
///     println!("{split}: {samples} samples of {} tokens in all", dataset.tokens(&split));
/// }
/// # Ok::<(), logitcask_data::Error>(())
/// ```
#[derive(Debug)]
pub struct TextDataset {
    name: String,
    max_length: usize,
    fingerprint: Fingerprint,
    splits: Vec<Split>,
    splits_from: SplitsFrom,
    notes: Vec<String>,
}

impl TextDataset {
    /// Reads and tokenises documents (in parallel, in order) and cuts them into windows of up to `max_length` tokens.
    ///
    /// # Errors
    /// Any error of [`read_documents`], a text that the tokenizer rejects or that contains a special token if that is
    /// refused, a `max_length` below 2, or no window at all.
    pub fn load(config: &DatasetConfig, tokenizer: &TextTokenizer, max_length: usize) -> Result<Self> {
        if max_length < 2 {
            return Err(Error::Option {
                option: "max_length",
                got: max_length.to_string(),
                expected: "at least 2 tokens",
            });
        }
        let start = Instant::now();
        let corpus = read_documents(config)?;
        let (read, documents) = (start.elapsed().as_secs_f64(), corpus.documents.len());
        info!(path = %config.path.display(), documents, seconds = read, "texts read");
        let of_document = split_names(config, &corpus)?;
        let tokens = encode(config.special_tokens, &corpus, tokenizer)?;
        let (seconds, count) = (start.elapsed().as_secs_f64() - read, tokens.iter().map(Vec::len).sum::<usize>());
        info!(documents, tokens = count, seconds, "texts tokenised");
        let mut splits: Vec<Split> = vec![];
        for ((document, tokens), name) in corpus.documents.iter().zip(tokens).zip(of_document) {
            let at = splits.iter().position(|split| split.name == name).unwrap_or_else(|| {
                splits.push(Split::new(name));
                splits.len() - 1
            });
            splits[at].append(document, tokens, tokenizer, max_length)?;
        }
        splits.retain(|split| !split.ends.is_empty());
        if splits.is_empty() && config.marks_column().is_some() {
            let (option, documents) = (config.marks_column().unwrap_or_default(), corpus.documents.len());
            return Err(Error::NoMarks { path: config.path.clone(), option, documents });
        }
        if splits.is_empty() {
            return Err(Error::NoSamples { path: config.path.clone(), documents: corpus.documents.len() });
        }
        splits.sort_by(|a, b| (rank(&a.name), &a.name).cmp(&(rank(&b.name), &b.name)));
        let fingerprint = fingerprint(&splits, max_length);
        for split in &splits {
            info!(split = split.name, documents = split.documents, windows = split.ends.len(), max_length, "split cut");
        }
        let (splits_from, notes) = (corpus.splits, corpus.notes);
        Ok(Self { name: stem(&config.path), max_length, fingerprint, splits, splits_from, notes })
    }

    fn split(&self, name: &str) -> Option<&Split> {
        self.splits.iter().find(|split| split.name == name)
    }

    /// The window of a sample, and the sample's index in its split.
    fn window(&self, split: &str, sample: SampleId) -> Result<(&Split, usize, &[u32])> {
        let missing = || Error::NoSample { split: split.to_owned(), sample, samples: self.len(split) };
        let found = self.split(split).ok_or_else(missing)?;
        let index = usize::try_from(sample.0).map_err(|_| missing())?;
        Ok((found, index, found.window(index).ok_or_else(missing)?))
    }

    /// Number of documents from which a split's samples were made.
    pub fn documents(&self, split: &str) -> u64 {
        self.split(split).map_or(0, |split| split.documents)
    }

    /// Number of tokens of these documents, including end tokens, without start tokens and overlaps of windows.
    pub fn tokens(&self, split: &str) -> u64 {
        self.split(split).map_or(0, |split| split.document_tokens)
    }

    /// What determines the names of the splits.
    pub fn splits_from(&self) -> SplitsFrom {
        self.splits_from
    }

    /// Notes in plain sentences about texts that were blank, repaired or left out, and files that were not read.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

impl Dataset for TextDataset {
    fn splits(&self) -> Vec<(String, u64)> {
        self.splits.iter().map(|split| (split.name.clone(), split.ends.len() as u64)).collect()
    }

    fn len(&self, split: &str) -> u64 {
        self.split(split).map_or(0, |split| split.ends.len() as u64)
    }

    fn length_of(&self, split: &str, id: SampleId) -> Result<usize> {
        self.window(split, id).map(|(_, _, tokens)| tokens.len())
    }

    fn sample(&self, split: &str, id: SampleId) -> Result<Sample> {
        let (split, index, tokens) = self.window(split, id)?;
        let positions = split.marked(index).map_or(Positions::All, |marked| Positions::Chosen(marked.to_vec()));
        Ok(Sample { positions, ..Sample::new(id, split.origins[index], tokens.to_vec()) })
    }

    fn marks_positions(&self) -> bool {
        self.splits.iter().any(Split::has_marks)
    }

    fn position_count(&self, split: &str, id: SampleId) -> Result<usize> {
        let (split, index, tokens) = self.window(split, id)?;
        Ok(split.marked(index).map_or(tokens.len() - 1, <[u32]>::len))
    }

    /// Hash of exactly what a model sees of the data: names of files and folders are not part of it, and the tokenizer
    /// only through its tokens.
    ///
    /// It is BLAKE3 in key-derivation mode, context `logitcask dataset v2`, over these bytes, integers little-endian:
    /// `max_length` as u64; then for every split that has samples (train, validation, test, then others in byte order
    /// of their names): length of the name as u64, the name, number of samples as u64, and for every sample in order
    /// the index of its document as u64, the offset of its first own token in it as u32, the 16 bytes of its input
    /// hash, and, if the dataset marks positions, the number of its marked positions as u32 and each of them as u32.
    ///
    /// A file with another name is therefore the same dataset. Files of a folder are read in byte order of their names:
    /// renaming them keeps the dataset if their order and the splits given by their names stay the same; otherwise
    /// documents get other indices, which makes another dataset. Blank documents count, because they affect the indices
    /// of later ones.
    fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Name of the file without its extension, or of the folder.
    fn name(&self) -> &str {
        &self.name
    }

    fn max_length(&self) -> usize {
        self.max_length
    }
}

/// Tokens of every document, subject to the rule for special tokens in texts.
fn encode(rule: SpecialTokens, corpus: &Corpus, tokenizer: &TextTokenizer) -> Result<Vec<Vec<u32>>> {
    let documents = &corpus.documents;
    if rule == SpecialTokens::Refuse
        && let Some((document, found)) = documents.par_iter().find_map_first(|document| {
            // The first in document order, whichever thread finds it.
            Some((document.index, tokenizer.spelled_out(document.content.text()?)?))
        })
    {
        let (path, document) = corpus.place(document).unwrap_or((Path::new("the dataset"), document));
        let (path, token, id, character) = (path.to_owned(), found.token, found.id, found.character);
        return Err(Error::SpelledOut { path, document, token, id, character });
    }
    let tokenizer = match rule {
        SpecialTokens::Parse => tokenizer.parsing(),
        SpecialTokens::Refuse | SpecialTokens::Plain => tokenizer.clone(),
    };
    let encode = |document: &Document| match &document.content {
        Content::Text(text) => tokenizer.encode(text),
        Content::Tokens(row) => match row.ids.iter().find(|&&id| id >= tokenizer.vocab_size()) {
            None => Ok(row.ids.clone()),
            Some(&token) => {
                let (path, row) = corpus.place(document.index).unwrap_or((Path::new("the dataset"), document.index));
                let (path, place, tokens) = (path.to_owned(), format!("row {row}"), tokenizer.vocab_size());
                let problem = format!(
                    "token {token} is not one of the tokenizer's {tokens}; were these rows made with another tokenizer?"
                );
                Err(Error::TokenRow { path, place, problem })
            }
        },
    };
    documents.par_iter().map(encode).collect()
}

/// The split of every document: the named one, or otherwise the one determined by a hash of its text.
fn split_names(config: &DatasetConfig, corpus: &Corpus) -> Result<Vec<String>> {
    let named: BTreeSet<&str> = corpus.documents.iter().filter_map(|document| document.split.as_deref()).collect();
    // If all files are called `train`, there is no `test` split, so the hash determines it.
    let by_hash = match corpus.splits {
        SplitsFrom::Hash => true,
        SplitsFrom::Files => named.iter().all(|name| *name == "train"),
        SplitsFrom::Column => false,
    };
    let validation = config.held_out_validation;
    if validation > 0.0 && named.contains("validation") {
        let (option, got) = ("held_out_validation", validation.to_string());
        return Err(Error::Option { option, got, expected: "none, for the data name a split `validation` themselves" });
    }
    let test = if by_hash { config.held_out } else { 0.0 };
    let name = |document: &Document| match document.split.as_deref() {
        None | Some("train") => split_by_hash(&document.content, test, validation).to_owned(),
        Some(named) => named.to_owned(),
    };
    Ok(corpus.documents.iter().map(name).collect())
}

/// Assigns a share of all documents to `test` and another to `validation` by their hash alone. The two shares are at
/// opposite ends of the hash's range, so neither changes when the other grows.
fn split_by_hash(content: &Content, test: f64, validation: f64) -> &'static str {
    let mut hasher = blake3::Hasher::new_derive_key("logitcask held-out share v1");
    let mut first = [0; 8];
    match content {
        Content::Text(text) => _ = hasher.update(text.as_bytes()),
        Content::Tokens(row) => row.ids.iter().for_each(|id| _ = hasher.update(&id.to_le_bytes())),
    }
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    let share = (u64::from_le_bytes(first) >> 11) as f64 / (1u64 << 53) as f64;
    match share {
        share if share < test => "test",
        share if share >= 1.0 - validation => "validation",
        _ => "train",
    }
}

/// Sorts the three usual splits first.
fn rank(split: &str) -> usize {
    let usual = ["train", "validation", "test"];
    usual.iter().position(|name| *name == split).unwrap_or(usual.len())
}

fn stem(path: &Path) -> String {
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    name.map_or_else(|| "dataset".to_owned(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
#[path = "text_dataset_tests.rs"]
mod tests;
