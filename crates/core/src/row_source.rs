//! What the source of a cache's rows could tell. A teacher that we run tells everything; a server, or the cache of
//! another tool, may not. What it did not tell is missing from the rows, and nothing is made up in its place.

use crate::{ConfigError, Selection};
use serde::{Deserialize, Serialize};

/// What is known of every position of a cache.
///
/// # Examples
/// A server that returns the log-probabilities of the likeliest tokens and nothing else:
/// ```
/// use logitcask_core::{GoldSource, RowSource, TailSource};
///
/// let source = RowSource { log_z: false, gold: GoldSource::Kept, tail: TailSource::Mass };
/// assert_eq!(source.to_string(), "no log_z, gold kept, tail mass");
/// assert!(!source.is_full() && RowSource::FULL.is_full());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowSource {
    /// Whether it gave raw logits, so that log_z is known.
    #[serde(default = "known", skip_serializing_if = "is_known")]
    pub log_z: bool,
    /// Of which labels it gave the log-probability and rank.
    #[serde(default, skip_serializing_if = "is_default")]
    pub gold: GoldSource,
    /// What it gave of the classes that were not kept.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tail: TailSource,
}

/// Of which labels log-probability and rank are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GoldSource {
    /// Of all.
    #[default]
    Always,
    /// Of those that are among the kept classes.
    Kept,
    /// Rows do not say where their label is.
    None,
}

/// What is known of the classes that were not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TailSource {
    /// Atoms, and so log Z at every temperature in a range; a dense row has no such classes.
    #[default]
    Atoms,
    /// Their total probability at T = 1: what the kept classes leave of 1.
    Mass,
    /// Nothing: the kept log-probabilities may have been normalised to 1 by themselves.
    None,
}

impl GoldSource {
    /// The name in plans and footers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Kept => "kept",
            Self::None => "none",
        }
    }
}

impl TailSource {
    /// The name in plans and footers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Atoms => "atoms",
            Self::Mass => "mass",
            Self::None => "none",
        }
    }
}

impl Default for RowSource {
    fn default() -> Self {
        Self::FULL
    }
}

impl std::fmt::Display for RowSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let log_z = if self.log_z { "log_z" } else { "no log_z" };
        write!(f, "{log_z}, gold {}, tail {}", self.gold.name(), self.tail.name())
    }
}

impl RowSource {
    /// A source that gave everything.
    pub const FULL: Self = Self { log_z: true, gold: GoldSource::Always, tail: TailSource::Atoms };

    /// Whether it gave everything.
    pub fn is_full(&self) -> bool {
        *self == Self::FULL
    }

    /// Rejects what cannot be said of rows of this selection.
    pub(crate) fn check(&self, selection: Selection, always_keep: &[u32]) -> Result<(), ConfigError> {
        let is_ranked = matches!(selection, Selection::TopK { .. } | Selection::TopP { .. });
        let partial = [
            ("gold", self.gold.name(), self.gold != GoldSource::Always, "\"always\""),
            ("tail", self.tail.name(), self.tail != TailSource::Atoms, "\"atoms\""),
        ];
        for (key, name, _, expected) in partial.into_iter().filter(|(_, _, is_partial, _)| *is_partial) {
            let refused = |why| Err(ConfigError::new(key, format!("\"{name}\""), expected).because(why));
            if !is_ranked {
                return refused(
                    "only top_k and top_p leave it open: dense rows have every class, and a draw is of them",
                );
            }
            if !always_keep.is_empty() {
                return refused("with always_keep the kept classes are not the likeliest ones");
            }
        }
        Ok(())
    }
}

const fn known() -> bool {
    true
}

fn is_known(known: &bool) -> bool {
    *known
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_by_default_is_not_written() {
        let text = |source: RowSource| serde_json::to_string(&source).unwrap();
        assert_eq!(text(RowSource::FULL), "{}");
        let partial = RowSource { log_z: false, gold: GoldSource::Kept, tail: TailSource::Mass };
        assert_eq!(text(partial), r#"{"log_z":false,"gold":"kept","tail":"mass"}"#);
        assert_eq!(serde_json::from_str::<RowSource>(r#"{"tail":"mass"}"#).unwrap().gold, GoldSource::Always);
        assert!(serde_json::from_str::<RowSource>(r#"{"tail":"shape"}"#).is_err());
    }

    #[test]
    fn dense_drawn_and_always_kept_classes_need_a_full_source() {
        let top_k = Selection::TopK { k: 4 };
        let partial = [
            RowSource { gold: GoldSource::Kept, ..RowSource::FULL },
            RowSource { tail: TailSource::None, ..RowSource::FULL },
        ];
        for source in partial {
            assert_eq!(source.check(top_k, &[]), Ok(()));
            for (selection, always_keep) in
                [(Selection::Dense {}, &[][..]), (Selection::Sample { n: 4, seed: 0 }, &[]), (top_k, &[1])]
            {
                assert!(source.check(selection, always_keep).is_err(), "{source} {selection:?} {always_keep:?}");
            }
        }
        let no_log_z = RowSource { log_z: false, ..RowSource::FULL };
        assert_eq!(no_log_z.check(Selection::Dense {}, &[]), Ok(()));
    }
}
