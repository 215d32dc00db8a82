//! SentencePiece's BPE, whose pieces have scores.

use super::super::sentencepiece::{decoder, merges, normalizer};
use super::{CONTROL, Parts, Problem, UNKNOWN, UNUSED};
use logitcask_gguf::{GgufFile, Numbers, Value as Gguf};
use serde_json::{Value, json};

/// The kind of the tokens for single bytes, `<0x41>`.
const BYTE: i64 = 6;

/// The parts of a tokenizer with these pieces.
pub(super) fn parts(
    file: &GgufFile,
    tokens: &[String],
    kinds: &[i64],
    vocabulary: &impl serde::Serialize,
) -> Result<Parts, Problem> {
    let key = "tokenizer.ggml.scores";
    let scores = file.required(key, "a list of numbers with fractions", |value| match value {
        Gguf::NumberList(Numbers::Float(scores)) => Some(scores),
        _ => None,
    })?;
    if scores.len() != tokens.len() {
        return Err(Problem::Other(format!("`{key}` has {} scores for {} tokens", scores.len(), tokens.len())));
    }
    // Only ordinary pieces merge: `<s>` and `<0x41>` never arise from the characters that spell them.
    let pieces =
        tokens.iter().zip(scores).zip(kinds).filter(|(_, kind)| ![UNKNOWN, CONTROL, UNUSED, BYTE].contains(*kind));
    let pieces: Vec<(f32, &str)> = pieces.map(|((text, &score), _)| (score as f32, text.as_str())).collect();
    let says = file.optional("tokenizer.ggml.add_space_prefix", "a truth value", Gguf::as_bool)?;
    let has_space = says.unwrap_or(true);
    let unknown = kinds.iter().position(|&kind| kind == UNKNOWN).map(|id| &tokens[id]);
    Ok(Parts {
        normalizer: normalizer(has_space),
        pre_tokenizer: Value::Null,
        plain_post_processor: Value::Null,
        decoder: decoder(has_space),
        model: json!({
            "type": "BPE", "unk_token": unknown, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
            "vocab": vocabulary, "merges": merges(&pieces),
        }),
        adds_bos: true,
    })
}
