//! Similarity of a teacher's classes: a target that needs no cached rows.

use crate::{Error, Result};
use burn::tensor::Tensor;
use logitcask_core::math::log_sum_exp;
use logitcask_core::{SoftRow, Tail};
use rayon::prelude::*;

/// Number of labels whose cosines exist at once.
const PIECE: usize = 256;

/// The most similar classes of every label.
#[derive(Debug, PartialEq)]
pub struct Similarity {
    classes: usize,
    /// \[labels, classes\].
    class_ids: Vec<u32>,
    /// \[labels, classes\].
    log_probs: Vec<f32>,
    /// \[labels\], log of the total probability of all others.
    log_rest: Vec<f32>,
}

impl Similarity {
    /// Computes softmax(cosine / `temperature`) of each column of `head` with all columns, and keeps the `classes`
    /// largest. head: \[hidden, vocabulary\], outside any graph.
    ///
    /// # Errors
    /// [`Error::Device`] if the device fails.
    pub fn of_head(head: Tensor<2>, classes: usize, temperature: f64) -> Result<Self> {
        let [_, vocab_size] = head.dims();
        let classes = classes.min(vocab_size);
        let length = (head.clone() * head.clone()).sum_dim(0).sqrt().clamp_min(1e-12);
        let head = head / length;
        let mut this = Self { classes, class_ids: Vec::new(), log_probs: Vec::new(), log_rest: Vec::new() };
        for labels in head.clone().split(PIECE, 1) {
            let cosines = labels.transpose().matmul(head.clone()) / temperature;
            let cosines = cosines.try_into_vec_as::<f32>().map_err(|e| Error::Device(e.to_string()))?;
            let rows: Vec<Row> = cosines.par_chunks_exact(vocab_size).map(|row| most_alike(row, classes)).collect();
            for (ids, log_probs, log_rest) in rows {
                this.class_ids.extend(ids);
                this.log_probs.extend(log_probs);
                this.log_rest.push(log_rest);
            }
        }
        Ok(this)
    }

    /// Number of labels that have a target: the classes of the head.
    pub fn labels(&self) -> usize {
        self.log_rest.len()
    }

    /// The target of a label: its classes and the log of the remaining probability only. `None` for a label that is not
    /// in the head.
    pub fn row(&self, label: u32) -> Option<SoftRow<'_>> {
        let label = label as usize;
        let rest = self.log_rest.get(label..=label)?;
        let range = label * self.classes..(label + 1) * self.classes;
        Some(SoftRow {
            class_ids: &self.class_ids[range.clone()],
            log_probs: &self.log_probs[range],
            tail: Tail { joined: rest, ..Tail::default() },
            ..SoftRow::default()
        })
    }
}

type Row = (Vec<u32>, Vec<f32>, f32);

/// The largest logits of a row, largest first, with ties to the lower id.
fn most_alike(row: &[f32], classes: usize) -> Row {
    let wide: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
    let log_z = log_sum_exp(&wide);
    let mut ids: Vec<u32> = (0..row.len() as u32).collect();
    let order = |a: &u32, b: &u32| row[*b as usize].total_cmp(&row[*a as usize]).then(a.cmp(b));
    if classes < ids.len() {
        ids.select_nth_unstable_by(classes, order);
        ids.truncate(classes);
    }
    ids.sort_unstable_by(order);
    let log_probs: Vec<f64> = ids.iter().map(|&id| wide[id as usize] - log_z).collect();
    let rest = 1.0 - log_probs.iter().map(|lp| lp.exp()).sum::<f64>();
    (ids, log_probs.iter().map(|&lp| lp as f32).collect(), rest.max(f64::MIN_POSITIVE).ln() as f32)
}
