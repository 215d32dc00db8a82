//! The operations shared by encoding and decoding: symbols, flags, bits and numbers.

/// The frequencies of a table add up to 2 to this power.
pub(super) const TOTAL_BITS: u32 = 15;
/// The number of slots of a table.
pub(super) const TOTAL: u32 = 1 << TOTAL_BITS;
/// Exclusive upper bound of numbers.
pub(super) const NUMBER_END: u32 = 1 << 18;
/// Number of steps below `NUMBER_END`.
pub(super) const NUMBER_SYMBOLS: usize = 68;

/// A direction of coding. The same code describes the data for both: an encoder writes the value passed to each call
/// and returns it; a decoder ignores that argument and returns the value that it reads.
pub(super) trait Coder {
    /// Codes a symbol with the frequencies of table `table`.
    fn symbol(&mut self, table: usize, symbol: usize) -> usize;

    /// Codes a boolean with the frequencies of flag `table`.
    fn flag(&mut self, table: usize, flag: bool) -> bool;

    /// Codes `count <= 15` bits without prediction.
    fn bits(&mut self, count: u32, value: u32) -> u32;

    /// Codes a number below `NUMBER_END`: its [`step`] with table `table`, then its distance from the step's start.
    fn number(&mut self, table: usize, number: u32) -> u32 {
        let step = self.symbol(table, step(number));
        if step < 8 {
            return step as u32;
        }
        let bits = (step as u32 - 8) / 4 + 1;
        let start = (4 + (step as u32 & 3)) << bits;
        start + self.bits(bits, number.wrapping_sub(start))
    }
}

/// The step of `number`: one step per number from 0 to 7, then four steps per octave.
pub(super) fn step(number: u32) -> usize {
    if number < 8 {
        return number as usize;
    }
    let octave = number.ilog2();
    (4 * octave + (number >> (octave - 2) & 3)) as usize - 4
}
