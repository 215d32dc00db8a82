//! Batches of samples of different lengths, laid out for a device.

use crate::Result;
use crate::source::DistillSample;
use crate::target_batch::TargetBatch;
use crate::target_spec::TargetSpec;
use logitcask_model::{Packing, Sequences};
use std::ops::Range;

/// A batch in host memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The tokens, in the shape of `sequences`.
    pub tokens: Vec<u32>,
    /// How the samples lie in the tokens, one sequence per sample.
    pub sequences: Sequences,
    /// Ids of the samples.
    pub sample_ids: Vec<u64>,
    /// Index of the source of each sample; empty if there is only one source.
    pub sources: Vec<usize>,
    /// Flat indices into the tokens of the samples' positions, sample by sample, which do not ascend where rows are filled;
    /// a loss uses no others.
    pub positions: Vec<u32>,
    /// The observed next token of each of these positions.
    pub gold_ids: Vec<u32>,
    /// The teacher's rows at these positions.
    pub targets: Option<TargetBatch>,
    /// A second teacher's rows at these positions.
    pub second: Option<TargetBatch>,
    /// The teacher's vector of each sample, \[samples, size\], row-major, if the source was asked for a column of them.
    pub vectors: Option<Vec<f32>>,
}

impl Batch {
    /// Lays out `samples` one per row, padded on the right with 0; `spec` selects what a loss reads of the teacher's rows
    /// (`None` means labels only). Tests compare [`packed`](Self::packed) with it.
    ///
    /// # Errors
    /// [`Error::NoTeacher`](crate::Error::NoTeacher) if a sample has no rows although `spec` reads some;
    /// [`Error::Refused`](crate::Error::Refused) for a label that the similarity of classes does not have.
    pub fn new(samples: &[DistillSample], spec: Option<&TargetSpec>) -> Result<Self> {
        Self::laid_out(samples, spec, Sequences::in_rows(samples.len(), lengths(samples).max().unwrap_or(0)))
    }

    /// Lays out `samples` with little padding or none: the loss and its gradient are those of [`new`](Self::new) to
    /// rounding.
    ///
    /// # Errors
    /// The same as for [`new`](Self::new).
    pub fn packed(samples: &[DistillSample], spec: Option<&TargetSpec>, packing: Packing) -> Result<Self> {
        Self::laid_out(samples, spec, Sequences::packed(lengths(samples), packing))
    }

    fn laid_out(samples: &[DistillSample], spec: Option<&TargetSpec>, sequences: Sequences) -> Result<Self> {
        let tokens = sequences.tokens(samples.iter().map(|(sample, _)| &sample.input_ids[..]));
        let (mut positions, mut gold_ids) = (Vec::new(), Vec::new());
        for ((sample, _), start) in samples.iter().zip(sequences.starts()) {
            positions.extend(sample.position_indices().map(|position| (start + position) as u32));
            gold_ids.extend_from_slice(&sample.labels());
        }
        let of = |teacher| spec.map(|spec| TargetBatch::new(samples, teacher, spec)).transpose();
        let has_second = samples.iter().any(|(_, rows)| rows.len() > 1);
        let (targets, second) = (of(0)?, if has_second { of(1)? } else { None });
        let sample_ids = samples.iter().map(|(sample, _)| sample.id.0).collect();
        let vectors = vectors(samples);
        Ok(Self { tokens, sequences, sample_ids, sources: Vec::new(), positions, gold_ids, targets, second, vectors })
    }

    /// The same batch restricted to some of its positions, so that logits are computed in pieces of bounded size.
    pub(crate) fn part(&self, range: Range<usize>) -> Self {
        Self {
            tokens: Vec::new(),
            sequences: self.sequences.clone(),
            sample_ids: Vec::new(),
            sources: Vec::new(),
            positions: self.positions[range.clone()].to_vec(),
            targets: self.targets.as_ref().map(|all| all.part(range.clone())),
            second: self.second.as_ref().map(|all| all.part(range.clone())),
            gold_ids: self.gold_ids[range].to_vec(),
            vectors: None,
        }
    }
}

/// Number of tokens of each sample.
fn lengths(samples: &[DistillSample]) -> impl Iterator<Item = usize> {
    samples.iter().map(|(sample, _)| sample.input_ids.len())
}

/// The first teacher's vector of each sample, from the one extra column that its rows have.
fn vectors(samples: &[DistillSample]) -> Option<Vec<f32>> {
    let vector = |(_, rows): &DistillSample| Some(rows.first()?.extras.first()?.values.clone());
    samples.iter().map(vector).collect::<Option<Vec<_>>>().map(|vectors| vectors.concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use logitcask_core::{Origin, Sample, SampleId};

    fn sample(ids: &[u32]) -> Sample {
        Sample::new(SampleId(0), Origin { document: 0, offset: 0 }, ids.to_vec())
    }

    #[test]
    fn padding_is_never_a_position() {
        let batch = Batch::new(&[(sample(&[1, 2, 3]), Vec::new()), (sample(&[4, 5]), Vec::new())], None).unwrap();
        assert_eq!(batch.tokens, [1, 2, 3, 4, 5, 0]);
        assert_eq!(batch.positions, [0, 1, 3]);
        assert_eq!(batch.gold_ids, [2, 3, 5]);
        let samples = [&[1, 2][..], &[3, 4, 5], &[6]].map(|ids| (sample(ids), Vec::new()));
        let batch = |packing| Batch::packed(&samples, None, packing).unwrap();
        for (packing, tokens, positions) in
            [(Packing::OneRow, [1, 2, 3, 4, 5, 6], [0, 2, 3]), (Packing::FilledRows, [3, 4, 5, 1, 2, 6], [3, 0, 1])]
        {
            let batch = batch(packing);
            assert_eq!((&batch.tokens[..tokens.len()], &batch.positions[..]), (&tokens[..], &positions[..]));
            assert!(batch.tokens[tokens.len()..].iter().all(|&token| token == 0));
            assert_eq!(batch.gold_ids, [2, 4, 5]);
        }
    }
}
