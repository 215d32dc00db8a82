//! Where the answers are in a rendered conversation.
//!
//! A template with `{% generation %}` says it itself. With another one, the conversation up to an answer is rendered
//! with the beginning of an answer behind it, and the conversation up to its end: both are beginnings of the whole
//! text, and the answer is what lies between their ends. A template that writes an earlier turn differently once others
//! follow it has no such beginnings; then only the last turn is well defined.

use super::config::Turns;
use super::conversation::Turn;
use super::template::{Context, Rendered, Template};
use std::ops::Range;

/// The messages of a conversation, and what of them is asked for.
pub(super) struct Asked<'a> {
    pub(super) turns: &'a [Turn],
    /// Number of messages that are given, whoever wrote them.
    pub(super) prompt: usize,
    pub(super) which: Turns,
    pub(super) context: Context<'a>,
    /// Where the added tokens in a text begin and end, in bytes.
    pub(super) token_edges: &'a dyn Fn(&str) -> Vec<usize>,
}

impl Asked<'_> {
    /// Renders the conversation. Returns its text and the bytes of its answers, none if there are no answers.
    pub(super) fn find(&self, template: &Template) -> Result<(String, Vec<Range<usize>>), String> {
        let mut answers = (self.prompt..self.turns.len()).filter(|&index| self.turns[index].is_assistant());
        let answers: Vec<usize> = match self.which {
            Turns::All => answers.collect(),
            Turns::Last => answers.next_back().into_iter().collect(),
        };
        let (Some(&first), Some(&last)) = (answers.first(), answers.last()) else {
            return Ok((String::new(), vec![]));
        };
        let end = match self.which {
            Turns::All => self.turns.len(),
            Turns::Last => last + 1,
        };
        let whole = template.render(&self.turns[..end], false, self.context)?;
        if !template.has_generation() {
            let spans = answers.iter().map(|&answer| self.between(template, answer, end, &whole.text));
            let spans = spans.collect::<Result<_, String>>()?;
            return Ok((whole.text, spans));
        }
        // The blocks of given answers come first.
        let given = match self.turns[..first].iter().any(Turn::is_assistant) {
            true => template.render(&self.turns[..first], false, self.context)?.generated.len(),
            false => 0,
        };
        let Rendered { text, mut generated } = whole;
        match generated.len().checked_sub(given) {
            Some(0) => Err(format!(
                "it has {{% generation %}} blocks, but writes none for the {} answers of this conversation; correct it, or \
                 name one that marks every answer, or has no such blocks, in [dataset.chat] template",
                answers.len()
            )),
            Some(_) => Ok((text, generated.split_off(given))),
            None => Err(format!("it marks {} answers, and {given} of the turns before them", generated.len())),
        }
    }

    /// The bytes of one answer in the text of the first `end` messages.
    fn between(&self, template: &Template, answer: usize, end: usize, whole: &str) -> Result<Range<usize>, String> {
        let render = |count: usize, prompts| {
            let rendered = template.render(&self.turns[..count], prompts, self.context);
            let text = rendered
                .map_err(|problem| format!("cannot render the {count} messages before an answer: {problem}"))?;
            Ok::<_, String>(text.text)
        };
        let before = render(answer, true)?;
        let start = match whole.starts_with(&before) {
            true => before.len(),
            // Nothing follows, so that the text before is written as it was when the answer began.
            false if answer + 1 == self.turns.len().min(end) => {
                let given = render(answer, false)?;
                self.departure(&before, &given, whole).ok_or_else(|| rewritten(answer))?
            }
            false => return Err(rewritten(answer)),
        };
        if answer + 1 == end {
            return Ok(start..whole.len());
        }
        let with = render(answer + 1, false)?;
        match whole.starts_with(&with) && with.len() >= start {
            true => Ok(start..with.len()),
            false => Err(rewritten(answer)),
        }
    }

    /// Where the text of the last answer departs from `before`, which ends with the beginning of an answer that the
    /// whole text does not have, such as `<think>`. `None` if it departs in the messages before, `given`.
    fn departure(&self, before: &str, given: &str, whole: &str) -> Option<usize> {
        let (agreed, written) = (common(before, given), common(before, whole));
        if written < agreed {
            return None;
        }
        // Not within a token: `<b>` agrees with `<think>` in one character.
        let lines = before.match_indices('\n').map(|(at, _)| at + 1);
        let edges = (self.token_edges)(before).into_iter().chain(lines).chain([before.len()]);
        Some(edges.filter(|edge| (agreed..=written).contains(edge)).max().unwrap_or(agreed))
    }
}

/// Length in bytes of what both texts begin with.
fn common(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(c, _)| c.len_utf8()).sum()
}

fn rewritten(answer: usize) -> String {
    format!(
        "it writes message {answer} or those before it differently once others follow, so that what the teacher saw \
         there is not in the whole text; set [dataset.chat] answers = {{ turns = \"last\" }}, or name a template with \
         {{% generation %}} blocks in [dataset.chat] template"
    )
}
