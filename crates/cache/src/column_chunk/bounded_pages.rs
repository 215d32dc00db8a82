//! Pages of one column, each checked against its limits before it is decompressed and before its values are decoded.

use super::page_header::{self, PageHeader};
use super::{ChunkError, ColumnToRead, Limits};
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use parquet::basic::{Compression, Encoding, Type};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::serialized_reader::SerializedPageReader;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Size of the shortest value of a dictionary: a 32-bit number, or the length of a binary value.
const MIN_DICTIONARY_VALUE_BYTES: u64 = 4;

/// The pages of a column chunk: the dictionary, and the data pages from the one that contains the first requested row.
pub(super) struct BoundedPages {
    inner: SerializedPageReader<Bytes>,
    bytes: Bytes,
    limits: Limits,
    compression: Compression,
    physical_type: Type,
    next: Next,
    /// Number of data pages that were returned or skipped.
    handed_out: Arc<AtomicUsize>,
    /// First row of every page, if there is a page index.
    first_rows: Option<Vec<u64>>,
}

/// Location of the next page.
enum Next {
    /// At the start of the remaining bytes.
    Sequential(Range<usize>),
    /// As listed in the page index. The dictionary comes first, if there is one; then `passed_over` pages are skipped.
    Indexed { dictionary: Option<Range<usize>>, pages: Vec<Range<usize>>, passed_over: usize },
}

impl BoundedPages {
    pub(super) fn new(column: &ColumnToRead<'_>) -> Result<Self, ChunkError> {
        let chunk = column.chunk;
        let locations = chunk.locations(column.rest, column.group_rows)?;
        let start = chunk.pages.start as i64;
        let metadata = ColumnChunkMetaData::builder(column.descriptor.clone())
            .set_compression(chunk.compression)
            .set_data_page_offset(start)
            .set_dictionary_page_offset(chunk.has_dictionary.then_some(start))
            .set_total_compressed_size(chunk.pages.len() as i64)
            .build()?;
        let first_rows: Option<Vec<u64>> =
            locations.as_ref().map(|pages| pages.iter().map(|page| page.first_row_index as u64).collect());
        let next = match &locations {
            None => Next::Sequential(chunk.pages.clone()),
            Some(locations) => {
                let range = |start: i64, length: i32| start as usize..start as usize + length as usize;
                let pages: Vec<_> =
                    locations.iter().map(|page| range(page.offset, page.compressed_page_size)).collect();
                let before = chunk.pages.start..pages.first().map_or(chunk.pages.start, |first| first.start);
                let passed_over = first_rows.iter().flatten().filter(|first| **first <= column.rows.start).count() - 1;
                Next::Indexed { dictionary: (!before.is_empty()).then_some(before), pages, passed_over }
            }
        };
        let rows = column.group_rows as usize;
        Ok(Self {
            inner: SerializedPageReader::new(Arc::new(column.bytes.clone()), &metadata, rows, locations)?,
            bytes: column.bytes.clone(),
            limits: column.limits,
            compression: chunk.compression,
            physical_type: column.descriptor.physical_type(),
            next,
            handed_out: Arc::default(),
            first_rows,
        })
    }

    pub(super) fn first_rows(&self) -> Option<Vec<u64>> {
        self.first_rows.clone()
    }

    pub(super) fn handed_out(&self) -> Arc<AtomicUsize> {
        self.handed_out.clone()
    }

    /// Location of the page that `inner` returns next, including its header; `None` after the last.
    fn locate(&mut self) -> Result<Option<Range<usize>>, ParquetError> {
        match &mut self.next {
            Next::Sequential(left) => Ok((left.start < left.end).then(|| left.clone())),
            Next::Indexed { dictionary: dictionary @ Some(_), .. } => Ok(dictionary.take()),
            Next::Indexed { pages, passed_over, .. } => {
                for _ in 0..std::mem::take(passed_over) {
                    self.inner.skip_next_page()?;
                    self.handed_out.fetch_add(1, Ordering::Relaxed);
                }
                Ok(pages.get(self.handed_out.load(Ordering::Relaxed)).cloned())
            }
        }
    }

    /// Rejects a page that would decompress to more than its limits.
    fn check_header(&mut self, range: Range<usize>) -> Result<(), ParquetError> {
        let page = &self.bytes[range.clone()];
        let header = page_header::read(page).ok_or_else(|| general("a page header is damaged"))?;
        let body = page[header.length..].get(..header.stored);
        let body = body.ok_or_else(|| general("a page is longer than the bytes it lies in"))?;
        if header.decompressed as u64 > self.limits.bytes {
            let (claimed, possible) = (header.decompressed, self.limits.bytes);
            return Err(general(format!("a page claims to decompress to {claimed} bytes, {possible} are possible")));
        }
        if matches!(self.compression, Compression::GZIP(_)) && header.is_compressed {
            check_gzip(body, &header)?;
        }
        if let Next::Sequential(left) = &mut self.next {
            left.start += header.length + header.stored;
        }
        Ok(())
    }

    /// Rejects a page that would decode to more values than its limits.
    fn check_values(&self, page: &Page) -> Result<(), ParquetError> {
        let (values, bytes) = (u64::from(page.num_values()), page.buffer());
        if values > self.limits.values {
            return Err(general(format!("a page claims {values} values, {} are possible", self.limits.values)));
        }
        if page.is_dictionary_page() && values.saturating_mul(MIN_DICTIONARY_VALUE_BYTES) > bytes.len() as u64 {
            return Err(general(format!("a dictionary of {} bytes claims {values} values", bytes.len())));
        }
        let is_binary = matches!(self.physical_type, Type::BYTE_ARRAY | Type::FIXED_LEN_BYTE_ARRAY);
        let runs = match page.encoding() {
            Encoding::DELTA_LENGTH_BYTE_ARRAY if is_binary => 1,
            Encoding::DELTA_BYTE_ARRAY if is_binary => 2,
            _ => 0,
        };
        // Such a page begins with a delta-packed run of lengths: binary columns have no levels, though pages may claim
        // some.
        let mut at = match page {
            Page::DataPageV2 { def_levels_byte_len, rep_levels_byte_len, .. } => {
                *def_levels_byte_len as usize + *rep_levels_byte_len as usize
            }
            _ => 0,
        };
        for _ in 0..runs {
            let length = bytes.get(at..).and_then(|rest| page_header::delta_packed_length(rest, values));
            at += length.ok_or_else(|| general("a page has other lengths than values"))?;
        }
        Ok(())
    }
}

/// Rejects a gzip page that decompresses to more than it claims, because its decoder does not know the claim.
fn check_gzip(body: &[u8], header: &PageHeader) -> Result<(), ParquetError> {
    let compressed = body.get(header.level_bytes..).ok_or_else(|| general("levels are longer than their page"))?;
    let claimed = header.decompressed.saturating_sub(header.level_bytes) as u64;
    let mut decoder = MultiGzDecoder::new(compressed).take(claimed + 1);
    match io::copy(&mut decoder, &mut io::sink()).is_ok_and(|got| got <= claimed) {
        true => Ok(()),
        false => Err(general("a page of gzip is damaged or longer than it claims")),
    }
}

fn general(problem: impl Into<String>) -> ParquetError {
    ParquetError::General(problem.into())
}

impl PageReader for BoundedPages {
    fn get_next_page(&mut self) -> Result<Option<Page>, ParquetError> {
        let Some(range) = self.locate()? else { return Ok(None) };
        self.check_header(range)?;
        let Some(page) = self.inner.get_next_page()? else { return Ok(None) };
        self.check_values(&page)?;
        if page.is_data_page() {
            self.handed_out.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Some(page))
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>, ParquetError> {
        self.inner.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<(), ParquetError> {
        Err(general("pages are passed over by their index alone"))
    }

    fn at_record_boundary(&mut self) -> Result<bool, ParquetError> {
        self.inner.at_record_boundary()
    }
}

impl Iterator for BoundedPages {
    type Item = Result<Page, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}
