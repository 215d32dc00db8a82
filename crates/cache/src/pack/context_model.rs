//! Statistics of a shard in its model: how common each class is, and which classes follow which token.

use super::coder::{Coder, NUMBER_SYMBOLS, step};
use super::error::PackError;

/// Maximum number of candidates in all lists together, which bounds the memory that hostile bytes can demand.
pub(super) const MAX_CANDIDATES: usize = 1 << 20;
/// Number of levels of [`level`].
pub(super) const LEVELS: usize = 16;
/// Number of levels of [`share_level`].
pub(super) const SHARES: usize = 14;
/// A class is a candidate if it occurs at this many 64ths of a list's positions or more.
pub(super) const MIN_SHARE: u64 = 1;

/// Number of values of `Class::freq_class`.
const FREQ_CLASSES: usize = 34;

/// The flag that says whether another list follows.
pub(super) const MORE: usize = 0;
/// Number of tables for the model's own bytes.
pub(super) const TABLES: usize = FREQ_CLASS + FREQ_CLASSES;
/// Table for the distances between tokens that have lists.
const TOKEN: usize = 0;
/// Table for the lengths of lists.
const LENGTH: usize = 1;
/// Table for the distances between a list's ranks.
const GAP: usize = 2;
/// Table for `CandidateList::top`.
const TOP: usize = 3;
/// Tables for `Candidate::share`, by that of the previous candidate.
const SHARE: usize = 4;
/// Tables for `Candidate::height`, by the candidate's share.
const HEIGHT: usize = SHARE + SHARES + 1;
/// Tables for `Class::height`, by how common the class is.
const MEAN: usize = HEIGHT + SHARES;
/// Tables for `Class::freq_class`, by that of the previous class.
const FREQ_CLASS: usize = MEAN + FREQ_CLASSES;

/// Number of symbols of a table for the model's own bytes.
pub(super) fn symbols(table: usize) -> usize {
    match table {
        TOKEN | LENGTH | GAP => NUMBER_SYMBOLS,
        SHARE..HEIGHT => SHARES,
        FREQ_CLASS.. => FREQ_CLASSES,
        _ => LEVELS,
    }
}

/// Maps a height to a scale of 0 to 15.
pub(super) fn level(height: u32) -> u8 {
    step(height / 4).min(LEVELS - 1) as u8
}

/// Maps a list's mean top, or a position's, to a scale of 0 to 15.
pub(super) fn top_level(top: u32) -> u8 {
    step(top / 4).saturating_sub(8).min(LEVELS - 1) as u8
}

/// Maps the ratio of `part` to `whole` to a scale of 0 to 13.
pub(super) fn share_level(part: u64, whole: u64) -> u8 {
    const STARTS: [u64; SHARES - 1] = [2, 3, 4, 6, 8, 12, 18, 26, 36, 46, 54, 60, 63];
    STARTS.partition_point(|&start| part * 64 >= start * whole) as u8
}

/// A class that is often among the kept ones if a certain token is the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// The class.
    pub(super) rank: u32,
    /// Share of the positions at which it is kept, as a [`share_level`].
    pub(super) share: u8,
    /// [`level`] of its mean height at these positions.
    pub(super) height: u8,
}

/// The classes that follow one token, by ascending rank.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CandidateList {
    /// [`top_level`] of the mean top.
    pub(super) top: u8,
    /// The candidates.
    pub(super) candidates: Vec<Candidate>,
}

/// Statistics of a class in the shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Class {
    /// 0 if it is never kept, otherwise 1 + the logarithm of how often it is kept.
    pub(super) freq_class: u8,
    /// [`level`] of its mean height.
    pub(super) height: u8,
}

/// The complete statistics.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ContextModel {
    /// Indexed by class id.
    pub(super) classes: Vec<Class>,
    /// The default list for tokens without a list of their own, then the others in the order of their tokens.
    pub(super) lists: Vec<CandidateList>,
    /// Index in `lists`, by token.
    pub(super) list_of: Vec<u32>,
    /// Class ids, by rank.
    ids: Vec<u32>,
    /// Ranks, by class id.
    ranks: Vec<u32>,
    /// `Class::height`, by rank.
    heights: Vec<u8>,
}

impl ContextModel {
    /// Ranks classes by how common they are, with ties by id.
    pub(super) fn new(classes: Vec<Class>) -> Self {
        let mut ids: Vec<u32> = (0..classes.len() as u32).collect();
        ids.sort_by_key(|&id| (u8::MAX - classes[id as usize].freq_class, id));
        let mut ranks = vec![0; ids.len()];
        ids.iter().enumerate().for_each(|(rank, &id)| ranks[id as usize] = rank as u32);
        let heights = ids.iter().map(|&id| classes[id as usize].height).collect();
        let list_of = vec![0; classes.len()];
        Self { classes, lists: vec![CandidateList::default()], list_of, ids, ranks, heights }
    }

    /// The class with a rank.
    pub(super) fn id_of(&self, rank: u32) -> u32 {
        self.ids[rank as usize]
    }

    /// The rank of a class.
    pub(super) fn rank_of(&self, id: u32) -> u32 {
        self.ranks[id as usize]
    }

    /// Level of a class's mean height.
    pub(super) fn height_of(&self, rank: u32) -> u8 {
        self.heights[rank as usize]
    }

    /// The list for positions with the input `token`.
    pub(super) fn list(&self, token: u32) -> &CandidateList {
        &self.lists[self.list_of.get(token as usize).map_or(0, |&list| list as usize)]
    }

    /// Codes the complete statistics, or decodes them if `self` is empty; a list has at most `longest` candidates.
    pub(super) fn code_all<C: Coder>(&self, coder: &mut C, vocab: u32, longest: u32) -> Result<Self, PackError> {
        let (mut classes, mut before) = (Vec::new(), 0);
        for id in 0..vocab as usize {
            let Class { freq_class, height } = self.classes.get(id).copied().unwrap_or_default();
            let freq_class = coder.symbol(FREQ_CLASS + before, usize::from(freq_class));
            let height = if freq_class == 0 { 0 } else { coder.symbol(MEAN + freq_class, usize::from(height)) };
            classes.push(Class { freq_class: freq_class as u8, height: height as u8 });
            before = freq_class;
        }
        let mut read = Self::new(classes);
        let mut room = MAX_CANDIDATES as u32;
        let given = |list: usize| self.lists.get(list);
        read.lists[0] = code_list(coder, given(0), vocab, longest.min(room))?;
        let mut owners = (0..self.list_of.len() as u32).filter(|&token| self.list_of[token as usize] > 0);
        let mut next = 0;
        while coder.flag(MORE, read.lists.len() < self.lists.len()) {
            let owner = owners.next().unwrap_or(next);
            let token = next + coder.number(TOKEN, owner - next);
            *read.list_of.get_mut(token as usize).ok_or(PackError::ListToken)? = read.lists.len() as u32;
            let list = code_list(coder, given(read.lists.len()), vocab, longest.min(room))?;
            room -= list.candidates.len() as u32;
            read.lists.push(list);
            next = token + 1;
        }
        Ok(read)
    }
}

/// Codes one list.
fn code_list<C: Coder>(
    coder: &mut C,
    given: Option<&CandidateList>,
    vocab: u32,
    longest: u32,
) -> Result<CandidateList, PackError> {
    let top = coder.symbol(TOP, given.map_or(0, |list| usize::from(list.top))) as u8;
    let given = given.map_or(&[][..], |list| &list.candidates);
    let length = coder.number(LENGTH, given.len() as u32);
    if length > longest {
        return Err(PackError::ListLength { length, longest });
    }
    let (mut candidates, mut next, mut before) = (Vec::new(), 0, SHARES);
    for at in 0..length as usize {
        let candidate = given.get(at).copied().unwrap_or(Candidate { rank: next, share: 0, height: 0 });
        let rank = next + coder.number(GAP, candidate.rank - next);
        if rank >= vocab {
            return Err(PackError::Rank { rank, vocab_size: vocab });
        }
        let share = coder.symbol(SHARE + before, usize::from(candidate.share));
        let height = coder.symbol(HEIGHT + share, usize::from(candidate.height)) as u8;
        candidates.push(Candidate { rank, share: share as u8, height });
        (next, before) = (rank + 1, share);
    }
    Ok(CandidateList { top, candidates })
}
