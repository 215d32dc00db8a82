//! Special tokens that are spelled out in texts.

use tokenizers::{AddedVocabulary, NormalizerWrapper, OffsetReferential, OffsetType, Tokenizer};

/// A special token that occurs in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpelledOut {
    /// The token.
    pub token: String,
    /// Its id.
    pub id: u32,
    /// Number of characters before it.
    pub character: usize,
}

/// The special tokens of a tokenizer, prepared for the search in many texts.
pub(super) struct SpecialTexts {
    pub(super) vocabulary: AddedVocabulary,
    /// Whether one of them is matched in the normalised text.
    is_normalized: bool,
    contents: Vec<String>,
    /// The bytes with which they begin.
    is_first: [bool; 256],
}

impl SpecialTexts {
    pub(super) fn of(tokenizer: &Tokenizer) -> Self {
        let mut vocabulary = tokenizer.get_added_vocabulary().clone();
        vocabulary.set_encode_special_tokens(false);
        let special = || vocabulary.get_added_tokens_decoder().values().filter(|token| token.special);
        let is_normalized = special().any(|token| token.normalized);
        let contents: Vec<String> = special().map(|token| token.content.clone()).collect();
        let mut is_first = [false; 256];
        contents
            .iter()
            .filter_map(|content| content.bytes().next())
            .for_each(|byte| is_first[usize::from(byte)] = true);
        Self { vocabulary, is_normalized, contents, is_first }
    }

    /// The first special token that `text` contains.
    pub(super) fn find(&self, tokenizer: &Tokenizer, text: &str) -> Option<SpelledOut> {
        let (id, token, start) = self.places(tokenizer, text).into_iter().next()?;
        Some(SpelledOut { token, id, character: text.get(..start)?.chars().count() })
    }

    /// The special tokens that `text` contains, each with the place in bytes at which it begins.
    pub(super) fn all(&self, tokenizer: &Tokenizer, text: &str) -> Vec<(String, usize)> {
        self.places(tokenizer, text).into_iter().map(|(_, token, start)| (token, start)).collect()
    }

    /// The id, the text and the first byte of each special token in `text`, in order.
    fn places(&self, tokenizer: &Tokenizer, text: &str) -> Vec<(u32, String, usize)> {
        if !self.is_normalized && !self.may_contain(text) {
            return vec![];
        }
        let tokens = self.vocabulary.get_added_tokens_decoder();
        // Only tokens that request it are matched in the normalised text.
        let normalizer: Option<&NormalizerWrapper> = if self.is_normalized { tokenizer.get_normalizer() } else { None };
        let pieces = self.vocabulary.extract_and_normalize(normalizer, text);
        let splits = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte).into_iter();
        let place = |(_, (start, _), found): (_, (usize, _), &Option<Vec<tokenizers::Token>>)| {
            let id = found.as_ref()?.first()?.id;
            let token = tokens.get(&id).filter(|token| self.vocabulary.is_special_token(&token.content))?;
            text.is_char_boundary(start).then(|| (id, token.content.clone(), start))
        };
        splits.filter_map(place).collect()
    }

    /// Whether the letters of a special token occur in the text, which the library then decides: most texts have none,
    /// and its search takes as long as tokenising them.
    fn may_contain(&self, text: &str) -> bool {
        let bytes = text.as_bytes();
        let starts = bytes.iter().enumerate().filter(|(_, byte)| self.is_first[usize::from(**byte)]);
        starts
            .map(|(at, _)| &bytes[at..])
            .any(|rest| self.contents.iter().any(|token| rest.starts_with(token.as_bytes())))
    }
}
