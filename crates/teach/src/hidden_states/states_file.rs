//! One file of hidden states.

use super::Reading;
use crate::{Error, Result};
use logitcask_model::weights::StoredTensor;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// The names by which tensors are known.
const STATES: [&str; 2] = ["hidden_states", "last_hidden_state"];
const TOKENS: [&str; 2] = ["token_ids", "input_ids"];
const MASK: &str = "attention_mask";
const LOG_PROBS: &str = "token_logprobs";

/// A file whose tensors fit each other and the model.
pub(super) struct StatesFile {
    states: StoredTensor,
    tokens: StoredTensor,
    mask: Option<StoredTensor>,
    log_probs: Option<StoredTensor>,
    /// Tokens of a sequence, with its padding.
    length: usize,
    /// Vectors that are stored of each token, of which the last is taken.
    layers: usize,
    width: usize,
}

/// A sequence of a file.
pub(super) struct Sequence {
    /// Index of the file.
    pub(super) file: usize,
    /// Index in the file.
    row: usize,
    /// Its first token in the tensor's row.
    first: usize,
    /// Its tokens.
    pub(super) input_ids: Vec<u32>,
}

impl StatesFile {
    /// Reads the header and the tokens of the file with this index.
    pub(super) fn open(path: &Path, index: usize, reading: &Reading) -> Result<(Self, Vec<Sequence>)> {
        let mut tensors = StoredTensor::all_of(path)?;
        let states =
            take(&mut tensors, path, reading.states.as_deref(), &STATES, "--states", "the last hidden states")?;
        let tokens = take(&mut tensors, path, reading.tokens.as_deref(), &TOKENS, "--tokens", "the token ids")?;
        states.precision()?;
        let (rows, length) = match *tokens.shape() {
            [length] => (1, length),
            [rows, length] => (rows, length),
            _ => return Err(misshapen(&tokens, "[tokens] or [sequences, tokens]")),
        };
        if length == 0 {
            return Err(misshapen(&tokens, "at least one token"));
        }
        let (layers, width) = match states.shape().strip_prefix(tokens.shape()) {
            Some(&[width]) => (1, width),
            Some(&[layers, width]) if layers > 0 => (layers, width),
            _ => {
                let expected =
                    format!("the shape {:?} of `{}`, then [width] or [layers, width]", tokens.shape(), tokens.name());
                return Err(misshapen(&states, &expected));
            }
        };
        if width != reading.width {
            let problem = format!(
                "`{}` has vectors of {width} numbers, but those of the teacher have {}: name the model that made it",
                states.name(),
                reading.width
            );
            return Err(Error::states(path, problem));
        }
        let (mask, log_probs) = (tensors.remove(MASK), tensors.remove(LOG_PROBS));
        if let Some(mask) = mask.as_ref().filter(|mask| mask.shape() != tokens.shape()) {
            return Err(misshapen(mask, &format!("the shape {:?} of `{}`", tokens.shape(), tokens.name())));
        }
        let is_of_labels =
            |shape: &[usize]| shape == [&tokens.shape()[..tokens.shape().len() - 1], &[length - 1]].concat();
        if let Some(log_probs) = &log_probs
            && log_probs.shape() != tokens.shape()
            && !is_of_labels(log_probs.shape())
        {
            let expected = format!("the shape {:?} of `{}`, or one less in its last", tokens.shape(), tokens.name());
            return Err(misshapen(log_probs, &expected));
        }
        let this = Self { states, tokens, mask, log_probs, length, layers, width };
        let sequences = (0..rows).map(|row| this.sequence((index, row), reading.vocab_size)).collect::<Result<_>>()?;
        Ok((this, sequences))
    }

    /// The tokens of a row that its mask has.
    fn sequence(&self, (file, row): (usize, usize), vocab_size: u32) -> Result<Sequence> {
        let values = row * self.length..(row + 1) * self.length;
        let there = match &self.mask {
            None => 0..self.length,
            Some(mask) => ones(&mask.integers(values.clone())?).ok_or_else(|| {
                let problem =
                    format!("`{MASK}`: sequence {row}: it must be 1 at tokens that follow each other, and 0 elsewhere");
                Error::states(self.path(), problem)
            })?,
        };
        let token = |(index, id): (usize, i64)| {
            u32::try_from(id).ok().filter(|id| *id < vocab_size).ok_or_else(|| {
                let problem = format!(
                    "sequence {row}: token {index} has the id {id}, but the tokenizer has {vocab_size} tokens: name \
                     the tokenizer of the model that made this file"
                );
                Error::states(self.path(), problem)
            })
        };
        let ids = self.tokens.integers(values)?.into_iter().enumerate();
        let input_ids = ids.skip(there.start).take(there.len()).map(token).collect::<Result<_>>()?;
        Ok(Sequence { file, row, first: there.start, input_ids })
    }

    fn path(&self) -> &Path {
        self.states.path()
    }

    /// The states at these positions of a sequence.
    pub(super) fn vectors(&self, sequence: &Sequence, positions: Range<usize>) -> Result<Vec<f32>> {
        let start = sequence.row * self.length + sequence.first + positions.start;
        let size = self.layers * self.width;
        let stored = self.states.floats(start * size..(start + positions.len()) * size)?;
        let vectors = match self.layers {
            1 => stored,
            _ => stored.chunks_exact(size).flat_map(|layers| &layers[size - self.width..]).copied().collect(),
        };
        match vectors.iter().position(|value| !value.is_finite()) {
            None => Ok(vectors),
            Some(place) => {
                let problem = format!(
                    "`{}`: sequence {}, position {}: holds {}, a finite number belongs there: the exporter did not \
                     fill it, or its number format was too small; write the file again",
                    self.states.name(),
                    sequence.row,
                    positions.start + place / self.width,
                    vectors[place]
                );
                Err(Error::states(self.path(), problem))
            }
        }
    }

    pub(super) fn has_log_probs(&self) -> bool {
        self.log_probs.is_some()
    }

    /// The log-probabilities of the first `count` labels of a sequence, if they are there.
    pub(super) fn label_log_probs(&self, sequence: &Sequence, count: usize) -> Result<Option<Vec<f64>>> {
        let Some(log_probs) = &self.log_probs else { return Ok(None) };
        let length = log_probs.shape().last().copied().unwrap_or_default();
        // With one less, the first is that of the second token.
        let shift = if length == self.length { 1 } else { 0 };
        let start = sequence.row * length + sequence.first + shift;
        let values = log_probs.floats(start..start + count)?;
        Ok(Some(values.into_iter().map(f64::from).collect()))
    }

    /// Hashes and shapes of the tensors that rows follow from.
    pub(super) fn digest(&self) -> Result<String> {
        let tensors = [Some(&self.tokens), Some(&self.states), self.mask.as_ref()].into_iter().flatten();
        let of_tensor = |tensor: &StoredTensor| Ok(format!("{:?} {}", tensor.shape(), tensor.digest()?.to_hex()));
        Ok(tensors.map(of_tensor).collect::<Result<Vec<_>>>()?.join(" "))
    }
}

/// The tensor of this name, or of one of those that are known.
fn take(
    tensors: &mut BTreeMap<String, StoredTensor>,
    path: &Path,
    named: Option<&str>,
    known: &[&str],
    option: &str,
    what: &str,
) -> Result<StoredTensor> {
    let own = named.map(|name| [name]);
    let names = own.as_ref().map_or(known, |own| own.as_slice());
    if let Some(tensor) = names.iter().find_map(|name| tensors.remove(*name)) {
        return Ok(tensor);
    }
    let listed = |names: Vec<&str>| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let problem = format!(
        "has no tensor {} with {what}, it has {}: name it with {option}",
        listed(names.to_vec()).replace(", ", " or "),
        listed(tensors.keys().map(String::as_str).collect())
    );
    Err(Error::states(path, problem))
}

fn misshapen(tensor: &StoredTensor, expected: &str) -> Error {
    let problem = format!("`{}` has the shape {:?}, expected {expected}", tensor.name(), tensor.shape());
    Error::states(tensor.path(), problem)
}

/// The range of ones, if they follow each other and all other numbers are 0.
fn ones(mask: &[i64]) -> Option<Range<usize>> {
    let start = mask.iter().position(|&value| value != 0).unwrap_or(mask.len());
    let count = mask[start..].iter().take_while(|&&value| value == 1).count();
    mask[start + count..].iter().all(|&value| value == 0).then_some(start..start + count)
}
