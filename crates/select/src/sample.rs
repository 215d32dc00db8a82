//! Fixed-size sampling without replacement: [`logitcask_core::Selection::Sample`].

use crate::lanes::{BLOCK, block_sums};
use crate::row::{FullRow, LogProbs};

/// Draws the sample of one row at a time and reuses its buffers.
#[derive(Default)]
pub(crate) struct Sampler {
    /// The largest classes that are not always kept, one more than the sample has places.
    rest: Vec<u32>,
    /// For each class in `rest`, the total probability of this and all smaller classes.
    beyond: Vec<f64>,
    /// Ids of the classes that are not in the population sampled from, ascending.
    excluded: Vec<u32>,
    /// The population's probability in each block of columns.
    blocks: Vec<f64>,
}

impl Sampler {
    /// Appends the classes that are kept with probability 1 (including `always`) to `certain` and the classes drawn for
    /// the remaining `places` to `drawn`. Returns the largest logit outside `certain`, if there is one. `largest` lists
    /// at least places + always.len() + 1 classes, or all of them.
    ///
    /// Only the `places` largest classes can be certain, so only those are examined one by one. The others are summed
    /// block by block, and the classes of a block are visited only if a sampling offset falls into it.
    pub(crate) fn sample(
        &mut self,
        row: FullRow<'_>,
        largest: impl Iterator<Item = u32>,
        always: &[u32],
        places: usize,
        sampling_offset: f64,
        (certain, drawn): (&mut Vec<u32>, &mut Vec<u32>),
    ) -> Option<f32> {
        certain.extend_from_slice(always);
        self.rest.clear();
        self.rest.extend(largest.filter(|id| always.binary_search(id).is_err()).take(places + 1));
        if self.rest.len() <= places {
            certain.extend_from_slice(&self.rest);
            return None;
        }
        self.sum_blocks(row, always, places);
        let fits = |&i: &usize| i + 1 < places && p(row, self.rest[i]) * (places - i) as f64 >= self.beyond[i];
        let head = (0..places).take_while(fits).count();
        if self.beyond[head] <= 0.0 {
            certain.extend_from_slice(&self.rest[..places]);
            return Some(row.logits[self.rest[places] as usize]);
        }
        certain.extend_from_slice(&self.rest[..head]);
        for &id in &self.rest[head..places] {
            self.blocks[id as usize / BLOCK] += p(row, id);
        }
        self.excluded.clear();
        self.excluded.extend_from_slice(certain);
        self.excluded.sort_unstable();
        self.draw_systematically(
            row,
            places - head,
            self.beyond[head] / (places - head) as f64,
            sampling_offset,
            drawn,
        );
        Some(row.logits[self.rest[head] as usize])
    }

    /// Fills `beyond` and `blocks`. The probabilities beyond the head are summed rather than computed as 1 minus the
    /// head, which would cancel.
    fn sum_blocks(&mut self, row: FullRow<'_>, always: &[u32], places: usize) {
        let (head, first) = (&self.rest[..places], row.logits[self.rest[places] as usize]);
        self.excluded.clear();
        self.excluded.extend(head.iter().chain(always));
        self.excluded.sort_unstable();
        block_sums(row.logits, &self.excluded, first, &mut self.blocks);
        let scale = (f64::from(first) - row.log_z).exp();
        self.blocks.iter_mut().for_each(|sum| *sum *= scale);
        let mut beyond: f64 = self.blocks.iter().sum();
        self.beyond.clear();
        self.beyond.extend(head.iter().rev().map(|&id| {
            beyond += p(row, id);
            beyond
        }));
        self.beyond.reverse();
    }

    /// Systematic sampling: goes through the classes outside `excluded` and draws one each time the sum of p / `tau`
    /// passes `sampling_offset`, `sampling_offset` + 1, `sampling_offset` + 2, and so on.
    fn draw_systematically(
        &self,
        row: FullRow<'_>,
        places: usize,
        tau: f64,
        sampling_offset: f64,
        drawn: &mut Vec<u32>,
    ) {
        let mut sum = 0.0;
        for (block, share) in self.blocks.iter().enumerate() {
            if drawn.len() == places {
                return;
            }
            if sum + share / tau <= sampling_offset + drawn.len() as f64 {
                sum += share / tau;
                continue;
            }
            let first = (block * BLOCK) as u32;
            let end = row.logits.len().min((block + 1) * BLOCK) as u32;
            let mut excluded = self.excluded[self.excluded.partition_point(|&id| id < first)..].iter().peekable();
            for id in (first..end).filter(|id| excluded.next_if_eq(&id).is_none()) {
                sum += p(row, id) / tau;
                if drawn.len() < places && sum > sampling_offset + drawn.len() as f64 {
                    drawn.push(id);
                }
            }
        }
        // The sum of p / `tau` equals `places` only up to rounding, so the last offset may not be passed. Its place
        // then goes to the last class that is not drawn yet.
        if drawn.len() < places {
            let missed =
                |id: &u32| self.excluded.binary_search(id).is_err() && !drawn.contains(id) && p(row, *id) > 0.0;
            let missed = (0..row.logits.len() as u32).rev().find(missed);
            drawn.extend(missed);
        }
    }
}

/// Probability of the class at T = 1.
fn p(row: FullRow<'_>, id: u32) -> f64 {
    row.log_prob(id).exp()
}
