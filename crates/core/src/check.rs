//! Checks the invariants between a sample's rows and the labels they were made for.

use crate::exp::exp_nonpositive;
use crate::lanes::{LANES, all, largest, sum};
use crate::row_error::{PositionError, RowError};
use crate::row_source::{GoldSource, TailSource};
use crate::soft_row::{Gold, SoftRow};
use crate::soft_rows::SoftRows;
use crate::tail::{ATOM_STEP, Tail, TailAtom};
use crate::truncation::Truncation;
use pulp::{Arch, Simd, WithSimd};
use std::ops::RangeInclusive;

/// Tolerance in nats for checks that compare a sum of stored probabilities with 1: each log-probability may have been
/// rounded to f16, whose relative step is 2^-11, and the log-probability of a kept class is rarely below -30.
const MASS_TOLERANCE: f64 = 0.02;

impl SoftRows {
    /// Checks every invariant between these rows, the truncation `keep` and the labels the rows were made for: column
    /// lengths, finite and sorted log-probabilities, ids below `vocab_size`, bounds on the log-partition, a tail that
    /// holds the rest of the probability, and the label found exactly where its rank says. The last check ties the rows
    /// to their input: rows of a different text rarely pass it.
    ///
    /// # Errors
    /// The first invariant that does not hold, and the position at which it does not.
    pub fn check(&self, keep: &Truncation, gold_ids: &[u32], vocab_size: u32) -> Result<(), RowError> {
        let positions = gold_ids.len();
        let fit = |lengths: &[(&'static str, usize, usize)]| match lengths.iter().find(|(_, got, wanted)| got != wanted)
        {
            Some(&(column, got, expected)) => Err(RowError::Length { column, expected, got }),
            None => Ok(()),
        };
        let at = |position| move |problem| RowError::Position { position, problem };
        fit(&[("counts", self.counts.len(), positions), ("drawn", self.drawn.len(), positions)])?;
        for (position, (&count, &drawn)) in self.counts.iter().zip(&self.drawn).enumerate() {
            check_counts(keep, count, drawn, vocab_size).map_err(at(position))?;
        }
        let gold = keep.source.gold;
        let entries: usize = self.counts.iter().map(|&c| usize::from(c)).sum();
        fit(&[
            ("class_ids", self.class_ids.len(), entries),
            ("log_probs", self.log_probs.len(), entries),
            ("log_z", self.log_z.len(), if keep.source.log_z { positions } else { 0 }),
            ("gold_log_probs", self.gold_log_probs.len(), if gold == GoldSource::Always { positions } else { 0 }),
            ("gold_ranks", self.gold_ranks.len(), if gold == GoldSource::None { 0 } else { positions }),
            ("tail", self.tail.len(), positions * keep.atoms()),
        ])?;
        Arch::new().dispatch(CheckRows { rows: self, keep, gold_ids, vocab_size })
    }
}

/// Checks every position, dispatched to vector instructions: most of the work is comparing neighbours.
struct CheckRows<'a> {
    rows: &'a SoftRows,
    keep: &'a Truncation,
    gold_ids: &'a [u32],
    vocab_size: u32,
}

impl WithSimd for CheckRows<'_> {
    type Output = Result<(), RowError>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Self::Output {
        let bounds = Bounds::new(self.keep, self.vocab_size);
        let mut seen = Seen::new(self.vocab_size);
        for (position, (row, &gold_id)) in self.rows.iter().zip(self.gold_ids).enumerate() {
            check_row(row, self.keep, gold_id, &bounds, &mut seen)
                .map_err(|problem| RowError::Position { position, problem })?;
        }
        Ok(())
    }
}

fn check_counts(keep: &Truncation, count: u16, drawn: u16, vocab_size: u32) -> Result<(), PositionError> {
    let (least, most) = (keep.min_kept(vocab_size), keep.max_kept(vocab_size));
    if count == 0 {
        return Err(PositionError::NoClass);
    }
    if !(least..=most).contains(&u32::from(count)) {
        return Err(PositionError::Count { count, least, most });
    }
    let sure = usize::from(count).saturating_sub(usize::from(drawn));
    if drawn > count || (drawn > 0 && !keep.is_sampled()) || (keep.is_sampled() && sure < keep.always_keep.len()) {
        return Err(PositionError::Sampled { sampled: drawn, count });
    }
    Ok(())
}

/// Bounds that are the same for all positions of a sample.
struct Bounds {
    vocab_size: u32,
    /// Accepted range of a sum of probabilities whose exact value is 1.
    mass: RangeInclusive<f64>,
    /// Lower bound of the largest log-probability.
    largest: f64,
}

impl Bounds {
    fn new(keep: &Truncation, vocab_size: u32) -> Self {
        let slack = MASS_TOLERANCE + keep.values.mass_tolerance();
        // Padding may be more probable than every class that can be kept.
        let largest = if keep.padding > 0 { f64::NEG_INFINITY } else { -f64::from(vocab_size).ln() - slack };
        // A dense row has no tail, so the probability of its padding is not stored.
        let least = if keep.is_dense() && keep.padding > 0 { 0.0 } else { (-slack).exp() };
        Self { vocab_size, mass: least..=slack.exp(), largest }
    }
}

/// Checks the invariants of one position and returns the first that is broken. `seen` is scratch space.
#[inline(always)]
fn check_row(
    row: SoftRow<'_>,
    keep: &Truncation,
    gold_id: u32,
    bounds: &Bounds,
    seen: &mut Seen,
) -> Result<(), PositionError> {
    let vocab_size = bounds.vocab_size;
    let source = keep.source;
    let is_finite = (row.log_z.is_finite() || !source.log_z)
        && (row.gold.log_prob.is_finite() || source.gold != GoldSource::Always)
        && all(row.log_probs, f32::is_finite);
    if !is_finite {
        return Err(PositionError::NotFinite);
    }
    if gold_id >= vocab_size || !all(row.class_ids, |id| id < vocab_size) {
        let class = *row.class_ids.iter().find(|&&id| id >= vocab_size).unwrap_or(&gold_id);
        return Err(PositionError::OutsideVocabulary { class, vocab_size });
    }
    check_order(row, keep, seen)?;
    let largest = largest(row.log_probs);
    let mass = match largest <= 0.0 {
        // The error of this fast exp is far below the tolerance it is compared with.
        true => sum(row.certain(), exp_nonpositive).into(),
        false => row.kept_mass(),
    };
    if mass > *bounds.mass.end() {
        return Err(match source.log_z {
            true => PositionError::LogZTooSmall { mass },
            false => PositionError::TooProbable { mass },
        });
    }
    if f64::from(largest) < bounds.largest && row.drawn == 0 {
        return Err(match source.log_z {
            true => PositionError::LogZTooLarge { largest },
            false => PositionError::TooImprobable { largest },
        });
    }
    if source.tail == TailSource::Atoms {
        check_tail(row, mass, bounds)?;
    }
    match source.gold {
        GoldSource::Always if keep.is_dense() => check_dense_gold(row, gold_id),
        GoldSource::Always => check_gold(row, keep, gold_id, vocab_size),
        GoldSource::Kept => check_kept_gold(row, gold_id),
        GoldSource::None => Ok(()),
    }
}

/// Checks that each part is sorted by log-probability with ties by id, and that no class occurs twice; a dense row must
/// be in the order of ids.
#[inline(always)]
fn check_order(row: SoftRow<'_>, keep: &Truncation, seen: &mut Seen) -> Result<(), PositionError> {
    if keep.is_dense() {
        let in_order = row.class_ids.iter().zip(0u32..).all(|(&id, i)| id == i);
        return if in_order { Ok(()) } else { Err(PositionError::DenseOrder) };
    }
    let sure = row.class_ids.len() - row.drawn;
    for part in [0..sure, sure..row.class_ids.len()] {
        let (ids, values) = (&row.class_ids[part.clone()], &row.log_probs[part]);
        let neighbours = ids.iter().zip(ids.iter().skip(1)).zip(values.iter().zip(values.iter().skip(1)));
        let in_order = |((a, b), (x, y)): ((&u32, &u32), (&f32, &f32))| (y < x) | ((y == x) & (b > a));
        if !neighbours.fold(true, |all, pair| all & in_order(pair)) {
            return Err(PositionError::Unsorted);
        }
    }
    let is_twice = seen.add_all(row.class_ids);
    let twice = is_twice.then(|| twice(row.class_ids)).flatten();
    let missing = keep.always_keep.iter().find(|id| !seen.has(**id)).copied();
    match (twice, missing) {
        (Some(class), _) => Err(PositionError::Twice { class }),
        (None, Some(class)) => Err(PositionError::AlwaysKeptMissing { class }),
        (None, None) => Ok(()),
    }
}

/// Returns a class that occurs a second time in `ids`.
fn twice(ids: &[u32]) -> Option<u32> {
    ids.iter().enumerate().find(|(i, id)| ids[..*i].contains(id)).map(|(_, id)| *id)
}

/// Detects duplicate classes, one row after the other.
struct Seen {
    /// For each class, the number of the last row that contained it. Rows are numbered from 1; when the numbers run
    /// out, the table is cleared and numbering restarts.
    rows: Vec<u8>,
    row: u8,
}

impl Seen {
    fn new(vocab_size: u32) -> Self {
        Self { rows: vec![0; vocab_size as usize], row: 0 }
    }

    /// Adds the classes of the next row, all below the vocabulary's size; returns true if one of them occurs twice.
    #[inline(always)]
    fn add_all(&mut self, ids: &[u32]) -> bool {
        self.row = self.row.wrapping_add(1);
        if self.row == 0 {
            self.rows.fill(0);
            self.row = 1;
        }
        ids.iter().fold(false, |twice, &id| {
            let before = std::mem::replace(&mut self.rows[id as usize], self.row);
            twice | (before == self.row)
        })
    }

    fn has(&self, id: u32) -> bool {
        self.rows.get(id as usize).is_some_and(|row| *row == self.row)
    }
}

/// Checks that atoms are sorted from the largest logit down with unused ones last, and that together with the kept
/// classes they form a whole distribution.
#[inline(always)]
fn check_tail(row: SoftRow<'_>, mass: f64, bounds: &Bounds) -> Result<(), PositionError> {
    let atoms = row.tail.atoms;
    let used = atoms.iter().take_while(|atom| **atom != TailAtom::NONE).count();
    let is_sorted = atoms[..used].windows(2).all(|pair| pair[1].log_prob <= pair[0].log_prob);
    let is_plain = |atom: &TailAtom| atom.log_prob != i16::MIN && atom.log_weight != i16::MIN;
    let is_canonical = atoms[..used].iter().all(is_plain) && atoms[used..].iter().all(|a| *a == TailAtom::NONE);
    if !(is_sorted && is_canonical) {
        return Err(PositionError::TailUnsorted);
    }
    let total = mass + tail_mass(row.tail);
    // `!contains` rather than a test for "outside": NaN is in no range and must be refused too.
    if !bounds.mass.contains(&total) {
        return Err(PositionError::Mass { total });
    }
    Ok(())
}

/// Probability of the tail at T = 1.
#[inline(always)]
fn tail_mass(tail: Tail<'_>) -> f64 {
    let (step, rest) = (ATOM_STEP as f32, (1.0 - tail.reference) as f32);
    let (mut mass, mut largest) = (0.0, f32::MIN);
    for atom in tail.atoms {
        let log_term = step * (f32::from(atom.log_weight) + rest * f32::from(atom.log_prob));
        // An unused atom has the lowest numbers there are and adds e^-87.
        mass += exp_nonpositive(log_term);
        largest = if log_term > largest { log_term } else { largest };
    }
    // The fast path is as accurate as the check needs. A term above 1 breaks the check anyway, so it takes the exact
    // path.
    match largest <= 0.0 && tail.joined.is_empty() && tail.without.is_none() {
        true => mass.into(),
        false => tail.log_partition(1.0).exp(),
    }
}

/// Checks that the label stands where its rank says, with the log-probability stored for it. Classes of equal stored
/// value are ordered by id, whatever the teacher's order was; so the rank may be the place of any of its equals.
#[inline(always)]
fn check_gold(row: SoftRow<'_>, keep: &Truncation, gold_id: u32, vocab_size: u32) -> Result<(), PositionError> {
    let Gold { log_prob, rank } = row.gold;
    let rank = rank as usize;
    let chunk = row.class_ids.chunks(LANES).position(|ids| !all(ids, |id| id != gold_id));
    let found = chunk.and_then(|chunk| {
        let ids = row.class_ids[chunk * LANES..].iter();
        ids.copied().position(|id| id == gold_id).map(|place| chunk * LANES + place)
    });
    let sure = row.class_ids.len() - row.drawn;
    // Classes that are kept whatever their rank follow classes that were skipped.
    let chosen = sure - keep.always_keep.len().min(sure);
    let fits = match found {
        Some(place) if row.log_probs[place] != log_prob => false,
        Some(place) if place < sure => {
            let first = row.log_probs[..sure].partition_point(|&lp| lp > log_prob);
            let end = row.log_probs[..sure].partition_point(|&lp| lp >= log_prob);
            rank >= first && (rank < end || keep.always_keep.binary_search(&gold_id).is_ok())
        }
        Some(_) => rank >= chosen,
        None => rank >= chosen && chosen.checked_sub(1).is_none_or(|last| log_prob <= row.log_probs[last]),
    };
    if fits && rank < vocab_size as usize {
        return Ok(());
    }
    let found = found.map(|place| (place, row.log_probs[place]));
    Err(PositionError::Label { label: gold_id, rank: row.gold.rank, log_prob, found })
}

/// Checks that the label is among the kept classes exactly if it has a rank, and then at the place of one of its equals.
fn check_kept_gold(row: SoftRow<'_>, label: u32) -> Result<(), PositionError> {
    let rank = row.gold.rank;
    let found = row.class_ids.iter().position(|id| *id == label);
    let stated = row.log_probs.get(rank as usize);
    match found {
        Some(place) if stated == Some(&row.log_probs[place]) => Ok(()),
        None if rank == Gold::UNKNOWN_RANK => Ok(()),
        _ => Err(PositionError::KeptLabel { label, rank, found }),
    }
}

fn check_dense_gold(row: SoftRow<'_>, gold_id: u32) -> Result<(), PositionError> {
    let Gold { log_prob, rank } = row.gold;
    let there = row.log_probs[gold_id as usize];
    let (first, end) = row
        .log_probs
        .iter()
        .fold((0, 0), |(first, end), &lp| (first + u32::from(lp > there), end + u32::from(lp >= there)));
    if there == log_prob && (first..end).contains(&rank) {
        return Ok(());
    }
    Err(PositionError::Label { label: gold_id, rank, log_prob, found: Some((first as usize, there)) })
}
