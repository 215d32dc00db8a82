//! One chat template, in an environment like the one that `transformers` gives it.

use super::conversation::Turn;
use super::{dates, generation, python_json};
use chrono::NaiveDateTime;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, Error, ErrorKind};
use minijinja_contrib::pycompat::unknown_method_callback;
use std::fmt;
use std::ops::Range;

/// Name in the environment.
const NAME: &str = "chat";

/// A chat template.
pub(super) struct Template {
    environment: Environment<'static>,
    has_generation: bool,
}

/// A rendered conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rendered {
    pub(super) text: String,
    /// The bytes of the text within `{% generation %}`.
    pub(super) generated: Vec<Range<usize>>,
}

/// What a template receives beside the messages.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) tools: Option<&'a Value>,
    /// Special tokens, then the recipe's variables, then the row's: the last of a name counts.
    pub(super) variables: &'a [(String, Value)],
}

impl Template {
    /// Compiles a template. `day` is the one that `strftime_now` writes.
    pub(super) fn new(text: &str, day: Option<NaiveDateTime>) -> Result<Self, String> {
        // Jinja2 knows one kind of line end.
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let (rewritten, has_generation) = generation::rewrite(&text);
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| Problem(&error).to_string())?);
        environment.set_unknown_method_callback(unknown_method_callback);
        environment.add_filter("tojson", python_json::tojson);
        environment
            .add_function("raise_exception", |message: String| -> Result<String, Error> { Err(failed(message)) });
        environment.add_function("strftime_now", move |form: String| match day {
            Some(day) => dates::format(day, &form).map_err(failed),
            None => Err(failed(NO_DATE.to_owned())),
        });
        environment.add_template_owned(NAME, rewritten).map_err(|error| Problem(&error).to_string())?;
        Ok(Self { environment, has_generation })
    }

    /// Whether it says itself what the assistant wrote.
    pub(super) fn has_generation(&self) -> bool {
        self.has_generation
    }

    /// Renders messages; `prompts` asks for the beginning of an answer behind them.
    pub(super) fn render(&self, turns: &[Turn], prompts: bool, context: Context<'_>) -> Result<Rendered, String> {
        let mut all: Vec<(&str, Value)> = Vec::new();
        all.extend(context.variables.iter().map(|(name, value)| (name.as_str(), value.clone())));
        all.push(("messages", turns.iter().map(|turn| turn.message.clone()).collect()));
        all.push(("add_generation_prompt", Value::from(prompts)));
        // Undefined and not null where there are none: the test `tools is iterable` holds for null.
        all.extend(context.tools.map(|tools| ("tools", tools.clone())));
        let template = self.environment.get_template(NAME).map_err(|error| Problem(&error).to_string())?;
        let marked = template.render(Value::from_pairs(all)).map_err(|error| Problem(&error).to_string())?;
        let (text, generated) = generation::take_marks(&marked)?;
        Ok(Rendered { text, generated })
    }
}

const NO_DATE: &str = "it writes the current day, and a cache must not depend on the day on which it is made; set \
                       [dataset.chat] date, such as \"2026-07-26\"";

fn failed(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

/// An error of a template: what it or the library says, and the line.
struct Problem<'a>(&'a Error);

impl fmt::Display for Problem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.detail() {
            // Its own exceptions and ours are whole sentences.
            Some(detail) if self.0.kind() == ErrorKind::InvalidOperation => f.write_str(detail)?,
            Some(detail) => write!(f, "{}: {detail}", self.0.kind())?,
            None => write!(f, "{}", self.0.kind())?,
        }
        self.0.line().map_or(Ok(()), |line| write!(f, " (line {line} of the template)"))
    }
}
