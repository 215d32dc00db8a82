//! Parsing of the header: metadata, and the places of the tensors.

use crate::{Numbers, TensorType, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read};

/// Largest header: those of the largest vocabularies have 20 megabytes.
pub(crate) const HEADER_LIMIT: u64 = 64 << 20;
/// Most memory that the contents of a header may take: a number has 8 bytes in memory and may have 1 in a file, a text has
/// [`TEXT_BYTES`] beside its letters and 8 in a file.
pub(crate) const MEMORY_LIMIT: u64 = 4 * HEADER_LIMIT;
/// Memory of a text beside its letters.
const TEXT_BYTES: u64 = size_of::<String>() as u64;
/// Memory of a key or a tensor beside its name and its values, with room for the tree that holds it.
const ENTRY_BYTES: u64 = 2 * (size_of::<Tensor>() + size_of::<String>()) as u64;
/// Largest number of dimensions of a tensor.
const MAX_DIMENSIONS: u32 = 4;

/// A tensor's place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Its type.
    pub tensor_type: TensorType,
    /// Its dimensions, with the contiguous one last.
    pub shape: Vec<usize>,
    /// The first of its bytes, counted from the first byte after the header.
    pub(crate) offset: u64,
    /// Number of its bytes.
    pub(crate) bytes: u64,
}

/// A header.
#[derive(Debug, Default)]
pub(crate) struct Header {
    pub metadata: BTreeMap<String, Value>,
    pub tensors: BTreeMap<String, Tensor>,
    /// Where the tensors begin, in bytes from the start of the file.
    pub data_start: u64,
}

/// Why a header cannot be read.
#[derive(Debug)]
pub(crate) enum Problem {
    Io(std::io::Error),
    Format(String),
}

type Parsed<T> = Result<T, Problem>;

fn refuse<T>(problem: impl Into<String>) -> Parsed<T> {
    Err(Problem::Format(problem.into()))
}

/// A reader that knows how many bytes may still come, so that no length in the file is believed beyond them.
struct Bytes<R> {
    inner: R,
    read: u64,
    limit: u64,
    /// Memory that its values take.
    memory: u64,
}

impl Header {
    /// Parses the header at the start of a file of `size` bytes.
    pub fn parse(reader: impl Read, size: u64) -> Parsed<Self> {
        let mut bytes = Bytes { inner: reader, read: 0, limit: size.min(HEADER_LIMIT), memory: 0 };
        let magic: [u8; 4] = bytes.array()?;
        if &magic != b"GGUF" {
            return refuse("it is not a GGUF file");
        }
        let version = u32::from_le_bytes(bytes.array()?);
        if !(2..=3).contains(&version) {
            let swapped = version.swap_bytes();
            return match (2..=3).contains(&swapped) {
                true => refuse("it is a GGUF file for big-endian machines, which this build does not read"),
                false => refuse(format!("it is a GGUF file of version {version}, and this build reads 2 and 3")),
            };
        }
        let (tensors, keys) = (bytes.u64()?, bytes.u64()?);
        let mut header = Self::default();
        for _ in 0..keys {
            bytes.charge(ENTRY_BYTES)?;
            let key = bytes.text()?;
            let kind = u32::from_le_bytes(bytes.array()?);
            let value = bytes.value(kind).map_err(|problem| problem.of("key", &key))?;
            if header.metadata.insert(key.clone(), value).is_some() {
                return refuse(format!("it has the key `{key}` twice"));
            }
        }
        for _ in 0..tensors {
            bytes.charge(ENTRY_BYTES)?;
            let name = bytes.text()?;
            let tensor = bytes.tensor().map_err(|problem| problem.of("tensor", &name))?;
            if header.tensors.insert(name.clone(), tensor).is_some() {
                return refuse(format!("it has the tensor `{name}` twice"));
            }
        }
        header.data_start = bytes.read.next_multiple_of(header.alignment()?);
        header.check_places(size)?;
        Ok(header)
    }

    fn alignment(&self) -> Parsed<u64> {
        let Some(value) = self.metadata.get("general.alignment") else { return Ok(32) };
        match value.as_u64() {
            Some(alignment) if alignment.is_power_of_two() && (8..=1 << 20).contains(&alignment) => Ok(alignment),
            _ => refuse("its `general.alignment` is not a power of two from 8 to 2^20"),
        }
    }

    /// Checks that every tensor is within the file and begins at a multiple of the alignment, and that none overlap.
    fn check_places(&self, size: u64) -> Parsed<()> {
        let alignment = self.alignment()?;
        let mut places = BTreeSet::new();
        for (name, tensor) in &self.tensors {
            let end = self.data_start.checked_add(tensor.offset).and_then(|start| start.checked_add(tensor.bytes));
            if end.is_none_or(|end| end > size) {
                return refuse(format!(
                    "tensor `{name}` ends after the end of the file, which has {size} bytes: it is damaged or cut off"
                ));
            }
            if tensor.offset % alignment != 0 {
                return refuse(format!("tensor `{name}` begins at no multiple of {alignment} bytes"));
            }
            places.insert((tensor.offset, tensor.offset + tensor.bytes, name));
        }
        let after = places.iter().skip(1);
        match places.iter().zip(after).find(|((_, end, _), (start, ..))| end > start) {
            Some(((.., a), (.., b))) => refuse(format!("tensors `{a}` and `{b}` overlap")),
            None => Ok(()),
        }
    }
}

impl Problem {
    /// Names the key or tensor.
    fn of(self, what: &str, name: &str) -> Self {
        match self {
            Self::Format(problem) => Self::Format(format!("{what} `{name}`: {problem}")),
            io => io,
        }
    }
}

impl<R: Read> Bytes<R> {
    /// Refuses what would take more memory than a header may, before it is allocated.
    fn charge(&mut self, bytes: u64) -> Parsed<()> {
        self.memory = self.memory.saturating_add(bytes);
        match self.memory <= MEMORY_LIMIT {
            true => Ok(()),
            false => {
                refuse(format!("its header has more numbers and texts than fit into {MEMORY_LIMIT} bytes of memory"))
            }
        }
    }

    /// Refuses a header that does not have `count` more bytes.
    fn expect(&self, count: u64) -> Parsed<()> {
        match count <= self.limit - self.read {
            true => Ok(()),
            false => refuse(format!(
                "its header goes past byte {}: it is damaged or cut off, or has more than {HEADER_LIMIT} bytes",
                self.limit
            )),
        }
    }

    /// The next `count` bytes.
    fn take(&mut self, count: u64) -> Parsed<Vec<u8>> {
        self.expect(count)?;
        let mut bytes = vec![0; count as usize];
        match self.inner.read_exact(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return refuse("its header is cut off"),
            Err(error) => return Err(Problem::Io(error)),
            Ok(()) => self.read += count,
        }
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Parsed<[u8; N]> {
        let bytes = self.take(N as u64)?;
        bytes.try_into().or_else(|_| refuse("its header is cut off"))
    }

    fn u64(&mut self) -> Parsed<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Parsed<String> {
        let length = self.u64()?;
        self.charge(length)?;
        String::from_utf8(self.take(length)?).or_else(|_| refuse("a text that is not UTF-8"))
    }

    fn value(&mut self, kind: u32) -> Parsed<Value> {
        match kind {
            8 => self.text().map(Value::Text),
            9 => {
                let (kind, count) = (u32::from_le_bytes(self.array()?), self.u64()?);
                match kind {
                    8 => self.texts(count).map(Value::TextList),
                    9 => refuse("a list of lists, which this build does not read"),
                    _ => self.numbers(kind, count).map(Value::NumberList),
                }
            }
            _ => self.numbers(kind, 1).map(Value::Number),
        }
    }

    fn texts(&mut self, count: u64) -> Parsed<Vec<String>> {
        self.expect(count.saturating_mul(8))?;
        self.charge(count.saturating_mul(TEXT_BYTES))?;
        let mut texts = Vec::with_capacity(count as usize);
        for _ in 0..count {
            texts.push(self.text()?);
        }
        Ok(texts)
    }

    /// `count` numbers of this type.
    fn numbers(&mut self, kind: u32, count: u64) -> Parsed<Numbers> {
        let width = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            _ => return refuse(format!("a value of type {kind}, which GGUF does not have")),
        };
        let total = count.saturating_mul(width);
        self.expect(total)?;
        self.charge(count.saturating_mul(8))?;
        let bytes = self.take(total)?;
        let words = bytes.chunks_exact(width as usize);
        let unsigned = words.clone().map(|word| word.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte)));
        // The sign is the highest bit of the word.
        let unused = 64 - 8 * width as u32;
        let signed = unsigned.clone().map(|word| ((word << unused) as i64) >> unused);
        Ok(match kind {
            0 | 2 | 4 | 10 => Numbers::Unsigned(unsigned.collect()),
            1 | 3 | 5 | 11 => Numbers::Signed(signed.collect()),
            6 => Numbers::Float(unsigned.map(|word| shortest(f32::from_bits(word as u32))).collect()),
            12 => Numbers::Float(unsigned.map(f64::from_bits).collect()),
            _ => Numbers::Bool(bytes.iter().map(|&byte| byte != 0).collect()),
        })
    }

    fn tensor(&mut self) -> Parsed<Tensor> {
        let dimensions = u32::from_le_bytes(self.array()?);
        if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
            return refuse(format!("{dimensions} dimensions; a tensor has 1 to {MAX_DIMENSIONS}"));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            let size = self.u64()?;
            shape.insert(0, usize::try_from(size).or_else(|_| refuse(format!("a dimension of {size}")))?);
        }
        let id = u32::from_le_bytes(self.array()?);
        let tensor_type = TensorType::of(id).map_or_else(|| refuse(unreadable(id)), Ok)?;
        let offset = self.u64()?;
        let (values, block) = (tensor_type.block_values(), tensor_type.block_bytes() as u64);
        let row = shape.last().copied().unwrap_or(0);
        if !row.is_multiple_of(values) {
            return refuse(format!("rows of {row} values, which do not divide into blocks of {values}"));
        }
        let count = shape.iter().try_fold(1u64, |count, &n| count.checked_mul(n as u64));
        let bytes = count.and_then(|count| (count / values as u64).checked_mul(block));
        match bytes {
            Some(bytes) if bytes > 0 => Ok(Tensor { tensor_type, shape, offset, bytes }),
            _ => refuse(format!("the shape {shape:?}, which no tensor has")),
        }
    }
}

/// The decimal number with the fewest digits that rounds to this value.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

fn unreadable(id: u32) -> String {
    let named = TensorType::name_of(id).map_or_else(|| format!("the type {id}"), |name| format!("the type {name}"));
    let readable: Vec<&str> = TensorType::ALL.into_iter().map(TensorType::name).collect();
    format!("has {named}, and this build reads {}; take a file with these types", readable.join(", "))
}
