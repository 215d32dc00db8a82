//! Columns of one list a row, of numbers of 32 bits.

use super::runs::Runs;
use super::{BYTE_STREAM_SPLIT, PLAIN, PLAIN_DICTIONARY, Pages, RLE, RLE_DICTIONARY};

/// Bytes of a number.
const WIDTH: usize = 4;

/// A column of lists; none of them, and none of their items, is null.
pub(crate) struct Lists<'a> {
    pages: Pages<'a>,
    dictionary: Vec<u32>,
    /// Items of each row of the page; `row` is the next.
    lengths: Vec<usize>,
    row: usize,
    items: Items,
}

/// Where the next items of a page are.
enum Items {
    /// One behind the other from this byte on.
    Plain(usize),
    /// Their first bytes from `at` on, then their second bytes and so on, so many of each; `next` items are gone.
    Split { at: usize, count: usize, next: usize },
    /// Their places in the dictionary.
    Dictionary(Runs),
}

impl<'a> Lists<'a> {
    /// The column from the first wanted row of `pages` on.
    pub(crate) fn of(pages: Pages<'a>) -> Result<Self, String> {
        let mut column = Self { pages, dictionary: Vec::new(), lengths: Vec::new(), row: 0, items: Items::Plain(0) };
        column.begin().map_err(|problem| column.pages.named(&problem))?;
        Ok(column)
    }

    /// The next row's list, as bits.
    pub(crate) fn next(&mut self) -> Result<Vec<u32>, String> {
        self.row().map_err(|problem| self.pages.named(&problem))
    }

    /// Reads the dictionary, and passes over the rows before the first wanted one.
    fn begin(&mut self) -> Result<(), String> {
        if self.pages.has_dictionary() {
            let values = self.pages.dictionary()?;
            let (words, rest) = self.pages.page().as_chunks();
            if words.len() != values || !rest.is_empty() {
                return Err("has a dictionary of another length than it claims".into());
            }
            self.dictionary = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
        }
        let skipped = self.pages.skipped;
        if skipped > 0 {
            self.advance()?;
            let items = self.lengths[..skipped].iter().sum();
            self.items.skip(self.pages.page(), items).ok_or("has a page that ends before its last item")?;
            self.row = skipped;
        }
        Ok(())
    }

    fn row(&mut self) -> Result<Vec<u32>, String> {
        while self.row == self.lengths.len() {
            self.advance()?;
        }
        let length = self.lengths[self.row];
        self.row += 1;
        let items = self.items.take(self.pages.page(), &self.dictionary, length);
        Ok(items.ok_or("has a page that ends before its last item, or names what its dictionary lacks")?)
    }

    fn advance(&mut self) -> Result<(), String> {
        let (header, rows) = self.pages.advance()?;
        let unknown = || format!("has a page of kind {} in encoding {}", header.kind, header.encoding);
        if header.levels != (RLE, RLE) {
            return Err(format!("has levels in encodings {:?}", header.levels));
        }
        let page = self.pages.page();
        let count = header.values as usize;
        let at = levels(page, count, rows, &mut self.lengths).ok_or("has levels that are not those of its rows")?;
        let items = self.lengths.iter().sum::<usize>();
        let is_whole = page.len() - at == items * WIDTH;
        self.row = 0;
        self.items = match header.encoding {
            PLAIN if is_whole => Items::Plain(at),
            BYTE_STREAM_SPLIT if is_whole => Items::Split { at, count: items, next: 0 },
            PLAIN | BYTE_STREAM_SPLIT => {
                return Err(format!("has a page whose {items} items take {} bytes", page.len() - at));
            }
            PLAIN_DICTIONARY | RLE_DICTIONARY if !self.dictionary.is_empty() || items == 0 => {
                let width = page.get(at).map_or(0, |width| usize::from(*width));
                Items::Dictionary(Runs::new(width, at + 1).ok_or_else(unknown)?)
            }
            _ => return Err(unknown()),
        };
        Ok(())
    }
}

impl Items {
    /// The next `count` items; `None` where they are not there.
    fn take(&mut self, page: &[u8], dictionary: &[u32], count: usize) -> Option<Vec<u32>> {
        match self {
            Self::Plain(at) => {
                let end = *at + count * WIDTH;
                let words = page.get(*at..end)?.as_chunks().0.iter();
                *at = end;
                Some(words.map(|word| u32::from_le_bytes(*word)).collect())
            }
            Self::Split { at, count: all, next } => {
                let stream = |byte: usize| page.get(*at + byte * *all + *next..)?.get(..count);
                let low = stream(0)?.iter().zip(stream(1)?);
                let high = stream(2)?.iter().zip(stream(3)?);
                *next += count;
                let word = |((a, b), (c, d)): ((&u8, &u8), (&u8, &u8))| u32::from_le_bytes([*a, *b, *c, *d]);
                Some(low.zip(high).map(word).collect())
            }
            Self::Dictionary(runs) => {
                let mut items = vec![0; count];
                runs.take(page, &mut items)?;
                for item in &mut items {
                    *item = *dictionary.get(*item as usize)?;
                }
                Some(items)
            }
        }
    }

    /// Passes over the next `count` items.
    fn skip(&mut self, page: &[u8], count: usize) -> Option<()> {
        match self {
            Self::Plain(at) => *at += count * WIDTH,
            Self::Split { next, .. } => *next += count,
            Self::Dictionary(runs) => runs.skip(page, count)?,
        }
        Some(())
    }
}

/// Reads the levels that a page of `count` of them begins with: the lengths of its `rows` lists, and the byte behind them.
fn levels(page: &[u8], count: usize, rows: usize, lengths: &mut Vec<usize>) -> Option<usize> {
    let (repetition, at) = level_bytes(page, 0)?;
    let (definition, at) = level_bytes(page, at)?;
    let (mut repeats, mut defines) = (Runs::new(1, 0)?, Runs::new(1, 0)?);
    lengths.clear();
    let mut left = count;
    while left > 0 {
        let (is_next, most) = repeats.level(repetition, left)?;
        let mut run = most;
        while run > 0 {
            let (has_item, most) = defines.level(definition, run)?;
            if !is_next && lengths.len() + most > rows {
                return None;
            }
            match (is_next, has_item) {
                // A level of its own stands for a list that is empty.
                (false, _) => lengths.extend(std::iter::repeat_n(usize::from(has_item), most)),
                (true, true) => *lengths.last_mut().filter(|length| **length > 0)? += most,
                (true, false) => return None,
            }
            run -= most;
        }
        left -= most;
    }
    (lengths.len() == rows).then_some(at)
}

/// Levels that have their length before them at byte `at`, and the byte behind them.
fn level_bytes(page: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let (length, rest) = page.get(at..)?.split_first_chunk()?;
    let length = u32::from_le_bytes(*length) as usize;
    Some((rest.get(..length)?, at + 4 + length))
}
