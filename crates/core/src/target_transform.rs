//! Soft targets that were edited where the label is known: the teacher's mistakes mended, or most of what it said left out.

use crate::ConfigError;
use crate::soft_row::SoftRow;
use crate::tail::Tail;
use serde::{Deserialize, Serialize};

/// What is made of a teacher's row beside its label.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum TargetTransform {
    /// As the teacher said.
    Teacher {},
    /// Where the teacher prefers another class, that class and the label change places (KA, 1911.07471; DR-KD,
    /// 2201.11319).
    Swap {
        /// Only where the label is among so many of the teacher's first choices; left out: everywhere.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        within: Option<u32>,
    },
    /// Where the teacher prefers another class, the label is lifted above it and the rest keep their proportions
    /// (2412.09874).
    Lift {
        /// By so many nats.
        margin: f64,
        /// Only where the label is among so many of the teacher's first choices; left out: everywhere.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        within: Option<u32>,
    },
    /// The label's probability alone; all others are the tail (KD-pt, 2002.03532).
    Label {},
    /// Nothing of what the teacher said: how alike it finds the label and the other classes, softmax(cosine of the head's
    /// weights / temperature) (KD-sim, 2002.03532).
    Similar {
        /// The most alike classes are told one by one.
        classes: u32,
        /// Cosines lie within -1..=1, so it is well below 1.
        temperature: f64,
    },
}

impl Default for TargetTransform {
    fn default() -> Self {
        Self::Teacher {}
    }
}

impl TargetTransform {
    /// Refuses parameters with which the rule would change nothing, or give no distribution.
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

    /// Is there a mistake here that this rule mends?
    fn mends(&self, gold_rank: u32) -> bool {
        match *self {
            Self::Swap { within } | Self::Lift { within, .. } => {
                gold_rank > 0 && within.is_none_or(|within| gold_rank < within)
            }
            Self::Teacher {} | Self::Label {} | Self::Similar { .. } => false,
        }
    }
}

/// A row of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct TransformedRow {
    class_ids: Vec<u32>,
    log_probs: Vec<f32>,
    joined: Vec<f32>,
    without: Option<f32>,
}

impl TransformedRow {
    /// `row`, whose label is the class `label`, under `rule` ([`TargetTransform::Similar`] has no use for rows). Log-probabilities are relative to the row's own log_z and need
    /// not add up to 1: what normalises them at a temperature is [`SoftRow::log_partition`].
    ///
    /// # Panics
    /// On a row with drawn classes: which classes are in the tail is not known of it.
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

    /// The label where it stands among the kept classes; moves it there out of the tail where it is not one of them.
    pub fn expose_label(&mut self, label: u32, log_prob: f32) -> usize {
        if let Some(place) = self.class_ids.iter().position(|&id| id == label) {
            return place;
        }
        self.class_ids.push(label);
        self.log_probs.push(log_prob);
        // A label that a shorter prefix let join the tail is one of its single classes.
        match self.joined.iter().position(|&joined| joined == log_prob) {
            Some(place) => {
                self.joined.remove(place);
            }
            None => self.without = Some(log_prob),
        }
        self.class_ids.len() - 1
    }

    /// As a row with the rest of what `row` has.
    pub fn view<'a>(&'a self, row: &SoftRow<'a>) -> SoftRow<'a> {
        SoftRow {
            class_ids: &self.class_ids,
            log_probs: &self.log_probs,
            tail: Tail { joined: &self.joined, without: self.without, ..row.tail },
            ..*row
        }
    }

    /// Ids change places; where the label was not kept, the tail holds the other class instead, at the same probability.
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
