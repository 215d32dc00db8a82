//! Samples of different lengths and targets of different widths, laid out for a device.

use crate::loss::LossConfig;
use crate::source::Taught;
use crate::{Error, Result};
use burn::tensor::{Device, Int, Tensor, TensorData};
use logitcask_core::{Sample, SoftRows};
use std::ops::Range;

/// Log-probability of a place that holds no class: e^-1e4 is 0 in any float, and 0 · -1e4 is still 0.
const NO_CLASS: f32 = -1e4;

/// A batch in host memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// \[rows, width\], right-padded with 0.
    pub tokens: Vec<u32>,
    /// Sequences.
    pub rows: usize,
    /// Longest sequence.
    pub width: usize,
    /// Flat indices into \[rows, width\] of the positions that have a next token: the only ones a loss ever sees.
    pub positions: Vec<u32>,
    /// The observed next token of each of them.
    pub gold_ids: Vec<u32>,
    /// What the teacher said there.
    pub targets: Option<SoftTargets>,
}

/// Soft targets at the loss's temperature, one row a position.
#[derive(Clone, Debug, PartialEq)]
pub struct SoftTargets {
    /// Classes a row has room for.
    pub width: usize,
    /// \[positions, width\]; 0 where a row holds fewer classes.
    pub class_ids: Vec<u32>,
    /// \[positions, width\], log p at the loss's temperature; [`NO_CLASS`] where a row holds fewer.
    pub log_probs: Vec<f32>,
    /// \[positions\], log of the mass outside, [`NO_CLASS`] where nothing is; `None`: no row has a tail.
    pub log_tail: Option<Vec<f32>>,
    /// Does some row hold fewer classes than `width`?
    pub is_ragged: bool,
    /// \[positions\], the teacher's first choice.
    pub best_ids: Vec<u32>,
}

impl Batch {
    /// Lays out `samples`; `loss` says at which temperature and tail policy targets are wanted (`None`: labels only).
    pub fn new(samples: &[Taught], loss: Option<&LossConfig>) -> Result<Self> {
        let rows = samples.len();
        let width = samples.iter().map(|(sample, _)| sample.input_ids.len()).max().unwrap_or(0);
        let mut tokens = vec![0; rows * width];
        let (mut positions, mut gold_ids) = (Vec::new(), Vec::new());
        for (row, (sample, _)) in samples.iter().enumerate() {
            let start = row * width;
            tokens[start..start + sample.input_ids.len()].copy_from_slice(&sample.input_ids);
            positions.extend((start..start + sample.positions()).map(|p| p as u32));
            gold_ids.extend_from_slice(sample.gold_ids());
        }
        let targets = match loss {
            Some(loss) => Some(SoftTargets::new(samples, loss, positions.len())?),
            None => None,
        };
        Ok(Self { tokens, rows, width, positions, gold_ids, targets })
    }

    /// The same batch with some of its positions only, so that logits come in bounded pieces.
    pub(crate) fn part(&self, range: Range<usize>) -> Self {
        let targets = self.targets.as_ref().map(|all| {
            let entries = range.start * all.width..range.end * all.width;
            SoftTargets {
                width: all.width,
                class_ids: all.class_ids[entries.clone()].to_vec(),
                log_probs: all.log_probs[entries].to_vec(),
                log_tail: all.log_tail.as_ref().map(|tails| tails[range.clone()].to_vec()),
                is_ragged: all.is_ragged,
                best_ids: all.best_ids[range.clone()].to_vec(),
            }
        });
        Self {
            tokens: Vec::new(),
            rows: self.rows,
            width: self.width,
            positions: self.positions[range.clone()].to_vec(),
            gold_ids: self.gold_ids[range].to_vec(),
            targets,
        }
    }
}

impl SoftTargets {
    fn new(samples: &[Taught], loss: &LossConfig, positions: usize) -> Result<Self> {
        let taught: Vec<(&Sample, &SoftRows)> =
            samples.iter().filter_map(|(sample, rows)| Some((sample, rows.as_ref()?))).collect();
        if taught.len() < samples.len() {
            return Err(Error::NoTeacher { alpha: loss.alpha });
        }
        let classes = loss.classes.map_or(usize::MAX, |classes| classes as usize);
        let counts = || {
            let sure = |(&count, &drawn): (&u16, &u16)| usize::from(count - drawn).min(classes);
            taught.iter().flat_map(move |(_, rows)| rows.counts.iter().zip(&rows.drawn).map(sure))
        };
        // A row of drawn classes alone has no class for sure: one empty place keeps the tensors' shape.
        let width = counts().max().unwrap_or(0).max(1);
        let mut out = Self {
            width,
            class_ids: vec![0; positions * width],
            log_probs: vec![NO_CLASS; positions * width],
            log_tail: None,
            is_ragged: counts().any(|count| count < width),
            best_ids: Vec::with_capacity(positions),
        };
        let (mut tails, mut has_tail) = (Vec::with_capacity(positions), false);
        let mut at = 0;
        for (_, rows) in taught {
            for row in rows.iter() {
                let row = if classes < row.class_ids.len() { row.prefix(classes) } else { row };
                let (log_probs, tail) = row.tempered(loss.temperature, loss.tail);
                out.class_ids[at..at + log_probs.len()].copy_from_slice(&row.class_ids[..log_probs.len()]);
                for (to, from) in out.log_probs[at..].iter_mut().zip(&log_probs) {
                    *to = *from as f32;
                }
                has_tail |= tail.is_some();
                // A row that holds every class has nothing outside: a mass of 0 adds nothing to the loss.
                tails.push(tail.map_or(NO_CLASS, |tail| tail.max(f64::from(NO_CLASS)) as f32));
                out.best_ids.push(row.best());
                at += width;
            }
        }
        out.log_tail = has_tail.then_some(tails);
        Ok(out)
    }
}

/// A host vector as an integer tensor.
pub(crate) fn int_tensor<const D: usize>(values: &[u32], shape: [usize; D], device: &Device) -> Tensor<D, Int> {
    let values: Vec<i64> = values.iter().map(|&v| i64::from(v)).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// A host vector as a float tensor.
pub(crate) fn float_tensor<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use logitcask_core::{Origin, SampleId, SoftRow, Tail, TailAtom, TailPolicy};

    fn sample(ids: &[u32]) -> Sample {
        Sample { id: SampleId(0), origin: Origin { document: 0, offset: 0 }, input_ids: ids.to_vec() }
    }

    #[test]
    fn padding_is_never_a_position() {
        let batch = Batch::new(&[(sample(&[1, 2, 3]), None), (sample(&[4, 5]), None)], None).unwrap();
        assert_eq!(batch.tokens, [1, 2, 3, 4, 5, 0]);
        assert_eq!(batch.positions, [0, 1, 3]);
        assert_eq!(batch.gold_ids, [2, 3, 5]);
    }

    const BUCKET: LossConfig = LossConfig { alpha: 1.0, temperature: 1.0, tail: TailPolicy::Bucket, classes: None };

    /// A tail of one class with probability p.
    fn tail(p: f64) -> [TailAtom; 1] {
        [TailAtom::new(p.ln(), 0.5 * p.ln())]
    }

    fn row<'a>(class_ids: &'a [u32], log_probs: &'a [f32], atoms: &'a [TailAtom]) -> SoftRow<'a> {
        SoftRow { class_ids, log_probs, tail: Tail { reference: 0.5, atoms, joined: &[] }, ..SoftRow::default() }
    }

    #[test]
    fn ragged_rows_are_filled_with_no_class() {
        let mut rows = SoftRows { reference: 0.5, ..SoftRows::default() };
        let p = |p: f64| p.ln() as f32;
        rows.push(row(&[3], &[p(0.6)], &tail(0.4)));
        rows.push(row(&[2, 1], &[p(0.4), p(0.25)], &tail(0.35)));
        let taught = [(sample(&[1, 2, 3]), Some(rows))];
        let at = |config| Batch::new(&taught, Some(&config)).unwrap().targets.unwrap();
        let targets = at(BUCKET);
        assert_eq!((targets.width, targets.is_ragged), (2, true));
        assert_eq!(targets.class_ids, [3, 0, 2, 1]);
        assert!((targets.log_probs[0] - p(0.6)).abs() < 2e-3 && targets.log_probs[1] == NO_CLASS, "{targets:?}");
        assert_eq!(targets.best_ids, [3, 2]);
        let masses: Vec<f32> = targets.log_tail.unwrap().iter().map(|lp| lp.exp()).collect();
        assert!((masses[0] - 0.4).abs() < 1e-3 && (masses[1] - 0.35).abs() < 1e-3, "{masses:?}");

        // At T = 2 a single class of p = 0.4 beside one of 0.6: sqrt(0.4) / (sqrt(0.4) + sqrt(0.6)).
        let hot = at(LossConfig { temperature: 2.0, ..BUCKET });
        assert!((hot.log_tail.unwrap()[0].exp() - 0.4495).abs() < 1e-3);
        let renorm = at(LossConfig { temperature: 2.0, tail: TailPolicy::Renormalize, ..BUCKET });
        assert_eq!((renorm.log_tail, renorm.log_probs[0]), (None, 0.0));
        // One class for each position: the others join the tail.
        let narrow = at(LossConfig { classes: Some(1), ..BUCKET });
        assert_eq!((narrow.width, narrow.is_ragged, narrow.class_ids), (1, false, vec![3, 2]));
        assert!((narrow.log_tail.unwrap()[1].exp() - 0.6).abs() < 2e-3);
    }

    #[test]
    fn a_complete_row_beside_a_truncated_one_keeps_the_tail() {
        let mut rows = SoftRows { reference: 0.5, ..SoftRows::default() };
        let half = 0.5f32.ln();
        rows.push(row(&[0, 1], &[half, half], &[TailAtom::NONE]));
        rows.push(row(&[1], &[half], &tail(0.5)));
        let targets = Batch::new(&[(sample(&[0, 1, 1]), Some(rows))], Some(&BUCKET)).unwrap().targets.unwrap();
        let tail = targets.log_tail.unwrap();
        assert_eq!(tail[0], NO_CLASS);
        assert!((tail[1] - half).abs() < 2e-3, "{tail:?}");
    }
}
