//! Parquet's hybrid of run lengths and packed bits: levels of one bit, and places in a dictionary.

/// Numbers of `width` bits that are still to come.
#[derive(Clone)]
pub(super) struct Runs {
    width: usize,
    /// Byte at which the next run begins.
    at: usize,
    left: usize,
    run: Run,
}

#[derive(Clone, Copy)]
enum Run {
    /// One number again and again.
    Same(u32),
    /// Packed numbers; the next begins at this bit.
    Packed(usize),
}

impl Runs {
    /// The runs of a page that begin at byte `at`; `None` for numbers of more than 32 bits.
    pub(super) fn new(width: usize, at: usize) -> Option<Self> {
        (width <= 32).then_some(Self { width, at, left: 0, run: Run::Same(0) })
    }

    /// Reads the header of the next run that is not empty.
    fn advance(&mut self, page: &[u8]) -> Option<()> {
        while self.left == 0 {
            let mut head = 0u64;
            for shift in (0..35).step_by(7) {
                let byte = *page.get(self.at)?;
                self.at += 1;
                head |= u64::from(byte & 0x7f) << shift;
                if byte & 0x80 == 0 {
                    break;
                }
                if shift == 28 {
                    return None;
                }
            }
            let count = usize::try_from(head >> 1).ok()?;
            let bytes = if head & 1 == 1 {
                self.left = count.checked_mul(8)?;
                self.run = Run::Packed(self.at.checked_mul(8)?);
                count.checked_mul(self.width)?
            } else {
                self.left = count;
                let bytes = self.width.div_ceil(8);
                let number = page.get(self.at..self.at.checked_add(bytes)?)?;
                self.run = Run::Same(number.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte)));
                bytes
            };
            self.at = self.at.checked_add(bytes)?;
        }
        Some(())
    }

    /// The next numbers, `out.len()` of them; `None` where the page ends before.
    pub(super) fn take(&mut self, page: &[u8], mut out: &mut [u32]) -> Option<()> {
        while !out.is_empty() {
            self.advance(page)?;
            let (now, rest) = out.split_at_mut(self.left.min(out.len()));
            match &mut self.run {
                Run::Same(number) => now.fill(*number),
                Run::Packed(bit) => {
                    unpack(page, *bit, self.width, now)?;
                    *bit += now.len() * self.width;
                }
            }
            self.left -= now.len();
            out = rest;
        }
        Some(())
    }

    /// Passes over the next `count` numbers.
    pub(super) fn skip(&mut self, page: &[u8], mut count: usize) -> Option<()> {
        while count > 0 {
            self.advance(page)?;
            let now = self.left.min(count);
            if let Run::Packed(bit) = &mut self.run {
                *bit += now * self.width;
            }
            self.left -= now;
            count -= now;
        }
        Some(())
    }

    /// The next level and how often it comes in a row, `most` times at the most.
    pub(super) fn level(&mut self, page: &[u8], most: usize) -> Option<(bool, usize)> {
        self.advance(page)?;
        let most = most.min(self.left);
        let (level, count) = match &mut self.run {
            Run::Same(level) => (*level != 0, most),
            Run::Packed(bit) => {
                let level = |bit: usize| Some(*page.get(bit / 8)? >> (bit % 8) & 1 == 1);
                let first = level(*bit)?;
                let count = (1..most).take_while(|next| level(*bit + next) == Some(first)).count() + 1;
                *bit += count;
                (first, count)
            }
        };
        self.left -= count;
        Some((level, count))
    }
}

/// Numbers of `width` bits, of which the first begins at `bit`.
fn unpack(page: &[u8], bit: usize, width: usize, out: &mut [u32]) -> Option<()> {
    macro_rules! eight_of {
        ($($width:literal)*) => {
            match width {
                $($width => unpack_eights::<$width>(page, bit, out),)*
                _ => 0,
            }
        };
    }
    // The widths of dictionaries of 2 to 65,536 classes and more, which pages are full of.
    let done = eight_of!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18);
    let mask = (1u64 << width) - 1;
    let end = (bit + out.len() * width).div_ceil(8);
    let mut bit = bit + done * width;
    for number in &mut out[done..] {
        let at = bit / 8;
        let word = match page.get(at..at + 8) {
            Some(word) => u64::from_le_bytes(word.try_into().ok()?),
            // Near the end of the page.
            None => page.get(at..end)?.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
        };
        *number = (word >> (bit % 8) & mask) as u32;
        bit += width;
    }
    Some(())
}

/// [`unpack`] of a width that is known beforehand, eight numbers at a time where they begin with a byte; how many that
/// were.
fn unpack_eights<const WIDTH: usize>(page: &[u8], bit: usize, out: &mut [u32]) -> usize {
    if !bit.is_multiple_of(8) {
        return 0;
    }
    let mask = (1u64 << WIDTH) - 1;
    let (eights, _) = out.as_chunks_mut::<8>();
    let mut done = 0;
    for (eight, numbers) in eights.iter_mut().enumerate() {
        let at = bit / 8 + eight * WIDTH;
        // The last number's eight bytes end here.
        let Some(bytes) = page.get(at..at + WIDTH + 7) else { break };
        for (i, number) in numbers.iter_mut().enumerate() {
            let (byte, shift) = (i * WIDTH / 8, i * WIDTH % 8);
            let word: [u8; 8] = std::array::from_fn(|j| bytes[byte + j]);
            *number = (u64::from_le_bytes(word) >> shift & mask) as u32;
        }
        done += 8;
    }
    done
}
