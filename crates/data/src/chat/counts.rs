//! What became of the conversations of a dataset.

use serde::{Deserialize, Serialize};
use std::path::Path;

/// Numbers of conversations and of their tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChatCounts {
    pub(crate) seen: u64,
    /// Those that were left out because they have too many tokens.
    pub(crate) too_long: u64,
    /// Those whose last tokens were left out.
    pub(crate) cut: u64,
    /// Those that were left out because they have no answer, or none that is left.
    pub(crate) unanswered: u64,
    /// Tokens of the others that have a token before them, and those of them that are to be learned.
    pub(crate) next_tokens: u64,
    pub(crate) learned: u64,
    /// Conversations of which a special token is to be learned.
    pub(crate) ends: u64,
    /// Conversations that begin with the same special token twice.
    pub(crate) two_starts: u64,
}

impl ChatCounts {
    pub(crate) fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.seen = self.seen.saturating_add(other.seen);
        self.too_long = self.too_long.saturating_add(other.too_long);
        self.cut = self.cut.saturating_add(other.cut);
        self.unanswered = self.unanswered.saturating_add(other.unanswered);
        self.next_tokens = self.next_tokens.saturating_add(other.next_tokens);
        self.learned = self.learned.saturating_add(other.learned);
        self.ends = self.ends.saturating_add(other.ends);
        self.two_starts = self.two_starts.saturating_add(other.two_starts);
    }

    /// Notes in plain sentences; none if there are no conversations.
    pub(crate) fn notes(&self, path: &Path, max_length: usize) -> Vec<String> {
        // Numbers that were read from a file need not fit together.
        let kept = self.seen.saturating_sub(self.too_long.saturating_add(self.unanswered));
        if kept == 0 {
            return vec![];
        }
        let (seen, learned, all) = (self.seen, self.learned, self.next_tokens);
        let share = 100.0 * learned as f64 / all as f64;
        let notes = [
            (
                true,
                format!(
                    "{kept} of {seen} conversations are samples; {learned} of their {all} tokens ({share:.1} %) are \
                     answers"
                ),
            ),
            (
                self.too_long > 0,
                format!(
                    "{} of {seen} conversations have more than max_length = {max_length} tokens and were left out; raise \
                     [cache] max_length, or set [dataset.chat] too_long = \"cut\"",
                    self.too_long
                ),
            ),
            (self.cut > 0, format!("{} of {seen} conversations were cut to {max_length} tokens", self.cut)),
            (
                self.unanswered > 0,
                format!("{} of {seen} conversations have no answer and were left out", self.unanswered),
            ),
            (
                learned == all,
                "every token is an answer, prompts too: the template's {% generation %} blocks hold everything"
                    .to_owned(),
            ),
            (
                self.ends == 0,
                "no answer ends with a special token, so that a student does not learn where to stop".to_owned(),
            ),
            (self.two_starts > 0, format!("{} conversations begin with the same special token twice", self.two_starts)),
        ];
        notes.into_iter().filter(|(holds, _)| *holds).map(|(_, note)| format!("{}: {note}", path.display())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_do_not_fit_together_are_no_accident() {
        let damaged = ChatCounts { seen: 1, too_long: u64::MAX, unanswered: 2, ..ChatCounts::default() };
        assert!(damaged.notes(Path::new("a"), 8).is_empty());
        let mut sum = damaged;
        sum.add(&damaged);
        assert_eq!((sum.seen, sum.too_long), (2, u64::MAX));
    }
}
