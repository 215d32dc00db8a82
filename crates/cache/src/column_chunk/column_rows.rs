//! The values of a column, row by row.

use super::{ChunkError, ColumnError, ColumnName, ColumnToRead, catch_panics};
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::DataType;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Number of rows that are decoded at once: few enough that their values are still in a core's cache when they are
/// used.
const ROWS_AT_ONCE: u64 = 8;

/// Reads the requested rows of a column of one row group in order. No value is null, as the schema guarantees.
pub(crate) struct ColumnRows<T: DataType> {
    reader: ColumnReaderImpl<T>,
    name: ColumnName,
    is_list: bool,
    /// First row of every page and the end of the last, if there is a page index.
    page_rows: Option<Vec<u64>>,
    /// Number of pages that were passed to the reader.
    handed_out: Arc<AtomicUsize>,
    /// Rows that are still to be decoded, counted within the row group.
    left: Range<u64>,
    values: Vec<T::T>,
    repetition_levels: Vec<i16>,
    definition_levels: Vec<i16>,
    /// Ends of the rows in `values`, and how many rows were returned.
    ends: Vec<usize>,
    returned: usize,
}

impl<T: DataType> ColumnRows<T> {
    pub(super) fn new(
        reader: ColumnReaderImpl<T>,
        column: &ColumnToRead<'_>,
        (first_rows, handed_out): (Option<Vec<u64>>, Arc<AtomicUsize>),
    ) -> Result<Self, ChunkError> {
        let wanted = column.rows.clone();
        let start = match &first_rows {
            Some(firsts) => firsts.iter().rfind(|first| **first <= wanted.start).copied().unwrap_or(0),
            None => 0,
        };
        let page_rows = first_rows.map(|firsts| firsts.into_iter().chain([column.group_rows]).collect());
        let mut rows = Self {
            reader,
            name: column.name(),
            is_list: column.descriptor.max_rep_level() > 0,
            page_rows,
            handed_out,
            left: start..wanted.end,
            values: Vec::new(),
            repetition_levels: Vec::new(),
            definition_levels: Vec::new(),
            ends: Vec::new(),
            returned: 0,
        };
        for _ in start..wanted.start {
            rows.row()?;
        }
        Ok(rows)
    }

    /// Returns the values of the next row.
    pub(crate) fn next(&mut self) -> Result<&[T::T], ColumnError> {
        let row = self.row().map_err(|problem| self.failed(problem))?;
        Ok(&self.values[row])
    }

    /// Returns the value of the next row, in a column of single values.
    pub(crate) fn next_value(&mut self) -> Result<&T::T, ColumnError> {
        let row = self.row().map_err(|problem| self.failed(problem))?;
        Ok(&self.values[row.start])
    }

    fn failed(&self, problem: ChunkError) -> ColumnError {
        ColumnError { name: self.name.clone(), problem }
    }

    /// Location of the next row in `values`.
    fn row(&mut self) -> Result<Range<usize>, ChunkError> {
        if self.returned == self.ends.len() {
            self.decode()?;
        }
        let start = self.returned.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.returned += 1;
        Ok(start..self.ends[self.returned - 1])
    }

    /// Decodes the next few rows, all from one page if there is a page index.
    fn decode(&mut self) -> Result<(), ChunkError> {
        let mut wanted = ROWS_AT_ONCE.min(self.left.end - self.left.start);
        let mut page = None;
        if wanted == 0 {
            return Err(ChunkError::Rows { expected: 1, got: 0 });
        }
        if let Some(firsts) = &self.page_rows {
            let behind = firsts.partition_point(|first| *first <= self.left.start);
            wanted = wanted.min(firsts[behind] - self.left.start);
            page = Some(behind - 1);
        }
        self.values.clear();
        self.repetition_levels.clear();
        self.definition_levels.clear();
        let (got, values, levels) = catch_panics(|| {
            self.reader.read_records(
                wanted as usize,
                Some(&mut self.definition_levels),
                Some(&mut self.repetition_levels),
                &mut self.values,
            )
        })?;
        if got as u64 != wanted {
            return Err(ChunkError::Rows { expected: wanted, got: got as u64 });
        }
        // A page with fewer rows than the index says would have led to the next page; one with more rows would not
        // have.
        if let Some(page) = page.filter(|page| self.handed_out.load(Ordering::Relaxed) != page + 1) {
            return Err(ChunkError::OtherRows { page });
        }
        self.left.start += wanted;
        self.find_ends(got, values, levels);
        if self.ends.len() == got { Ok(()) } else { Err(ChunkError::Levels) }
    }

    /// Computes `ends` from the decoded levels, given the numbers of rows, values and levels.
    fn find_ends(&mut self, rows: usize, values: usize, levels: usize) {
        self.ends.clear();
        self.returned = 0;
        if !self.is_list {
            self.ends.extend(1..=rows);
            return;
        }
        let starts = self.repetition_levels.iter().enumerate().filter(|(_, level)| **level == 0).map(|(at, _)| at);
        if values == levels {
            self.ends.extend(starts.skip(1));
            self.ends.push(values);
        } else {
            // An empty list still has a level, to which no value belongs.
            let ends = starts.skip(1).chain([levels]);
            let (mut from, mut end) = (0, 0);
            self.ends.extend(ends.map(|to| {
                end += self.definition_levels[from..to].iter().filter(|level| **level > 0).count();
                from = to;
                end
            }));
        }
    }
}
