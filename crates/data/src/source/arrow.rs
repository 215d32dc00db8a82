//! Arrow IPC: one document per row, in files and in streams, which is what `datasets` saves.
//!
//! A file is a stream between two marks, followed by a list of its parts, so both are read as streams, one batch at a
//! time.

use super::columns::{Strings, root_of, token_rows};
use super::token_columns::TokenColumns;
use super::{Collector, DataFile, DatasetConfig, POINTER, conversations};
use crate::chat::Columns;
use crate::document::Content;
use crate::error::{Error, Result};
use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::root_as_message;
use arrow_schema::{ArrowError, Schema, SchemaRef};
use std::fmt::Display;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// First and last bytes of the file format. A stream follows the first ones, after zeros up to a multiple of 8 bytes; the
/// Rust library writes up to 64 bytes.
const FILE_MARK: &[u8] = b"ARROW1";
const MAX_PADDED: usize = 64;
/// First bytes of every message of a stream since Arrow 0.15.
const CONTINUATION: [u8; 4] = [0xff; 4];

/// Reads the texts, rows of tokens or conversations of a file. A text or a row that is null is a blank document.
pub(super) fn read(
    file: &DataFile,
    config: &DatasetConfig,
    conversations: Option<&Columns>,
    found: &mut Collector<'_>,
) -> Result<()> {
    let path = &file.path;
    let mut source = File::open(path).map_err(Error::io(path))?;
    found.follow(&source);
    let start = start_of_stream(path, &mut source)?;
    check_messages(path, &mut source, start)?;
    let mut open = |columns| {
        source.seek(SeekFrom::Start(start)).map_err(Error::io(path))?;
        let source = source.try_clone().map_err(Error::io(path))?;
        StreamReader::try_new(BufReader::new(source), columns).map_err(unreadable(path))
    };
    let schema = open(None)?.schema();
    let columns = TokenColumns::of(config);
    let split_column = config.split_column.as_deref();
    let roots = match conversations {
        Some(columns) => conversations::roots(path, &schema, columns, split_column)?,
        None => roots(path, &schema, config, columns.as_ref())?,
    };
    let mut row = 0;
    let mut batches = open(Some(roots))?;
    while let Some(batch) = next(path, &mut batches)? {
        match (conversations, &columns) {
            (Some(columns), _) => conversations::rows(file, &batch, columns, split_column, &mut row, found)?,
            (None, Some(columns)) => token_rows(file, &batch, columns, split_column, &mut row, found)?,
            (None, None) => texts(file, &batch, config, found)?,
        }
        if found.is_full(file) {
            break;
        }
    }
    Ok(())
}

/// The columns of a file.
pub(super) fn schema(path: &Path) -> Result<SchemaRef> {
    let mut source = File::open(path).map_err(Error::io(path))?;
    let start = start_of_stream(path, &mut source)?;
    check_messages(path, &mut source, start)?;
    source.seek(SeekFrom::Start(start)).map_err(Error::io(path))?;
    Ok(StreamReader::try_new(BufReader::new(source), None).map_err(unreadable(path))?.schema())
}

/// The next batch. The library may panic on damaged bytes.
fn next(
    path: &Path,
    batches: &mut impl Iterator<Item = Result<RecordBatch, ArrowError>>,
) -> Result<Option<RecordBatch>> {
    match catch_unwind(AssertUnwindSafe(|| batches.next())) {
        Ok(batch) => batch.transpose().map_err(unreadable(path)),
        Err(_) => Err(unreadable(path)("a batch is damaged; copy the file again")),
    }
}

/// Indices of the columns that are read.
fn roots(
    path: &Path,
    schema: &Schema,
    config: &DatasetConfig,
    columns: Option<&TokenColumns<'_>>,
) -> Result<Vec<usize>> {
    let content = match columns {
        Some(columns) => columns.names(),
        None => vec![(config.text_column.as_str(), "text_column")],
    };
    let split = config.split_column.as_deref().map(|name| (name, "split_column"));
    content.into_iter().chain(split).map(|(name, option)| root_of(path, schema, name, option)).collect()
}

fn texts(file: &DataFile, batch: &RecordBatch, config: &DatasetConfig, found: &mut Collector<'_>) -> Result<()> {
    let path = &file.path;
    let texts = Strings::of(path, batch, &config.text_column, "text_column")?;
    let splits = config.split_column.as_deref().map(|name| Strings::of(path, batch, name, "split_column"));
    let splits = splits.transpose()?;
    for index in 0..batch.num_rows() {
        if found.is_full(file) {
            break;
        }
        let split = splits.as_ref().map(|splits| splits.row(index).to_owned());
        found.push(file, Some(Content::Text(texts.row(index).to_owned())), split)?;
    }
    Ok(())
}

/// Where the stream begins in the file.
fn start_of_stream(path: &Path, source: &mut File) -> Result<u64> {
    let refused = |cause: &str| unreadable(path)(cause);
    let mut start = vec![];
    source.take((MAX_PADDED + CONTINUATION.len()) as u64).read_to_end(&mut start).map_err(Error::io(path))?;
    if start.starts_with(POINTER) {
        return Err(Error::Pointer { path: path.to_owned() });
    }
    if !start.starts_with(FILE_MARK) {
        return match start.starts_with(&CONTINUATION) {
            true => Ok(0),
            false => Err(refused("it begins neither like a file nor like a stream of Arrow IPC")),
        };
    }
    let mut end = [0; FILE_MARK.len()];
    let at_end = source.seek(SeekFrom::End(-(FILE_MARK.len() as i64))).and_then(|_| source.read_exact(&mut end));
    at_end.map_err(Error::io(path))?;
    if end != FILE_MARK {
        return Err(refused("its end is missing; it was not copied or written to its end"));
    }
    let padded = start[FILE_MARK.len()..].iter().take_while(|byte| **byte == 0).count() + FILE_MARK.len();
    match start[padded..].starts_with(&CONTINUATION) {
        true => Ok(padded as u64),
        false => Err(refused("no message follows its first bytes")),
    }
}

/// Checks that every message lies in the file and its buffers in the message, which the library takes for granted.
fn check_messages(path: &Path, source: &mut File, start: u64) -> Result<()> {
    let length = source.seek(SeekFrom::End(0)).map_err(Error::io(path))?;
    source.seek(SeekFrom::Start(start)).map_err(Error::io(path))?;
    let (mut reader, mut at) = (BufReader::new(source), start);
    for number in 0.. {
        // A stream may end without its end mark.
        if at == length {
            break;
        }
        let cut =
            || unreadable(path)(format!("its message {number} is cut off; it was not copied or written to its end"));
        let mut word = [0; 4];
        at += 4;
        reader.read_exact(&mut word).map_err(|_| cut())?;
        if word == CONTINUATION {
            at += 4;
            reader.read_exact(&mut word).map_err(|_| cut())?;
        }
        let size = u64::from(u32::from_le_bytes(word));
        if size == 0 {
            break;
        }
        if size > length - at {
            return Err(cut());
        }
        let mut head = vec![0; size as usize];
        reader.read_exact(&mut head).map_err(Error::io(path))?;
        at += size;
        let body = body_of(&head).map_err(|problem| unreadable(path)(format!("its message {number} {problem}")))?;
        if body > length - at {
            return Err(cut());
        }
        at += body;
        reader.seek(SeekFrom::Start(at)).map_err(Error::io(path))?;
    }
    Ok(())
}

/// Length of the body that follows this head of a message, in which all its buffers must lie.
fn body_of(head: &[u8]) -> std::result::Result<u64, String> {
    let message = root_as_message(head).map_err(|error| format!("has no valid head: {error}"))?;
    let body = u64::try_from(message.bodyLength()).map_err(|_| "has a body of negative length".to_owned())?;
    let dictionary = message.header_as_dictionary_batch().and_then(|batch| batch.data());
    let Some(batch) = message.header_as_record_batch().or(dictionary) else { return Ok(body) };
    let lies_within = |offset: i64, length: i64| {
        let end = u64::try_from(offset).ok().zip(u64::try_from(length).ok()).and_then(|(a, b)| a.checked_add(b));
        end.is_some_and(|end| end <= body)
    };
    match batch.buffers().into_iter().flatten().all(|buffer| lies_within(buffer.offset(), buffer.length())) {
        true => Ok(body),
        false => Err("has a buffer outside of its body".to_owned()),
    }
}

/// For `map_err` on errors of the Arrow library.
fn unreadable<E: Display>(path: &Path) -> impl Fn(E) -> Error {
    move |cause| Error::Table { path: path.to_owned(), format: "Arrow", cause: cause.to_string() }
}
