//! Conversion of text to tokens and back, without surprises: the tokenizer's own file determines what starts and ends a
//! text, the caller determines the meaning of special tokens in a text, and nothing is truncated.

mod explain;
mod folder;
mod gguf;
mod llama2c;
mod places;
mod sentencepiece;
mod special;
mod template;
#[cfg(test)]
mod tests;
mod train;

pub(crate) use folder::ATTRIBUTES;
pub use folder::SpecialIds;
pub(crate) use places::Token;
pub use special::SpelledOut;
pub use train::train_byte_level_bpe;

use crate::chat::ChatFiles;
use crate::error::{Error, Result};
use crate::source::read_file;
use logitcask_core::Fingerprint;
use special::SpecialTexts;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use tokenizers::models::bpe::BPE;
use tokenizers::{AddedToken, DecoderWrapper, ModelWrapper, Tokenizer};

/// A tokenizer with the ids that start and end a document. Clones share the vocabulary.
///
/// The start token is the one that the post-processor of `tokenizer.json` puts before a text, if any: a model was
/// trained on the output of its tokenizer, whatever other file names a `bos_token_id`.
///
/// # Examples
/// ```
/// use logitcask_data::train_byte_level_bpe;
///
/// let tokenizer = train_byte_level_bpe(["the cat and the dog".to_owned()].into_iter(), 258)?;
/// assert_eq!((tokenizer.vocab_size(), tokenizer.bos()), (258, Some(0)));
/// let ids = tokenizer.encode("any text at all: §")?;
/// assert_eq!(tokenizer.decode(&ids)?, "any text at all: §");
/// assert_eq!(tokenizer.token_text(0), "<|endoftext|>");
/// # Ok::<(), logitcask_data::Error>(())
/// ```
#[derive(Clone)]
pub struct TextTokenizer {
    inner: Arc<Tokenizer>,
    special: Arc<SpecialTexts>,
    json: Arc<[u8]>,
    added: Arc<[(u32, String)]>,
    chat: Arc<ChatFiles>,
    bos: Option<u32>,
    end: Option<u32>,
    vocab_size: u32,
    fingerprint: Fingerprint,
}

impl TextTokenizer {
    /// Reads a Hugging Face `tokenizer.json`; `end` is added after a document's last token. If the post-processor puts
    /// a token after every text, that token is the end, and `end` is not required.
    ///
    /// # Errors
    /// A file that cannot be read or interpreted, a post-processor that puts more than one token before or after a
    /// text, or an `end` that contradicts it or that the tokenizer does not have.
    pub fn from_json_file(path: &Path, end: Option<u32>) -> Result<Self> {
        Self::parse(path, &read_file(path)?, &[], end)
    }

    /// The same as [`Self::from_json_file`], from bytes in memory, with special tokens that are not in the file (see
    /// [`Self::added_tokens`]).
    ///
    /// # Errors
    /// The same as for [`Self::from_json_file`]; an extra token that would get an id other than the given one.
    pub fn from_json_bytes(bytes: &[u8], extra_tokens: &[(u32, String)], end: Option<u32>) -> Result<Self> {
        Self::parse(Path::new("tokenizer.json"), bytes, extra_tokens, end)
    }

    /// `path` is only used in messages.
    fn parse(path: &Path, bytes: &[u8], extra_tokens: &[(u32, String)], end: Option<u32>) -> Result<Self> {
        let mut inner = understand(path, bytes)?;
        let added = add_special(path, &mut inner, extra_tokens.iter().map(|(_, content)| content.clone()))?;
        if let Some((got, wanted)) = added.iter().zip(extra_tokens).find(|(got, wanted)| got != wanted) {
            let problem = format!(
                "`{}` gets the id {} beside it, not {}; it belongs to another tokenizer",
                wanted.1, got.0, wanted.0
            );
            return Err(Error::TokenizerPart { path: path.to_owned(), problem });
        }
        let around = template::around(path, &inner)?;
        if let (Some(own), Some(other)) = (around.end, end)
            && own != other
        {
            let (own, other) = (named(&inner, own), named(&inner, other));
            let problem = format!("its post-processor ends every text with {own}, and {other} was given as the end");
            return Err(Error::TokenizerPart { path: path.to_owned(), problem });
        }
        Self::assemble(inner, bytes, added, around.bos, around.end.or(end))
    }

    /// Checks the special ids and builds the tokenizer.
    fn assemble(
        inner: Tokenizer,
        bytes: &[u8],
        added: Vec<(u32, String)>,
        bos: Option<u32>,
        end: Option<u32>,
    ) -> Result<Self> {
        let vocab_size = inner.get_vocab(true).into_values().max().map_or(0, |highest| highest.saturating_add(1));
        if let Some(id) = [bos, end].into_iter().flatten().find(|&id| id >= vocab_size) {
            return Err(Error::Token { id, vocab_size });
        }
        let fingerprint = Fingerprint::of(bytes);
        let special = Arc::new(SpecialTexts::of(&inner));
        let (inner, json, added) = (Arc::new(inner), bytes.into(), added.into());
        let chat = Arc::default();
        Ok(Self { inner, special, json, added, chat, bos, end, vocab_size, fingerprint })
    }

    /// The same tokenizer with the chat templates and names of special tokens from other files.
    pub fn with_chat_files(self, files: ChatFiles) -> Self {
        Self { chat: Arc::new(files), ..self }
    }

    /// What the model's folder says about conversations; empty for a tokenizer that came without such files.
    pub fn chat_files(&self) -> &ChatFiles {
        &self.chat
    }

    /// The `tokenizer.json`, byte for byte as it was read or generated.
    pub fn json(&self) -> &[u8] {
        &self.json
    }

    /// BLAKE3 of [`Self::json`]. The tokens of a text also depend on [`Self::added_tokens`], [`Self::bos`] and
    /// [`Self::eos`].
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Special tokens that the folder's `tokenizer_config.json` names but its `tokenizer.json` does not have as such,
    /// with the ids they were assigned.
    pub fn added_tokens(&self) -> &[(u32, String)] {
        &self.added
    }

    /// Highest id + 1, including added tokens.
    pub fn vocab_size(&self) -> u32 {
        self.vocab_size
    }

    /// The token before every window.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token after every document.
    pub fn eos(&self) -> Option<u32> {
        self.end
    }

    /// The token that the files of its chat template call `eos_token`: what ends an answer, if that is another one than
    /// [`Self::eos`].
    pub fn end_of_answer(&self) -> Option<u32> {
        let (_, text) = self.chat.special_tokens().find(|(name, _)| *name == "eos_token")?;
        self.inner.token_to_id(text)
    }

    /// Tokens of `text`, without start and end tokens. A special token that the text contains (`<s>`) is treated as
    /// ordinary text; an added token that is not special (`<think>`) is a token.
    ///
    /// # Errors
    /// Any error of the tokenizer library for this text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, false).map_err(Error::tokenizer)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// A copy whose [`Self::encode`] converts special tokens in a text to these tokens, as Hugging Face's
    /// `AutoTokenizer` does.
    pub fn parsing(&self) -> Self {
        let mut inner = Tokenizer::clone(&self.inner);
        inner.set_encode_special_tokens(false);
        Self { inner: Arc::new(inner), ..self.clone() }
    }

    /// The first special token that `text` contains.
    pub fn spelled_out(&self, text: &str) -> Option<SpelledOut> {
        self.special.find(&self.inner, text)
    }

    /// Text of `ids`, without start and end tokens.
    ///
    /// # Errors
    /// An id that is not a token of this tokenizer.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.check_ids(ids)?;
        let own: Vec<u32> = ids.iter().copied().filter(|&id| Some(id) != self.bos && Some(id) != self.end).collect();
        self.inner.decode(&own, false).map_err(Error::tokenizer)
    }

    /// Text of `ids`, special tokens and all.
    ///
    /// # Errors
    /// The same as for [`Self::decode`].
    pub fn decode_verbatim(&self, ids: &[u32]) -> Result<String> {
        self.check_ids(ids)?;
        self.inner.decode(ids, false).map_err(Error::tokenizer)
    }

    fn check_ids(&self, ids: &[u32]) -> Result<()> {
        match ids.iter().find(|&&id| self.inner.id_to_token(id).is_none()) {
            Some(&id) => Err(Error::Token { id, vocab_size: self.vocab_size }),
            None => Ok(()),
        }
    }

    /// A token as displayed in a table: a space is `␣`, and control characters (`\n`) and bytes that are not a
    /// character by themselves (`\xe2`) are escaped.
    pub fn token_text(&self, id: u32) -> String {
        let Some(piece) = self.inner.id_to_token(id) else {
            return format!("<no token {id}>");
        };
        if !self.inner.get_decoder().is_some_and(is_byte_level) {
            return visible(piece.replace('▁', " ").as_bytes());
        }
        // An added token is stored as it is, and may contain characters that represent no byte.
        let bytes: Option<Vec<u8>> = piece.chars().map(byte_of).collect();
        visible(&bytes.unwrap_or_else(|| piece.into_bytes()))
    }
}

/// Parses the library's tokenizer and disables everything in it that would silently change a text.
fn understand(path: &Path, bytes: &[u8]) -> Result<Tokenizer> {
    let refused = |problem| Error::TokenizerJson { path: path.to_owned(), problem };
    let mut inner = Tokenizer::from_bytes(bytes).map_err(|e| refused(explain::explain(bytes, &e.to_string())))?;
    // A published file may contain the truncation, padding or dropout used in training: a text would silently lose its
    // end, or be tokenised differently each time.
    inner.with_truncation(None).map_err(|e| refused(e.to_string()))?.with_padding(None);
    if let ModelWrapper::BPE(BPE { dropout: Some(_), .. }) = inner.get_model()
        && let ModelWrapper::BPE(mut model) = inner.get_model().clone()
    {
        model.dropout = None;
        inner.with_model(model);
    }
    inner.set_encode_special_tokens(true);
    Ok(inner)
}

/// Adds special tokens after the existing ones and returns their ids.
fn add_special(
    path: &Path,
    inner: &mut Tokenizer,
    contents: impl Iterator<Item = String>,
) -> Result<Vec<(u32, String)>> {
    let contents: Vec<String> = contents.collect();
    let refused = |problem| Error::TokenizerPart { path: path.to_owned(), problem };
    let tokens = contents.iter().map(|content| AddedToken::from(content.as_str(), true));
    inner.add_special_tokens(tokens).map_err(|e| refused(e.to_string()))?;
    let id = |content: String| match inner.token_to_id(&content) {
        Some(id) => Ok((id, content)),
        None => Err(refused(format!("the special token `{content}` cannot be added to it"))),
    };
    contents.into_iter().map(id).collect()
}

/// A token as shown in messages.
fn named(inner: &Tokenizer, id: u32) -> String {
    inner.id_to_token(id).map_or_else(|| id.to_string(), |token| format!("`{token}` ({id})"))
}

impl fmt::Debug for TextTokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { vocab_size, bos, end, fingerprint, .. } = self;
        write!(f, "TextTokenizer {{ vocab_size: {vocab_size}, bos: {bos:?}, end: {end:?}, {} }}", fingerprint.short())
    }
}

/// Whether this decoder's pieces represent bytes by characters.
fn is_byte_level(decoder: &DecoderWrapper) -> bool {
    match decoder {
        DecoderWrapper::ByteLevel(_) => true,
        DecoderWrapper::Sequence(sequence) => sequence.get_decoders().iter().any(is_byte_level),
        _ => false,
    }
}

/// The byte that `c` represents in a byte-level piece: printable Latin-1 characters represent themselves, and the other
/// bytes are numbered from U+0100 on (GPT-2's table).
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
