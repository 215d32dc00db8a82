//! The frequencies of a model's symbols: counted in training, stored as one byte each, and scaled to slots.

use super::coder::{Coder, NUMBER_SYMBOLS, TOTAL, TOTAL_BITS};
use super::error::PackError;

/// A table's hints divide its slots into 2 to this power parts.
const HINT_BITS: u32 = 6;

/// A table with fewer occurrences has no weights of its own.
const MIN_SYMBOLS: u32 = 500;
/// A flag with fewer occurrences has no weights of its own.
const MIN_FLAGS: u32 = 100;

/// The number of occurrences of each symbol and flag.
pub(super) struct Counter {
    /// Indexed by table and symbol.
    symbols: Vec<[u32; NUMBER_SYMBOLS]>,
    /// Indexed by flag: false, true.
    flags: Vec<[u32; 2]>,
}

impl Counter {
    /// Creates zero counts for this many tables and flags.
    pub(super) fn new(tables: usize, flags: usize) -> Self {
        Self { symbols: vec![[0; NUMBER_SYMBOLS]; tables], flags: vec![[0; 2]; flags] }
    }

    /// The weights of all tables, followed by those of all flags.
    pub(super) fn weights(&self) -> Vec<Vec<u8>> {
        let mut weights = shared(&self.symbols, MIN_SYMBOLS);
        weights.extend(shared(&self.flags, MIN_FLAGS));
        weights
    }
}

/// Computes the weights of each table. A table with fewer than `least` occurrences is not worth bytes of its own: its
/// counts are added to the previous table, and it has no weights.
fn shared<const N: usize>(tables: &[[u32; N]], least: u32) -> Vec<Vec<u8>> {
    let sum = |counts: &[u32; N]| counts.iter().fold(0, |sum: u32, &count| sum.saturating_add(count));
    let mut weights = Vec::new();
    let mut at = 0;
    while at < tables.len() {
        let small = tables[at + 1..].iter().take_while(|counts| sum(counts) < least).count();
        let mut counts = [0; N];
        for table in &tables[at..=at + small] {
            counts.iter_mut().zip(table).for_each(|(all, &count)| *all = count.saturating_add(*all));
        }
        weights.push(to_weights(&counts));
        weights.resize(weights.len() + small, Vec::new());
        at += 1 + small;
    }
    weights
}

impl Coder for Counter {
    fn symbol(&mut self, table: usize, symbol: usize) -> usize {
        self.symbols[table][symbol] += 1;
        symbol
    }

    fn flag(&mut self, table: usize, flag: bool) -> bool {
        self.flags[table][usize::from(flag)] += 1;
        flag
    }

    fn bits(&mut self, _: u32, value: u32) -> u32 {
        value
    }
}

/// The weight that a byte represents: from 8 on, five bits of exponent and three of mantissa.
fn weight(byte: u8) -> u64 {
    let byte = u64::from(byte);
    if byte < 8 { byte } else { (8 + (byte & 7)) << ((byte >> 3) - 1) }
}

/// The largest representable weights up to `counts`, without trailing zeros.
fn to_weights(counts: &[u32]) -> Vec<u8> {
    let to_byte = |&count: &u32| {
        if count < 8 {
            return count as u8;
        }
        let octave = count.ilog2();
        ((octave - 2) << 3 | (count >> (octave - 3) & 7)) as u8
    };
    let end = counts.iter().rposition(|&count| count > 0).map_or(0, |last| last + 1);
    counts[..end].iter().map(to_byte).collect()
}

/// Encodes every list of weights as its length and its bytes; a length of 0 is followed by the number of further empty
/// lists.
pub(super) fn weights_to_bytes(weights: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for same in weights.chunk_by(|a, b| a.is_empty() && b.is_empty()) {
        if same[0].is_empty() {
            same.chunks(256).for_each(|run| bytes.extend([0, (run.len() - 1) as u8]));
        } else {
            bytes.push(same[0].len() as u8);
            bytes.extend(&same[0]);
        }
    }
    bytes
}

/// Decodes this many lists of weights; also returns the bytes after them.
pub(super) fn weights_from_bytes(mut bytes: &[u8], lists: usize) -> Result<(Vec<Vec<u8>>, &[u8]), PackError> {
    let mut weights = Vec::new();
    while weights.len() < lists {
        let (&length, rest) = bytes.split_first().ok_or(PackError::TablesCut)?;
        let length = usize::from(length);
        let (own, rest) = rest.split_at_checked(length.max(1)).ok_or(PackError::TablesCut)?;
        bytes = rest;
        if length > NUMBER_SYMBOLS {
            return Err(PackError::TableSymbols { table: weights.len(), symbols: length });
        }
        if length > 0 {
            weights.push(own.to_vec());
        } else {
            weights.resize(weights.len() + 1 + usize::from(own[0]), Vec::new());
        }
    }
    if weights.len() > lists {
        return Err(PackError::Tables { got: weights.len(), expected: lists });
    }
    Ok((weights, bytes))
}

/// All frequencies of a model.
#[derive(Default)]
pub(super) struct Tables {
    /// Tables of the symbols.
    symbols: Vec<Table>,
    /// Number of slots of `false` for each flag.
    flags: Vec<u16>,
}

impl Tables {
    /// `symbols` lists the size of each table; the weights that follow the tables' are those of flags.
    pub(super) fn new(weights: &[Vec<u8>], symbols: &[usize]) -> Self {
        let (mut tables, mut flags) = (Vec::new(), Vec::new());
        let mut own: Vec<u64> = Vec::new();
        for (at, weights) in weights.iter().enumerate() {
            if !weights.is_empty() {
                own = weights.iter().map(|&byte| weight(byte)).collect();
            }
            match symbols.get(at) {
                Some(&symbols) => tables.push(Table::new(&own, symbols)),
                None => flags.push(Table::new(&own, 2).starts[1]),
            }
        }
        Self { symbols: tables, flags }
    }

    /// The table with this index.
    pub(super) fn table(&self, table: usize) -> &Table {
        &self.symbols[table]
    }

    /// Number of slots of `false`, which come first.
    pub(super) fn no(&self, flag: usize) -> u32 {
        u32::from(self.flags[flag])
    }
}

/// The frequencies of one alphabet, which add up to `TOTAL`.
pub(super) struct Table {
    /// Number of slots below each symbol, and `TOTAL` after the last.
    starts: [u16; NUMBER_SYMBOLS + 1],
    /// For each part, a symbol that is at or before the symbol of the part's first slot.
    hints: [u8; 1 << HINT_BITS],
}

impl Table {
    /// Every symbol gets one slot and its share of the others, rounded down; the slots left over by rounding go to the
    /// symbol with the largest weight, the first if there are several.
    fn new(weights: &[u64], symbols: usize) -> Self {
        let weight = |symbol: usize| weights.get(symbol).copied().unwrap_or(0);
        let sum = (0..symbols).map(weight).sum::<u64>().max(1);
        let share = |symbol| 1 + (weight(symbol) * (u64::from(TOTAL) - symbols as u64) / sum) as u32;
        let heaviest = (0..symbols).rev().max_by_key(|&symbol| weight(symbol)).unwrap_or(0);
        let left = TOTAL - (0..symbols).map(share).sum::<u32>();
        let (mut starts, mut hints) = ([TOTAL as u16; NUMBER_SYMBOLS + 1], [0; 1 << HINT_BITS]);
        let mut start = 0;
        for (symbol, first) in starts[..symbols].iter_mut().enumerate() {
            *first = start as u16;
            let end = start + share(symbol) + if symbol == heaviest { left } else { 0 };
            let part = |slot: u32| slot.div_ceil(1 << (TOTAL_BITS - HINT_BITS)) as usize;
            hints[part(start)..part(end)].fill(symbol as u8);
            start = end;
        }
        Self { starts, hints }
    }

    /// The first slot and the number of slots of `symbol`.
    pub(super) fn slots(&self, symbol: usize) -> (u32, u32) {
        let start = u32::from(self.starts[symbol]);
        (start, u32::from(self.starts[symbol + 1]) - start)
    }

    /// The symbol that a slot belongs to.
    pub(super) fn symbol_at(&self, slot: u32) -> usize {
        let mut symbol = usize::from(self.hints[(slot >> (TOTAL_BITS - HINT_BITS)) as usize]);
        while u32::from(self.starts[symbol + 1]) <= slot {
            symbol += 1;
        }
        symbol
    }
}
