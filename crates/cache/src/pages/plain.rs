//! Columns of one value a row, each as it is.

use super::{PLAIN, Pages};
use std::ops::Range;

/// Values of a fixed width, or binary ones.
pub(crate) struct Plain<'a> {
    pages: Pages<'a>,
    /// Bytes of a value; `None`: it has its length before it.
    width: Option<usize>,
    /// Rows of the page that are still to come, and where they lie in it.
    rows: usize,
    rest: Range<usize>,
}

impl<'a> Plain<'a> {
    /// The column from the first wanted row of `pages` on.
    pub(crate) fn of(pages: Pages<'a>, width: Option<usize>) -> Result<Self, String> {
        let skipped = pages.skipped;
        let mut column = Self { pages, width, rows: 0, rest: 0..0 };
        for _ in 0..skipped {
            column.next()?;
        }
        Ok(column)
    }

    /// The next row's value.
    pub(crate) fn next(&mut self) -> Result<&[u8], String> {
        let value = self.row().map_err(|problem| self.pages.named(&problem))?;
        Ok(&self.pages.page()[value])
    }

    /// Where it lies in the page.
    fn row(&mut self) -> Result<Range<usize>, String> {
        while self.rows == 0 {
            self.advance()?;
        }
        self.rows -= 1;
        let value = self.first().ok_or("has a page that ends before its last row")?;
        self.rest.start = value.end;
        Ok(value)
    }

    /// The first value of what is left of the page.
    fn first(&self) -> Option<Range<usize>> {
        let rest = &self.pages.page()[self.rest.clone()];
        let start = self.rest.start;
        match self.width {
            Some(width) => (width <= rest.len()).then_some(start..start + width),
            None => {
                let (length, rest) = rest.split_first_chunk()?;
                let length = u32::from_le_bytes(*length) as usize;
                (length <= rest.len()).then_some(start + 4..start + 4 + length)
            }
        }
    }

    fn advance(&mut self) -> Result<(), String> {
        // A binary value may be large, and a dictionary would repeat it for a few bits.
        if self.pages.has_dictionary() {
            return Err("has an unknown page before its first".into());
        }
        let (header, rows) = self.pages.advance()?;
        if header.encoding != PLAIN {
            return Err(format!("has a page of kind {} in encoding {}", header.kind, header.encoding));
        }
        if header.values as usize != rows {
            return Err(format!("has a page of {} values for {rows} rows", header.values));
        }
        (self.rows, self.rest) = (rows, 0..self.pages.page().len());
        Ok(())
    }
}
