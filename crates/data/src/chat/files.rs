//! The files of a model's folder that say how conversations are written for it.

use crate::error::{Error, Result};
use crate::source::read_file;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Name of the template that is used unless another is asked for.
pub(crate) const DEFAULT: &str = "default";
/// Name of the template for conversations with tools, if a model has a separate one.
pub(super) const TOOL_USE: &str = "tool_use";

const JINJA: &str = "chat_template.jinja";
const JSON: &str = "chat_template.json";
const CONFIG: &str = "tokenizer_config.json";
const SPECIAL: &str = "special_tokens_map.json";
const FOLDER: &str = "additional_chat_templates";

/// A model's chat templates, and the texts of its special tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChatFiles {
    /// The file and the text of each template.
    templates: BTreeMap<String, (PathBuf, String)>,
    special_tokens: BTreeMap<String, String>,
}

impl ChatFiles {
    /// Reads those in `folder`, none of which must exist.
    ///
    /// # Errors
    /// A file that cannot be read, or that is neither text nor JSON as its name says.
    pub fn in_folder(folder: &Path) -> Result<Self> {
        let mut names = vec![JINJA.to_owned(), JSON.to_owned(), CONFIG.to_owned(), SPECIAL.to_owned()];
        let further = folder.join(FOLDER);
        if further.is_dir() {
            for entry in fs::read_dir(&further).map_err(Error::io(&further))? {
                let entry = entry.map_err(Error::io(&further))?;
                names.push(format!("{FOLDER}/{}", entry.file_name().to_string_lossy()));
            }
            // A folder may hold more than templates.
            names.retain(|name| !name.starts_with(FOLDER) || name.ends_with(".jinja"));
        }
        let there = names.into_iter().filter(|name| folder.join(name).is_file());
        let files: Vec<(String, Vec<u8>)> =
            there.map(|name| Ok((name.clone(), read_file(&folder.join(&name))?))).collect::<Result<_>>()?;
        Self::of(folder, files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())))
    }

    /// Reads them from files of `folder` in memory, given with their names. Others are passed over.
    ///
    /// A template is taken from `chat_template.jinja` or `additional_chat_templates/NAME.jinja`, else from
    /// `tokenizer_config.json`, else from `chat_template.json`.
    ///
    /// # Errors
    /// [`Error::TokenizerPart`] names a file that is neither text nor JSON as its name says.
    pub fn of<'a>(folder: &Path, files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Result<Self> {
        let files: BTreeMap<&str, &[u8]> = files.into_iter().collect();
        let mut this = Self::default();
        for (name, bytes) in &files {
            let further = name.strip_prefix(FOLDER).and_then(|name| name.strip_prefix('/')?.strip_suffix(".jinja"));
            if let Some(template) = further.or((*name == JINJA).then_some(DEFAULT)) {
                let text = str::from_utf8(bytes).map_err(|e| refused(folder, name, &format!("is no UTF-8: {e}")))?;
                this.templates.insert(template.to_owned(), (folder.join(name), text.to_owned()));
            }
        }
        let read = |name: &str| files.get(name).map(|bytes| object(folder, name, bytes)).transpose();
        let (config, special) = (read(CONFIG)?.unwrap_or_default(), read(SPECIAL)?.unwrap_or_default());
        let json = read(JSON)?.unwrap_or_default();
        for (file, object) in [(CONFIG, &config), (JSON, &json)] {
            for (name, template) in templates(object).map_err(|problem| refused(folder, file, problem))? {
                this.templates.entry(name).or_insert_with(|| (folder.join(file), template));
            }
        }
        for key in crate::tokenizer::ATTRIBUTES {
            let text = |object: &Map<String, Value>| {
                let value = object.get(key)?;
                Some(value.as_str().or_else(|| value.get("content")?.as_str())?.to_owned())
            };
            if let Some(text) = text(&config).or_else(|| text(&special)) {
                this.special_tokens.insert(key.to_owned(), text);
            }
        }
        Ok(this)
    }

    /// Those that the metadata of the GGUF file at `path` hold: templates by name, and the texts of special tokens by
    /// attribute.
    pub(crate) fn from_metadata(
        path: &Path,
        templates: impl IntoIterator<Item = (String, String)>,
        special_tokens: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Self {
        let special_tokens = special_tokens.into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
        let templates = templates.into_iter().map(|(name, text)| (name, (path.to_owned(), text))).collect();
        Self { templates, special_tokens }
    }

    /// The template that is used unless another is asked for.
    pub fn default_template(&self) -> Option<&str> {
        self.template(DEFAULT)
    }

    /// The text of a template.
    pub(super) fn template(&self, name: &str) -> Option<&str> {
        self.templates.get(name).map(|(_, text)| text.as_str())
    }

    /// The file of a template.
    pub(super) fn template_file(&self, name: &str) -> Option<&Path> {
        self.templates.get(name).map(|(file, _)| file.as_path())
    }

    /// Name of the attribute (`bos_token`) and text of each special token.
    pub(crate) fn special_tokens(&self) -> impl Iterator<Item = (&str, &str)> {
        self.special_tokens.iter().map(|(name, text)| (name.as_str(), text.as_str()))
    }
}

fn refused(folder: &Path, name: &str, problem: &str) -> Error {
    Error::TokenizerPart { path: folder.join(name), problem: problem.to_owned() }
}

fn object(folder: &Path, name: &str, bytes: &[u8]) -> Result<Map<String, Value>> {
    serde_json::from_slice(bytes).map_err(|e| refused(folder, name, &format!("is no JSON object: {e}")))
}

/// The templates under `chat_template`: one, or a list of several with names.
fn templates(object: &Map<String, Value>) -> Result<Vec<(String, String)>, &'static str> {
    let one = |entry: &Value| {
        let text = |key| entry.get(key).and_then(Value::as_str).map(str::to_owned);
        text("name").zip(text("template")).ok_or("its `chat_template` lists an item without a name and a template")
    };
    match object.get("chat_template") {
        None | Some(Value::Null) => Ok(vec![]),
        Some(Value::String(text)) => Ok(vec![(DEFAULT.to_owned(), text.clone())]),
        Some(Value::Array(entries)) => entries.iter().map(one).collect(),
        Some(_) => Err("its `chat_template` is neither a string nor a list of templates with names"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(files: &[(&str, &str)]) -> Result<ChatFiles> {
        ChatFiles::of(Path::new("model"), files.iter().map(|(name, text)| (*name, text.as_bytes())))
    }

    #[test]
    fn the_first_place_with_a_template_counts() {
        let config = r#"{"chat_template": [{"name": "default", "template": "c"}, {"name": "rag", "template": "r"}],
            "bos_token": {"content": "<s>", "special": true}, "eos_token": null}"#;
        let json = r#"{"chat_template": "j"}"#;
        let special = r#"{"eos_token": "</s>", "bos_token": "<other>"}"#;
        let all = [
            ("chat_template.jinja", "d"),
            ("additional_chat_templates/tool_use.jinja", "t"),
            ("tokenizer_config.json", config),
            ("chat_template.json", json),
            ("special_tokens_map.json", special),
            ("model.safetensors", "\u{0}"),
        ];
        let found = files(&all).unwrap();
        let names = ["default", "tool_use", "rag", "j"].map(|name| found.template(name));
        assert_eq!(names, [Some("d"), Some("t"), Some("r"), None]);
        assert_eq!(found.special_tokens().collect::<Vec<_>>(), [("bos_token", "<s>"), ("eos_token", "</s>")]);
        assert_eq!(files(&all[2..]).unwrap().template("default"), Some("c"));
        assert_eq!(files(&all[3..]).unwrap().template("default"), Some("j"));
        assert_eq!(files(&[]).unwrap(), ChatFiles::default());
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        for (name, text, problem) in [
            ("tokenizer_config.json", "[", "is no JSON object"),
            ("tokenizer_config.json", r#"{"chat_template": 3}"#, "neither a string nor a list"),
            ("chat_template.json", r#"{"chat_template": [{"name": "x"}]}"#, "without a name and a template"),
        ] {
            let error = files(&[(name, text)]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("model/{name}: ")) && error.contains(problem), "{error}");
        }
    }

    #[test]
    fn a_folder_is_read_with_its_further_templates() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(FOLDER)).unwrap();
        fs::write(folder.path().join(FOLDER).join("rag.jinja"), "r").unwrap();
        // Not a template, and larger than what is read of one.
        fs::File::create(folder.path().join(FOLDER).join("notes.bin")).unwrap().set_len(1 << 40).unwrap();
        fs::write(folder.path().join(JINJA), "d").unwrap();
        let found = ChatFiles::in_folder(folder.path()).unwrap();
        assert_eq!(["default", "rag"].map(|name| found.template(name)), [Some("d"), Some("r")]);
    }
}
