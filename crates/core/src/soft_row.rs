//! What a teacher said at one position, and the flat columns that hold a whole sample of it.

use crate::TailPolicy;

/// Slack in nats for checks that compare a sum of stored log-probabilities with 1: each of them may have been rounded to
/// f16, whose relative step is 2^-11, and log-probabilities of a kept class seldom pass -30.
pub const MASS_TOLERANCE: f64 = 0.02;

/// The teacher's view of the observed label: kept even where the label is not among the kept classes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gold {
    /// log p(label) at T = 1 over the whole vocabulary.
    pub log_prob: f32,
    /// How many classes the teacher ranks before the label (0: the teacher's first choice; ties to the lower id).
    pub rank: u32,
}

/// What a teacher said at one position: a view into [`SoftRows`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SoftRow<'a> {
    /// The kept classes, largest logit first, ties to the lower id.
    pub class_ids: &'a [u32],
    /// log p at T = 1 of the kept classes: `logit - log_z`.
    pub log_probs: &'a [f32],
    /// log-partition: log sum exp of the raw logits over the **whole** vocabulary.
    pub log_z: f32,
    /// The observed label.
    pub gold: Gold,
}

impl SoftRow<'_> {
    /// Share of the probability at T = 1 that the kept classes hold.
    pub fn kept_mass(&self) -> f64 {
        self.log_probs.iter().map(|&lp| f64::from(lp).exp()).sum()
    }

    /// log p of the kept classes at `temperature`, as `policy` sees them, and the log of the mass outside them
    /// (`None`: the policy gives the tail no place).
    ///
    /// `None` where the row cannot know: the mass outside the kept classes is stored for T = 1 only, so `Bucket` at
    /// another temperature has an answer only if every one of the `vocab_size` classes was kept.
    pub fn tempered(&self, temperature: f64, policy: TailPolicy, vocab_size: u32) -> Option<(Vec<f64>, Option<f64>)> {
        let scaled: Vec<f64> = self.log_probs.iter().map(|&lp| f64::from(lp) / temperature).collect();
        let kept = log_sum_exp(&scaled);
        let normalised = || scaled.iter().map(|x| x - kept).collect();
        let complete = self.class_ids.len() as u64 == u64::from(vocab_size);
        match policy {
            TailPolicy::Renormalize => Some((normalised(), None)),
            TailPolicy::Bucket if complete => Some((normalised(), None)),
            TailPolicy::Bucket if temperature == 1.0 => {
                let tail = -kept.exp_m1().min(0.0);
                Some((scaled, Some(tail.max(f64::MIN_POSITIVE).ln())))
            }
            TailPolicy::Bucket => None,
        }
    }
}

/// log sum exp in f64; negative infinity for an empty slice.
pub fn log_sum_exp(values: &[f64]) -> f64 {
    let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if max == f64::NEG_INFINITY {
        return max;
    }
    max + values.iter().map(|v| (v - max).exp()).sum::<f64>().ln()
}

/// The soft rows of one sample in flat columns: position `i` owns `counts[i]` entries of `class_ids` and `log_probs`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SoftRows {
    /// Kept classes at each position; at least one.
    pub counts: Vec<u16>,
    /// The kept classes of all positions, one position after the other.
    pub class_ids: Vec<u32>,
    /// Their log-probabilities at T = 1.
    pub log_probs: Vec<f32>,
    /// log-partition at each position.
    pub log_z: Vec<f32>,
    /// log p(label) at each position.
    pub gold_log_probs: Vec<f32>,
    /// The label's rank at each position.
    pub gold_ranks: Vec<u32>,
}

/// A row that cannot be what a teacher said about its input.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RowError {
    /// A column is shorter or longer than the positions and counts demand.
    #[error("column `{column}` holds {got} values, {expected} belong there")]
    Length {
        /// Its name.
        column: &'static str,
        /// What positions and counts demand.
        expected: usize,
        /// What it holds.
        got: usize,
    },
    /// One position breaks an invariant.
    #[error("position {position}: {problem}")]
    Position {
        /// Counted from 0.
        position: usize,
        /// What is wrong there.
        problem: String,
    },
}

impl SoftRows {
    /// Number of positions.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// No positions at all.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Appends one position.
    ///
    /// # Panics
    /// Where ids and log-probabilities differ in number or pass what `u16` counts: a mistake of the caller.
    pub fn push(&mut self, row: SoftRow<'_>) {
        assert_eq!(row.class_ids.len(), row.log_probs.len(), "one log-probability for each class");
        assert!(row.class_ids.len() <= usize::from(u16::MAX), "at most 65535 kept classes");
        self.counts.push(row.class_ids.len() as u16);
        self.class_ids.extend_from_slice(row.class_ids);
        self.log_probs.extend_from_slice(row.log_probs);
        self.log_z.push(row.log_z);
        self.gold_log_probs.push(row.gold.log_prob);
        self.gold_ranks.push(row.gold.rank);
    }

    /// The positions in order.
    pub fn iter(&self) -> impl Iterator<Item = SoftRow<'_>> {
        let mut start = 0;
        self.counts.iter().enumerate().map(move |(i, &count)| {
            let range = start..start + usize::from(count);
            start = range.end;
            SoftRow {
                class_ids: &self.class_ids[range.clone()],
                log_probs: &self.log_probs[range],
                log_z: self.log_z[i],
                gold: Gold { log_prob: self.gold_log_probs[i], rank: self.gold_ranks[i] },
            }
        })
    }

    /// Everything that must hold between these rows and the labels they were made for: lengths, finite and sorted
    /// log-probabilities, ids below `vocab_size`, log-partition bounds, and the label found exactly where its rank says.
    /// The last one ties the rows to their input: rows of another text seldom survive it.
    pub fn check(&self, gold_ids: &[u32], vocab_size: u32) -> Result<(), RowError> {
        let entries: usize = self.counts.iter().map(|&c| usize::from(c)).sum();
        let lengths = [
            ("counts", self.counts.len(), gold_ids.len()),
            ("class_ids", self.class_ids.len(), entries),
            ("log_probs", self.log_probs.len(), entries),
            ("log_z", self.log_z.len(), gold_ids.len()),
            ("gold_log_probs", self.gold_log_probs.len(), gold_ids.len()),
            ("gold_ranks", self.gold_ranks.len(), gold_ids.len()),
        ];
        if let Some(&(column, got, expected)) = lengths.iter().find(|(_, got, expected)| got != expected) {
            return Err(RowError::Length { column, expected, got });
        }
        for (position, (row, &gold_id)) in self.iter().zip(gold_ids).enumerate() {
            check_row(row, gold_id, vocab_size).map_err(|problem| RowError::Position { position, problem })?;
        }
        Ok(())
    }
}

/// One position's invariants; `Err` says what is broken.
fn check_row(row: SoftRow<'_>, gold_id: u32, vocab_size: u32) -> Result<(), String> {
    if row.class_ids.is_empty() {
        return Err("no class was kept, at least one belongs here".into());
    }
    if !row.log_z.is_finite() || !row.gold.log_prob.is_finite() || row.log_probs.iter().any(|lp| !lp.is_finite()) {
        return Err("a log-probability or log_z is not a finite number".into());
    }
    if let Some(id) = row.class_ids.iter().chain([&gold_id]).find(|&&id| id >= vocab_size) {
        return Err(format!("class {id} is outside the vocabulary of {vocab_size}"));
    }
    if row.log_probs.windows(2).any(|pair| pair[1] > pair[0]) {
        return Err("log-probabilities are not sorted, largest first".into());
    }
    let mass = row.kept_mass();
    if mass.ln() > MASS_TOLERANCE {
        return Err(format!("kept classes hold {mass:.4} of the probability: log_z is below their log-sum-exp"));
    }
    let floor = -f64::from(vocab_size).ln() - MASS_TOLERANCE;
    if f64::from(row.log_probs[0]) < floor {
        return Err(format!("largest log-probability {} is below -ln V: log_z is too large", row.log_probs[0]));
    }
    check_gold(row, gold_id, vocab_size)
}

/// The label must stand exactly where its rank says, with the log-probability stored for it.
fn check_gold(row: SoftRow<'_>, gold_id: u32, vocab_size: u32) -> Result<(), String> {
    let Gold { log_prob, rank } = row.gold;
    let found = row.class_ids.iter().position(|&id| id == gold_id);
    match found {
        Some(place) if place == rank as usize && row.log_probs[place] == log_prob => Ok(()),
        None if (row.class_ids.len()..vocab_size as usize).contains(&(rank as usize))
            && log_prob <= row.log_probs[row.log_probs.len() - 1] =>
        {
            Ok(())
        }
        _ => Err(format!(
            "label {gold_id} has rank {rank} and log-probability {log_prob}, but the kept classes {}: this row belongs to another input",
            found.map_or("lack it".to_owned(), |place| format!("hold it at {place} with {}", row.log_probs[place])),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> SoftRows {
        let mut rows = SoftRows::default();
        let lp = |p: f32| p.ln();
        rows.push(SoftRow {
            class_ids: &[5, 2],
            log_probs: &[lp(0.6), lp(0.3)],
            log_z: 11.0,
            gold: Gold { log_prob: lp(0.3), rank: 1 },
        });
        rows.push(SoftRow {
            class_ids: &[1],
            log_probs: &[lp(0.9)],
            log_z: -3.0,
            gold: Gold { log_prob: lp(0.01), rank: 4 },
        });
        rows
    }
    const GOLD: [u32; 2] = [2, 7];

    #[test]
    fn good_rows_pass() {
        assert_eq!(rows().check(&GOLD, 8), Ok(()));
    }

    #[test]
    fn every_broken_invariant_is_named() {
        type Breakage = fn(&mut SoftRows);
        let broken: [(&str, Breakage); 9] = [
            ("log_z", |r| r.log_z.truncate(1)),
            ("class_ids", |r| r.class_ids.push(1)),
            ("no class", |r| {
                r.counts[1] = 0;
                r.class_ids.truncate(2);
                r.log_probs.truncate(2);
            }),
            ("finite", |r| r.log_probs[0] = f32::NAN),
            ("outside the vocabulary", |r| r.class_ids[0] = 8),
            ("sorted", |r| r.log_probs.swap(0, 1)),
            ("below their log-sum-exp", |r| r.log_probs[0] = 0.1),
            ("too large", |r| r.log_probs[2] = -2.2),
            ("another input", |r| r.gold_ranks[0] = 0),
        ];
        for (message, breakage) in broken {
            let mut rows = rows();
            breakage(&mut rows);
            let error = rows.check(&GOLD, 8).expect_err(message).to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn rows_of_another_input_are_refused() {
        let error = rows().check(&[3, 7], 8).expect_err("3 is not the label").to_string();
        assert!(error.contains("position 0") && error.contains("another input"), "{error}");
    }

    #[test]
    fn bucket_knows_its_tail_at_one_temperature_only() {
        let rows = rows();
        let row = rows.iter().next().expect("two rows");
        let (kept, tail) = row.tempered(1.0, TailPolicy::Bucket, 8).expect("T = 1 is stored");
        assert!((log_sum_exp(&kept).exp() + tail.expect("a tail").exp() - 1.0).abs() < 1e-12);
        assert_eq!(row.tempered(2.0, TailPolicy::Bucket, 8), None);
        let (kept, tail) = row.tempered(2.0, TailPolicy::Renormalize, 8).expect("always known");
        assert!(log_sum_exp(&kept).abs() < 1e-12 && tail.is_none());
        // With the whole vocabulary kept nothing is missing, and both policies agree.
        assert_eq!(row.tempered(2.0, TailPolicy::Bucket, 2), row.tempered(2.0, TailPolicy::Renormalize, 2));
    }
}
