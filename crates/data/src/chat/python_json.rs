//! The filter `tojson` of chat templates, which writes what Python's `json.dumps` writes.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};
use std::fmt::Write;

/// How values are written.
struct Style {
    ensure_ascii: bool,
    /// Spaces before an item for each level; `None` for everything on one line.
    indent: Option<usize>,
    between_items: String,
    after_key: String,
    sort_keys: bool,
}

/// The filter, with the arguments that `transformers` gives it.
pub(super) fn tojson(value: &Value, arguments: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = arguments.get("indent")?;
    let separators: Option<Vec<String>> = arguments.get("separators")?;
    let (between_items, after_key) = match separators.as_deref() {
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
        Some([items, key]) => (items.clone(), key.clone()),
        Some(_) => return Err(refused("tojson: separators must be two strings".to_owned())),
    };
    let flag = |name| Ok::<_, Error>(arguments.get::<Option<bool>>(name)?.unwrap_or(false));
    let (ensure_ascii, sort_keys) = (flag("ensure_ascii")?, flag("sort_keys")?);
    arguments.assert_all_used()?;
    let mut text = String::new();
    Style { ensure_ascii, indent, between_items, after_key, sort_keys }.value(value, 0, &mut text)?;
    Ok(text)
}

fn refused(problem: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, problem)
}

impl Style {
    fn value(&self, value: &Value, level: usize, text: &mut String) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => text.push_str("null"),
            ValueKind::Bool => text.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => text.push_str(&value.to_string()),
            ValueKind::Number => text.push_str(&float(f64::try_from(value.clone())?)),
            ValueKind::String => self.string(value.as_str().unwrap_or_default(), text),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                let write = |item: &Value, text: &mut String| self.value(item, level + 1, text);
                self.list(('[', ']'), &items, level, text, write)?;
            }
            ValueKind::Map => {
                let mut pairs = Vec::new();
                for key in value.try_iter()? {
                    pairs.push((key.to_string(), value.get_item(&key)?));
                }
                if self.sort_keys {
                    pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
                }
                self.list(('{', '}'), &pairs, level, text, |(key, item), text| {
                    self.string(key, text);
                    text.push_str(&self.after_key);
                    self.value(item, level + 1, text)
                })?;
            }
            kind => return Err(refused(format!("tojson: a value of the kind `{kind}` has no form in JSON"))),
        }
        Ok(())
    }

    fn list<T>(
        &self,
        (open, close): (char, char),
        items: &[T],
        level: usize,
        text: &mut String,
        write: impl Fn(&T, &mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let new_line = |level: usize, text: &mut String| {
            if let Some(indent) = self.indent {
                text.push('\n');
                text.extend(std::iter::repeat_n(' ', indent * level));
            }
        };
        text.push(open);
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                text.push_str(&self.between_items);
            }
            new_line(level + 1, text);
            write(item, text)?;
        }
        if !items.is_empty() {
            new_line(level, text);
        }
        text.push(close);
        Ok(())
    }

    fn string(&self, string: &str, text: &mut String) {
        text.push('"');
        for c in string.chars() {
            match c {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                '\u{8}' => text.push_str("\\b"),
                '\u{c}' => text.push_str("\\f"),
                c if c < ' ' || (self.ensure_ascii && !(' '..='~').contains(&c)) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        // Writing to a string cannot fail.
                        let _ = write!(text, "\\u{unit:04x}");
                    }
                }
                c => text.push(c),
            }
        }
        text.push('"');
    }
}

/// A number as Python's `repr` writes it: the fewest digits that give it back, with an exponent of two digits or more
/// from 1e16 on and below 1e-4.
fn float(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    if number == 0.0 || (1e-4..1e16).contains(&number.abs()) {
        let plain = number.to_string();
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
    format!("{digits}e{sign}{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use minijinja::Environment;

    #[test]
    fn values_are_written_as_pythons_json_dumps_writes_them() {
        let mut environment = Environment::new();
        environment.add_filter("tojson", tojson);
        let value: Value = serde_json::from_str(
            r#"{"b": [1, -2.5, 1e-5, 1e16, 0.1, 3.0, true, null], "a": {"z": "é <&'\"\\\u0001\u2028😀", "e": [], "o": {}}}"#,
        )
        .unwrap();
        // The right sides are what json.dumps(value, ensure_ascii=False, ...) of Python 3.11 returns.
        for (call, expected) in [
            (
                "tojson",
                "{\"b\": [1, -2.5, 1e-05, 1e+16, 0.1, 3.0, true, null], \
                 \"a\": {\"z\": \"é <&'\\\"\\\\\\u0001\u{2028}😀\", \"e\": [], \"o\": {}}}",
            ),
            (
                "tojson(separators=(',', ':'), sort_keys=true, ensure_ascii=true)",
                "{\"a\":{\"e\":[],\"o\":{},\"z\":\"\\u00e9 <&'\\\"\\\\\\u0001\\u2028\\ud83d\\ude00\"},\
                 \"b\":[1,-2.5,1e-05,1e+16,0.1,3.0,true,null]}",
            ),
            (
                "tojson(indent=1)",
                "{\n \"b\": [\n  1,\n  -2.5,\n  1e-05,\n  1e+16,\n  0.1,\n  3.0,\n  true,\n  null\n ],\n \"a\": {\n  \
                 \"z\": \"é <&'\\\"\\\\\\u0001\u{2028}😀\",\n  \"e\": [],\n  \"o\": {}\n }\n}",
            ),
        ] {
            let template = format!("{{{{ value | {call} }}}}");
            let written = environment.render_str(&template, minijinja::context! { value => &value }).unwrap();
            assert_eq!(written, expected, "{call}");
        }
        let error = environment.render_str("{{ missing | tojson }}", ()).unwrap_err().to_string();
        assert!(error.contains("`undefined` has no form in JSON"), "{error}");
    }
}
