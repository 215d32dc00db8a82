//! JSON Lines: one object per line.

use super::lines::Lines;
use super::token_columns::TokenColumns;
use super::{Collector, DataFile, DatasetConfig, OnBadText};
use crate::chat::{Columns, Conversation, conversation};
use crate::document::{Content, TokenRow};
use crate::error::{Error, Result};
use minijinja::value::ValueKind;
use serde_json::{Map, Value};

/// Reads the documents of a file. Empty lines are not documents; a text that is `null` is a blank document.
pub(super) fn read(
    file: &DataFile,
    config: &DatasetConfig,
    conversations: Option<&Columns>,
    found: &mut Collector<'_>,
) -> Result<()> {
    let mut lines = Lines::open(&file.path)?;
    found.follow(lines.file());
    while !found.is_full(file)
        && let Some((number, line)) = lines.next()?
    {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let refused = |problem| Error::Line { path: file.path.clone(), line: number, problem };
        let place = |byte: usize| format!("line {number} from its byte {byte} on");
        // A document that is left out has no valid line, so its split is unknown.
        let Some(mut line) = found.text(&file.path, line, place)? else {
            found.push(file, None, None)?;
            continue;
        };
        if let Some(half) = half_of_a_pair(&line) {
            let place = || format!("line {number}");
            let problem = || format!("half of a surrogate pair ({}) at column {}", half.escape, half.column);
            found.bad(&file.path, place, problem)?;
            if found.on_bad_text == OnBadText::Skip {
                found.push(file, None, None)?;
                continue;
            }
            line = half.mended;
        }
        if let Some(columns) = conversations {
            let (conversation, split) = chat_row(&line, columns, config.split_column.as_deref()).map_err(refused)?;
            found.push(file, Some(Content::Conversation(conversation)), split)?;
            continue;
        }
        let mut object: Map<String, Value> = serde_json::from_str(&line).map_err(|e| refused(not_an_object(&e)))?;
        let mut string = |name: &str, option| take_string(&mut object, name, option).map_err(refused);
        let split = config.split_column.as_ref().map(|name| string(name, "split_column")).transpose()?;
        let content = match TokenColumns::of(config) {
            None => Content::Text(string(&config.text_column, "text_column")?),
            Some(columns) => Content::Tokens(token_row(&mut object, &columns).map_err(refused)?),
        };
        found.push(file, Some(content), split)?;
    }
    Ok(())
}

/// A conversation, and its split. The fields of its objects stay in their order, which templates may write.
fn chat_row(
    line: &str,
    columns: &Columns,
    split_column: Option<&str>,
) -> Result<(Conversation, Option<String>), String> {
    let row: minijinja::Value = serde_json::from_str(line).map_err(|e| not_an_object(&e))?;
    if row.kind() != ValueKind::Map {
        return Err(format!("is a {}, expected an object", row.kind()));
    }
    let split = |name: &str| match row.get_attr(name).ok().filter(|value| !value.is_undefined()) {
        Some(split) if split.is_none() => Ok(String::new()),
        Some(split) => split.as_str().map(str::to_owned).ok_or_else(|| format!("field `{name}` is no string")),
        None => Err(format!("no field `{name}`, which `split_column` names")),
    };
    Ok((conversation(&row, columns)?, split_column.map(split).transpose()?))
}

/// A line with escapes that represent no character.
struct Half {
    /// The first of them, such as `\ud83d`.
    escape: String,
    /// Its column, in characters from 1.
    column: usize,
    /// The line with `\ufffd` in place of each of them.
    mended: String,
}

/// Finds unpaired surrogates among the escapes of a line, which programs produce that cut UTF-16 in the middle.
fn half_of_a_pair(line: &str) -> Option<Half> {
    // Most lines have no such escape, and most of the rest have only pairs.
    if !line.contains("\\ud") && !line.contains("\\uD") {
        return None;
    }
    let unit = |at: usize| {
        let digits = line.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    let (mut first, mut mended, mut at) = (None, String::new(), 0);
    while let Some(offset) = line[at..].find('\\') {
        let start = at + offset;
        mended.push_str(&line[at..start]);
        let length = match unit(start) {
            Some(0xd800..=0xdbff) if matches!(unit(start + 6), Some(0xdc00..=0xdfff)) => 12,
            Some(0xd800..=0xdfff) => {
                first.get_or_insert(start);
                mended.push_str("\\ufffd");
                at = start + 6;
                continue;
            }
            // The backslash and the character that it escapes, which may be another backslash.
            _ => 1 + line[start + 1..].chars().next().map_or(0, char::len_utf8),
        };
        mended.push_str(&line[start..start + length]);
        at = start + length;
    }
    mended.push_str(&line[at..]);
    let first = first?;
    Some(Half { escape: line[first..first + 6].to_owned(), column: line[..first].chars().count() + 1, mended })
}

/// The parser counts lines within the single line it was given, so only its column is meaningful to a reader.
fn not_an_object(error: &serde_json::Error) -> String {
    let words = error.to_string();
    let problem = words.split(" at line ").next().unwrap_or_default();
    format!("not a JSON object at column {}: {problem}; write one object on each line", error.column())
}

fn token_row(object: &mut Map<String, Value>, columns: &TokenColumns<'_>) -> Result<TokenRow, String> {
    let ids = take_numbers(object, columns.tokens, "tokens_column")?;
    let marks = columns.marks.map(|marks| take_numbers(object, marks.column(), marks.option())).transpose()?;
    columns.row(&ids, marks.as_deref())
}

/// Whole numbers or truth values; `null` is an empty list.
fn take_numbers(object: &mut Map<String, Value>, name: &str, option: &str) -> Result<Vec<i64>, String> {
    let number = |value: &Value| value.as_i64().or_else(|| value.as_bool().map(i64::from));
    match object.get(name) {
        Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) => match items.iter().map(number).collect() {
            Some(numbers) => Ok(numbers),
            None => Err(format!("field `{name}` holds something other than whole numbers, as `{option}` must name")),
        },
        Some(_) => Err(format!("field `{name}` is no array; set `{option}` to a field of arrays of whole numbers")),
        None => Err(no_field(object, name, option)),
    }
}

fn no_field(object: &Map<String, Value>, name: &str, option: &str) -> String {
    let found: Vec<&str> = object.keys().map(String::as_str).collect();
    format!("no field `{name}`, it has: {}; set `{option}` to one of them", found.join(", "))
}

fn take_string(object: &mut Map<String, Value>, name: &str, option: &str) -> Result<String, String> {
    let kind = match object.get_mut(name) {
        Some(Value::String(text)) => return Ok(std::mem::take(text)),
        Some(Value::Null) => return Ok(String::new()),
        Some(Value::Bool(_)) => "a truth value",
        Some(Value::Number(_)) => "a number",
        Some(Value::Array(_)) => "an array",
        Some(Value::Object(_)) => "an object",
        None => {
            return Err(no_field(object, name, option));
        }
    };
    Err(format!("field `{name}` is {kind}, expected a string; set `{option}` to a field of strings"))
}

#[cfg(test)]
mod tests {
    use super::half_of_a_pair;

    #[test]
    fn halves_are_told_from_pairs_and_from_text_that_looks_like_them() {
        let whole = [
            "none",
            r"\ud83d\ude42 whole",
            r"\\ud83d is a backslash and text",
            r"\u00e9 \n \ud7ff",
            "\\",
            "\\ud8",
            r"\ud8zz",
        ];
        for line in whole {
            assert!(half_of_a_pair(line).is_none(), "{line}");
        }
        for (line, escape, column, mended) in [
            (r"ü \ud83d of", r"\ud83d", 3, r"ü \ufffd of"),
            (r"\ude42\ud83d", r"\ude42", 1, r"\ufffd\ufffd"),
            (r"\ud83d\ude42\uDE42", r"\uDE42", 13, r"\ud83d\ude42\ufffd"),
            (r"\\\ud83d\n", r"\ud83d", 3, r"\\\ufffd\n"),
        ] {
            let half = half_of_a_pair(line).unwrap();
            assert_eq!((half.escape.as_str(), half.column, half.mended.as_str()), (escape, column, mended), "{line}");
        }
    }
}
