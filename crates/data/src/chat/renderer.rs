//! From conversations to tokens, and marks on those that are to be learned.

use super::answers::Asked;
use super::config::{Answers, ChatConfig, TooLong};
use super::conversation::{Body, Conversation, Turn};
use super::error::ChatError;
use super::files::{ChatFiles, DEFAULT, TOOL_USE};
use super::template::{Context, Template};
use super::{BREAK, dates};
use crate::error::{Error, Result};
use crate::source::{DatasetConfig, SpecialTokens, read_file};
use crate::tokenizer::{TextTokenizer, Token};
use logitcask_core::Fingerprint;
use minijinja::value::{Serde, Value};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// Renders and tokenises the conversations of one dataset.
pub(crate) struct Renderer {
    /// `None` if there is none, which only rows of texts do without.
    template: Option<Template>,
    with_tools: Option<Template>,
    /// Special tokens, then the recipe's own.
    variables: Vec<(String, Value)>,
    answers: Answers,
    too_long: TooLong,
    special_tokens: SpecialTokens,
    settings: BTreeMap<String, String>,
}

/// The tokens of a conversation.
pub(crate) struct Marked {
    pub(crate) tokens: Vec<u32>,
    /// For every token, whether it is to be learned.
    pub(crate) marks: Vec<bool>,
    pub(crate) too_long: TooLong,
}

impl Renderer {
    /// Finds the template, the recipe's own before the model's, and checks the settings.
    pub(crate) fn open(config: &DatasetConfig, files: &ChatFiles) -> Result<Self> {
        let chat = &config.chat;
        let day = chat.date.as_deref().map(dates::parse).transpose()?;
        let own = match &chat.template {
            None => None,
            Some(path) => {
                let bytes = read_file(path)?;
                let text = String::from_utf8(bytes).map_err(|e| Error::TokenizerPart {
                    path: path.clone(),
                    problem: format!("is no chat template, because it is not UTF-8: {e}"),
                })?;
                Some(text)
            }
        };
        let with_tools = own.is_none().then(|| files.template(TOOL_USE)).flatten();
        let template = own.as_deref().or_else(|| files.template(DEFAULT));
        let compile = |name: &str, text: &str| {
            let path =
                chat.template.as_deref().or_else(|| files.template_file(name)).unwrap_or(Path::new("")).to_owned();
            let name = if name == DEFAULT { String::new() } else { format!("`{name}` ") };
            Template::new(text, day).map_err(|problem| ChatError::Template { path, name, problem })
        };
        chat.check()?;
        let special = files.special_tokens().map(|(name, text)| (name.to_owned(), Value::from(text)));
        let own_variables = chat.variables.iter().map(|(name, value)| (name.clone(), Value::from(Serde(value))));
        Ok(Self {
            settings: settings(chat, template, with_tools),
            template: template.map(|text| compile(DEFAULT, text)).transpose()?,
            with_tools: with_tools.map(|text| compile(TOOL_USE, text)).transpose()?,
            variables: special.chain(own_variables).collect(),
            answers: chat.answers,
            too_long: chat.too_long,
            special_tokens: config.special_tokens,
        })
    }

    /// Everything beside the rows and the tokenizer that determines the tokens and marks, by name.
    pub(crate) fn settings(&self) -> &BTreeMap<String, String> {
        &self.settings
    }

    /// The values of the template's variables that are the same for all rows, special tokens among them.
    pub(crate) fn variables(&self) -> BTreeMap<String, String> {
        self.variables.iter().map(|(name, value)| (name.clone(), value.to_string())).collect()
    }

    /// Renders and tokenises a conversation. The error says what is wrong with it.
    pub(crate) fn encode(&self, conversation: &Conversation, tokenizer: &TextTokenizer) -> Result<Marked, String> {
        let conversation = self.guarded(conversation, tokenizer)?;
        let (tokens, marks) = match &conversation.body {
            Body::Texts { prompt, completion } => self.texts(prompt, completion, tokenizer)?,
            Body::Messages { turns, prompt } => self.messages(&conversation, turns, *prompt, tokenizer)?,
        };
        Ok(Marked { tokens, marks, too_long: self.too_long })
    }

    /// The tokens of a conversation and of the beginning of an answer behind it.
    pub(super) fn prompt(&self, conversation: &Conversation, tokenizer: &TextTokenizer) -> Result<Vec<u32>, String> {
        let conversation = self.guarded(conversation, tokenizer)?;
        let Body::Messages { turns, .. } = &conversation.body else { return Err("has no messages".to_owned()) };
        let (template, variables) = (self.template_of(&conversation)?, self.variables_of(&conversation));
        let context = Context { tools: conversation.tools.as_ref(), variables: &variables };
        let rendered = template.render(turns, true, context).map_err(of_template)?;
        let tokens = tokenizer.encode_with_places(&rendered.text, true).map_err(|e| e.to_string())?;
        Ok(tokens.into_iter().map(|token| token.id).collect())
    }

    /// The conversation, after a check or treatment of special tokens that its texts spell out.
    fn guarded<'a>(
        &self,
        conversation: &'a Conversation,
        tokenizer: &TextTokenizer,
    ) -> Result<Cow<'a, Conversation>, String> {
        match (self.special_tokens, &conversation.body) {
            (SpecialTokens::Refuse, _) => refuse_special(conversation, tokenizer)?,
            (SpecialTokens::Plain, Body::Messages { .. }) => {
                let broken = conversation.with_texts(&|text| tokenizer.break_up(text));
                // Nothing else can keep the text from becoming the token.
                refuse_special(&broken, tokenizer)?;
                return Ok(Cow::Owned(broken));
            }
            (SpecialTokens::Plain | SpecialTokens::Parse, _) => {}
        }
        Ok(Cow::Borrowed(conversation))
    }

    /// The template for a conversation.
    fn template_of(&self, conversation: &Conversation) -> Result<&Template, String> {
        let with_tools = conversation.tools.as_ref().and(self.with_tools.as_ref());
        Ok(with_tools.or(self.template.as_ref()).ok_or(NO_TEMPLATE)?)
    }

    /// The values of the template's variables for a conversation.
    fn variables_of(&self, conversation: &Conversation) -> Vec<(String, Value)> {
        [self.variables.as_slice(), &conversation.variables].concat()
    }

    /// A prompt and its completion, joined as they are, between the tokens that start and end a document.
    fn texts(
        &self,
        prompt: &str,
        completion: &str,
        tokenizer: &TextTokenizer,
    ) -> Result<(Vec<u32>, Vec<bool>), String> {
        let parses = self.special_tokens == SpecialTokens::Parse;
        let (text, span) = (format!("{prompt}{completion}"), prompt.len()..prompt.len() + completion.len());
        let own = tokenizer.encode_with_places(&text, parses).map_err(|e| e.to_string())?;
        let (start, end) = (tokenizer.bos(), tokenizer.eos().filter(|_| self.answers.end_of_turn));
        let ids = start.into_iter().chain(own.iter().map(|token| token.id)).chain(end).collect();
        let learned = own.iter().map(|token| overlap(&token.place, &span));
        let marks = start.map(|_| false).into_iter().chain(learned).chain(end.map(|_| true)).collect();
        Ok((ids, marks))
    }

    fn messages(
        &self,
        conversation: &Conversation,
        turns: &[Turn],
        prompt: usize,
        tokenizer: &TextTokenizer,
    ) -> Result<(Vec<u32>, Vec<bool>), String> {
        let (template, variables) = (self.template_of(conversation)?, self.variables_of(conversation));
        let asked = Asked {
            turns,
            prompt,
            which: self.answers.turns,
            context: Context { tools: conversation.tools.as_ref(), variables: &variables },
            token_edges: &|text| tokenizer.added_token_edges(text),
        };
        let (text, spans) = asked.find(template).map_err(of_template)?;
        let tokens = tokenizer.encode_with_places(&text, true).map_err(|e| e.to_string())?;
        let mut marks: Vec<bool> =
            tokens.iter().map(|token| spans.iter().any(|span| overlap(&token.place, span))).collect();
        if !self.answers.end_of_turn {
            spans.iter().for_each(|span| leave_end(span, &text, &tokens, &mut marks, tokenizer));
        }
        Ok((tokens.into_iter().map(|token| token.id).collect(), marks))
    }
}

const NO_TEMPLATE: &str = "there is no chat template: the model's folder has none (chat_template.jinja, or \
                           `chat_template` in tokenizer_config.json), and how its conversations are written cannot be \
                           guessed; name one with [dataset.chat] template";

fn of_template(problem: String) -> String {
    format!("the chat template: {problem}")
}

/// Whether a token holds some of the text that a span does.
fn overlap(place: &Range<usize>, span: &Range<usize>) -> bool {
    place.end > span.start && place.start < span.end
}

/// Takes the marks from the special token at the end of an answer, and from the white space and further special tokens
/// around it.
fn leave_end(span: &Range<usize>, text: &str, tokens: &[Token], marks: &mut [bool], tokenizer: &TextTokenizer) {
    let within: Vec<usize> = (0..tokens.len()).filter(|&index| overlap(&tokens[index].place, span)).collect();
    let is_end = |index: &&usize| {
        let token = &tokens[**index];
        tokenizer.is_special(token.id) || text.get(token.place.clone()).is_some_and(|text| text.trim().is_empty())
    };
    let end: Vec<usize> = within.iter().rev().take_while(is_end).copied().collect();
    // White space before the first special token is part of the answer.
    let first = end.iter().rposition(|&index| tokenizer.is_special(tokens[index].id));
    end.iter().take(first.map_or(0, |first| first + 1)).for_each(|&index| marks[index] = false);
}

fn refuse_special(conversation: &Conversation, tokenizer: &TextTokenizer) -> Result<(), String> {
    let mut problem = None;
    conversation.for_each_text(&mut |text| {
        if problem.is_none()
            && let Some(found) = tokenizer.spelled_out(text)
        {
            let shown: String = text.chars().filter(|c| *c != BREAK).take(60).collect();
            problem = Some(format!(
                "spells out the special token `{}` ({}) in {shown:?}; set `special_tokens` to \"plain\" if it is text like \
                 any other, to \"parse\" if it means the token",
                found.token, found.id
            ));
        }
    });
    problem.map_or(Ok(()), Err)
}

/// See [`Renderer::settings`].
fn settings(chat: &ChatConfig, template: Option<&str>, with_tools: Option<&str>) -> BTreeMap<String, String> {
    let hash = |text: &str| Fingerprint::of(text.as_bytes()).to_string();
    // An object of JSON sorts its names.
    let variables: BTreeMap<&String, String> =
        chat.variables.iter().map(|(name, value)| (name, value.to_string())).collect();
    let variables = variables.iter().map(|(name, value)| (format!("variable {name}"), value.clone()));
    let given = [
        ("template", template.map(hash)),
        ("template for tools", with_tools.map(hash)),
        ("date", chat.date.clone()),
        ("turns", Some(chat.answers.turns.name().to_owned())),
        ("end of turn", Some(if chat.answers.end_of_turn { "learned" } else { "not learned" }.to_owned())),
        ("too long", Some(chat.too_long.name().to_owned())),
    ];
    let given = given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    given.chain(variables).collect()
}
