//! The `tokenizer.bin` of llama2.c, a SentencePiece vocabulary with scores, converted back to the Hugging Face
//! tokenizer it was made from.
//!
//! Layout, little-endian: `i32` longest piece, then for every id `f32` score, `i32` length, bytes. Ids 0, 1, 2 are
//! unknown, start and end; 3..=258 are the bytes 0..=255, written as a character (older exports) or as `<0x41>` (newer
//! ones); the rest are ordinary pieces, with SentencePiece's `▁` written as a space.

use super::{TextTokenizer, sentencepiece};
use crate::error::{Error, Result};
use crate::source::read_file;
use serde_json::json;
use std::collections::HashMap;
use std::path::Path;

/// Id of byte 0; the next constant is that of the first ordinary piece.
const FIRST_BYTE: usize = 3;
const FIRST_PIECE: usize = 259;
/// Start and end of a document, see [`TextTokenizer::from_llama2c`].
const DELIMITER: u32 = 1;

impl TextTokenizer {
    /// Reads a `tokenizer.bin` of llama2.c with `vocab_size` pieces (the file does not contain their number).
    ///
    /// Start and end of a document are both token 1, `<s>`: the story models of llama2.c were trained on documents that
    /// each begin with it and never saw token 2, so such a model ends a story with the token 1 of the next one.
    ///
    /// # Errors
    /// A file that cannot be read, has another number of pieces, or does not have the layout above.
    pub fn from_llama2c(path: &Path, vocab_size: u32) -> Result<Self> {
        let bytes = read_file(path)?;
        let refused = |problem| Error::Llama2c { path: path.to_owned(), vocab_size, problem };
        let pieces = parse(&bytes, vocab_size as usize).map_err(refused)?;
        let vocabulary = vocabulary(&pieces).map_err(refused)?;
        // Only ordinary pieces merge: `<s>` and `<0x41>` never arise from the characters that spell them.
        let ordinary: Vec<(f32, &str)> =
            vocabulary[FIRST_PIECE..].iter().map(|(score, text)| (*score, text.as_str())).collect();
        let json = tokenizer_json(&vocabulary, &sentencepiece::merges(&ordinary));
        Self::parse(path, json.to_string().as_bytes(), &[], Some(DELIMITER))
    }
}

/// Score and bytes of every id.
fn parse(bytes: &[u8], vocab_size: usize) -> Result<Vec<(f32, &[u8])>, String> {
    let mut rest = bytes;
    word(&mut rest).ok_or("it ends before its first piece")?;
    let mut pieces = vec![];
    for id in 0..vocab_size {
        let at = bytes.len() - rest.len();
        let piece = read_piece(&mut rest)
            .ok_or_else(|| format!("piece {id} at byte {at} goes past the end of the file, {} bytes", bytes.len()))?;
        pieces.push(piece);
    }
    match rest.len() {
        0 => Ok(pieces),
        left => Err(format!("{left} bytes are left over; give the vocabulary size of the model that it belongs to")),
    }
}

/// Reads one score, length and text; returns `None` at the end of the file or if the length is negative.
fn read_piece<'a>(rest: &mut &'a [u8]) -> Option<(f32, &'a [u8])> {
    let score = f32::from_le_bytes(word(rest)?);
    let length = usize::try_from(i32::from_le_bytes(word(rest)?)).ok()?;
    let (text, later) = rest.split_at_checked(length)?;
    *rest = later;
    Some((score, text))
}

/// Reads the next four bytes.
fn word(rest: &mut &[u8]) -> Option<[u8; 4]> {
    let (word, later) = rest.split_first_chunk()?;
    *rest = later;
    Some(*word)
}

/// Score and Hugging Face text of every id.
fn vocabulary(pieces: &[(f32, &[u8])]) -> Result<Vec<(f32, String)>, String> {
    let mut vocabulary = vec![];
    for (id, &(score, bytes)) in pieces.iter().enumerate() {
        let text = match id {
            0 => "<unk>".to_owned(),
            1 => "<s>".to_owned(),
            2 => "</s>".to_owned(),
            FIRST_BYTE..FIRST_PIECE => byte_piece(bytes, (id - FIRST_BYTE) as u8)
                .ok_or_else(|| format!("piece {id} is {bytes:02x?}, expected byte {:02x}", id - FIRST_BYTE))?,
            _ => std::str::from_utf8(bytes).map_err(|e| format!("piece {id} is not UTF-8: {e}"))?.replace(' ', "▁"),
        };
        vocabulary.push((score, text));
    }
    if vocabulary.len() <= FIRST_PIECE {
        return Err(format!("a vocabulary has more than {FIRST_PIECE} pieces"));
    }
    let mut ids = HashMap::new();
    for (id, (_, text)) in vocabulary.iter().enumerate() {
        if let Some(earlier) = ids.insert(text.as_str(), id) {
            return Err(format!("pieces {earlier} and {id} are both {text:?}"));
        }
    }
    Ok(vocabulary)
}

/// Returns `<0x41>` for byte 0x41 in any of the exports' spellings (the older one wrote the *character* with that
/// number, in UTF-8); `None` if `piece` is something else.
fn byte_piece(piece: &[u8], byte: u8) -> Option<String> {
    let name = format!("<0x{byte:02X}>");
    let spellings = [name.as_bytes(), char::from(byte).encode_utf8(&mut [0; 2]).as_bytes()].contains(&piece);
    spellings.then_some(name)
}

/// The `tokenizer.json` that Hugging Face's converter makes from a Llama SentencePiece model.
fn tokenizer_json(vocabulary: &[(f32, String)], merges: &[(&str, &str)]) -> serde_json::Value {
    let ids: serde_json::Map<_, _> =
        vocabulary.iter().enumerate().map(|(id, (_, text))| (text.clone(), json!(id))).collect();
    let special = |id: usize| {
        json!({
            "id": id, "content": vocabulary[id].1, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        })
    };
    let start = |text: usize| json!({"SpecialToken": {"id": vocabulary[DELIMITER as usize].1, "type_id": text}});
    let text = |name: &str, text: usize| json!({"Sequence": {"id": name, "type_id": text}});
    json!({
        "version": "1.0",
        "added_tokens": [special(0), special(1), special(2)],
        "normalizer": sentencepiece::normalizer(true),
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [start(0), text("A", 0)],
            "pair": [start(0), text("A", 0), start(1), text("B", 1)],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [DELIMITER], "tokens": ["<s>"]}},
        },
        "decoder": sentencepiece::decoder(true),
        "model": {
            "type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
            "vocab": ids, "merges": merges,
        },
    })
}

#[cfg(test)]
#[path = "llama2c_tests.rs"]
mod tests;
