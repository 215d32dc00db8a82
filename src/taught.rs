//! The text of a sample, with the tokens made visible that students learn.

use anyhow::Result;
use logitcask_core::{Positions, Sample};
use logitcask_data::TextTokenizer;
use std::io::{IsTerminal, stdout};

/// What is written around learned tokens.
pub struct Marks {
    begin: &'static str,
    end: &'static str,
    /// A line that explains them.
    pub legend: &'static str,
}

impl Marks {
    /// Colour on a terminal, unless NO_COLOR is set, and brackets elsewhere.
    pub fn of_output() -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        match stdout().is_terminal() && !plain {
            true => Self { begin: "\u{1b}[32m", end: "\u{1b}[0m", legend: "the tokens in green are learned" },
            false => Self { begin: "⟦", end: "⟧", legend: "the tokens in ⟦ ⟧ are learned" },
        }
    }

    /// The text of a sample of which some positions were chosen, special tokens and all; `None` if all were.
    pub fn write(&self, sample: &Sample, tokenizer: &TextTokenizer) -> Result<Option<String>> {
        let Positions::Chosen(chosen) = &sample.positions else { return Ok(None) };
        let ids = &sample.input_ids;
        let mut learned = vec![false; ids.len()];
        chosen.iter().for_each(|&position| learned[position as usize + 1] = true);
        let whole = tokenizer.decode_verbatim(ids)?;
        let (mut marked, mut from, mut token) = (String::new(), 0, 0);
        for run in learned.chunk_by(|a, b| a == b) {
            token += run.len();
            let to = common(&tokenizer.decode_verbatim(&ids[..token])?, &whole).max(from);
            let text = &whole[from..to];
            match run[0] {
                true => marked.extend([self.begin, text, self.end]),
                false => marked.push_str(text),
            }
            from = to;
        }
        Ok(Some(marked))
    }
}

/// Length in bytes of what both texts begin with. A text that ends within a character ends with another one.
fn common(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(c, _)| c.len_utf8()).sum()
}
