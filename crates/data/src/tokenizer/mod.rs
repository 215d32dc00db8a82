//! Text to tokens and back, without surprises: no special token appears that was not asked for, nothing is truncated.

mod llama2c;
#[cfg(test)]
mod tests;
mod train;

pub use train::train_byte_level_bpe;

use crate::error::{Error, Result};
use logitcask_core::Fingerprint;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use tokenizers::models::bpe::BPE;
use tokenizers::{DecoderWrapper, ModelWrapper, Tokenizer};

/// A tokenizer with the ids that start and end a document. Clones share the vocabulary.
#[derive(Clone)]
pub struct TextTokenizer {
    inner: Arc<Tokenizer>,
    bos: Option<u32>,
    end: Option<u32>,
    vocab_size: u32,
    fingerprint: Fingerprint,
}

impl TextTokenizer {
    /// Reads a Hugging Face `tokenizer.json`; `bos` goes before every window of a document, `end` after its last token.
    ///
    /// # Errors
    /// A file that cannot be read or understood, or a special id that the tokenizer does not have.
    pub fn from_json_file(path: &Path, bos: Option<u32>, end: Option<u32>) -> Result<Self> {
        Self::parse(path, &std::fs::read(path).map_err(Error::io(path))?, bos, end)
    }

    /// As [`Self::from_json_file`], from bytes at hand.
    ///
    /// # Errors
    /// Bytes that cannot be understood, or a special id that the tokenizer does not have.
    pub fn from_json_bytes(bytes: &[u8], bos: Option<u32>, end: Option<u32>) -> Result<Self> {
        Self::parse(Path::new("tokenizer.json"), bytes, bos, end)
    }

    /// `path` is for messages only.
    fn parse(path: &Path, bytes: &[u8], bos: Option<u32>, end: Option<u32>) -> Result<Self> {
        let refused = |source| Error::TokenizerJson { path: path.to_owned(), source };
        let mut inner = Tokenizer::from_bytes(bytes).map_err(refused)?;
        // A published file may carry its training's truncation, padding or dropout: a text would silently lose its end,
        // or become other tokens on every reading.
        inner.with_truncation(None).map_err(refused)?.with_padding(None);
        if let ModelWrapper::BPE(BPE { dropout: Some(_), .. }) = inner.get_model()
            && let ModelWrapper::BPE(mut model) = inner.get_model().clone()
        {
            model.dropout = None;
            inner.with_model(model);
        }
        // `<s>` in a document is three characters: only a dataset decides where a document starts.
        inner.set_encode_special_tokens(true);

        let vocab_size = inner.get_vocab(true).into_values().max().map_or(0, |highest| highest + 1);
        if let Some(id) = [bos, end].into_iter().flatten().find(|&id| id >= vocab_size) {
            return Err(Error::Token { id, vocab_size });
        }
        let json = inner.to_string(false).map_err(refused)?;
        let pinned = serde_json::to_vec(&(json, bos, end)).map_err(|e| refused(e.into()))?;
        Ok(Self { inner: Arc::new(inner), bos, end, vocab_size, fingerprint: Fingerprint::of(&pinned) })
    }

    /// The canonical `tokenizer.json`: however the tokenizer came to be, the same one gives the same bytes.
    ///
    /// # Errors
    /// Whatever the tokenizer library says.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        self.inner.to_string(false).map(String::into_bytes).map_err(Error::tokenizer)
    }

    /// Hash of [`Self::to_json`] and the two special ids.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Highest id + 1, added tokens included.
    pub fn vocab_size(&self) -> u32 {
        self.vocab_size
    }

    /// The token before every window.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token after every document.
    pub fn end(&self) -> Option<u32> {
        self.end
    }

    /// Tokens of `text` without any special token, not even where the text spells one out.
    ///
    /// # Errors
    /// Whatever the tokenizer library says about this text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, false).map_err(Error::tokenizer)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Text of `ids`, start and end tokens left out.
    ///
    /// # Errors
    /// An id that is no token of this tokenizer.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        if let Some(&id) = ids.iter().find(|&&id| self.inner.id_to_token(id).is_none()) {
            return Err(Error::Token { id, vocab_size: self.vocab_size });
        }
        let own: Vec<u32> = ids.iter().copied().filter(|&id| Some(id) != self.bos && Some(id) != self.end).collect();
        self.inner.decode(&own, false).map_err(Error::tokenizer)
    }

    /// One token as a reader of a table wants to see it: a space is `␣`, control characters are escaped (`\n`), and so are
    /// bytes that are no character by themselves (`\xe2`).
    pub fn token_text(&self, id: u32) -> String {
        let Some(piece) = self.inner.id_to_token(id) else {
            return format!("<no token {id}>");
        };
        if !self.inner.get_decoder().is_some_and(is_byte_level) {
            return visible(piece.replace('▁', " ").as_bytes());
        }
        // An added token is stored as it is, and may hold characters that stand for no byte.
        let bytes: Option<Vec<u8>> = piece.chars().map(byte_of).collect();
        visible(&bytes.unwrap_or_else(|| piece.into_bytes()))
    }
}

impl fmt::Debug for TextTokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { vocab_size, bos, end, fingerprint, .. } = self;
        write!(f, "TextTokenizer {{ vocab_size: {vocab_size}, bos: {bos:?}, end: {end:?}, {} }}", fingerprint.short())
    }
}

/// Do this decoder's pieces spell bytes by characters?
fn is_byte_level(decoder: &DecoderWrapper) -> bool {
    match decoder {
        DecoderWrapper::ByteLevel(_) => true,
        DecoderWrapper::Sequence(sequence) => sequence.get_decoders().iter().any(is_byte_level),
        _ => false,
    }
}

/// The byte that `c` stands for in a byte-level piece: printable Latin-1 characters are themselves, the other bytes are
/// numbered from U+0100 on (GPT-2's table).
fn byte_of(c: char) -> Option<u8> {
    let is_itself = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    match u8::try_from(u32::from(c)) {
        Ok(byte) => is_itself(byte).then_some(byte),
        Err(_) => (0..=255).filter(|&byte| !is_itself(byte)).nth((u32::from(c) - 0x100) as usize),
    }
}

/// See [`TextTokenizer::token_text`].
fn visible(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                ' ' => text.push('␣'),
                c if c.is_control() || c.is_whitespace() => text.extend(c.escape_default()),
                c => text.push(c),
            }
        }
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}
