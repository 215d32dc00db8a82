//! From the columns of a source to conversations.

use super::conversation::{Body, Conversation, Turn};
use super::from_value::from_value;
use minijinja::value::{Value, ValueKind};

/// The columns that hold a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Columns {
    /// A list of messages, `{role, content}` or `{from, value}`.
    Messages { column: String },
    /// `prompt` and `completion`: two texts, or two lists of messages.
    PromptCompletion,
    /// `instruction`, perhaps `input`, and `output`.
    Instruction,
    /// `prompt` without an answer: the text of a user, or a list of messages.
    Prompt,
    /// `instruction`, perhaps `input`, without an answer.
    Task,
}

impl Columns {
    /// The columns that every row has.
    pub(crate) fn required(&self) -> Vec<&str> {
        match self {
            Self::Messages { column } => vec![column],
            Self::PromptCompletion => vec!["prompt", "completion"],
            Self::Instruction => vec!["instruction", "output"],
            Self::Prompt => vec!["prompt"],
            Self::Task => vec!["instruction"],
        }
    }

    /// The columns that are read if they are there.
    pub(crate) fn optional(&self) -> &'static [&'static str] {
        match self {
            Self::Messages { .. } | Self::Prompt => &["system", "tools", "chat_template_kwargs"],
            Self::PromptCompletion => &["tools", "chat_template_kwargs", "system"],
            Self::Instruction | Self::Task => &["input", "system", "history", "tools", "chat_template_kwargs"],
        }
    }

    /// Those of [`Self::optional`] that are not understood beside the others, and must be empty.
    fn refused(&self) -> &'static [&'static str] {
        match self {
            Self::Messages { .. } | Self::Prompt => &[],
            Self::PromptCompletion => &["system"],
            Self::Instruction | Self::Task => &["tools", "chat_template_kwargs"],
        }
    }
}

/// Reads a row, which is an object with these columns among others.
///
/// # Errors
/// What cannot be understood, by name.
pub(crate) fn conversation(row: &Value, columns: &Columns) -> Result<Conversation, String> {
    let is_empty =
        |value: &Value| value.as_str().map_or(value.len() == Some(0), |text| ["", "[]", "{}"].contains(&text));
    let refused = |column: &&&str| optional(row, column).is_some_and(|value| !is_empty(&value));
    if let Some(column) = columns.refused().iter().find(refused) {
        return Err(format!(
            "has `{column}` beside `{}`, which is not supported; write such rows as `messages`",
            columns.required().join("` and `")
        ));
    }
    let body = match columns {
        // As a text that is null.
        Columns::Messages { column } if is_null(row, column) => Body::Messages { turns: vec![], prompt: 0 },
        Columns::Prompt if is_null(row, "prompt") => Body::Messages { turns: vec![], prompt: 0 },
        Columns::Messages { column } => {
            let turns = messages(&required(row, column)?, column)?;
            Body::Messages { turns: with_system(turns, row, column)?, prompt: 0 }
        }
        Columns::Prompt => Body::Messages { turns: with_system(prompt(row)?, row, "prompt")?, prompt: 0 },
        Columns::PromptCompletion => prompt_completion(row)?,
        Columns::Instruction => {
            let answer = turn("assistant", whole(row, "output")?);
            Body::Messages { turns: [instruction(row)?, vec![answer]].concat(), prompt: 0 }
        }
        Columns::Task => Body::Messages { turns: instruction(row)?, prompt: 0 },
    };
    let (tools, variables) = match columns {
        Columns::Instruction | Columns::Task => (None, vec![]),
        Columns::Messages { .. } | Columns::PromptCompletion | Columns::Prompt => (tools(row)?, variables(row)?),
    };
    let conversation = Conversation { body, tools, variables };
    conversation.check_marks()?;
    Ok(conversation)
}

/// A column's value; `None` if it is missing or null.
fn optional(row: &Value, column: &str) -> Option<Value> {
    row.get_attr(column).ok().filter(|value| !value.is_undefined() && !value.is_none())
}

fn is_null(row: &Value, column: &str) -> bool {
    row.get_attr(column).is_ok_and(|value| value.is_none())
}

fn required(row: &Value, column: &str) -> Result<Value, String> {
    optional(row, column).ok_or_else(|| {
        if is_null(row, column) {
            return format!("has null as `{column}`");
        }
        let there: Vec<String> = row.try_iter().into_iter().flatten().map(|key| key.to_string()).collect();
        format!("has no `{column}`, only: {}", there.join(", "))
    })
}

fn text(row: &Value, column: &str) -> Result<Option<String>, String> {
    let Some(value) = optional(row, column) else { return Ok(None) };
    let text = value.as_str().ok_or_else(|| format!("`{column}` is a {}, expected a text", value.kind()))?;
    Ok(Some(text.to_owned()))
}

fn turn(role: &str, content: String) -> Turn {
    let message = Value::from_pairs([("role", role.to_owned()), ("content", content)]);
    Turn { role: role.to_owned(), message }
}

/// The messages with that of the column `system` before them, if there is one.
fn with_system(mut turns: Vec<Turn>, row: &Value, column: &str) -> Result<Vec<Turn>, String> {
    if let Some(system) = text(row, "system")?.filter(|system| !system.is_empty()) {
        match turns.first() {
            Some(first) if first.role == "system" => {
                return Err(format!("`system` and the first message of `{column}` are both system messages"));
            }
            _ => turns.insert(0, turn("system", system)),
        }
    }
    Ok(turns)
}

/// A prompt without an answer. A text without a character asks nothing.
fn prompt(row: &Value) -> Result<Vec<Turn>, String> {
    let prompt = required(row, "prompt")?;
    match prompt.as_str() {
        Some(text) if text.trim().is_empty() => Ok(vec![]),
        Some(text) => Ok(vec![turn("user", text.to_owned())]),
        None => messages(&prompt, "prompt"),
    }
}

fn prompt_completion(row: &Value) -> Result<Body, String> {
    let (prompt, completion) = (required(row, "prompt")?, required(row, "completion")?);
    match (prompt.as_str(), completion.as_str()) {
        (Some(prompt), Some(completion)) => {
            Ok(Body::Texts { prompt: prompt.to_owned(), completion: completion.to_owned() })
        }
        (None, None) => {
            let mut turns = messages(&prompt, "prompt")?;
            let given = turns.len();
            turns.extend(messages(&completion, "completion")?);
            Ok(Body::Messages { turns, prompt: given })
        }
        _ => Err("`prompt` and `completion` must both be texts or both be lists of messages".to_owned()),
    }
}

/// The text of a column that every row has.
fn whole(row: &Value, column: &str) -> Result<String, String> {
    text(row, column)?.ok_or_else(|| format!("has no `{column}`"))
}

/// The messages before the answer to an instruction.
fn instruction(row: &Value) -> Result<Vec<Turn>, String> {
    let mut turns = Vec::new();
    if let Some(system) = text(row, "system")?.filter(|system| !system.is_empty()) {
        turns.push(turn("system", system));
    }
    for pair in optional(row, "history").iter().flat_map(|history| history.try_iter().into_iter().flatten()) {
        let texts: Vec<Value> = pair.try_iter().into_iter().flatten().collect();
        let [Some(asked), Some(answered)] = [0, 1].map(|index| texts.get(index).and_then(Value::as_str)) else {
            return Err("`history` holds something other than pairs of an instruction and an answer".to_owned());
        };
        turns.extend([turn("user", asked.to_owned()), turn("assistant", answered.to_owned())]);
    }
    let asked = match text(row, "input")?.filter(|input| !input.is_empty()) {
        Some(input) => format!("{}\n{input}", whole(row, "instruction")?),
        None => whole(row, "instruction")?,
    };
    turns.push(turn("user", asked));
    Ok(turns)
}

/// A list of descriptions of tools, or JSON of one; each may be JSON in a string, too. An empty list is none.
fn tools(row: &Value) -> Result<Option<Value>, String> {
    let Some(column) = optional(row, "tools") else { return Ok(None) };
    let list = parsed(&column, "tools")?;
    if list.kind() != ValueKind::Seq {
        return Err(format!("`tools` is a {}, expected a list of descriptions of tools", list.kind()));
    }
    let each = list.try_iter().into_iter().flatten();
    let tools: Vec<Value> = each.map(|tool| parsed(&tool, "tools")).collect::<Result<_, _>>()?;
    if let Some(other) = tools.iter().find(|tool| tool.kind() != ValueKind::Map) {
        return Err(format!("`tools` holds a {}, expected descriptions of tools", other.kind()));
    }
    Ok((!tools.is_empty()).then(|| tools.into_iter().collect()))
}

/// The value, or the one that a string contains as JSON. An empty string is an empty list.
pub(super) fn parsed(value: &Value, column: &str) -> Result<Value, String> {
    match value.as_str() {
        None => Ok(value.clone()),
        Some("") => Ok(Value::from(Vec::<Value>::new())),
        Some(json) => serde_json::from_str(json).map_err(|e| format!("`{column}` is a text that is no JSON: {e}")),
    }
}

/// Names that the program itself gives to templates.
pub(super) const RESERVED: [&str; 4] = ["messages", "tools", "documents", "add_generation_prompt"];

fn variables(row: &Value) -> Result<Vec<(String, Value)>, String> {
    let column = "chat_template_kwargs";
    let Some(map) = optional(row, column) else { return Ok(vec![]) };
    if map.kind() != ValueKind::Map {
        return Err(format!("`{column}` is a {}, expected an object of variables for the template", map.kind()));
    }
    let all: Vec<(String, Value)> = pairs(&map);
    match all.iter().find(|(name, _)| RESERVED.contains(&name.as_str())) {
        Some((name, _)) => Err(format!("`{column}` sets `{name}`, which belongs to the conversation itself")),
        None => Ok(all),
    }
}

/// The fields of an object that are not null.
fn pairs(map: &Value) -> Vec<(String, Value)> {
    let keys = map.try_iter().into_iter().flatten();
    keys.map(|key| (key.to_string(), map.get_item(&key).unwrap_or_default()))
        .filter(|(_, value)| !value.is_none() && !value.is_undefined())
        .collect()
}

fn messages(list: &Value, column: &str) -> Result<Vec<Turn>, String> {
    if list.kind() != ValueKind::Seq {
        return Err(format!("`{column}` is a {}, expected a list of messages", list.kind()));
    }
    let each = list.try_iter().into_iter().flatten().enumerate();
    each.map(|(index, value)| message(&value).map_err(|problem| format!("message {index} of `{column}` {problem}")))
        .collect()
}

/// A field that says whether a message is to be learned, in other programs' forms.
const TRAINED: [&str; 4] = ["training", "train", "weight", "training_detail"];

/// Reads a message. Fields that are null count as missing, and fields that are not known here are the template's.
fn message(value: &Value) -> Result<Turn, String> {
    if value.kind() != ValueKind::Map {
        return Err(format!("is a {}, expected an object with a role and a content", value.kind()));
    }
    let mut fields = pairs(value);
    let has = |fields: &[(String, Value)], name: &str| fields.iter().any(|(field, _)| field == name);
    if has(&fields, "from") && !has(&fields, "role") {
        fields = from_value(fields)?;
    }
    let role = match fields.iter().find(|(name, _)| name == "role") {
        Some((_, role)) => role.as_str().filter(|role| !role.is_empty()).map(str::to_owned),
        None => return Err(format!("has no `role`, only: {}", names(&fields))),
    };
    let role = role.ok_or("has a `role` that is no text")?;
    // Only answers are learned at all.
    let is_left_out = |(name, value): &&(String, Value)| TRAINED.contains(&name.as_str()) && !is_yes(value);
    if let Some((name, _)) = fields.iter().filter(|_| role == "assistant").find(is_left_out) {
        return Err(format!(
            "has a field `{name}`, which changes how much of it is learned; this is not supported. Write such rows as tokens \
             with a mask (tokens_column, mask_column)"
        ));
    }
    let may_be_silent = [&["tool_calls"], &REASONING[..]].concat().iter().any(|name| has(&fields, name));
    match fields.iter_mut().find(|(name, _)| name == "content") {
        Some((_, content)) => *content = Value::from(joined(content)?),
        None if may_be_silent => {}
        None => return Err(format!("({role}) has no `content`, only: {}", names(&fields))),
    }
    alias_reasoning(&mut fields);
    Ok(Turn { role, message: Value::from_pairs(fields) })
}

fn names(fields: &[(String, Value)]) -> String {
    fields.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
}

/// Whether the value says that a message is learned in full, as all answers are.
fn is_yes(value: &Value) -> bool {
    match value.kind() {
        ValueKind::Bool => value.is_true(),
        ValueKind::Number => *value == Value::from(1),
        _ => false,
    }
}

/// The text of a content, which may be a list of texts.
fn joined(content: &Value) -> Result<String, String> {
    let other = |value: &Value| match value.get_attr("type").ok().filter(|kind| !kind.is_undefined()) {
        Some(kind) => format!("has a content with a part of type `{kind}`; only parts of type `text` can be read"),
        None => format!("has a content that is or holds a {}, expected a text or a list of texts", value.kind()),
    };
    let part = |part: Value| match (part.kind(), part.get_attr("type").ok().and_then(|kind| kind.to_str())) {
        (ValueKind::String, _) => Ok(part.to_string()),
        (ValueKind::Map, Some(kind)) if &*kind == "text" => {
            let text = part.get_attr("text").ok().and_then(|text| text.to_str());
            Ok(text.ok_or("has a part of its content of type `text` without a `text`")?.to_string())
        }
        _ => Err(other(&part)),
    };
    match content.kind() {
        ValueKind::String => Ok(content.to_string()),
        ValueKind::Seq => content.try_iter().into_iter().flatten().map(part).collect(),
        _ => Err(other(content)),
    }
}

/// Names of the field with a message's reasoning; the first that is there counts.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// Gives reasoning the names that templates read it by, as `transformers` does.
fn alias_reasoning(fields: &mut Vec<(String, Value)>) {
    let find = |fields: &[(String, Value)], name: &str| fields.iter().position(|(field, _)| field == name);
    let Some(at) = REASONING.iter().find_map(|name| find(fields, name)) else { return };
    let reasoning = fields[at].1.clone();
    if find(fields, "thinking").is_none() {
        fields.push(("thinking".to_owned(), reasoning.clone()));
    }
    match find(fields, "reasoning_content") {
        Some(at) => fields[at].1 = reasoning,
        None => fields.push(("reasoning_content".to_owned(), reasoning)),
    }
}
