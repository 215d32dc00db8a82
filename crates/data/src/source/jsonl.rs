//! JSON Lines: one object per line.

use super::{Collector, DatasetConfig, check_split, read_utf8};
use crate::error::{Error, Result};
use serde_json::{Map, Value};
use std::path::Path;

/// Empty lines are no documents; a text that is `null` is a blank one.
pub(super) fn read(path: &Path, config: &DatasetConfig, found: &mut Collector) -> Result<()> {
    let text = read_utf8(path)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    for (document, (number, line)) in lines.enumerate() {
        if found.is_full() {
            break;
        }
        let refused = |problem| Error::Line { path: path.to_owned(), line: number + 1, problem };
        let mut object: Map<String, Value> = serde_json::from_str(line).map_err(|e| refused(not_an_object(&e)))?;
        let mut string = |name: &str, option| take_string(&mut object, name, option).map_err(refused);
        let split = config.split_column.as_ref().map(|name| string(name, "split_column")).transpose()?;
        if let Some(split) = &split {
            check_split(path, document as u64, split)?;
        }
        found.push(string(&config.text_column, "text_column")?, split);
    }
    Ok(())
}

/// The parser counts lines within the one line it was given; only its column means something to a reader.
fn not_an_object(error: &serde_json::Error) -> String {
    let words = error.to_string();
    let problem = words.split(" at line ").next().unwrap_or_default();
    format!("not a JSON object at column {}: {problem}; write one object on each line", error.column())
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
            let found: Vec<&str> = object.keys().map(String::as_str).collect();
            return Err(format!("no field `{name}`, it has: {}; set `{option}` to one of them", found.join(", ")));
        }
    };
    Err(format!("field `{name}` is {kind}, expected a string; set `{option}` to a field of strings"))
}
