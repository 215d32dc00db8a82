//! The head of a dataset's `README.md`, which assigns its files to splits.
//!
//! This parses the subset of YAML in which such heads are written: blocks of mappings and sequences, plain and quoted
//! scalars, and `[a, b]`. Anything else under `configs` is rejected with its line, never guessed at.

use super::is_split_name;
use crate::error::{Error, Result};
use std::path::Path;

/// Maximum nesting of blocks, and number of `*` in a pattern: more than any card needs, yet cheap to process.
const MAX_DEPTH: usize = 12;
const MAX_STARS: usize = 6;

/// The files of one split, as patterns relative to the card's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SplitFiles {
    pub split: String,
    pub patterns: Vec<String>,
}

/// The files named by a card's `configs`; `None` if it has none, or one that names no files.
pub(super) fn data_files(card: &Path) -> Result<Option<Vec<SplitFiles>>> {
    let bytes = super::read_file(card)?;
    let text = String::from_utf8_lossy(&bytes);
    read(&text).map_err(|problem| Error::Card { path: card.to_owned(), problem })
}

fn read(text: &str) -> Result<Option<Vec<SplitFiles>>, String> {
    let mut lines = configs(text);
    if lines.is_empty() {
        return Ok(None);
    }
    let indent = lines[0].indent;
    let mut block = Block { lines: &mut lines, at: 0 };
    let node = block.node(indent, 0)?;
    if let Some(line) = block.lines.get(block.at) {
        return Err(line.unread());
    }
    let Node::List(configs) = node else { return Err("are no list".to_owned()) };
    if let [config] = configs.as_slice() {
        return files_of(config);
    }
    let subsets: Vec<String> = configs
        .iter()
        .map(|config| {
            let name = config.get("config_name").and_then(Node::text).unwrap_or("default");
            let files = files_of(config).ok().flatten().unwrap_or_default();
            let pattern = files.first().and_then(|files| files.patterns.first());
            pattern.map_or_else(|| name.to_owned(), |pattern| format!("{name}: {pattern}"))
        })
        .collect();
    Err(format!(
        "are {} subsets ({}); set `path` to the folder or file of one of them",
        configs.len(),
        subsets.join(", ")
    ))
}

/// The files named by one of `configs`.
fn files_of(config: &Node) -> Result<Option<Vec<SplitFiles>>, String> {
    if let Some(folder) = config.get("data_dir") {
        let folder = folder.text().unwrap_or_default();
        return Err(format!("name the folder `{folder}` as data_dir; set `path` to that folder"));
    }
    let Some(files) = config.get("data_files") else { return Ok(None) };
    let mut splits = vec![];
    match files {
        // Hubs assign files without a split to training.
        Node::Text(_) => splits.push(split_files("train", files)?),
        Node::Map(members) => {
            for (split, patterns) in members {
                splits.push(split_files(split, patterns)?);
            }
        }
        Node::List(items) if items.iter().all(|item| item.text().is_some()) => {
            splits.push(split_files("train", files)?)
        }
        Node::List(items) => {
            for item in items {
                let (split, patterns) = (item.get("split").and_then(Node::text), item.get("path"));
                let (Some(split), Some(patterns)) = (split, patterns) else {
                    return Err("have data_files without a `split` and a `path`".to_owned());
                };
                splits.push(split_files(split, patterns)?);
            }
        }
    }
    Ok(Some(splits))
}

fn split_files(split: &str, patterns: &Node) -> Result<SplitFiles, String> {
    if !is_split_name(split) {
        return Err(format!("name the split `{split}`, expected 1 to 64 lower-case letters, digits, `-` and `_`"));
    }
    let patterns: Option<Vec<String>> = match patterns {
        Node::Text(pattern) => Some(vec![pattern.clone()]),
        Node::List(patterns) => patterns.iter().map(|pattern| pattern.text().map(str::to_owned)).collect(),
        Node::Map(_) => None,
    };
    let patterns = patterns.ok_or_else(|| format!("name no paths for the split `{split}`"))?;
    match patterns.iter().find(|pattern| pattern.is_empty() || pattern.matches('*').count() > MAX_STARS) {
        Some(pattern) => {
            Err(format!("name `{pattern}` for the split `{split}`, expected a path with at most {MAX_STARS} `*`"))
        }
        None => Ok(SplitFiles { split: split.to_owned(), patterns }),
    }
}

#[derive(Clone, Debug)]
enum Node {
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    fn get(&self, key: &str) -> Option<&Node> {
        let Node::Map(members) = self else { return None };
        members.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    fn text(&self) -> Option<&str> {
        let Node::Text(text) = self else { return None };
        Some(text)
    }
}

/// A line that is not empty.
struct Line {
    number: usize,
    indent: usize,
    text: String,
}

impl Line {
    fn unread(&self) -> String {
        let text: String = self.text.chars().take(60).collect();
        format!("cannot be read at line {}: `{text}`; set `path` to one folder or file instead", self.number)
    }
}

/// The key of a card under which its files are listed.
const CONFIGS: &str = "configs:";

/// The lines below `configs:` in the head of a card.
fn configs(text: &str) -> Vec<Line> {
    let mut lines = text.lines().zip(1..);
    if lines.next().is_none_or(|(first, _)| first.trim_start_matches('\u{feff}').trim_end() != "---") {
        return vec![];
    }
    let mut lines =
        lines.take_while(|(line, _)| line.trim_end() != "---").skip_while(|(line, _)| !line.starts_with(CONFIGS));
    let Some((first, number)) = lines.next() else { return vec![] };
    // A value on the same line is the complete value.
    match without_comment(&first[CONFIGS.len()..]).trim() {
        "" => {}
        "[]" | "null" | "~" => return vec![],
        inline => return vec![Line { number, indent: 0, text: inline.to_owned() }],
    }
    lines
        .map(|(line, number)| {
            let text = without_comment(line);
            Line { number, indent: text.len() - text.trim_start().len(), text: text.trim().to_owned() }
        })
        .filter(|line| !line.text.is_empty())
        .take_while(|line| line.indent > 0 || line.text.starts_with('-'))
        .collect()
}

/// Removes a comment: a `#` after a space, except in quotes.
fn without_comment(line: &str) -> &str {
    let (mut quote, mut before) = (None, ' ');
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (None, '#') if before.is_whitespace() => return &line[..at],
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            _ => {}
        }
        before = c;
    }
    line
}

/// The lines that are being parsed.
struct Block<'a> {
    lines: &'a mut Vec<Line>,
    at: usize,
}

impl Block<'_> {
    /// Parses a node from the lines with at least this indent.
    fn node(&mut self, indent: usize, depth: usize) -> Result<Node, String> {
        let line = &self.lines[self.at];
        if depth > MAX_DEPTH {
            return Err(line.unread());
        }
        if is_item(&line.text) {
            return self.list(indent, depth);
        }
        if key(&line.text).is_some() {
            return self.map(indent, depth);
        }
        self.at += 1;
        scalar(&self.lines[self.at - 1])
    }

    fn list(&mut self, indent: usize, depth: usize) -> Result<Node, String> {
        let mut items = vec![];
        while let Some(line) = self.lines.get_mut(self.at).filter(|line| line.indent == indent && is_item(&line.text)) {
            let rest = line.text[1..].trim_start().to_owned();
            if rest.is_empty() {
                return Err(line.unread());
            }
            // The text after the dash is a block with its own indent.
            line.indent += line.text.len() - rest.len();
            line.text = rest;
            let inner = line.indent;
            items.push(self.node(inner, depth + 1)?);
        }
        Ok(Node::List(items))
    }

    fn map(&mut self, indent: usize, depth: usize) -> Result<Node, String> {
        let mut members: Vec<(String, Node)> = vec![];
        while let Some(line) = self.lines.get(self.at).filter(|line| line.indent == indent && !is_item(&line.text)) {
            let Some((name, value)) = key(&line.text) else { return Err(line.unread()) };
            if members.iter().any(|(there, _)| *there == name) {
                return Err(line.unread());
            }
            self.at += 1;
            let value = match value {
                Some(value) => scalar(&Line { number: line.number, indent, text: value })?,
                None => match self.lines.get(self.at) {
                    Some(next) if next.indent > indent || next.indent == indent && is_item(&next.text) => {
                        let inner = next.indent;
                        self.node(inner, depth + 1)?
                    }
                    _ => Node::Text(String::new()),
                },
            };
            members.push((name, value));
        }
        Ok(Node::Map(members))
    }
}

fn is_item(text: &str) -> bool {
    text == "-" || text.starts_with("- ")
}

/// Splits `name: value`, or `name:` with its value on the following lines.
fn key(text: &str) -> Option<(String, Option<String>)> {
    let (name, value) = text.strip_suffix(':').map(|name| (name, None)).or_else(|| {
        let (name, value) = text.split_once(": ")?;
        Some((name, Some(value.trim().to_owned())))
    })?;
    let is_name = |c: char| c.is_alphanumeric() || "_-.".contains(c);
    let name = name.trim_matches(['"', '\'']);
    (!name.is_empty() && name.chars().all(is_name)).then(|| (name.to_owned(), value))
}

/// Parses a plain or quoted scalar, or a list of them in brackets.
fn scalar(line: &Line) -> Result<Node, String> {
    let unquoted = |text: &str| -> Result<String, String> {
        let text = text.trim();
        for quote in ['"', '\''] {
            if let Some(inner) = text.strip_prefix(quote) {
                let inner = inner.strip_suffix(quote).filter(|inner| !inner.contains([quote, '\\']));
                return inner.map(str::to_owned).ok_or_else(|| line.unread());
            }
        }
        // Anchors, tags, block scalars and braces are not supported; YAML demands quotes around a leading `*`.
        match text.starts_with(['&', '*', '!', '|', '>', '{', '}', '[', ']', '%', '@', '`']) || text.contains(": ") {
            true => Err(line.unread()),
            false => Ok(text.to_owned()),
        }
    };
    match line.text.strip_prefix('[') {
        Some(rest) => {
            let items = rest.strip_suffix(']').ok_or_else(|| line.unread())?;
            let items = items.split(',').filter(|item| !item.trim().is_empty());
            Ok(Node::List(items.map(|item| Ok(Node::Text(unquoted(item)?))).collect::<Result<_, String>>()?))
        }
        None => Ok(Node::Text(unquoted(&line.text)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Named = (String, Vec<String>);

    fn named(configs: &str) -> Result<Option<Vec<Named>>, String> {
        let card = format!("---\nlicense: mit\ntags:\n- a: b\n{configs}language:\n- en\n---\n# configs:\n- x\n");
        let files = |files: SplitFiles| (files.split, files.patterns);
        Ok(read(&card)?.map(|splits| splits.into_iter().map(files).collect()))
    }

    fn split(name: &str, patterns: &[&str]) -> Named {
        (name.to_owned(), patterns.iter().map(|pattern| (*pattern).to_owned()).collect())
    }

    #[test]
    fn cards_as_hubs_write_them() {
        let two = Some(vec![split("train", &["data/train-*"]), split("test", &["data/test-*"])]);
        for configs in [
            "configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*\n  - split: test\n    path: data/test-*\n",
            "configs:\n  - config_name: default # the only one\n\n    data_files:\n      - split: \"train\"\n        path: 'data/train-*'\n      - path: data/test-*\n        split: test\n    default: true\n",
            "configs:\n- data_files:\n    train: data/train-*\n    test: [data/test-*]\n",
        ] {
            assert_eq!(named(configs).unwrap(), two, "{configs}");
        }
        let several = "configs:\n- data_files:\n  - split: train\n    path:\n    - a.jsonl\n    - \"b#1.jsonl\"\n";
        assert_eq!(named(several).unwrap(), Some(vec![split("train", &["a.jsonl", "b#1.jsonl"])]));
        for all in ["configs:\n- data_files: \"*.jsonl\"\n", "configs:\n- data_files:\n  - \"*.jsonl\"\n"] {
            assert_eq!(named(all).unwrap(), Some(vec![split("train", &["*.jsonl"])]));
        }
        let nothing = ["", "configs: []\n", "configs:\n", "configs:\n- config_name: default\n"];
        assert!(nothing.iter().all(|nothing| named(nothing).unwrap().is_none()));
        assert_eq!(read("# A title\nconfigs:\n- x\n").unwrap().map(|files| files.len()), None);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let dashes = format!("configs:\n{}a\n", "- ".repeat(100_000));
        for (configs, expected) in [
            (
                "configs:\n- config_name: en\n  data_files: en/*.parquet\n- config_name: de\n  data_files:\n  - split: test\n    path: de/a.parquet\n",
                "are 2 subsets (en: en/*.parquet, de: de/a.parquet); set `path` to the folder or file of one of them",
            ),
            ("configs:\n- data_dir: en\n", "name the folder `en` as data_dir; set `path` to that folder"),
            ("configs:\n- data_files: *all\n", "cannot be read at line 6: `*all`"),
            ("configs:\n- data_files: {train: a}\n", "cannot be read at line 6: `{train: a}`"),
            ("configs:\n- data_files: |\n    a\n", "cannot be read at line 6: `|`"),
            ("configs:\n- data_files:\n  - split: train\n", "have data_files without a `split` and a `path`"),
            ("configs:\n- data_files:\n  - split: Train\n    path: a\n", "name the split `Train`, expected 1 to 64"),
            ("configs:\n- data_files: a\n  data_files: b\n", "cannot be read at line 7"),
            ("configs:\n- data_files: a*b*c*d*e*f*g*h\n", "expected a path with at most 6 `*`"),
            ("configs:\n  data_files: a\n", "are no list"),
            ("configs: [unclosed\n", "cannot be read at line 5: `[unclosed`"),
            ("configs: default # in words\n", "are no list"),
            (&dashes, "cannot be read at line 6: `- - "),
        ] {
            let error = named(configs).unwrap_err();
            assert!(error.starts_with(expected) || error.contains(expected), "{configs}: {error}");
        }
    }
}
