//! The chat templates in the metadata of a GGUF file, and the texts of the special tokens that they use.

use super::{Problem, id, texts};
use crate::chat::ChatFiles;
use logitcask_gguf::GgufFile;

/// Key of the template that is used unless another is asked for; `KEY.NAME` is the template of another name.
const TEMPLATE: &str = "tokenizer.chat_template";

/// Special tokens by their names in a Hugging Face tokenizer, and in the metadata.
const SPECIAL: [(&str, &str); 7] = [
    ("bos_token", "bos"),
    ("eos_token", "eos"),
    ("unk_token", "unknown"),
    ("sep_token", "seperator"), // so spelled in the format
    ("pad_token", "padding"),
    ("cls_token", "cls"),
    ("mask_token", "mask"),
];

/// Reads the templates and the texts of the special tokens.
pub(super) fn files(file: &GgufFile) -> Result<ChatFiles, Problem> {
    let templates = file.texts_of(TEMPLATE);
    let templates = templates.map(|(name, text)| (name.unwrap_or(crate::chat::DEFAULT).to_owned(), text.to_owned()));
    let tokens = texts(file, "tokenizer.ggml.tokens")?;
    let mut special = Vec::new();
    for (name, key) in SPECIAL {
        special.extend(id(file, key)?.and_then(|id| Some((name, tokens.get(id as usize)?.clone()))));
    }
    Ok(ChatFiles::from_metadata(file.path(), templates, special))
}
