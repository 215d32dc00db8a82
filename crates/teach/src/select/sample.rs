//! Fixed-size sampling without replacement: [`logitcask_core::Selection::Sample`].

use super::cpu::Row;
use super::lanes::{BLOCK, block_sums};
use super::row_builder::LogProbs;

/// Buffers of a draw.
#[derive(Default)]
pub(super) struct Draw {
    /// The largest classes that are not kept anyway, one more than there are places.
    rest: Vec<u32>,
    /// Probability of each of these and all later ones.
    beyond: Vec<f64>,
    /// Classes outside the population, ascending.
    without: Vec<u32>,
    /// Probability of the population's part in each block.
    blocks: Vec<f64>,
}

impl Draw {
    /// Appends those kept for sure, `always` among them, and those drawn for the other of the `places`; the largest
    /// logit that is not kept for sure, if there is one. `largest` lists at least places + always.len() + 1 classes,
    /// or all.
    ///
    /// Only the largest `places` classes can be sure, so those alone are looked at one by one. All others are summed up
    /// block by block, and a block is opened where a offset falls into it.
    pub(super) fn draw(
        &mut self,
        row: Row<'_>,
        largest: impl Iterator<Item = u32>,
        always: &[u32],
        places: usize,
        sampling_offset: f64,
        (sure, drawn): (&mut Vec<u32>, &mut Vec<u32>),
    ) -> Option<f32> {
        sure.extend_from_slice(always);
        self.rest.clear();
        self.rest.extend(largest.filter(|id| always.binary_search(id).is_err()).take(places + 1));
        if self.rest.len() <= places {
            sure.extend_from_slice(&self.rest);
            return None;
        }
        self.sum_up(row, always, places);
        let fits = |&i: &usize| i + 1 < places && p(row, self.rest[i]) * (places - i) as f64 >= self.beyond[i];
        let head = (0..places).take_while(fits).count();
        if self.beyond[head] <= 0.0 {
            sure.extend_from_slice(&self.rest[..places]);
            return Some(row.logits[self.rest[places] as usize]);
        }
        sure.extend_from_slice(&self.rest[..head]);
        for &id in &self.rest[head..places] {
            self.blocks[id as usize / BLOCK] += p(row, id);
        }
        self.without.clear();
        self.without.extend_from_slice(sure);
        self.without.sort_unstable();
        self.cast(row, places - head, self.beyond[head] / (places - head) as f64, sampling_offset, drawn);
        Some(row.logits[self.rest[head] as usize])
    }

    /// Probabilities beyond the head, by summing them and not as what is missing to 1.
    fn sum_up(&mut self, row: Row<'_>, always: &[u32], places: usize) {
        let (head, first) = (&self.rest[..places], row.logits[self.rest[places] as usize]);
        self.without.clear();
        self.without.extend(head.iter().chain(always));
        self.without.sort_unstable();
        block_sums(row.logits, &self.without, first, &mut self.blocks);
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

    /// Walks along the classes outside `without` and draws one wherever offset, offset + 1, offset + 2, ... shares of `tau` are
    /// passed.
    fn cast(&self, row: Row<'_>, places: usize, tau: f64, sampling_offset: f64, drawn: &mut Vec<u32>) {
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
            let mut fixed = self.without[self.without.partition_point(|&id| id < first)..].iter().peekable();
            for id in (first..end).filter(|id| fixed.next_if_eq(&id).is_none()) {
                sum += p(row, id) / tau;
                if drawn.len() < places && sum > sampling_offset + drawn.len() as f64 {
                    drawn.push(id);
                }
            }
        }
        // The shares add up to `places` but for rounding, which can cost the last offset its winner.
        if drawn.len() < places {
            let missed = |id: &u32| self.without.binary_search(id).is_err() && !drawn.contains(id) && p(row, *id) > 0.0;
            let missed = (0..row.logits.len() as u32).rev().find(missed);
            drawn.extend(missed);
        }
    }
}

/// Probability at T = 1.
fn p(row: Row<'_>, id: u32) -> f64 {
    row.log_prob(id).exp()
}
