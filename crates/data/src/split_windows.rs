//! The windows of the splits of a dataset in memory.

use crate::chat::{ChatCounts, Marked, TooLong};
use crate::document::{Content, Document};
use crate::encode::{Encoded, Tokens};
use crate::error::{Error, Result};
use crate::tokenizer::TextTokenizer;
use crate::windows::windows;
use logitcask_core::{Fingerprint, InputHash, Origin};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// The windows of one split, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Split {
    pub(crate) name: String,
    tokens: Vec<u32>,
    /// End of each window in `tokens`; a window starts where the previous one ends.
    pub(crate) ends: Vec<usize>,
    pub(crate) origins: Vec<Origin>,
    /// The marked positions of all windows, each counted within its window, if the dataset marks any.
    marked: Vec<u32>,
    /// End of each window's positions in `marked`.
    marked_ends: Vec<usize>,
    /// Number of documents that have a window.
    pub(crate) documents: u64,
    /// Number of tokens of these documents, including end tokens, without start tokens and overlaps of windows.
    pub(crate) document_tokens: u64,
    /// What became of its conversations.
    pub(crate) chats: ChatCounts,
}

impl Split {
    /// A split without windows.
    pub(crate) fn new(name: String) -> Self {
        Self { name, ..Self::default() }
    }

    pub(crate) fn window(&self, index: usize) -> Option<&[u32]> {
        part(&self.tokens, &self.ends, index)
    }

    /// The marked positions of a window; `None` if the dataset marks none.
    pub(crate) fn marked(&self, index: usize) -> Option<&[u32]> {
        part(&self.marked, &self.marked_ends, index)
    }

    /// The tokens of all windows.
    pub(crate) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The marked positions of all windows.
    pub(crate) fn all_marked(&self) -> &[u32] {
        &self.marked
    }

    /// End of a window's positions among all marked ones.
    pub(crate) fn marked_end(&self, index: usize) -> Option<usize> {
        self.marked_ends.get(index).copied()
    }

    /// Whether the dataset marks positions.
    pub(crate) fn has_marks(&self) -> bool {
        !self.marked_ends.is_empty()
    }

    /// Adds the windows of a document that has these tokens. Of a document with marks, only the windows with a marked
    /// position.
    pub(crate) fn append(
        &mut self,
        document: &Document,
        mut tokens: Vec<u32>,
        tokenizer: &TextTokenizer,
        max_length: usize,
    ) -> Result<()> {
        if tokens.is_empty() {
            return Ok(());
        }
        // Tokens that another program made are taken as they are.
        let (bos, eos, marks) = match &document.content {
            Content::Text(_) => (tokenizer.bos(), tokenizer.eos(), None),
            Content::Tokens(row) => (None, None, row.marks.as_deref()),
            Content::Conversation(_) => return Ok(()),
        };
        tokens.extend(eos);
        if u32::try_from(tokens.len()).is_err() {
            return Err(Error::TooLong { document: document.index, tokens: tokens.len() });
        }
        let before = self.ends.len();
        for range in windows(tokens.len(), bos.is_some(), max_length) {
            if let Some(marks) = marks {
                // A position is marked if its next token is; the first token of a window is nobody's next token.
                let next = marks[range.start + 1..range.end].iter().zip(0u32..);
                let positions: Vec<u32> = next.filter_map(|(&mark, position)| mark.then_some(position)).collect();
                if positions.is_empty() {
                    continue;
                }
                self.marked.extend(positions);
                self.marked_ends.push(self.marked.len());
            }
            self.origins.push(Origin { document: document.index, offset: range.start as u32 });
            self.tokens.extend(bos);
            self.tokens.extend_from_slice(&tokens[range]);
            self.ends.push(self.tokens.len());
        }
        if self.ends.len() > before {
            self.documents += 1;
            self.document_tokens += tokens.len() as u64;
        }
        Ok(())
    }
}

impl Split {
    /// Adds the sample of a conversation, unless it is left out.
    fn append_conversation(&mut self, document: u64, marked: Marked, tokenizer: &TextTokenizer, max_length: usize) {
        let Marked { mut tokens, marks, too_long } = marked;
        self.chats.seen += 1;
        let is_too_long = tokens.len() > max_length;
        if is_too_long && too_long == TooLong::Drop {
            self.chats.too_long += 1;
            return;
        }
        tokens.truncate(max_length);
        // A position is marked if its next token is.
        let next = marks.iter().take(tokens.len()).skip(1).zip(0u32..);
        let positions: Vec<u32> = next.filter_map(|(&mark, position)| mark.then_some(position)).collect();
        if positions.is_empty() {
            self.chats.unanswered += 1;
            return;
        }
        self.chats.cut += u64::from(is_too_long);
        let is_end = |position: &u32| tokenizer.is_special(tokens[*position as usize + 1]);
        self.chats.ends += u64::from(positions.iter().any(is_end));
        self.chats.two_starts += u64::from(tokens[0] == tokens[1] && tokenizer.is_special(tokens[0]));
        self.chats.next_tokens += tokens.len() as u64 - 1;
        self.chats.learned += positions.len() as u64;
        self.marked.extend(positions);
        self.marked_ends.push(self.marked.len());
        self.origins.push(Origin { document, offset: 0 });
        self.documents += 1;
        self.document_tokens += tokens.len() as u64;
        self.tokens.extend(tokens);
        self.ends.push(self.tokens.len());
    }
}

/// The windows of all splits.
#[derive(Debug)]
pub(crate) struct Splits {
    max_length: usize,
    splits: Vec<Split>,
}

impl Splits {
    /// Splits without windows.
    pub(crate) fn new(max_length: usize) -> Self {
        Self { max_length, splits: vec![] }
    }

    /// Adds the windows of a document.
    pub(crate) fn append(&mut self, encoded: Encoded, tokenizer: &TextTokenizer) -> Result<()> {
        let at = self.splits.iter().position(|split| split.name == encoded.split).unwrap_or_else(|| {
            self.splits.push(Split::new(encoded.split));
            self.splits.len() - 1
        });
        let (split, document) = (&mut self.splits[at], &encoded.found.document);
        match encoded.tokens {
            Tokens::Divided(tokens) => split.append(document, tokens, tokenizer, self.max_length),
            Tokens::Conversation(marked) => {
                split.append_conversation(document.index, marked, tokenizer, self.max_length);
                Ok(())
            }
        }
    }

    /// The splits that have windows, or conversations that were left out: train, validation, test, then others by name.
    pub(crate) fn sorted(mut self) -> Vec<Split> {
        self.splits.retain(|split| !split.ends.is_empty() || !split.chats.is_zero());
        self.splits.sort_by(|a, b| order(&a.name).cmp(&order(&b.name)));
        self.splits
    }
}

/// Sorts the three usual splits first.
pub(crate) fn order(split: &str) -> (usize, &str) {
    let usual = ["train", "validation", "test"];
    (usual.iter().position(|name| *name == split).unwrap_or(usual.len()), split)
}

/// The part of `all` with this index, where each part starts at the end of the previous one.
fn part<'a>(all: &'a [u32], ends: &[usize], index: usize) -> Option<&'a [u32]> {
    let end = *ends.get(index)?;
    let start = index.checked_sub(1).map_or(0, |before| ends[before]);
    Some(&all[start..end])
}

/// See `fingerprint` of [`TextDataset`](crate::TextDataset).
pub(crate) fn fingerprint(splits: &[Split], max_length: usize, rendering: &BTreeMap<String, String>) -> Fingerprint {
    let mut fingerprint = Fingerprinter::new(max_length, rendering);
    for split in splits {
        fingerprint.split(&split.name, split.ends.len() as u64);
        let inputs: Vec<InputHash> = (0..split.ends.len())
            .into_par_iter()
            .map(|index| InputHash::of(split.window(index).unwrap_or_default()))
            .collect();
        for (index, (origin, input)) in split.origins.iter().zip(inputs).enumerate() {
            fingerprint.window(*origin, input, split.marked(index));
        }
    }
    fingerprint.finish()
}

/// Computes the fingerprint of a dataset from its windows, in order.
pub(crate) struct Fingerprinter(blake3::Hasher);

impl Fingerprinter {
    pub(crate) fn new(max_length: usize, rendering: &BTreeMap<String, String>) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("logitcask dataset v2");
        hasher.update(&(max_length as u64).to_le_bytes());
        for text in rendering.iter().flat_map(|(name, value)| [name, value]) {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        Self(hasher)
    }

    /// Begins a split with so many windows.
    pub(crate) fn split(&mut self, name: &str, windows: u64) {
        // Lengths precede what they count, so that different datasets never hash the same bytes.
        self.0.update(&(name.len() as u64).to_le_bytes());
        self.0.update(name.as_bytes());
        self.0.update(&windows.to_le_bytes());
    }

    /// Adds a window; `marked` are its marked positions if the dataset marks any.
    pub(crate) fn window(&mut self, origin: Origin, input: InputHash, marked: Option<&[u32]>) {
        self.0.update(&origin.document.to_le_bytes()).update(&origin.offset.to_le_bytes()).update(&input.0);
        if let Some(marked) = marked {
            self.0.update(&(marked.len() as u32).to_le_bytes());
            marked.iter().for_each(|position| _ = self.0.update(&position.to_le_bytes()));
        }
    }

    pub(crate) fn finish(&self) -> Fingerprint {
        self.0.finalize().into()
    }
}
