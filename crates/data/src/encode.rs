//! From documents to tokens, in order and in bounded batches: one thread reads, the others tokenise.

use crate::chat::{ChatError, Marked, Renderer};
use crate::document::Content;
use crate::error::{Error, Result};
use crate::source::{Found, Source, SpecialTokens, Tally};
use crate::split_rule::SplitRule;
use crate::tokenizer::TextTokenizer;
use rayon::prelude::*;
use std::ops::Range;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

/// Bytes of a batch, and what a document takes beside its content.
const BATCH_BYTES: usize = if cfg!(test) { 1 << 12 } else { 4 << 20 };
const DOCUMENT_BYTES: usize = 64;
/// Number of batches that are read ahead.
const AHEAD: usize = 2;

/// Turns documents into tokens.
pub(crate) struct Encoder<'a> {
    source: &'a Source<'a>,
    rule: SpecialTokens,
    tokenizer: TextTokenizer,
    splits: SplitRule,
    renderer: Option<&'a Renderer>,
}

/// A document with its tokens, and the name of its split.
pub(crate) struct Encoded {
    pub(crate) found: Found,
    pub(crate) tokens: Tokens,
    pub(crate) split: String,
}

/// The tokens of a document.
pub(crate) enum Tokens {
    /// They are divided into windows. A text has no start and end token yet.
    Divided(Vec<u32>),
    /// A conversation, which stays whole.
    Conversation(Marked),
}

impl<'a> Encoder<'a> {
    pub(crate) fn new(
        source: &'a Source<'a>,
        rule: SpecialTokens,
        tokenizer: &TextTokenizer,
        splits: SplitRule,
        renderer: Option<&'a Renderer>,
    ) -> Self {
        let tokenizer = match rule {
            SpecialTokens::Parse => tokenizer.parsing(),
            SpecialTokens::Refuse | SpecialTokens::Plain => tokenizer.clone(),
        };
        Self { source, rule, tokenizer, splits, renderer }
    }

    /// Reads and tokenises the documents of some consecutive files. `each` receives them in order, in batches that
    /// depend on nothing but the documents.
    pub(crate) fn run(
        &self,
        files: Range<usize>,
        before: Tally,
        each: &mut dyn FnMut(Vec<Found>) -> Result<()>,
    ) -> Result<Tally> {
        thread::scope(|scope| {
            let (sender, batches) = sync_channel(AHEAD);
            let reader = scope.spawn(move || self.read(files, before, &sender));
            let passed = batches.into_iter().try_for_each(each);
            let read = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            // What was read before the reader failed comes first.
            passed.and(read)
        })
    }

    fn read(&self, files: Range<usize>, before: Tally, batches: &SyncSender<Vec<Found>>) -> Result<Tally> {
        let (mut batch, mut bytes) = (vec![], 0);
        // If nobody receives any more, the receiver has failed, and its error is the one that counts.
        let send = |batch| batches.send(batch).map_err(|_| Error::Stopped);
        let tally = self.source.read(files, before, &mut |found| {
            bytes += found.document.content.bytes() + DOCUMENT_BYTES;
            batch.push(found);
            if bytes < BATCH_BYTES {
                return Ok(());
            }
            bytes = 0;
            send(std::mem::take(&mut batch))
        })?;
        if !batch.is_empty() {
            send(batch)?;
        }
        Ok(tally)
    }

    /// Tokenises a batch in parallel.
    pub(crate) fn encode(&self, batch: Vec<Found>) -> Result<Vec<Encoded>> {
        if self.rule == SpecialTokens::Refuse {
            // The first in document order, whichever thread finds it.
            let spelled_out = batch.par_iter().find_map_first(|found| {
                let token = self.tokenizer.spelled_out(found.document.content.text()?)?;
                Some((found, token))
            });
            if let Some((found, spelled_out)) = spelled_out {
                let (path, document) = (self.path(found).to_owned(), found.row);
                let (token, id, character) = (spelled_out.token, spelled_out.id, spelled_out.character);
                return Err(Error::SpelledOut { path, document, token, id, character });
            }
        }
        // The first error in document order, too.
        let encoded: Vec<Result<Encoded>> = batch.into_par_iter().map(|found| self.document(found)).collect();
        encoded.into_iter().collect()
    }

    fn document(&self, mut found: Found) -> Result<Encoded> {
        let split = self.splits.name(&found.document)?;
        let tokens = match &mut found.document.content {
            Content::Text(text) => Tokens::Divided(self.tokenizer.encode(text)?),
            Content::Conversation(conversation) => {
                let marked = match self.renderer {
                    Some(renderer) => renderer.encode(conversation, &self.tokenizer),
                    None => Err("no renderer was opened for it".to_owned()),
                };
                let (path, document) = (self.path(&found).to_owned(), found.row);
                Tokens::Conversation(marked.map_err(|problem| ChatError::Conversation { path, document, problem })?)
            }
            Content::Tokens(row) => {
                let tokens = std::mem::take(&mut row.ids);
                self.check(&tokens, &found)?;
                Tokens::Divided(tokens)
            }
        };
        Ok(Encoded { found, tokens, split })
    }

    fn check(&self, tokens: &[u32], found: &Found) -> Result<()> {
        let known = self.tokenizer.vocab_size();
        let Some(token) = tokens.iter().find(|&&id| id >= known) else { return Ok(()) };
        let (path, place) = (self.path(found).to_owned(), format!("row {} (counted from 0)", found.row));
        let problem = format!(
            "token {token} is not one of the tokenizer's {known}; were these rows made with another tokenizer?"
        );
        Err(Error::TokenRow { path, place, problem })
    }

    fn path(&self, found: &Found) -> &Path {
        &self.source.files()[found.file].path
    }
}
