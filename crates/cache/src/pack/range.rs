//! The entropy coder: static rANS over 16-bit words.
//!
//! A rANS decoder undoes the encoder's steps one by one. Bytes are therefore what the encoder would write if and only
//! if the decoder ends in the encoder's initial state at the end of the bytes, which `Decoder::finish` checks.

use super::coder::{Coder, TOTAL, TOTAL_BITS};
use super::error::PackError;
use super::tables::Tables;

/// Between steps the state is in `LOW..LOW << 16`.
const LOW: u64 = 1 << 32;

/// Collects symbols in order; rANS writes them in reverse order.
pub(super) struct Encoder<'a> {
    /// The tables of the model.
    tables: &'a Tables,
    /// First slot and number of slots of each coded symbol.
    steps: Vec<(u16, u16)>,
}

impl<'a> Encoder<'a> {
    /// Creates an encoder without symbols.
    pub(super) fn new(tables: &'a Tables) -> Self {
        Self { tables, steps: Vec::new() }
    }

    /// Returns the bytes: six bytes of the last state, then words in the order in which the decoder reads them,
    /// little-endian.
    pub(super) fn finish(self) -> Vec<u8> {
        let (mut state, mut words) = (LOW, Vec::<u16>::new());
        for &(start, slots) in self.steps.iter().rev() {
            let slots = u64::from(slots);
            if state >= slots << (48 - TOTAL_BITS) {
                words.push(state as u16);
                state >>= 16;
            }
            state = ((state / slots) << TOTAL_BITS) + u64::from(start) + state % slots;
        }
        let head = state.to_le_bytes().into_iter().take(6);
        head.chain(words.iter().rev().flat_map(|word| word.to_le_bytes())).collect()
    }
}

impl Coder for Encoder<'_> {
    fn symbol(&mut self, table: usize, symbol: usize) -> usize {
        let (start, slots) = self.tables.table(table).slots(symbol);
        self.steps.push((start as u16, slots as u16));
        symbol
    }

    fn flag(&mut self, table: usize, flag: bool) -> bool {
        let no = self.tables.no(table) as u16;
        self.steps.push(if flag { (no, TOTAL as u16 - no) } else { (0, no) });
        flag
    }

    fn bits(&mut self, count: u32, value: u32) -> u32 {
        let slots = TOTAL >> count;
        self.steps.push(((value * slots) as u16, slots as u16));
        value
    }
}

/// Reads the output of an [`Encoder`]. Past the end it reads zeros, which `finish` then rejects.
pub(super) struct Decoder<'a> {
    /// The tables of the model.
    tables: &'a Tables,
    /// At least `LOW`.
    state: u64,
    /// The bytes that are not read yet.
    rest: &'a [u8],
    /// Whether the decoder read past the end.
    is_underrun: bool,
}

impl<'a> Decoder<'a> {
    /// Starts with the first six bytes.
    pub(super) fn new(tables: &'a Tables, bytes: &'a [u8]) -> Result<Self, PackError> {
        let (head, rest) = bytes.split_at_checked(6).ok_or(PackError::TooShort)?;
        let state = head.iter().rev().fold(0, |state, &byte| state << 8 | u64::from(byte));
        if state < LOW {
            return Err(PackError::State);
        }
        Ok(Self { tables, state, rest, is_underrun: false })
    }

    /// Checks that the bytes are exactly what the encoder would have written.
    pub(super) fn finish(self) -> Result<(), PackError> {
        if self.is_underrun {
            return Err(PackError::RunOut);
        }
        if !self.rest.is_empty() || self.state != LOW {
            return Err(PackError::LeftOver);
        }
        Ok(())
    }

    /// The slot in the low bits of the state.
    fn slot(&self) -> u32 {
        self.state as u32 & (TOTAL - 1)
    }

    /// Removes the symbol with these slots from the state.
    fn advance(&mut self, start: u32, slots: u32) {
        self.state = u64::from(slots) * (self.state >> TOTAL_BITS) + u64::from(self.slot() - start);
        if self.state < LOW {
            let word = match *self.rest {
                [low, high, ref rest @ ..] => {
                    self.rest = rest;
                    u16::from_le_bytes([low, high])
                }
                _ => {
                    self.is_underrun = true;
                    0
                }
            };
            self.state = self.state << 16 | u64::from(word);
        }
    }
}

impl Coder for Decoder<'_> {
    fn symbol(&mut self, table: usize, _: usize) -> usize {
        let table = self.tables.table(table);
        let symbol = table.symbol_at(self.slot());
        let (start, slots) = table.slots(symbol);
        self.advance(start, slots);
        symbol
    }

    fn flag(&mut self, table: usize, _: bool) -> bool {
        let no = self.tables.no(table);
        let flag = self.slot() >= no;
        let (start, slots) = if flag { (no, TOTAL - no) } else { (0, no) };
        self.advance(start, slots);
        flag
    }

    fn bits(&mut self, count: u32, _: u32) -> u32 {
        let slots = TOTAL >> count;
        let value = self.slot() / slots;
        self.advance(value * slots, slots);
        value
    }
}
