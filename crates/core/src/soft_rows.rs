//! The flat columns that hold the teacher's output for a whole sample.

use crate::extra_column::ExtraValues;
use crate::row_source::{GoldSource, RowSource, TailSource};
use crate::soft_row::{Gold, SoftRow};
use crate::tail::{KnownTail, Tail, TailAtom};
use crate::truncation::Truncation;

/// The soft rows of one sample in flat columns: position `i` owns `counts[i]` entries of `class_ids` and `log_probs`.
///
/// # Examples
/// ```
/// use logitcask_core::{SoftRow, SoftRows};
///
/// let mut rows = SoftRows::default();
/// rows.push(SoftRow { class_ids: &[7, 2], log_probs: &[-0.5, -1.0], ..SoftRow::default() });
/// rows.push(SoftRow { class_ids: &[4], log_probs: &[-0.25], ..SoftRow::default() });
/// assert_eq!(rows.class_ids, [7, 2, 4]);
/// assert_eq!(rows.iter().map(|row| row.best()).collect::<Vec<_>>(), [7, 4]);
/// // What the teacher said about the first two tokens of the sample.
/// rows.truncate(1);
/// assert_eq!(rows.len(), 1);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SoftRows {
    /// Number of kept classes at each position; at least 1.
    pub counts: Vec<u16>,
    /// How many of them were sampled.
    pub drawn: Vec<u16>,
    /// The kept classes of all positions, one position after the other.
    pub class_ids: Vec<u32>,
    /// Their log-probabilities at T = 1, as they are or will be stored.
    pub log_probs: Vec<f32>,
    /// log-partition at each position; empty if the source did not tell it.
    pub log_z: Vec<f32>,
    /// log p(label) at each position; empty unless the source told it of every label.
    pub gold_log_probs: Vec<f32>,
    /// The label's rank at each position. Where only labels among the kept classes are known, it is the label's place
    /// there, and [`Gold::UNKNOWN_RANK`] for the others. Empty if labels are not known.
    pub gold_ranks: Vec<u32>,
    /// Tail atoms, the same number at each position.
    pub tail: Vec<TailAtom>,
    /// [`crate::TailRule::reference`]; 0 for rows without a tail.
    pub reference: f64,
    /// The numbers of each [`ExtraColumn`](crate::ExtraColumn) that was computed or asked for.
    pub extras: Vec<ExtraValues>,
    /// What the source of the rows could tell.
    pub source: RowSource,
}

impl SoftRows {
    /// Creates rows without positions, of the layout that `keep` produces.
    pub fn new(keep: &Truncation) -> Self {
        let reference = keep.tail.map_or(0.0, |rule| rule.reference());
        Self { reference, source: keep.source, ..Self::default() }
    }

    /// Number of positions.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether there are no positions.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Appends one position, without what [`Self::source`] does not tell.
    ///
    /// # Panics
    /// If ids and log-probabilities differ in number or exceed what `u16` can count: a bug in the caller.
    pub fn push(&mut self, row: SoftRow<'_>) {
        assert_eq!(row.class_ids.len(), row.log_probs.len(), "one log-probability for each class");
        assert!(row.class_ids.len() <= usize::from(u16::MAX), "at most 65535 kept classes");
        self.counts.push(row.class_ids.len() as u16);
        self.drawn.push(row.drawn as u16);
        self.class_ids.extend_from_slice(row.class_ids);
        self.log_probs.extend_from_slice(row.log_probs);
        if self.source.log_z {
            self.log_z.push(row.log_z);
        }
        match self.source.gold {
            GoldSource::Always => {
                self.gold_log_probs.push(row.gold.log_prob);
                self.gold_ranks.push(row.gold.rank);
            }
            GoldSource::Kept => {
                let is_kept = (row.gold.rank as usize) < row.class_ids.len();
                self.gold_ranks.push(if is_kept { row.gold.rank } else { Gold::UNKNOWN_RANK });
            }
            GoldSource::None => {}
        }
        self.tail.extend_from_slice(row.tail.atoms);
    }

    /// Number of atoms at each position.
    pub fn atoms(&self) -> usize {
        self.tail.len() / self.len().max(1)
    }

    /// The positions in order. The columns must be consistent, see [`Self::check`].
    pub fn iter(&self) -> impl Iterator<Item = SoftRow<'_>> {
        let mut start = 0;
        let atoms = self.atoms();
        self.counts.iter().enumerate().map(move |(i, &count)| {
            let range = start..start + usize::from(count);
            start = range.end;
            let log_probs = &self.log_probs[range.clone()];
            SoftRow {
                class_ids: &self.class_ids[range],
                log_probs,
                drawn: usize::from(self.drawn[i]),
                log_z: self.log_z.get(i).copied().unwrap_or(f32::NAN),
                gold: self.gold(i, log_probs),
                tail: Tail {
                    reference: self.reference,
                    atoms: &self.tail[i * atoms..(i + 1) * atoms],
                    known: self.known_tail(log_probs),
                    ..Tail::default()
                },
            }
        })
    }

    /// The label of position `i`, whose kept classes have these log-probabilities.
    #[inline]
    fn gold(&self, i: usize, log_probs: &[f32]) -> Gold {
        match (self.gold_log_probs.get(i), self.gold_ranks.get(i)) {
            (Some(&log_prob), Some(&rank)) => Gold { log_prob, rank },
            // A rank that is no place of a class is left for a check to find.
            (None, Some(&rank)) => Gold { log_prob: log_probs.get(rank as usize).copied().unwrap_or(f32::NAN), rank },
            _ => Gold::UNKNOWN,
        }
    }

    /// What is known of the tail of a position whose kept classes have these log-probabilities.
    #[inline]
    fn known_tail(&self, log_probs: &[f32]) -> KnownTail {
        match self.source.tail {
            TailSource::Atoms => KnownTail::Shape,
            TailSource::Mass => {
                let kept: f64 = log_probs.iter().map(|&lp| f64::from(lp).exp()).sum();
                KnownTail::Mass { log_mass: (1.0 - kept).max(0.0).ln() }
            }
            TailSource::None => KnownTail::Nothing,
        }
    }

    /// Keeps the first `positions` positions: the teacher's output for the sample's first `positions + 1` tokens.
    /// An extra column with one vector for the sample keeps it, although it is that of all tokens.
    pub fn truncate(&mut self, positions: usize) {
        if positions >= self.len() {
            return;
        }
        let (entries, atoms) = (self.counts[..positions].iter().map(|&c| usize::from(c)).sum(), self.atoms());
        self.counts.truncate(positions);
        self.drawn.truncate(positions);
        self.class_ids.truncate(entries);
        self.log_probs.truncate(entries);
        self.log_z.truncate(positions);
        self.gold_log_probs.truncate(positions);
        self.gold_ranks.truncate(positions);
        self.tail.truncate(positions * atoms);
        for extra in &mut self.extras {
            if extra.per_position > 0 {
                extra.values.truncate(positions * extra.per_position);
            }
        }
    }
}
