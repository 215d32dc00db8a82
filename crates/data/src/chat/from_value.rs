//! Messages of the form `{from, value}`, as ShareGPT writes them.

use super::rows::parsed;
use minijinja::value::{Value, ValueKind};

/// Roles of the form `{from, value}`, and their usual names.
const ROLES: [(&str, &str); 9] = [
    ("system", "system"),
    ("human", "user"),
    ("user", "user"),
    ("gpt", "assistant"),
    ("assistant", "assistant"),
    ("function_call", "assistant"),
    ("observation", "tool"),
    ("tool", "tool"),
    ("developer", "developer"),
];

/// Gives a message of the form `{from, value}` the usual fields.
pub(super) fn from_value(fields: Vec<(String, Value)>) -> Result<Vec<(String, Value)>, String> {
    let mut renamed = Vec::new();
    let is_call = fields.iter().any(|(name, value)| name == "from" && value.as_str() == Some("function_call"));
    for (name, value) in fields {
        match name.as_str() {
            "from" => {
                let from = value.as_str().unwrap_or_default();
                let known = || ROLES.map(|(name, _)| name).join(", ");
                let (_, role) = ROLES
                    .iter()
                    .find(|(name, _)| *name == from)
                    .ok_or_else(|| format!("is from `{value}`; the known ones are {}", known()))?;
                renamed.push(("role".to_owned(), Value::from(*role)));
            }
            "value" if is_call => renamed.push(("tool_calls".to_owned(), calls(&value)?)),
            "value" => renamed.push(("content".to_owned(), value)),
            _ => renamed.push((name, value)),
        }
    }
    Ok(renamed)
}

/// One call `{name, arguments}` or a list of them, as JSON in a string.
fn calls(value: &Value) -> Result<Value, String> {
    let parsed = parsed(value, "value")?;
    let one = |call: Value| match call.kind() {
        ValueKind::Map => Ok(Value::from_pairs([("type", Value::from("function")), ("function", call)])),
        kind => Err(format!("calls a function by a {kind}, expected {{name, arguments}}")),
    };
    match parsed.kind() {
        ValueKind::Seq => parsed.try_iter().into_iter().flatten().map(one).collect(),
        _ => Ok([one(parsed)?].into_iter().collect()),
    }
}
