//! What must hold between a sample's rows and the labels they were made for.

use crate::exp::exp_nonpositive;
use crate::keep::Keep;
use crate::soft_row::{Gold, SoftRow};
use crate::soft_rows::SoftRows;
use crate::tail::TailAtom;

/// Slack in nats for checks that compare a sum of stored log-probabilities with 1: each of them may have been rounded to
/// f16, whose relative step is 2^-11, and log-probabilities of a kept class seldom pass -30.
const MASS_TOLERANCE: f64 = 0.02;

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
    /// Everything that must hold between these rows, what was to be kept of them, and the labels they were made for:
    /// lengths, finite and sorted log-probabilities, ids below `vocab_size`, log-partition bounds, a tail that holds the
    /// rest of the probability, and the label found exactly where its rank says. The last one ties the rows to their
    /// input: rows of another text seldom survive it.
    pub fn check(&self, keep: &Keep, gold_ids: &[u32], vocab_size: u32) -> Result<(), RowError> {
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
        let entries: usize = self.counts.iter().map(|&c| usize::from(c)).sum();
        fit(&[
            ("class_ids", self.class_ids.len(), entries),
            ("log_probs", self.log_probs.len(), entries),
            ("log_z", self.log_z.len(), positions),
            ("gold_log_probs", self.gold_log_probs.len(), positions),
            ("gold_ranks", self.gold_ranks.len(), positions),
            ("tail", self.tail.len(), positions * keep.atoms()),
        ])?;
        let mut seen = Seen::new(vocab_size);
        for (position, (row, &gold_id)) in self.iter().zip(gold_ids).enumerate() {
            check_row(row, keep, gold_id, vocab_size, &mut seen).map_err(at(position))?;
        }
        Ok(())
    }
}

fn check_counts(keep: &Keep, count: u16, drawn: u16, vocab_size: u32) -> Result<(), String> {
    let (least, most) = (keep.floor(vocab_size), keep.cap(vocab_size));
    if count == 0 {
        return Err("no class was kept, at least one belongs here".into());
    }
    if !(least..=most).contains(&u32::from(count)) {
        return Err(format!("{count} classes kept, {least} to {most} belong here"));
    }
    let sure = usize::from(count).saturating_sub(usize::from(drawn));
    if drawn > count || (drawn > 0 && !keep.is_sampled()) || (keep.is_sampled() && sure < keep.always_keep.len()) {
        return Err(format!("{drawn} of {count} kept classes are said to be drawn by lot"));
    }
    Ok(())
}

/// One position's invariants; `Err` says what is broken. `seen` is scratch space.
fn check_row(row: SoftRow<'_>, keep: &Keep, gold_id: u32, vocab_size: u32, seen: &mut Seen) -> Result<(), String> {
    if !row.log_z.is_finite() || !row.gold.log_prob.is_finite() || row.log_probs.iter().any(|lp| !lp.is_finite()) {
        return Err("a log-probability or log_z is not a finite number".into());
    }
    if let Some(id) = row.class_ids.iter().chain([&gold_id]).find(|&&id| id >= vocab_size) {
        return Err(format!("class {id} is outside the vocabulary of {vocab_size}"));
    }
    check_order(row, keep, seen)?;
    let slack = MASS_TOLERANCE + keep.values.mass_tolerance();
    let largest = row.log_probs.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mass = match largest <= 0.0 {
        // Far more exact than what it is compared with.
        true => row.sure().iter().map(|&lp| exp_nonpositive(lp)).sum::<f32>().into(),
        false => row.kept_mass(),
    };
    if mass.ln() > slack {
        return Err(format!("kept classes hold {mass:.4} of the probability: log_z is below their log-sum-exp"));
    }
    if f64::from(largest) < -f64::from(vocab_size).ln() - slack && row.drawn == 0 {
        return Err(format!("largest log-probability {largest} is below -ln V: log_z is too large"));
    }
    check_tail(row, mass, slack)?;
    if keep.is_dense() { check_dense_gold(row, gold_id) } else { check_gold(row, keep, gold_id, vocab_size) }
}

/// Each part sorted by value, ties by id, and no class twice; dense rows in the order of ids.
fn check_order(row: SoftRow<'_>, keep: &Keep, seen: &mut Seen) -> Result<(), String> {
    if keep.is_dense() {
        let in_order = row.class_ids.iter().zip(0u32..).all(|(&id, i)| id == i);
        return if in_order { Ok(()) } else { Err("classes of a dense row are not in their own order".into()) };
    }
    let sure = row.class_ids.len() - row.drawn;
    for part in [0..sure, sure..row.class_ids.len()] {
        let (ids, values) = (&row.class_ids[part.clone()], &row.log_probs[part]);
        for (id, lp) in ids.windows(2).zip(values.windows(2)) {
            if lp[1] > lp[0] || (lp[1] == lp[0] && id[1] <= id[0]) {
                return Err("log-probabilities are not sorted, largest first and ties to the lower id".into());
            }
        }
    }
    let twice = row.class_ids.iter().find(|id| !seen.add(**id)).copied();
    let missing = keep.always_keep.iter().find(|id| !seen.has(**id)).copied();
    seen.remove(row.class_ids);
    match (twice, missing) {
        (Some(id), _) => Err(format!("class {id} is kept twice")),
        (None, Some(id)) => Err(format!("class {id} is always kept, and missing here")),
        (None, None) => Ok(()),
    }
}

/// A set of classes, a bit each.
struct Seen(Vec<u64>);

impl Seen {
    fn new(vocab_size: u32) -> Self {
        Self(vec![0; vocab_size as usize / 64 + 1])
    }

    /// `false` where it was there before.
    fn add(&mut self, id: u32) -> bool {
        let (word, bit) = (&mut self.0[id as usize / 64], 1 << (id % 64));
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    fn has(&self, id: u32) -> bool {
        self.0.get(id as usize / 64).is_some_and(|word| word >> (id % 64) & 1 == 1)
    }

    fn remove(&mut self, ids: &[u32]) {
        ids.iter().for_each(|id| self.0[*id as usize / 64] = 0);
    }
}

/// Atoms from the largest logit down, unused ones last, and together with the kept classes a whole distribution.
fn check_tail(row: SoftRow<'_>, mass: f64, slack: f64) -> Result<(), String> {
    let atoms = row.tail.atoms;
    let used = atoms.iter().take_while(|atom| **atom != TailAtom::NONE).count();
    let is_sorted = atoms[..used].windows(2).all(|pair| pair[1].log_prob <= pair[0].log_prob);
    let is_plain = |atom: &TailAtom| atom.log_prob != i16::MIN && atom.log_weight != i16::MIN;
    let is_canonical = atoms[..used].iter().all(is_plain) && atoms[used..].iter().all(|a| *a == TailAtom::NONE);
    if !(is_sorted && is_canonical) {
        return Err("tail atoms are not sorted, largest logit first and unused ones last".into());
    }
    let total = mass + row.tail.log_partition(1.0).exp();
    let is_whole = total.ln().abs() <= slack;
    if !is_whole {
        return Err(format!("kept classes and tail hold {total:.4} of the probability, 1 belongs there"));
    }
    Ok(())
}

/// The label must stand where its rank says, with the log-probability stored for it. Classes of the same stored value
/// stand in the order of their ids, whatever the teacher's; so the rank may be any place of its equals.
fn check_gold(row: SoftRow<'_>, keep: &Keep, gold_id: u32, vocab_size: u32) -> Result<(), String> {
    let Gold { log_prob, rank } = row.gold;
    let rank = rank as usize;
    let found = row.class_ids.iter().position(|&id| id == gold_id);
    let sure = row.class_ids.len() - row.drawn;
    // Classes kept whatever their rank stand behind some that they skipped.
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
    Err(format!(
        "label {gold_id} has rank {rank} and log-probability {log_prob}, but the kept classes {}: this row belongs to \
         another input",
        found.map_or("lack it".to_owned(), |place| format!("hold it at {place} with {}", row.log_probs[place])),
    ))
}

fn check_dense_gold(row: SoftRow<'_>, gold_id: u32) -> Result<(), String> {
    let Gold { log_prob, rank } = row.gold;
    let there = row.log_probs[gold_id as usize];
    let (first, end) = row
        .log_probs
        .iter()
        .fold((0, 0), |(first, end), &lp| (first + u32::from(lp > there), end + u32::from(lp >= there)));
    if there == log_prob && (first..end).contains(&rank) {
        return Ok(());
    }
    Err(format!(
        "label {gold_id} has rank {rank} and log-probability {log_prob}, but stands at {first} with {there}: this row \
         belongs to another input"
    ))
}
