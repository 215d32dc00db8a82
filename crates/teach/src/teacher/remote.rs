//! A teacher on a server.

use super::{Logits, Outputs, Teacher};
use crate::Result;
use logitcask_core::{RowErrors, Sample, SoftRows};
use logitcask_data::batches::{TokenBatch, batch_by_length};
use logitcask_remote::{Client, Error, ServerRowBuilder};

/// Number of tokens that are tried out.
const TRIED_TOKENS: usize = 16;

/// A teacher on a server, which selects the classes itself.
pub struct RemoteTeacher {
    client: Client,
    rows: ServerRowBuilder,
    vocab_size: usize,
    connections: usize,
}

impl RemoteTeacher {
    /// A teacher with a tokenizer of `vocab_size` tokens, of which at most `connections` requests are under way at a
    /// time. It makes rows as `rows` says, whatever else is asked of it.
    pub fn new(client: Client, rows: ServerRowBuilder, vocab_size: usize, connections: usize) -> Self {
        Self { client, rows, vocab_size, connections }
    }

    /// Asks for the beginning of a sample of `split`, to learn what the server refuses before anything is begun.
    ///
    /// # Errors
    /// [`Error::NoAnswer`](crate::Error::NoAnswer) or [`Error::BadAnswer`](crate::Error::BadAnswer).
    pub fn try_out(&self, split: &str, mut sample: Sample) -> Result<()> {
        sample.truncate(TRIED_TOKENS);
        let samples = [sample];
        for batch in batch_by_length(&samples, TRIED_TOKENS) {
            self.outputs(&batch, &mut |_| Ok(())).map_err(|error| error.of_samples(split, &samples))?;
        }
        Ok(())
    }
}

impl Teacher for RemoteTeacher {
    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn workers(&self) -> usize {
        self.connections
    }

    /// Asks for all samples of the batch in one request.
    fn outputs(&self, batch: &TokenBatch, each: &mut dyn FnMut(Outputs) -> Result<()>) -> Result<()> {
        let prompts: Vec<&[u32]> = batch.samples.iter().map(|sample| &sample.input_ids[..]).collect();
        let told = self.client.log_probs(&prompts, self.rows.k())?;
        let keep = self.rows.keep();
        let (mut rows, mut errors) = (SoftRows::new(keep), RowErrors::new(keep));
        for (index, &label) in batch.labels.iter().enumerate() {
            let (prompt, position) = batch.positions[index];
            let told = &told[prompt][position];
            let refused = |problem| Error::Answer { prompt, position, problem };
            self.rows.push(told, label, &mut rows, &mut errors).map_err(refused)?;
        }
        each(Outputs {
            positions: 0..batch.labels.len(),
            logits: Logits::Selected(Box::new((rows, errors))),
            extras: Vec::new(),
        })
    }
}
