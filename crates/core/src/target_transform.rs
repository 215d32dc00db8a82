//! Soft targets edited with the known label: the teacher's mistakes are corrected, or most of its output is discarded.

use crate::ConfigError;
use crate::soft_row::SoftRow;
use crate::tail::Tail;
use serde::{Deserialize, Serialize};

/// How a teacher's row is edited, given its label.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum TargetTransform {
    /// The teacher's row, unchanged.
    Teacher {},
    /// If the teacher prefers another class, that class and the label exchange probabilities (KA, 1911.07471; DR-KD,
    /// 2201.11319).
    Swap {
        /// Applies only if the label is among this many of the teacher's first choices; everywhere if missing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        within: Option<u32>,
    },
    /// If the teacher prefers another class, the label is raised above it and all others keep their proportions
    /// (2412.09874).
    Lift {
        /// Distance in nats between the raised label and the teacher's first choice.
        margin: f64,
        /// Applies only if the label is among this many of the teacher's first choices; everywhere if missing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        within: Option<u32>,
    },
    /// Only the label's probability is used; all other classes form the tail (KD-pt, 2002.03532).
    Label {},
    /// Ignores the teacher's output and uses the similarity between the label and the other classes, softmax(cosine of
    /// the head's weights / temperature) (KD-sim, 2002.03532).
    Similar {
        /// Number of most similar classes that are kept.
        classes: u32,
        /// Temperature of that softmax. Cosines lie within -1..=1, so it is well below 1.
        temperature: f64,
    },
}

impl Default for TargetTransform {
    fn default() -> Self {
        Self::Teacher {}
    }
}

impl TargetTransform {
    /// Rejects parameters with which the rule would have no effect, or would not give a distribution.
    ///
    /// # Errors
    /// Names the parameter.
    pub fn check(&self) -> Result<(), ConfigError> {
        let positive = |key: &str, value: f64| {
            ConfigError::unless(value > 0.0 && value.is_finite(), key, value, "a positive number")
        };
        if let Self::Lift { margin, .. } = *self {
            positive("margin", margin)?;
        }
        match *self {
            Self::Lift { within: Some(rank), .. } | Self::Swap { within: Some(rank) } => {
                ConfigError::unless(rank >= 2, "within", rank, "at least 2")
                    .map_err(|error| error.because("a label of a lower rank is the teacher's first choice already"))
            }
            Self::Similar { classes, temperature } => {
                ConfigError::unless(classes > 0, "classes", classes, "at least 1")?;
                positive("temperature", temperature)
            }
            _ => Ok(()),
        }
    }

    /// Whether the row has a mistake that this rule corrects.
    fn mends(&self, gold_rank: u32) -> bool {
        match *self {
            Self::Swap { within } | Self::Lift { within, .. } => {
                gold_rank > 0 && within.is_none_or(|within| gold_rank < within)
            }
            Self::Teacher {} | Self::Label {} | Self::Similar { .. } => false,
        }
    }
}

/// An edited row that owns its columns.
#[derive(Clone, Debug, PartialEq)]
pub struct TransformedRow {
    class_ids: Vec<u32>,
    log_probs: Vec<f32>,
    joined: Vec<f32>,
    without: Option<f32>,
}

impl TransformedRow {
    /// Applies `rule` to `row`, whose label is the class `label` ([`TargetTransform::Similar`] does not use rows).
    /// Log-probabilities are relative to the row's own log_z and need not add up to 1: [`SoftRow::log_partition`]
    /// normalises them at a temperature.
    ///
    /// # Panics
    /// If the row has sampled classes: the classes of its tail are then unknown.
    pub fn new(row: &SoftRow<'_>, label: u32, rule: TargetTransform) -> Self {
        assert_eq!(row.drawn, 0, "a drawn sample cannot be edited");
        let mut this = Self {
            class_ids: row.class_ids.to_vec(),
            log_probs: row.log_probs.to_vec(),
            joined: row.tail.joined.to_vec(),
            without: row.tail.without,
        };
        match rule {
            TargetTransform::Swap { .. } if rule.mends(row.gold.rank) => this.swap(row.best(), label),
            TargetTransform::Lift { margin, .. } if rule.mends(row.gold.rank) => {
                let place = this.expose_label(label, row.gold.log_prob);
                let best = row.log_probs.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                this.log_probs[place] = best + margin as f32;
            }
            TargetTransform::Label {} => this.leave(label, row.gold.log_prob),
            _ => {}
        }
        this
    }

    /// Returns the label's index among the kept classes, after moving it there from the tail if it was not kept.
    pub fn expose_label(&mut self, label: u32, log_prob: f32) -> usize {
        if let Some(place) = self.class_ids.iter().position(|&id| id == label) {
            return place;
        }
        self.class_ids.push(label);
        self.log_probs.push(log_prob);
        // A label that a shorter prefix moved to the tail is one of the tail's single classes.
        match self.joined.iter().position(|&joined| joined == log_prob) {
            Some(place) => {
                self.joined.remove(place);
            }
            None => self.without = Some(log_prob),
        }
        self.class_ids.len() - 1
    }

    /// The edited row, with all other fields taken from `row`.
    pub fn view<'a>(&'a self, row: &SoftRow<'a>) -> SoftRow<'a> {
        SoftRow {
            class_ids: &self.class_ids,
            log_probs: &self.log_probs,
            tail: Tail { joined: &self.joined, without: self.without, ..row.tail },
            ..*row
        }
    }

    /// Exchanges the ids; if the label was not kept, the other class joins the tail in its place, at the same
    /// probability.
    fn swap(&mut self, best: u32, label: u32) {
        for id in &mut self.class_ids {
            *id = match *id {
                id if id == best => label,
                id if id == label => best,
                id => id,
            };
        }
    }

    fn leave(&mut self, label: u32, log_prob: f32) {
        let place = self.expose_label(label, log_prob);
        let (id, log_prob) = (self.class_ids.swap_remove(place), self.log_probs.swap_remove(place));
        self.joined.append(&mut self.log_probs);
        (self.class_ids, self.log_probs) = (vec![id], vec![log_prob]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::select::select_reference;
    use crate::tests::keep;
    use crate::{RowErrors, Selection, SoftRows};

    const LOGITS: [f32; 8] = [0.5, 3.0, -1.0, 2.0, 0.25, -2.0, 1.0, -0.5];

    fn rows(label: u32) -> SoftRows {
        let keep = keep(Selection::TopK { k: 3 });
        let (mut rows, mut errors) = (SoftRows::new(&keep), RowErrors::new(&keep));
        select_reference(&LOGITS, label, &keep, 0.5, &mut rows, &mut errors);
        rows
    }

    /// Probabilities of known classes and of all others at a temperature.
    fn probabilities(row: &SoftRow<'_>, t: f64) -> (Vec<(u32, f64)>, f64) {
        let total = row.log_partition(1.0 / t);
        let p = |lp: &f32| (f64::from(*lp) / t - total).exp();
        let mut known: Vec<_> = row.class_ids.iter().copied().zip(row.log_probs.iter().map(p)).collect();
        known.sort_by_key(|(id, _)| *id);
        (known, row.tail_mass(t))
    }

    #[test]
    fn swap_moves_two_classes_and_leaves_the_others_alone() {
        // 3 is the teacher's second choice, 2 is in the tail.
        for (label, t) in [(3, 1.0), (3, 4.0), (2, 1.0), (2, 4.0)] {
            let rows = rows(label);
            let row = rows.iter().next().unwrap();
            let edited = TransformedRow::new(&row, label, TargetTransform::Swap { within: None });
            let ((before, rest), (after, new_rest)) = (probabilities(&row, t), probabilities(&edited.view(&row), t));
            assert!((rest - new_rest).abs() < 1e-12, "the others together");
            let of = |all: &[(u32, f64)], id| all.iter().find(|(i, _)| *i == id).map(|(_, p)| *p);
            assert_eq!(of(&after, label), of(&before, 1), "the label has the first choice's place");
            assert_eq!(of(&after, 1), of(&before, label), "and the first choice the label's");
            assert_eq!(of(&after, 6), of(&before, 6));
            // Twice is not at all.
            let view = edited.view(&row);
            let twice = TransformedRow::new(&view, 1, TargetTransform::Swap { within: None });
            assert_eq!(twice.view(&view).class_ids, row.class_ids);
        }
        let right = rows(1);
        let row = right.iter().next().unwrap();
        let edited = TransformedRow::new(&row, 1, TargetTransform::Swap { within: None });
        assert_eq!(edited.view(&row), row, "no mistake, no change");
        let rows = rows(2);
        let row = rows.iter().next().unwrap();
        let edited = TransformedRow::new(&row, 2, TargetTransform::Swap { within: Some(3) });
        assert_eq!(edited.view(&row), row, "a label so far down is left where it is");
    }

    #[test]
    fn a_label_is_told_apart_from_the_tail_at_every_temperature() {
        let rows = rows(2);
        let row = rows.iter().next().unwrap();
        for t in [1.0f64, 2.0, 5.0] {
            let z: f64 = LOGITS.iter().map(|z| (f64::from(*z) / t).exp()).sum();
            let p = |class: usize| (f64::from(LOGITS[class]) / t).exp() / z;
            let close = |a: f64, b: f64| assert!((a - b).abs() < 3e-3, "T = {t}: {a}, expected {b}");

            let edited = TransformedRow::new(&row, 2, TargetTransform::Label {});
            let (known, rest) = probabilities(&edited.view(&row), t);
            assert_eq!(known.len(), 1);
            close(known[0].1, p(2));
            close(rest, 1.0 - p(2));

            let edited = TransformedRow::new(&row, 2, TargetTransform::Lift { margin: 1.0, within: None });
            let (known, rest) = probabilities(&edited.view(&row), t);
            let lifted = ((f64::from(LOGITS[1]) + 1.0) / t).exp() / z;
            let total = 1.0 - p(2) + lifted;
            close(known.iter().find(|(id, _)| *id == 2).unwrap().1, lifted / total);
            close(known.iter().find(|(id, _)| *id == 1).unwrap().1, p(1) / total);
            close(rest, (1.0 - p(1) - p(2) - p(3) - p(6)) / total);

            // Of a shorter prefix it is a single class of the tail.
            let short = row.prefix(1);
            let edited = TransformedRow::new(&short, 3, TargetTransform::Label {});
            let (known, _) = probabilities(&edited.view(&short), t);
            assert_eq!(known[0].0, 3);
        }
    }
}
