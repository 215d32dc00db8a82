//! Rows of what a server tells.

mod check;

use crate::{AnswerPosition, AnswerProblem, Entry};
use check::likeliest;
use logitcask_core::{Gold, GoldSource, RowErrors, Selection, SoftRow, SoftRows, Tail, Truncation};

/// Makes rows of what a server tells.
#[derive(Clone, Debug)]
pub struct ServerRowBuilder {
    keep: Truncation,
    vocab_size: u32,
    /// Number of likeliest classes that the server is asked for.
    k: u32,
}

impl ServerRowBuilder {
    /// For rows that are truncated as `keep` says, of a tokenizer with `vocab_size` tokens. `None` for a selection that
    /// a list of the likeliest classes does not determine.
    pub fn new(keep: Truncation, vocab_size: u32) -> Option<Self> {
        match keep.selection {
            Selection::TopK { k } | Selection::TopP { k, .. } => Some(Self { keep, vocab_size, k }),
            Selection::Sample { .. } | Selection::Dense {} => None,
        }
    }

    /// Number of likeliest classes that the server is to be asked for.
    pub fn k(&self) -> u32 {
        self.k
    }

    /// What is kept of a row.
    pub fn keep(&self) -> &Truncation {
        &self.keep
    }

    /// Appends the row of a position whose next token is `label` to `rows`, and what rounding costs to `errors`.
    /// Neither changes if an error is returned.
    ///
    /// # Errors
    /// [`AnswerProblem`] says why this cannot be what the model says there at T = 1.
    pub fn push(
        &self,
        answer: &AnswerPosition,
        label: u32,
        rows: &mut SoftRows,
        errors: &mut RowErrors,
    ) -> Result<(), AnswerProblem> {
        let entries = likeliest(answer, label, self.k as usize, self.vocab_size)?;
        let gold = self.gold(&entries, label)?;
        let chosen = &entries[..self.chosen(&entries)];
        let code = |entry: &Entry| Ok((self.code(entry)?, entry.class));
        let mut codes: Vec<(u16, u32)> = chosen.iter().map(code).collect::<Result<_, _>>()?;
        for ((code, _), entry) in codes.iter().zip(chosen) {
            errors.codec.add(f64::from(self.keep.values.value(*code)) - entry.log_prob);
        }
        // The order of the format: by encoded value, with ties in the order of ids.
        codes.sort_unstable();
        let class_ids: Vec<u32> = codes.iter().map(|(_, class)| *class).collect();
        let log_probs: Vec<f32> = codes.iter().map(|(code, _)| self.keep.values.value(*code)).collect();
        rows.push(SoftRow {
            class_ids: &class_ids,
            log_probs: &log_probs,
            drawn: 0,
            log_z: f32::NAN,
            gold,
            tail: Tail::default(),
        });
        Ok(())
    }

    /// How many of the entries, likeliest first, are kept.
    fn chosen(&self, entries: &[Entry]) -> usize {
        let most = (self.k as usize).min(entries.len());
        match self.keep.selection {
            Selection::TopP { p, .. } => {
                let mut mass = 0.0;
                let short = entries[..most].iter().take_while(|entry| {
                    mass += entry.log_prob.exp();
                    mass < p
                });
                (1 + short.count()).min(most)
            }
            _ => most,
        }
    }

    /// Log-probability and rank of the label: its place among the likeliest classes, or else what the server says, in
    /// which classes that are as probable count as before it.
    fn gold(&self, entries: &[Entry], label: u32) -> Result<Gold, AnswerProblem> {
        let place = entries.iter().position(|entry| entry.class == label);
        let among = place.filter(|place| *place < self.k as usize);
        let Some(entry) = place.map(|place| &entries[place]) else { return Ok(Gold::UNKNOWN) };
        let rank = match (among, entry.rank) {
            (Some(place), _) => place as u32,
            (None, _) if self.keep.source.gold != GoldSource::Always => return Ok(Gold::UNKNOWN),
            (None, Some(rank)) => (rank - 1).min(u64::from(self.vocab_size - 1)) as u32,
            (None, None) => return Err(AnswerProblem::NoRank { label }),
        };
        Ok(Gold { log_prob: self.keep.values.value(self.code(entry)?), rank })
    }

    fn code(&self, entry: &Entry) -> Result<u16, AnswerProblem> {
        let problem = AnswerProblem::TooSmall { class: entry.class, log_prob: entry.log_prob };
        self.keep.values.code(entry.log_prob as f32).ok_or(problem)
    }
}
