//! What encoding and decoding have in common: symbols, flags, bits and numbers.

/// Frequencies of a table add up to two to this power.
pub(super) const TOTAL_BITS: u32 = 15;
/// The slots of a table.
pub(super) const TOTAL: u32 = 1 << TOTAL_BITS;
/// Numbers are below this.
pub(super) const NUMBER_END: u32 = 1 << 18;
/// Steps up to `NUMBER_END`.
pub(super) const NUMBER_SYMBOLS: usize = 68;

/// A direction of coding. One description of the data serves both: when encoding, each call is told the value;
/// when decoding, what it is told is ignored, and the value is the one it returns.
pub(super) trait Coder {
    /// A symbol under the frequencies of table `table`.
    fn symbol(&mut self, table: usize, symbol: usize) -> usize;

    /// A yes or no under the frequencies of flag `table`.
    fn flag(&mut self, table: usize, flag: bool) -> bool;

    /// `count <= 15` bits that nothing predicts.
    fn bits(&mut self, count: u32, value: u32) -> u32;

    /// A number below `NUMBER_END`: its [`step`] under table `table`, then how far above the step's start it is.
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

/// The place of `number` on a scale of 0 to 7 one by one, then four steps an octave.
pub(super) fn step(number: u32) -> usize {
    if number < 8 {
        return number as usize;
    }
    let octave = number.ilog2();
    (4 * octave + (number >> (octave - 2) & 3)) as usize - 4
}
