//! The columns of a block as samples and soft rows.

use super::kept::{Kept, Open, floats, narrow};
use super::packed::{self, Model};
use super::{check_tokens, plain};
use crate::pages::{Lists, Plain};
use crate::plan::Plan;
use crate::schema;
use logitcask_core::{InputHash, Origin, Sample, SampleId, SoftRows, TailAtom};

/// Some rows of a block, one after the other.
pub(crate) struct Columns<'a> {
    plan: &'a Plan,
    sample_ids: Plain<'a>,
    documents: Plain<'a>,
    document_offsets: Plain<'a>,
    input_hashes: Plain<'a>,
    input_ids: Lists<'a>,
    log_z: Lists<'a>,
    gold_log_probs: Lists<'a>,
    gold_ranks: Lists<'a>,
    tail: Option<[Lists<'a>; 2]>,
    kept: Box<dyn Kept + 'a>,
}

impl<'a> Columns<'a> {
    /// The columns that `open` opens by name. `model` is the shard's, where it is packed.
    pub(crate) fn of(plan: &'a Plan, model: Option<&'a Model>, open: &Open<'a, '_>) -> Result<Self, String> {
        let list = |name| Lists::of(open(name)?);
        let number = |name, width| Plain::of(open(name)?, Some(width));
        let atoms = || Ok([list(schema::TAIL_LOGITS)?, list(schema::TAIL_LOG_WEIGHTS)?]);
        Ok(Self {
            plan,
            sample_ids: number(schema::SAMPLE_ID, size_of::<u64>())?,
            documents: number(schema::DOCUMENT, size_of::<u64>())?,
            document_offsets: number(schema::DOCUMENT_OFFSET, size_of::<u32>())?,
            input_hashes: number(schema::INPUT_HASH, size_of::<InputHash>())?,
            input_ids: list(schema::INPUT_IDS)?,
            log_z: list(schema::LOG_Z)?,
            gold_log_probs: list(schema::GOLD_LOG_PROBS)?,
            gold_ranks: list(schema::GOLD_RANKS)?,
            tail: plan.keep.tail.map(|_| atoms()).transpose().map_err(|problem: String| problem)?,
            kept: match model {
                None => Box::new(plain::Columns::of(plan, open)?),
                Some(model) => Box::new(packed::Columns::of(model, open)?),
            },
        })
    }

    /// The next row with the input hash that is stored for it; nothing is checked but the length, which bounds everything
    /// else.
    pub(crate) fn next(&mut self) -> Result<(Sample, SoftRows, InputHash), String> {
        let sample = Sample {
            id: SampleId(u64::from_le_bytes(fixed(&mut self.sample_ids)?)),
            origin: Origin {
                document: u64::from_le_bytes(fixed(&mut self.documents)?),
                offset: u32::from_le_bytes(fixed(&mut self.document_offsets)?),
            },
            input_ids: self.input_ids.next()?,
        };
        let hash = InputHash(fixed(&mut self.input_hashes)?);
        check_tokens(self.plan, &sample)?;
        let entries = self.kept.next(self.plan, &sample.input_ids)?;
        let tail = match &mut self.tail {
            None => Vec::new(),
            Some([logits, weights]) => atoms(
                &narrow(schema::TAIL_LOGITS, &logits.next()?)?,
                &narrow(schema::TAIL_LOG_WEIGHTS, &weights.next()?)?,
            )?,
        };
        let rows = SoftRows {
            counts: entries.counts,
            drawn: entries.drawn,
            class_ids: entries.class_ids,
            log_probs: entries.log_probs,
            log_z: floats(self.log_z.next()?),
            gold_log_probs: floats(self.gold_log_probs.next()?),
            gold_ranks: self.gold_ranks.next()?,
            tail,
            ..SoftRows::new(&self.plan.keep)
        };
        Ok((sample, rows, hash))
    }
}

/// The next value of a column of this width.
fn fixed<const WIDTH: usize>(column: &mut Plain<'_>) -> Result<[u8; WIDTH], String> {
    let value = column.next()?;
    value.try_into().map_err(|_| format!("a value of {} bytes, {WIDTH} belong there", value.len()))
}

fn atoms(logits: &[i16], weights: &[i16]) -> Result<Vec<TailAtom>, String> {
    if logits.len() != weights.len() {
        return Err(format!("{} tail logits with {} weights", logits.len(), weights.len()));
    }
    let pairs = logits.iter().zip(weights);
    Ok(pairs.map(|(&log_prob, &log_weight)| TailAtom { log_prob, log_weight }).collect())
}
