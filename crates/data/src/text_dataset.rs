//! A dataset of documents divided into windows of tokens.

use crate::chat::{ChatCounts, ChatError, Renderer};
use crate::dataset::Dataset;
use crate::encode::Encoder;
use crate::error::{Error, Result};
use crate::source::{DatasetConfig, Source, SplitsFrom, Tally};
use crate::split_rule::SplitRule;
use crate::split_windows::{Split, Splits, fingerprint};
use crate::tokenizer::TextTokenizer;
use logitcask_core::{Fingerprint, Positions, Sample, SampleId};
use std::collections::BTreeMap;
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
/// Every conversation is one sample, with the positions before the tokens of its answers marked; those without an
/// answer, and those that are too long, are left out.
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
    rendering: BTreeMap<String, String>,
    notes: Vec<String>,
}

impl TextDataset {
    /// Reads and tokenises documents (in parallel, in order) and cuts them into windows of up to `max_length` tokens.
    ///
    /// # Errors
    /// Any error of [`read_documents`](crate::read_documents), a text that the tokenizer rejects or that contains a
    /// special token if that is refused, a `max_length` below 2, or no window at all.
    pub fn load(config: &DatasetConfig, tokenizer: &TextTokenizer, max_length: usize) -> Result<Self> {
        check_length(max_length)?;
        let source = Source::open(config)?;
        let renderer = renderer(&source, config, tokenizer)?;
        let divide = |rule| split_windows(&source, config, tokenizer, max_length, rule, renderer.as_ref());
        let rule = SplitRule::of(&source, config);
        let (splits, tally) = divide(rule)?;
        let (mut splits, tally) = match rule.holds(&source, config, &tally) {
            true => (splits, tally),
            false => divide(SplitRule::by_hash(config))?,
        };
        let mut notes = source.notes(&tally)?;
        let mut chats = ChatCounts::default();
        splits.iter().for_each(|split| chats.add(&split.chats));
        splits.retain(|split| !split.ends.is_empty());
        if splits.is_empty() {
            return Err(no_windows(config, tally.kept(), &chats, max_length));
        }
        notes.extend(chats.notes(&config.path, max_length));
        let rendering = renderer.map(|renderer| renderer.settings().clone()).unwrap_or_default();
        let fingerprint = fingerprint(&splits, max_length, &rendering);
        for split in &splits {
            info!(split = split.name, documents = split.documents, windows = split.ends.len(), max_length, "split cut");
        }
        let splits_from = source.splits();
        Ok(Self { name: stem(&config.path), max_length, fingerprint, splits, splits_from, rendering, notes })
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
    /// `max_length` as u64; for conversations the names and values of [`rendering`](Dataset::rendering), in order, each
    /// after its length as u64; then for every split that has samples (train, validation, test, then others in byte
    /// order of their names): length of the name as u64, the name, number of samples as u64, and for every sample in
    /// order the index of its document as u64, the offset of its first own token in it as u32, the 16 bytes of its
    /// input hash, and, if the dataset marks positions, the number of its marked positions as u32 and each of them as
    /// u32.
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

    fn rendering(&self) -> BTreeMap<String, String> {
        self.rendering.clone()
    }
}

/// What renders the conversations of a source, if it has some.
pub(crate) fn renderer(
    source: &Source<'_>,
    config: &DatasetConfig,
    tokenizer: &TextTokenizer,
) -> Result<Option<Renderer>> {
    source.has_conversations().then(|| Renderer::open(config, tokenizer.chat_files())).transpose()
}

/// Rejects a length below 2: the last token of a window has no next one.
pub(crate) fn check_length(max_length: usize) -> Result<()> {
    match max_length < 2 {
        true => {
            let got = max_length.to_string();
            Err(Error::Option { option: "max_length", got, expected: "at least 2 tokens" })
        }
        false => Ok(()),
    }
}

/// The windows of all documents, by split, and the number of documents.
fn split_windows(
    source: &Source<'_>,
    config: &DatasetConfig,
    tokenizer: &TextTokenizer,
    max_length: usize,
    rule: SplitRule,
    renderer: Option<&Renderer>,
) -> Result<(Vec<Split>, Tally)> {
    let start = Instant::now();
    let encoder = Encoder::new(source, config.special_tokens, tokenizer, rule, renderer);
    let mut splits = Splits::new(max_length);
    let tally = encoder.run(0..source.files().len(), Tally::default(), &mut |batch| {
        encoder.encode(batch)?.into_iter().try_for_each(|encoded| splits.append(encoded, tokenizer))
    })?;
    let (documents, seconds) = (tally.kept(), start.elapsed().as_secs_f64());
    info!(path = %config.path.display(), documents, seconds, "texts read and tokenised");
    Ok((splits.sorted(), tally))
}

/// The error about documents of which no window is left.
pub(crate) fn no_windows(config: &DatasetConfig, documents: u64, chats: &ChatCounts, max_length: usize) -> Error {
    let path = config.path.clone();
    let ChatCounts { seen, too_long, unanswered, .. } = *chats;
    if seen > 0 {
        return ChatError::NoAnswers { path, seen, too_long, max_length, unanswered }.into();
    }
    match config.marks_column() {
        Some(option) => Error::NoMarks { path, option, documents },
        None => Error::NoSamples { path, documents },
    }
}

/// See `name` of [`TextDataset`].
pub(crate) fn stem(path: &Path) -> String {
    let unpacked = path.extension().is_some_and(|end| end == "gz" || end == "zst").then(|| path.with_extension(""));
    let path = unpacked.as_deref().unwrap_or(path);
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    name.map_or_else(|| "dataset".to_owned(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
#[path = "text_dataset_tests.rs"]
mod tests;
