//! The tokenizer in the metadata of a GGUF file, as the `tokenizer.json` of the model that the file was made from.
//!
//! `tokenizer.ggml.tokens` has the text of every id and `token_type` its kind. A tokenizer of the model `gpt2` is
//! byte-level BPE: `merges` has its merges, and `pre` names the rule by which a text is cut into words; the rules are
//! those of the published `tokenizer.json` of the models that llama.cpp calls by these names. One of the model `llama`
//! is SentencePiece's BPE: `scores` order its merges.

mod byte_level;
mod chat;
mod pieces;

use super::TextTokenizer;
use crate::error::{Error, Result};
use logitcask_gguf::{GgufFile, Numbers, Value as Gguf};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;

/// Kinds of tokens.
const UNKNOWN: i64 = 2;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;
const UNUSED: i64 = 5;

impl TextTokenizer {
    /// Reads the tokenizer of a GGUF file, with its chat templates. A document ends with
    /// `tokenizer.ggml.eos_token_id`.
    ///
    /// # Errors
    /// A file that cannot be read, or whose tokenizer is of a kind that this build does not know.
    pub fn from_gguf(path: &Path) -> Result<Self> {
        let file = GgufFile::open(path).map_err(|e| Error::Gguf { problem: e.to_string() })?;
        let refused = |problem| Error::TokenizerPart { path: path.to_owned(), problem };
        let named = |problem| match problem {
            Problem::Gguf(error) => Error::Gguf { problem: error.to_string() },
            Problem::Other(problem) => refused(problem),
        };
        let json = tokenizer_json(&file).map_err(named)?;
        let end = id(&file, "eos").map_err(|e| Error::Gguf { problem: e.to_string() })?;
        let chat = chat::files(&file).map_err(named)?;
        Ok(Self::parse(path, json.to_string().as_bytes(), &[], end)?.with_chat_files(chat))
    }
}

/// Why there is no tokenizer.
enum Problem {
    Gguf(logitcask_gguf::Error),
    Other(String),
}

impl From<logitcask_gguf::Error> for Problem {
    fn from(error: logitcask_gguf::Error) -> Self {
        Self::Gguf(error)
    }
}

impl From<String> for Problem {
    fn from(problem: String) -> Self {
        Self::Other(problem)
    }
}

/// The id of a special token.
fn id(file: &GgufFile, name: &str) -> Result<Option<u32>, logitcask_gguf::Error> {
    let key = format!("tokenizer.ggml.{name}_token_id");
    file.optional(&key, "a token", |value| value.as_u64().and_then(|id| u32::try_from(id).ok()))
}

/// What differs between kinds of tokenizers.
struct Parts {
    normalizer: Value,
    pre_tokenizer: Value,
    /// The post-processor of a tokenizer that puts no tokens around a text.
    plain_post_processor: Value,
    decoder: Value,
    model: Value,
    /// Whether a text starts with the start token if the file does not say.
    adds_bos: bool,
}

/// The `tokenizer.json` that the metadata describe.
fn tokenizer_json(file: &GgufFile) -> Result<Value, Problem> {
    let model = file.required("tokenizer.ggml.model", "a text", Gguf::as_text)?;
    let tokens = texts(file, "tokenizer.ggml.tokens")?;
    let kinds = kinds(file, tokens.len())?;
    let mut vocabulary: HashMap<&str, usize> = HashMap::new();
    for (id, token) in tokens.iter().enumerate().filter(|(id, _)| kinds[*id] != UNUSED) {
        if let Some(earlier) = vocabulary.insert(token, id) {
            return Err(Problem::Other(format!("its tokens {earlier} and {id} are both {token:?}")));
        }
    }
    let parts = match model {
        "gpt2" => byte_level::parts(file, &vocabulary)?,
        "llama" => pieces::parts(file, tokens, &kinds, &vocabulary)?,
        other => {
            return Err(Problem::Other(format!(
                "its tokenizer is of the kind `{other}` (`tokenizer.ggml.model`), and of a GGUF file this build reads \
                 `gpt2` (byte-level BPE) and `llama` (SentencePiece BPE); take the Hugging Face folder that the file was \
                 made from"
            )));
        }
    };
    Ok(json!({
        "version": "1.0",
        "added_tokens": added_tokens(tokens, &kinds),
        "normalizer": parts.normalizer,
        "pre_tokenizer": parts.pre_tokenizer,
        "post_processor": around(file, parts.adds_bos, tokens)?.unwrap_or(parts.plain_post_processor),
        "decoder": parts.decoder,
        "model": parts.model,
    }))
}

/// The list of texts with this key.
fn texts<'a>(file: &'a GgufFile, key: &str) -> Result<&'a [String], Problem> {
    let read = |value: &'a Gguf| match value {
        Gguf::TextList(texts) => Some(texts.as_slice()),
        _ => None,
    };
    Ok(file.required(key, "a list of texts", read)?)
}

/// The kind of every token.
fn kinds(file: &GgufFile, count: usize) -> Result<Vec<i64>, Problem> {
    let key = "tokenizer.ggml.token_type";
    let kinds = file.required(key, "a list of whole numbers", |value| match value {
        Gguf::NumberList(Numbers::Signed(kinds)) => Some(kinds.clone()),
        Gguf::NumberList(Numbers::Unsigned(kinds)) => Some(kinds.iter().map(|&kind| kind as i64).collect()),
        _ => None,
    })?;
    match kinds.len() == count {
        true => Ok(kinds),
        false => Err(Problem::Other(format!("`{key}` has {} kinds for {count} tokens", kinds.len()))),
    }
}

/// The tokens that a text is searched for before it is cut into words.
fn added_tokens(tokens: &[String], kinds: &[i64]) -> Vec<Value> {
    let added = |(id, (content, &kind)): (usize, (&String, &i64))| {
        let is_special = [UNKNOWN, CONTROL].contains(&kind);
        (is_special || kind == USER_DEFINED).then(|| {
            json!({
                "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": is_special,
            })
        })
    };
    tokens.iter().zip(kinds).enumerate().filter_map(added).collect()
}

/// The post-processor, which puts the start token in front of a text and an end token behind it, if the file says so.
fn around(file: &GgufFile, adds_bos: bool, tokens: &[String]) -> Result<Option<Value>, Problem> {
    let says = |key: &str| file.optional(&format!("tokenizer.ggml.{key}"), "a truth value", Gguf::as_bool);
    let is_added = [says("add_bos_token")?.unwrap_or(adds_bos), says("add_eos_token")?.unwrap_or(false)];
    let mut sides = [None, None];
    for ((side, name), _) in sides.iter_mut().zip(["bos", "eos"]).zip(is_added).filter(|(_, is_added)| *is_added) {
        let id = id(file, name)?.ok_or_else(|| format!("every text needs its {name} token, and it names none"))?;
        let text =
            tokens.get(id as usize).ok_or_else(|| format!("its {name} token is {id}, which it does not have"))?;
        *side = Some((id, text));
    }
    if sides == [None, None] {
        return Ok(None);
    }
    let template = |names: &[(&str, u32)]| {
        let special = |side: Option<(u32, &String)>, text: u32| {
            side.map(|(_, token)| json!({"SpecialToken": {"id": token, "type_id": text}}))
        };
        let one = |&(name, text): &(&str, u32)| {
            let own = json!({"Sequence": {"id": name, "type_id": text}});
            [special(sides[0], text), Some(own), special(sides[1], text)].into_iter().flatten().collect::<Vec<_>>()
        };
        names.iter().flat_map(one).collect::<Vec<_>>()
    };
    let special = |(id, token): (u32, &String)| (token.clone(), json!({"id": token, "ids": [id], "tokens": [token]}));
    let special: serde_json::Map<_, _> = sides.into_iter().flatten().map(special).collect();
    Ok(Some(json!({
        "type": "TemplateProcessing",
        "single": template(&[("A", 0)]),
        "pair": template(&[("A", 0), ("B", 1)]),
        "special_tokens": special,
    })))
}

#[cfg(test)]
mod tests;
