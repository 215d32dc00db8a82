//! Last hidden states that a server or a script wrote into safetensors files, as a dataset.
//!
//! A file has these tensors, and others are passed over:
//!
//! - The token ids, `token_ids` or `input_ids`: whole numbers, \[tokens\] or \[sequences, tokens\].
//! - The states, `hidden_states` or `last_hidden_state`, in f32, f16 or bf16: the shape of the token ids, then
//!   \[width\] or \[layers, width\], of which the last layer is taken.
//! - `attention_mask`, if sequences are padded, of the shape of the token ids: 1 at the tokens of a sequence, which
//!   follow each other, and 0 elsewhere.
//! - `token_logprobs`, if there, of the shape of the token ids or with one less in each sequence: the log-probability
//!   of each token after those before it. That of the first token is left out, or not read.
//!
//! vLLM's connectors for hidden states write one such file for each request, with `token_ids` and `hidden_states` of
//! \[tokens, layers, width\].
//!
//! [`HiddenStates`] is the dataset, [`StatesTeacher`](crate::StatesTeacher) applies the head to its states, and
//! [`Agreement`] compares the log-probabilities of tokens that result with others.

mod agreement;
mod files;
mod states_file;
#[cfg(test)]
mod tests;

pub use agreement::{Agreement, label_log_probs};
pub use files::files_of;

use crate::{Error, Result};
use logitcask_core::{Fingerprint, Origin, Sample, SampleId};
use logitcask_data::Dataset;
use logitcask_model::NormSide;
use rayon::prelude::*;
use states_file::{Sequence, StatesFile};
use std::ops::Range;
use std::path::PathBuf;

/// What begins the bytes that a fingerprint is the hash of: another one whenever the same files would give other rows.
const CONTEXT: &str = "logitcask hidden states v1";

/// How files are read, and what they have to fit.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The name of the tensor of states, if it is not one of those that are known.
    pub states: Option<String>,
    /// The name of the tensor of token ids, if it is not one of those that are known.
    pub tokens: Option<String>,
    /// The side of the final norm that the states are from.
    pub side: NormSide,
    /// Width of the states of the model.
    pub width: usize,
    /// Number of tokens of its tokenizer.
    pub vocab_size: u32,
}

/// A split, and the files of its sequences, in order.
pub struct SplitFiles {
    /// Its name.
    pub name: String,
    /// Its files.
    pub files: Vec<PathBuf>,
}

/// Sequences of tokens with the last hidden states of a model at each. The tokens are in memory, the states are not.
pub struct HiddenStates {
    files: Vec<StatesFile>,
    /// Those of all splits, one after the other. The document of a sample's origin is the place here.
    sequences: Vec<Sequence>,
    splits: Vec<(String, Range<usize>)>,
    width: usize,
    left_out: usize,
    fingerprint: Fingerprint,
}

impl HiddenStates {
    /// Reads the header and the tokens of every file, and hashes what its rows follow from. Sequences of one token
    /// have no position to predict and are left out.
    ///
    /// # Errors
    /// [`Error::HiddenStates`] or [`Error::Tensors`] name the file, and what in it is missing, or does not fit the
    /// other tensors, the model or the tokenizer.
    pub fn open(splits: &[SplitFiles], reading: &Reading) -> Result<Self> {
        let mut this = Self {
            files: Vec::new(),
            sequences: Vec::new(),
            splits: Vec::new(),
            width: reading.width,
            left_out: 0,
            fingerprint: Fingerprint::of(&[]),
        };
        for split in splits {
            let (start, before) = (this.sequences.len(), this.files.len());
            let open = |(index, path): (usize, &PathBuf)| StatesFile::open(path, before + index, reading);
            let opened: Vec<_> = split.files.par_iter().enumerate().map(open).collect::<Result<_>>()?;
            for (file, mut sequences) in opened {
                let all = sequences.len();
                sequences.retain(|sequence| sequence.input_ids.len() >= 2);
                this.left_out += all - sequences.len();
                this.sequences.extend(sequences);
                this.files.push(file);
            }
            if let (true, Some(path)) = (start == this.sequences.len(), split.files.first()) {
                let problem = "no sequence of this split has two tokens, so there is no position to predict";
                return Err(Error::states(path, problem));
            }
            this.splits.push((split.name.clone(), start..this.sequences.len()));
        }
        this.fingerprint = this.hash(splits, reading.side)?;
        Ok(this)
    }

    fn hash(&self, splits: &[SplitFiles], side: NormSide) -> Result<Fingerprint> {
        let mut text = format!("{CONTEXT}\n{}\n", side.name());
        splits.iter().for_each(|split| text += &format!("{} {}\n", split.name, split.files.len()));
        let of_files: Vec<String> = self.files.par_iter().map(StatesFile::digest).collect::<Result<_>>()?;
        Ok(Fingerprint::of((text + &of_files.join("\n")).as_bytes()))
    }

    /// Numbers of a vector.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Number of sequences of one token.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// Whether every file has log-probabilities of its tokens.
    pub fn have_log_probs(&self) -> bool {
        self.files.iter().all(StatesFile::has_log_probs)
    }

    /// Up to `count` samples, spread evenly over all splits, of which each is cut to at most `max_length` tokens.
    pub fn spread(&self, count: usize, max_length: usize) -> Vec<Sample> {
        let len = self.sequences.len();
        let count = count.min(len);
        let cut = |i: usize| {
            let mut sample = self.sample_at(i * len / count, i as u64);
            sample.truncate(max_length);
            sample
        };
        (0..count).map(cut).collect()
    }

    fn sample_at(&self, place: usize, id: u64) -> Sample {
        let origin = Origin { document: place as u64, offset: 0 };
        Sample::new(SampleId(id), origin, self.sequences[place].input_ids.clone())
    }

    /// The states at these positions of a document, \[positions, width\], row-major.
    pub(crate) fn vectors(&self, document: u64, positions: Range<usize>) -> Result<Vec<f32>> {
        let sequence = &self.sequences[document as usize];
        self.files[sequence.file].vectors(sequence, positions)
    }

    /// The log-probability of the label of each position of a sample, as its file tells it; `None` if it does not.
    ///
    /// # Errors
    /// [`Error::Tensors`] if they cannot be read.
    pub fn stored_log_probs(&self, sample: &Sample) -> Result<Option<Vec<f64>>> {
        let sequence = &self.sequences[sample.origin.document as usize];
        self.files[sequence.file].label_log_probs(sequence, sample.next_tokens())
    }

    fn find(&self, split: &str, sample: SampleId) -> logitcask_data::Result<usize> {
        let of_split = self.range(split);
        let found = usize::try_from(sample.0).ok().and_then(|index| of_split.clone().nth(index));
        found.ok_or_else(|| logitcask_data::Error::NoSample {
            split: split.to_owned(),
            sample,
            samples: of_split.len() as u64,
        })
    }

    fn range(&self, split: &str) -> Range<usize> {
        self.splits.iter().find(|(name, _)| name == split).map_or(0..0, |(_, range)| range.clone())
    }
}

impl Dataset for HiddenStates {
    fn splits(&self) -> Vec<(String, u64)> {
        self.splits.iter().map(|(name, range)| (name.clone(), range.len() as u64)).collect()
    }

    fn len(&self, split: &str) -> u64 {
        self.range(split).len() as u64
    }

    fn length_of(&self, split: &str, id: SampleId) -> logitcask_data::Result<usize> {
        Ok(self.sequences[self.find(split, id)?].input_ids.len())
    }

    fn sample(&self, split: &str, id: SampleId) -> logitcask_data::Result<Sample> {
        Ok(self.sample_at(self.find(split, id)?, id.0))
    }

    fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    fn name(&self) -> &str {
        "hidden states"
    }

    fn max_length(&self) -> usize {
        self.sequences.iter().map(|sequence| sequence.input_ids.len()).max().unwrap_or(0)
    }
}
