//! What a rank saved of an iteration: zstd around a file of `torch.save`.

use super::pickle::Value;
use super::shards::Member;
use super::tensor::{Array, Dtype};
use super::torch_file::TorchFile;
use crate::error::{Error, Result};
use crate::source::Entry;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

/// Longest payload that is unpacked.
const MAX_PAYLOAD: u64 = 8 << 30;
/// Most places of a position: a class each.
const MOST_PLACES: u64 = 1 << 17;
/// The id -1 in 17 bits, of a place without a class. Its value is -1000 or less.
const NO_CLASS: u64 = (1 << 17) - 1;
const NO_VALUE: f64 = -1000.0;

/// The kept classes of all positions of some samples.
#[derive(Debug)]
pub(super) struct Payload {
    pub version: u64,
    /// One for each microbatch in version 1, and a single one in version 2.
    parts: Vec<Part>,
}

/// Three tensors `[positions, samples, places]`.
#[derive(Debug)]
struct Part {
    values: Array,
    low: Array,
    high: High,
}

/// The seventeenth bits of the ids.
#[derive(Debug)]
enum High {
    /// One in a byte.
    Bytes(Array),
    /// Eight in a byte, the first one highest, in the order of the tensor.
    Bits(Array),
}

impl Payload {
    /// Reads a member of a tar file.
    ///
    /// # Errors
    /// A damaged member, and one of another form; the message says of which.
    pub fn read(member: &Member) -> Result<Self> {
        let io = || Error::io(&member.file, "read it");
        let mut file = File::open(&member.file).map_err(io())?;
        file.seek(SeekFrom::Start(member.start)).map_err(io())?;
        let bad = |problem: String| Error::file(&member.file, format!("{}: {problem}", member.name));
        let bytes = unpacked(BufReader::new(file).take(member.size)).map_err(bad)?;
        Self::of_torch(&bytes).map_err(bad)
    }

    pub(super) fn of_torch(bytes: &[u8]) -> Result<Self, String> {
        let (mut file, value) = TorchFile::open(bytes)?;
        let Value::Dict(items) = value else { return Err("no dictionary".to_owned()) };
        let get = |name: &str| items.iter().find(|(key, _)| *key == Value::Text(name.into())).map(|(_, value)| value);
        let need = |name: &str| get(name).ok_or_else(|| format!("there is no `{name}`"));
        if !matches!(get("cu_seqlens_padded"), None | Some(Value::None)) {
            return Err(
                "its sequences are packed from several documents (`cu_seqlens_padded`), each of which the teacher \
                        saw alone: a cache of whole sequences would say that it saw all of them"
                    .to_owned(),
            );
        }
        let names = ["values", "indices_low", "bit_17"];
        let [values, low, high] = names.map(need);
        let mut version = 1;
        let parts = match (get("format_version"), values?, low?, high?) {
            (None, Value::List(values), Value::List(low), Value::List(high))
                if !values.is_empty() && values.len() == low.len() && low.len() == high.len() =>
            {
                let parts = values.iter().zip(low).zip(high);
                parts
                    .map(|((values, low), high)| Part::new(&mut file, [values, low, high]))
                    .collect::<Result<_, _>>()?
            }
            (Some(Value::Int(2)), values, low, high) => {
                version = 2;
                vec![Part::new(&mut file, [values, low, high])?]
            }
            (Some(Value::Int(version)), ..) => {
                return Err(format!(
                    "its `format_version` is {version}; 2 is read, and files of version 1, which have none"
                ));
            }
            _ => {
                return Err(format!(
                    "{} are not lists of as many tensors each, and there is no `format_version`",
                    names.join(", ")
                ));
            }
        };
        let this = Self { version, parts };
        match this.parts.iter().all(|part| part.values.size[..2] == this.parts[0].values.size[..2]) {
            true => Ok(this),
            false => Err("its microbatches have different sizes".to_owned()),
        }
    }

    /// Number of positions of each sample.
    pub fn positions(&self) -> u64 {
        self.parts[0].values.size[0]
    }

    /// Number of samples.
    pub fn samples(&self) -> u64 {
        self.part_samples() * self.parts.len() as u64
    }

    /// Number of samples of each tensor: a microbatch in version 1, and all in version 2.
    pub fn part_samples(&self) -> u64 {
        self.parts[0].values.size[1]
    }

    /// Largest number of places of a position.
    pub fn places(&self) -> u64 {
        self.parts.iter().map(|part| part.values.size[2]).max().unwrap_or_default()
    }

    /// The kept classes of a position of a sample, as they are stored.
    pub fn entries(&self, sample: u64, position: u64) -> Vec<Entry> {
        let part = &self.parts[(sample / self.part_samples()) as usize];
        let entry = |place: u64| part.entry([position, sample % self.part_samples(), place]);
        (0..part.values.size[2]).filter_map(entry).collect()
    }
}

impl Part {
    fn new(file: &mut TorchFile<'_>, tensors: [&Value; 3]) -> Result<Self, String> {
        let mut array = |value: &Value| match value {
            Value::Tensor(tensor) => file.array(tensor),
            _ => Err("`values`, `indices_low` and `bit_17` are not all tensors".to_owned()),
        };
        let [values, low, high] = tensors;
        let (values, low, high) = (array(values)?, array(low)?, array(high)?);
        let shape = |array: &Array| format!("{:?} of {:?}", array.size, array.dtype);
        let numbers = match (values.dtype, &*values.size) {
            (Dtype::F16 | Dtype::BF16 | Dtype::F32, [a, b, c]) if *a > 0 && *b > 0 && (1..=MOST_PLACES).contains(c) => {
                a * b * c
            }
            _ => {
                return Err(format!(
                    "`values` is {}, floats [positions, samples, places] belong there",
                    shape(&values)
                ));
            }
        };
        if low.size != values.size || low.dtype != Dtype::U16 {
            return Err(format!("`indices_low` is {}, {:?} of uint16 belongs there", shape(&low), values.size));
        }
        let high = match (high.dtype, &*high.size) {
            (Dtype::Bool, size) if size == values.size => High::Bytes(high),
            (Dtype::U8, [bytes]) if *bytes == numbers.div_ceil(8) => High::Bits(high),
            _ => {
                return Err(format!(
                    "`bit_17` is {}, {:?} of bool or {} packed bytes belong there",
                    shape(&high),
                    values.size,
                    numbers.div_ceil(8)
                ));
            }
        };
        Ok(Self { values, low, high })
    }

    /// The class at a place, if there is one.
    fn entry(&self, index: [u64; 3]) -> Option<Entry> {
        let high = match &self.high {
            High::Bytes(bytes) => u64::from(bytes.natural(&index) != 0),
            High::Bits(bytes) => {
                let bit = (index[0] * self.values.size[1] + index[1]) * self.values.size[2] + index[2];
                bytes.natural(&[bit / 8]) >> (7 - bit % 8) & 1
            }
        };
        let (id, log_prob) = (high << 16 | self.low.natural(&index), self.values.float(&index));
        (id != NO_CLASS || log_prob > NO_VALUE).then_some(Entry { id, log_prob })
    }
}

/// Unpacks zstd.
fn unpacked(packed: impl Read) -> Result<Vec<u8>, String> {
    let bad = |error: std::io::Error| format!("not whole zstd data ({error}); copy the file again");
    let mut bytes = Vec::new();
    let unpacker = zstd::stream::read::Decoder::new(packed).map_err(bad)?;
    unpacker.take(MAX_PAYLOAD + 1).read_to_end(&mut bytes).map_err(bad)?;
    match bytes.len() as u64 > MAX_PAYLOAD {
        true => Err(format!("more than {MAX_PAYLOAD} bytes are packed in it")),
        false => Ok(bytes),
    }
}
