//! A conversation as its source holds it.

use super::marks;
use minijinja::value::{Value, ValueKind};

/// A conversation, or a prompt and its completion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    pub(super) body: Body,
    /// Descriptions of the tools that the assistant can call.
    pub(super) tools: Option<Value>,
    /// The row's own variables for the template.
    pub(super) variables: Vec<(String, Value)>,
}

/// What a conversation consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// Messages, which the template turns into a text.
    Messages {
        turns: Vec<Turn>,
        /// Number of messages whose answers are part of the prompt.
        prompt: usize,
    },
    /// A text that is given, and the one that is to be learned. They are joined as they are.
    Texts { prompt: String, completion: String },
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) role: String,
    /// An object with `role`, usually `content`, and whatever else the source holds, in its order.
    pub(super) message: Value,
}

impl Turn {
    /// Whether it is an answer.
    pub(super) fn is_assistant(&self) -> bool {
        self.role == "assistant"
    }
}

impl Conversation {
    /// Whether it holds no message and no text.
    pub(crate) fn is_blank(&self) -> bool {
        match &self.body {
            Body::Messages { turns, .. } => turns.is_empty(),
            Body::Texts { prompt, completion } => prompt.trim().is_empty() && completion.trim().is_empty(),
        }
    }

    /// The same without the answers at its end, so that another one can take their place.
    pub(super) fn without_last_answer(mut self) -> Self {
        if let Body::Messages { turns, .. } = &mut self.body {
            while turns.last().is_some_and(Turn::is_assistant) {
                turns.pop();
            }
        }
        self
    }

    /// Role and text of every message. A message that only calls tools has no text.
    pub(super) fn plain_messages(&self) -> Vec<(String, String)> {
        let Body::Messages { turns, .. } = &self.body else { return vec![] };
        let content = |turn: &Turn| turn.message.get_attr("content").ok()?.as_str().map(str::to_owned);
        turns.iter().map(|turn| (turn.role.clone(), content(turn).unwrap_or_default())).collect()
    }

    /// Bytes of its texts.
    pub(crate) fn bytes(&self) -> usize {
        let mut bytes = 0;
        self.for_each_text(&mut |text| bytes += text.len());
        bytes
    }

    /// What decides its split: the messages or texts, without tools and variables.
    pub(crate) fn hashed(&self) -> Vec<u8> {
        let json = match &self.body {
            // The order of an object's fields, which differs between formats of files, does not count.
            Body::Messages { turns, .. } => {
                let messages: Vec<&Value> = turns.iter().map(|turn| &turn.message).collect();
                serde_json::to_value(messages).and_then(|sorted| serde_json::to_vec(&sorted))
            }
            Body::Texts { prompt, completion } => serde_json::to_vec(&[prompt, completion]),
        };
        json.unwrap_or_else(|e| unreachable!("strings, numbers and lists of them are JSON: {e}"))
    }

    /// Calls `each` with every string in the messages, texts, tools and variables, names of fields included: a template may
    /// write those too, as arguments of a tool.
    pub(super) fn for_each_text(&self, each: &mut dyn FnMut(&str)) {
        match &self.body {
            Body::Messages { turns, .. } => turns.iter().for_each(|turn| for_each_string(&turn.message, each)),
            Body::Texts { prompt, completion } => [prompt, completion].into_iter().for_each(|text| each(text)),
        }
        self.tools.iter().chain(self.variables.iter().map(|(_, value)| value)).for_each(|value| {
            for_each_string(value, each);
        });
    }

    /// The same with every string of the messages and tools replaced, names of fields included.
    pub(super) fn with_texts(&self, replace: &dyn Fn(&str) -> String) -> Self {
        let body = match &self.body {
            Body::Messages { turns, prompt } => {
                let turn =
                    |turn: &Turn| Turn { role: turn.role.clone(), message: with_strings(&turn.message, replace) };
                Body::Messages { turns: turns.iter().map(turn).collect(), prompt: *prompt }
            }
            texts @ Body::Texts { .. } => texts.clone(),
        };
        let tools = self.tools.as_ref().map(|tools| with_strings(tools, replace));
        Self { body, tools, variables: self.variables.clone() }
    }

    /// Rejects characters that the program uses itself.
    pub(super) fn check_marks(&self) -> Result<(), String> {
        let mut found = None;
        self.for_each_text(&mut |text| {
            found = found.or(text.chars().find(|c| (marks::BEGIN..=marks::BREAK).contains(c)));
        });
        match found {
            None => Ok(()),
            Some(c) => Err(format!(
                "holds U+{:04X}, a character without a meaning that this program uses as a mark; remove it",
                u32::from(c)
            )),
        }
    }
}

fn items(value: &Value) -> impl Iterator<Item = Value> {
    value.try_iter().into_iter().flatten()
}

fn for_each_string(value: &Value, each: &mut dyn FnMut(&str)) {
    match value.kind() {
        ValueKind::String => value.as_str().into_iter().for_each(each),
        ValueKind::Seq => items(value).for_each(|item| for_each_string(&item, each)),
        ValueKind::Map => items(value).for_each(|key| {
            for_each_string(&key, each);
            for_each_string(&value.get_item(&key).unwrap_or_default(), each);
        }),
        _ => {}
    }
}

fn with_strings(value: &Value, replace: &dyn Fn(&str) -> String) -> Value {
    match value.kind() {
        ValueKind::String => Value::from(replace(value.as_str().unwrap_or_default())),
        ValueKind::Seq => items(value).map(|item| with_strings(&item, replace)).collect(),
        ValueKind::Map => Value::from_pairs(items(value).map(|key| {
            let item = value.get_item(&key).unwrap_or_default();
            (with_strings(&key, replace), with_strings(&item, replace))
        })),
        _ => value.clone(),
    }
}
