//! The tokenizer of a model's folder: `tokenizer.json`, supplemented by `tokenizer_config.json` and `config.json`.

use super::{TextTokenizer, add_special, named, template, understand};
use crate::chat::ChatFiles;
use crate::error::{Error, Result};
use crate::source::read_file;
use serde_json::{Map, Value};
use std::path::Path;
use tokenizers::Tokenizer;

/// The special ids in a model's `config.json`. They do not determine what a tokenizer writes.
#[derive(Clone, Copy, Debug, Default)]
pub struct SpecialIds<'a> {
    /// `bos_token_id`.
    pub bos: Option<u32>,
    /// `eos_token_id`, one or several.
    pub eos: &'a [u32],
}

/// Attributes of `tokenizer_config.json` that name a special token, in the order in which `AutoTokenizer` adds them.
pub(crate) const ATTRIBUTES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
/// Attributes that name several.
const LISTS: [&str; 2] = ["additional_special_tokens", "extra_special_tokens"];

impl TextTokenizer {
    /// Reads the tokenizer of a model's folder in the same way as `AutoTokenizer`. Also returns notes in plain
    /// sentences about contradictions between its files and how they were resolved.
    ///
    /// - The start token is the one that the post-processor of `tokenizer.json` puts before a text, and no other.
    /// - A document ends with the token that the post-processor puts after a text, or otherwise with the first of
    ///   `ids.eos`.
    /// - Special tokens that only `tokenizer_config.json` names get the next ids, see [`Self::added_tokens`].
    /// - The folder's chat templates are kept, see [`Self::chat_files`].
    ///
    /// # Errors
    /// The same as for [`Self::from_json_file`]; a `tokenizer_config.json` that cannot be interpreted.
    pub fn from_model_folder(folder: &Path, ids: SpecialIds<'_>) -> Result<(Self, Vec<String>)> {
        let path = folder.join("tokenizer.json");
        if !path.exists() {
            return Err(Error::NoTokenizer { folder: folder.to_owned() });
        }
        let bytes = read_file(&path)?;
        let mut inner = understand(&path, &bytes)?;
        let config_path = folder.join("tokenizer_config.json");
        let refused = |problem| Error::TokenizerPart { path: config_path.clone(), problem };
        let config: Map<String, Value> = match config_path.exists() {
            true => serde_json::from_slice(&read_file(&config_path)?)
                .map_err(|e| refused(format!("not a tokenizer_config.json that can be read: {e}")))?,
            false => Map::new(),
        };
        let (missing, mut notes) = compare(&inner, &named_tokens(&config).map_err(refused)?).map_err(refused)?;
        if is_unordered(&config, &missing) {
            return Err(refused(
                "its `extra_special_tokens` is an object of several tokens that tokenizer.json lacks, and an object has no order to number them in; save the tokenizer anew with transformers"
                    .to_owned(),
            ));
        }
        let added = add_special(&path, &mut inner, missing.into_iter())?;
        let around = template::around(&path, &inner)?;
        let end = around.end.or(ids.eos.first().copied());
        notes.extend(contradictions(&inner, &around, ids, &config));
        let chat = ChatFiles::in_folder(folder)?;
        Ok((Self::assemble(inner, &bytes, added, around.bos, end)?.with_chat_files(chat), notes))
    }
}

/// A file's description of an added token.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    content: String,
    lstrip: bool,
    rstrip: bool,
    single_word: bool,
    normalized: bool,
    special: bool,
    /// Whether more than its text is given.
    described: bool,
}

impl Named {
    fn special(content: &str) -> Self {
        let (lstrip, rstrip, single_word, normalized) = (false, false, false, false);
        Self { content: content.to_owned(), lstrip, rstrip, single_word, normalized, special: true, described: false }
    }

    /// Parses a string, or an object in the format of `AddedToken`.
    fn read(key: &str, value: &Value, special: Option<bool>) -> Result<Self, String> {
        if let Value::String(content) = value {
            return Ok(Self::special(content));
        }
        let content = value
            .get("content")
            .and_then(Value::as_str)
            .ok_or_else(|| format!("`{key}` is {value}, expected a string or an object with a `content`"))?;
        let flag = |name: &str| value.get(name).and_then(Value::as_bool);
        let special = special.or(flag("special")).unwrap_or(false);
        Ok(Self {
            content: content.to_owned(),
            lstrip: flag("lstrip").unwrap_or(false),
            rstrip: flag("rstrip").unwrap_or(false),
            single_word: flag("single_word").unwrap_or(false),
            normalized: flag("normalized").unwrap_or(!special),
            special,
            described: true,
        })
    }
}

/// Every token that a `tokenizer_config.json` names, in the order in which `AutoTokenizer` adds new ones.
fn named_tokens(config: &Map<String, Value>) -> Result<Vec<Named>, String> {
    let mut tokens = vec![];
    if let Some(decoder) = config.get("added_tokens_decoder").and_then(Value::as_object) {
        let mut by_id = vec![];
        for (id, token) in decoder {
            let number: u32 = id.parse().map_err(|_| format!("`added_tokens_decoder` has the id `{id}`"))?;
            by_id.push((number, Named::read("added_tokens_decoder", token, None)?));
        }
        by_id.sort_by_key(|(id, _)| *id);
        tokens.extend(by_id.into_iter().map(|(_, token)| token));
    }
    for key in ATTRIBUTES {
        if let Some(value) = config.get(key).filter(|value| !value.is_null()) {
            tokens.push(Named::read(key, value, Some(true))?);
        }
    }
    for key in LISTS {
        let values: Vec<&Value> = match config.get(key) {
            None | Some(Value::Null) => continue,
            Some(Value::Array(values)) => values.iter().collect(),
            Some(Value::Object(values)) => values.values().collect(),
            Some(other) => return Err(format!("`{key}` is {other}, expected a list of tokens")),
        };
        for value in values {
            tokens.push(Named::read(key, value, Some(true))?);
        }
    }
    Ok(tokens)
}

/// Whether ids depend on the order of an object's members.
fn is_unordered(config: &Map<String, Value>, missing: &[String]) -> bool {
    let objects = LISTS.iter().filter_map(|key| config.get(*key)?.as_object());
    let is_missing = |token: &Value| Named::read("", token, None).is_ok_and(|token| missing.contains(&token.content));
    objects.into_iter().any(|object| object.values().filter(|token| is_missing(token)).count() > 1)
}

/// Returns the tokens that the tokenizer does not have as added tokens, each once, and notes about those that it
/// describes differently.
fn compare(inner: &Tokenizer, tokens: &[Named]) -> Result<(Vec<String>, Vec<String>), String> {
    let (mut missing, mut notes) = (vec![], vec![]);
    let there = inner.get_added_tokens_decoder();
    for token in tokens {
        let Some(own) = there.values().find(|own| own.content == token.content) else {
            if (Named { described: false, ..token.clone() }) != Named::special(&token.content) {
                return Err(format!(
                    "it adds `{}`, which tokenizer.json lacks, with a rule of its own (lstrip, rstrip, single_word, normalized or not special); save the tokenizer anew with transformers, so that tokenizer.json has it",
                    token.content
                ));
            }
            if !token.content.is_empty() && !missing.contains(&token.content) {
                missing.push(token.content.clone());
            }
            continue;
        };
        let alike = (own.lstrip, own.rstrip, own.single_word, own.normalized)
            == (token.lstrip, token.rstrip, token.single_word, token.normalized);
        if token.described && !alike {
            let note = format!(
                "tokenizer_config.json describes `{}` otherwise than tokenizer.json does (lstrip, rstrip, single_word or normalized); tokenizer.json's rule is used",
                token.content
            );
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
    }
    Ok((missing, notes))
}

/// Contradictions between the three files about the start and end of a text, and how they were resolved.
fn contradictions(
    inner: &Tokenizer,
    around: &template::Around,
    ids: SpecialIds<'_>,
    config: &Map<String, Value>,
) -> Vec<String> {
    let name = |id: u32| named(inner, id);
    let start = around.bos.map_or_else(|| "no token in front".to_owned(), name);
    let start = format!("windows start with {start}, as tokenizer.json's post-processor says");
    let mut notes = vec![];
    if let Some(other) = ids.bos.filter(|other| Some(*other) != around.bos) {
        notes.push(format!("{start}; config.json's bos_token_id {} is not used", name(other)));
    }
    let named_bos = config.get("bos_token").and_then(|token| Named::read("bos_token", token, Some(true)).ok());
    if let (Some(own), Some(other)) = (around.bos, named_bos)
        && inner.token_to_id(&other.content) != Some(own)
    {
        notes.push(format!("{start}; tokenizer_config.json's bos_token `{}` is not used", other.content));
    }
    let asks = |key: &str| config.get(key).and_then(Value::as_bool);
    if let Some(asked) = asks("add_bos_token").filter(|asked| *asked != around.bos.is_some()) {
        notes.push(format!("{start}; tokenizer_config.json's add_bos_token = {asked} is not used"));
    }
    if let Some(own) = around.end.filter(|own| !ids.eos.is_empty() && !ids.eos.contains(own)) {
        let others: Vec<String> = ids.eos.iter().map(|&id| name(id)).collect();
        notes.push(format!(
            "documents end with {}, as tokenizer.json's post-processor says; config.json's eos_token_id {} is not used",
            name(own),
            others.join(", ")
        ));
    }
    notes
}

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;
