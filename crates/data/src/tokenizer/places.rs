//! Tokens with the text that each stands for.

use super::TextTokenizer;
use crate::chat::BREAK;
use crate::error::{Error, Result};
use std::ops::Range;
use tokenizers::{Model, OffsetReferential, OffsetType, PreTokenizer};

/// A token of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) id: u32,
    /// Its bytes in the text. The tokens of one character that is divided among several all have its bytes.
    pub(crate) place: Range<usize>,
}

impl TextTokenizer {
    /// The tokens of [`Self::encode`] with their places; `parses` turns special tokens that are spelled out into these.
    ///
    /// A special token with [`BREAK`] in it is text all the same, as if it stood there without. The library's own
    /// `encode` is not used for two reasons: it knows no such exceptions, and a post-processor may take the white space
    /// around a token from its place, so that a space at the beginning of an answer would belong to nobody.
    pub(crate) fn encode_with_places(&self, text: &str, parses: bool) -> Result<Vec<Token>> {
        let vocabulary = match parses {
            true => &self.special.vocabulary,
            false => self.inner.get_added_vocabulary(),
        };
        let mut pieces = vocabulary.extract_and_normalize(self.inner.get_normalizer(), text);
        if text.contains(BREAK) {
            let unbroken = pieces.normalize(|piece| {
                piece.filter(|c| c != BREAK);
                Ok(())
            });
            unbroken.map_err(Error::tokenizer)?;
        }
        if let Some(rule) = self.inner.get_pre_tokenizer() {
            rule.pre_tokenize(&mut pieces).map_err(Error::tokenizer)?;
        }
        self.inner.get_model().tokenize_in_pretokenized(&mut pieces, None).map_err(Error::tokenizer)?;
        let encoding = pieces.into_encoding(None, 0, OffsetType::Byte).map_err(Error::tokenizer)?;
        let places = encoding.get_offsets().iter().map(|&(start, end)| start..end);
        Ok(encoding.get_ids().iter().zip(places).map(|(&id, place)| Token { id, place }).collect())
    }

    /// Where the added tokens in a text begin and end, in bytes.
    pub(crate) fn added_token_edges(&self, text: &str) -> Vec<usize> {
        let pieces = self.special.vocabulary.extract_and_normalize(self.inner.get_normalizer(), text);
        let splits = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
        splits
            .into_iter()
            .filter(|(.., tokens)| tokens.is_some())
            .flat_map(|(_, (start, end), _)| [start, end])
            .collect()
    }

    /// The text with [`BREAK`] behind the first character of every special token that it spells out.
    pub(crate) fn break_up(&self, text: &str) -> String {
        let mut broken = text.to_owned();
        // Once for all that it spells out, and again for those that show only where others are broken.
        loop {
            let (mut next, mut copied) = (String::with_capacity(broken.len()), 0);
            for (token, from) in self.special.all(&self.inner, &broken) {
                // The place may begin with white space that the token takes in.
                let first = token.chars().next().map_or(0, char::len_utf8);
                // A token of one character cannot be broken.
                if let Some(at) = broken[from..].find(&token).filter(|_| first < token.len()) {
                    next.push_str(&broken[copied..from + at + first]);
                    next.push(BREAK);
                    copied = from + at + first;
                }
            }
            if next.is_empty() {
                return broken;
            }
            next.push_str(&broken[copied..]);
            broken = next;
        }
    }

    /// Whether a token is one of the special ones.
    pub(crate) fn is_special(&self, id: u32) -> bool {
        self.special.vocabulary.get_added_tokens_decoder().get(&id).is_some_and(|token| token.special)
    }
}
