//! The sequences that the teacher saw, as JSON lines.

use crate::error::{Error, Result};
use crate::lines::{next_line, parse};
use crate::source::Place;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::fs::File;
use std::io::{BufReader, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

/// What a line is, for messages.
const LINE: &str = "an object with the list `input_ids`";

/// A file of sequences.
pub(super) struct Tokens {
    pub path: Arc<Path>,
    lines: Vec<Line>,
}

/// Where a sequence is.
struct Line {
    start: u64,
    number: u64,
    tokens: u32,
}

#[derive(Deserialize)]
struct Outline {
    input_ids: Vec<IgnoredAny>,
}

#[derive(Deserialize)]
struct Sequence {
    input_ids: Vec<u64>,
}

impl Tokens {
    /// Reads the length of every sequence of a file.
    ///
    /// # Errors
    /// A line that is no such object.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path, "read it"))?;
        let mut this = Self { path: path.into(), lines: Vec::new() };
        let (mut reader, mut start, mut number) = (BufReader::new(file), 0, 0);
        while let Some(line) = next_line(&mut reader, path)? {
            number += 1;
            if !line.trim_ascii().is_empty() {
                let Outline { input_ids } = parse(&line, &this.place(number), LINE)?;
                this.lines.push(Line { start, number, tokens: input_ids.len() as u32 });
            }
            start += line.len() as u64;
        }
        Ok(this)
    }

    fn place(&self, number: u64) -> Place {
        Place { path: self.path.clone(), unit: "line", number }
    }

    /// Number of sequences.
    pub fn len(&self) -> u64 {
        self.lines.len() as u64
    }

    /// Number of tokens of a sequence.
    pub fn length(&self, index: u64) -> u32 {
        self.lines[index as usize].tokens
    }

    /// Where a sequence is, for messages.
    pub fn place_of(&self, index: u64) -> Place {
        self.place(self.lines[index as usize].number)
    }

    /// The file, opened to read sequences from it.
    pub fn reader(&self) -> Result<BufReader<File>> {
        File::open(&self.path).map(BufReader::new).map_err(Error::io(&self.path, "read it"))
    }

    /// A sequence.
    pub fn get(&self, reader: &mut BufReader<File>, index: u64) -> Result<Vec<u64>> {
        let line = &self.lines[index as usize];
        reader.seek(SeekFrom::Start(line.start)).map_err(Error::io(&self.path, "read it"))?;
        let (text, place) = (next_line(reader, &self.path)?.unwrap_or_default(), self.place(line.number));
        let Sequence { input_ids } = parse(&text, &place, LINE)?;
        match input_ids.len() == line.tokens as usize {
            true => Ok(input_ids),
            false => Err(Error::Sample { place, problem: "the file was changed while it was read".to_owned() }),
        }
    }
}
