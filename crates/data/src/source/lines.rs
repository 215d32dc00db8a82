//! Files that are read line by line, compressed or not, without ever being in memory as a whole.

use super::POINTER;
use crate::error::{Error, Result};
use flate2::bufread::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};
use std::path::{Path, PathBuf};

/// Size of the buffer in front of a file, and of the one in front of what it is unpacked to.
const BUFFER: usize = 1 << 18;
/// Largest window of a zstd file, as a power of two: what `zstd --ultra --long=31` writes needs 2 GiB of memory.
const LARGEST_WINDOW: u32 = 31;

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Gzip,
    Zstd,
}

/// The compression that the extension names, and the name without that extension.
pub(super) fn packing(path: &Path) -> (Option<Packing>, &Path) {
    let packing = match path.extension().and_then(|extension| extension.to_str()) {
        Some("gz") => Packing::Gzip,
        Some("zst") => Packing::Zstd,
        _ => return (None, path),
    };
    (Some(packing), path.file_stem().map_or(path, Path::new))
}

/// The lines of a file, one at a time.
pub(super) struct Lines {
    path: PathBuf,
    /// Shares the position of `reader`.
    file: File,
    reader: BufReader<Box<dyn Read + Send>>,
    is_packed: bool,
    line: Vec<u8>,
    number: usize,
}

impl Lines {
    /// Opens a file and passes its byte order mark. A Git LFS pointer in its place and UTF-16 are errors.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        let same = file.try_clone().map_err(Error::io(path))?;
        let (start, raw) = peek(file, POINTER.len()).map_err(Error::io(path))?;
        if start == POINTER {
            return Err(Error::Pointer { path: path.to_owned() });
        }
        let raw = BufReader::with_capacity(BUFFER, raw);
        let (packing, _) = packing(path);
        let refused = |cause| unreadable(path, packing.is_some(), 0, cause);
        let plain: Box<dyn Read + Send> = match packing {
            None => Box::new(raw),
            Some(Packing::Gzip) => Box::new(MultiGzDecoder::new(raw)),
            Some(Packing::Zstd) => Box::new(zstd(raw).map_err(refused)?),
        };
        let (mark, plain) = peek(plain, 3).map_err(refused)?;
        // Nearly all of a UTF-16 file would count as invalid bytes, which would be replaced one by one if that is
        // configured.
        if [&b"\xff\xfe"[..], b"\xfe\xff"].iter().any(|utf16| mark.starts_with(utf16)) {
            let problem = "the file is UTF-16; convert it first: iconv -f utf-16 -t utf-8 FILE > NEW".to_owned();
            return Err(Error::Line { path: path.to_owned(), line: 1, problem });
        }
        let mut reader = BufReader::with_capacity(BUFFER, Box::new(plain) as Box<dyn Read + Send>);
        if mark == b"\xef\xbb\xbf" {
            reader.read_exact(&mut [0; 3]).map_err(refused)?;
        }
        Ok(Self { path: path.to_owned(), file: same, reader, is_packed: packing.is_some(), line: vec![], number: 0 })
    }

    /// The file, whose position shows how much of it has been read.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// The next line without its `\n`, and its number from 1; `None` at the end of the file.
    pub(super) fn next(&mut self) -> Result<Option<(usize, &[u8])>> {
        self.line.clear();
        let read = self.reader.read_until(b'\n', &mut self.line);
        if read.map_err(|cause| unreadable(&self.path, self.is_packed, self.number, cause))? == 0 {
            return Ok(None);
        }
        self.number += 1;
        Ok(Some((self.number, self.line.strip_suffix(b"\n").unwrap_or(&self.line))))
    }
}

fn zstd(raw: impl BufRead) -> io::Result<impl Read> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(raw)?;
    decoder.window_log_max(LARGEST_WINDOW)?;
    Ok(decoder)
}

/// A reader whose first bytes were read and put back.
type Peeked<R> = Chain<Cursor<Vec<u8>>, R>;

/// The first bytes of a reader, up to this number, and a reader of everything.
fn peek<R: Read>(mut reader: R, count: usize) -> io::Result<(Vec<u8>, Peeked<R>)> {
    let mut start = vec![];
    reader.by_ref().take(count as u64).read_to_end(&mut start)?;
    Ok((start.clone(), Cursor::new(start).chain(reader)))
}

fn unreadable(path: &Path, is_packed: bool, lines: usize, cause: io::Error) -> Error {
    match is_packed {
        true => Error::Decompress { path: path.to_owned(), lines, cause },
        false => Error::io(path)(cause),
    }
}
