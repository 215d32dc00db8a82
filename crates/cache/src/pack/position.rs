//! Coding of one position: first its scale, then which classes it keeps, and the height of each above the lowest.

use super::coder::Coder;
use super::context_model::{self, CandidateList, LEVELS, SHARES, level, top_level};
use super::error::PackError;
use super::{CodedRows, CountMode, Inputs, Model};

/// Number of kinds of [`value_table`].
const KINDS: usize = 4;
/// Number of values of `PositionScale::shift`.
const SHIFTS: usize = 5;
/// Number of levels of [`RecentClasses`].
const RECENTS: usize = 5;

/// First table for the largest code, by the list's; the next constants continue the layout of tables in the model.
pub(super) const TOP: usize = context_model::TABLES;
/// Tables for the number of classes, by the largest code.
const COUNT: usize = TOP + LEVELS;
/// Tables for the end of the head.
const BOUNDARY: usize = COUNT + LEVELS;
/// Tables for distances between ranks, by the rank and by how many classes remain.
pub(super) const REST_GAP: usize = BOUNDARY + 1;
/// Tables for heights, see [`value_table`].
pub(super) const VALUE: usize = REST_GAP + 19 * 8;
/// Number of tables for the model's own bytes and for entries.
pub(super) const TABLES: usize = VALUE + KINDS * LEVELS * (LEVELS / 2) * RECENTS;

/// Flag for sampled classes above the end of the head, the first after those of the context model.
const DRAWN: usize = context_model::MORE + 1;
/// Flags for the members of a list, by share, height, recency and shift.
const MEMBER: usize = DRAWN + 1;
/// Number of flags for the model's own bytes and for entries.
pub(super) const FLAGS: usize = MEMBER + SHARES * LEVELS * RECENTS * SHIFTS;

/// A kept class.
#[derive(Clone, Copy, Debug)]
pub(super) struct CodedEntry {
    /// The class.
    pub(super) rank: u32,
    /// The code of its log-probability.
    pub(super) code: u16,
    /// Whether it belongs to the second group, the sampled classes.
    pub(super) drawn: bool,
}

/// Recency of each class at the previous positions: 0 if none kept it, 1 if some but not the last one did, and 2 to 4
/// if the last one kept it at a low, medium or large height.
pub(super) struct RecentClasses {
    /// Recency by rank.
    by_rank: Vec<u8>,
    /// Ranks that the last position kept.
    last: Vec<u32>,
}

impl RecentClasses {
    /// The state before the first position.
    pub(super) fn new(vocab: u32) -> Self {
        Self { by_rank: vec![0; vocab as usize], last: Vec::new() }
    }

    /// The recency of a rank.
    fn of(&self, rank: u32) -> usize {
        usize::from(self.by_rank[rank as usize])
    }

    /// Updates the state after a position that kept these ranks at these heights.
    fn update(&mut self, kept: impl Iterator<Item = (u32, u32)>) {
        for rank in self.last.drain(..) {
            self.by_rank[rank as usize] = 1;
        }
        for (rank, height) in kept {
            self.by_rank[rank as usize] = 2 + (level(height) / 5).min(2);
            self.last.push(rank);
        }
    }
}

/// Values that are the same for all entries of a position.
struct PositionScale {
    /// Largest coarse code: heights are measured down from it.
    top: u32,
    /// The [`top_level`] of `top`.
    level: usize,
    /// The list's top relative to this one: 0 to 4.
    shift: usize,
    /// Largest coarse code of the head.
    boundary: u32,
    /// Number of kept classes.
    count: usize,
}

impl Model {
    /// Encodes a whole sample.
    pub(super) fn code_all<C: Coder>(&self, coder: &mut C, inputs: Inputs<'_>, rows: &CodedRows) {
        let (count, is_split) = (rows.counts.len(), matches!(self.shape.counts, CountMode::Split { .. }));
        assert!(inputs.tokens.len() == count && inputs.labels.len() == count, "{} tokens", inputs.tokens.len());
        assert!(rows.heads.len() == if is_split { count } else { 0 }, "heads of another shape");
        let (mut recent, mut start) = (RecentClasses::new(self.shape.vocab), 0);
        let (mut given, mut items) = (Vec::new(), Vec::new());
        for (i, (&token, &label)) in inputs.tokens.iter().zip(inputs.labels).enumerate() {
            let range = start..start + usize::from(rows.counts[i]);
            start = range.end;
            let entries = rows.entries(i, range.clone());
            given.clear();
            given.extend(entries.class_ids.iter().zip(entries.codes).enumerate().map(|(at, (&id, &code))| {
                CodedEntry { rank: self.lists.rank_of(id), code, drawn: at >= entries.head }
            }));
            given.sort_unstable_by_key(|item| item.rank);
            assert!(given.is_sorted_by(|a, b| a.rank < b.rank), "position {i} keeps a class twice");
            items.clear();
            let done = self.position(coder, token, &given, &mut recent, &mut items);
            assert!(done.is_ok() && items.len() == given.len(), "position {i}: {} entries, {done:?}", given.len());
            let summary = rows.summary(i, self.shape.atoms);
            let done = self.summary(coder, entries, label, &summary);
            assert!(done.as_ref() == Ok(&summary), "position {i}: {summary:?} is coded as {done:?}");
        }
    }

    /// Codes the position with the input `token`: encodes `given`, by ascending rank, or decodes into `items`.
    pub(super) fn position<C: Coder>(
        &self,
        coder: &mut C,
        token: u32,
        given: &[CodedEntry],
        recent: &mut RecentClasses,
        items: &mut Vec<CodedEntry>,
    ) -> Result<(), PackError> {
        let list = self.lists.list(token);
        let scale = self.scale(coder, list, given)?;
        if self.shape.counts == CountMode::Dense {
            for rank in 0..self.shape.vocab {
                let table = value_table(0, self.lists.height_of(rank), recent.of(rank), &scale);
                items.push(self.item(coder, table, given.get(rank as usize), rank, &scale)?);
            }
        } else {
            let rest = self.members(coder, list, given, recent, &scale, items)?;
            self.rest(coder, list, &rest, recent, &scale, items)?;
        }
        recent.update(items.iter().map(|item| (item.rank, scale.top - self.shape.codes.coarse(item.code))));
        // Otherwise several byte strings would decode to the same entries.
        if self.lowest(&*items).is_none_or(|lowest| lowest < scale.top) {
            return Err(PackError::Lowest);
        }
        let head = items.iter().filter(|item| !item.drawn);
        if matches!(self.shape.counts, CountMode::Split { .. })
            && scale.boundary != self.lowest(head).map_or(0, |code| code + 1)
        {
            return Err(PackError::Lowest);
        }
        Ok(())
    }

    /// The largest coarse code, that of the lowest class.
    fn lowest<'a>(&self, items: impl IntoIterator<Item = &'a CodedEntry>) -> Option<u32> {
        items.into_iter().map(|item| self.shape.codes.coarse(item.code)).max()
    }

    /// Codes the values of the whole position.
    fn scale<C: Coder>(
        &self,
        coder: &mut C,
        list: &CandidateList,
        given: &[CodedEntry],
    ) -> Result<PositionScale, PackError> {
        let top = coder.number(TOP + usize::from(list.top), self.lowest(given).unwrap_or(0));
        if top > self.shape.codes.coarse_max() {
            return Err(PackError::Code);
        }
        let level = usize::from(top_level(top));
        let shift = (level + 2).saturating_sub(usize::from(list.top)).min(SHIFTS - 1);
        let count = match self.shape.counts {
            CountMode::Fixed(n) | CountMode::Split { n } => u32::from(n),
            CountMode::Dense => self.shape.vocab,
            CountMode::Varying { cap } => {
                let count = 1 + coder.number(COUNT + level, given.len().saturating_sub(1) as u32);
                if count > u32::from(cap).min(self.shape.vocab) {
                    return Err(PackError::Count { count });
                }
                count
            }
        };
        let mut boundary = top + 1;
        if let CountMode::Split { .. } = self.shape.counts {
            let head = self.lowest(given.iter().filter(|item| !item.drawn)).map_or(0, |code| code + 1);
            let below = coder.number(BOUNDARY, boundary.saturating_sub(head));
            boundary = boundary.checked_sub(below).ok_or(PackError::Code)?;
        }
        Ok(PositionScale { top, level, shift, boundary, count: count as usize })
    }

    /// Codes which of the list's classes are kept, and their values; returns the rest of `given`.
    fn members<C: Coder>(
        &self,
        coder: &mut C,
        list: &CandidateList,
        given: &[CodedEntry],
        recent: &RecentClasses,
        scale: &PositionScale,
        items: &mut Vec<CodedEntry>,
    ) -> Result<Vec<CodedEntry>, PackError> {
        let (mut rest, mut given) = (Vec::new(), given.iter().peekable());
        for candidate in &list.candidates {
            if items.len() == scale.count {
                break;
            }
            while let Some(&item) = given.next_if(|item| item.rank < candidate.rank) {
                rest.push(item);
            }
            let found = given.next_if(|item| item.rank == candidate.rank);
            let (share, recent) = (usize::from(candidate.share), recent.of(candidate.rank));
            let place = (share * LEVELS + usize::from(candidate.height)) * RECENTS + recent;
            if coder.flag(MEMBER + place * SHIFTS + scale.shift, found.is_some()) {
                let table = value_table(1 + share / 5, candidate.height, recent, scale);
                items.push(self.item(coder, table, found, candidate.rank, scale)?);
            }
        }
        rest.extend(given);
        Ok(rest)
    }

    /// Codes the kept classes that are not in the list, by their distances in rank.
    fn rest<C: Coder>(
        &self,
        coder: &mut C,
        list: &CandidateList,
        given: &[CodedEntry],
        recent: &RecentClasses,
        scale: &PositionScale,
        items: &mut Vec<CodedEntry>,
    ) -> Result<(), PackError> {
        // Distances only count the ranks that are not in the list.
        let (mut next, mut passed, mut ahead) = (0, 0, 0);
        let candidates = &list.candidates;
        for left in (1..=scale.count - items.len()).rev() {
            let given = given.get(given.len().wrapping_sub(left));
            let wanted = given.map_or(next, |item| {
                ahead += candidates[ahead..].iter().take_while(|candidate| candidate.rank < item.rank).count();
                item.rank - ahead as u32
            });
            let table = REST_GAP + (next + 1).ilog2() as usize * 8 + left.ilog2().min(7) as usize;
            let place = next + coder.number(table, wanted - next);
            passed += candidates[passed..]
                .iter()
                .zip(passed as u32..)
                .take_while(|(candidate, before)| candidate.rank - before <= place)
                .count();
            let rank = place + passed as u32;
            if rank >= self.shape.vocab {
                return Err(PackError::Rank { rank, vocab_size: self.shape.vocab });
            }
            let table = value_table(0, self.lists.height_of(rank), recent.of(rank), scale);
            items.push(self.item(coder, table, given, rank, scale)?);
            next = place + 1;
        }
        Ok(())
    }

    /// Codes the value of a kept class.
    fn item<C: Coder>(
        &self,
        coder: &mut C,
        table: usize,
        given: Option<&CodedEntry>,
        rank: u32,
        scale: &PositionScale,
    ) -> Result<CodedEntry, PackError> {
        let (code, drawn) = given.map_or((0, false), |item| (item.code, item.drawn));
        let height = coder.number(table, scale.top.saturating_sub(self.shape.codes.coarse(code)));
        let coarse = scale.top.checked_sub(height).ok_or(PackError::Code)?;
        let code = self.shape.codes.fine(coder, coarse, code)?;
        let drawn = if coarse >= scale.boundary {
            true
        } else {
            matches!(self.shape.counts, CountMode::Split { .. }) && coder.flag(DRAWN, drawn)
        };
        Ok(CodedEntry { rank, code, drawn })
    }
}

/// The table for the height of a class whose expected height is level `height`. Kind 0 is a class that is not in the
/// list; 1 to 3 are classes in it, in order of how often they are kept.
fn value_table(kind: usize, height: u8, recent: usize, scale: &PositionScale) -> usize {
    let place = (kind * LEVELS + usize::from(height)) * RECENTS + recent;
    VALUE + place * (LEVELS / 2) + scale.level / 2
}
