//! Causal attention with rotary positions, one sequence after the other.
//!
//! A head can have a sink: a logit that takes part in the softmax of every query but has no value, so that probabilities
//! of keys sum to less than one. Its gradient is -Σ over queries of its probability times Σ P dP over the keys.
//!
//! The probabilities of a block of queries are computed in scratch space and discarded; the backward pass recomputes
//! them. They are never stored for a whole window.

use super::Heads;
use super::activations::tanh;
use crate::matmul::{MatRef, matmul_into};
use crate::rope::RotaryAngles;
use crate::sequences::{Sequences, first_key};
use logitcask_core::exp::exp_nonpositive;
use logitcask_core::lanes::{dot, largest, sum};
use rayon::prelude::*;
use std::ops::Range;

/// Number of queries whose probabilities exist at a time.
const BLOCK: usize = 64;
/// Scores this far below the largest add nothing in f32, and products with their exponentials would be slow.
const FAINT: f32 = -60.0;

/// The inputs of all tokens, or of one sequence.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    /// \[tokens, heads · head_dim\], as the projection produces them.
    pub(super) q: &'a [f32],
    /// \[tokens, kv_heads · head_dim\].
    pub(super) k: &'a [f32],
    /// As k.
    pub(super) v: &'a [f32],
    /// That of each head, -∞ where a head has none.
    pub(super) sinks: &'a [f32],
}

impl<'a> Inputs<'a> {
    /// Those of some tokens, each of which has `wide` queries and `narrow` keys and values.
    fn of(self, tokens: Range<usize>, wide: usize, narrow: usize) -> Self {
        let part = |x: &'a [f32], size: usize| &x[tokens.start * size..tokens.end * size];
        Self { q: part(self.q, wide), k: part(self.k, narrow), v: part(self.v, narrow), sinks: self.sinks }
    }
}

/// The output, in the shape of q.
pub(super) fn forward(inputs: Inputs<'_>, heads: &Heads, sequences: &Sequences, angles: &RotaryAngles) -> Vec<f32> {
    let mut out = vec![0.0; inputs.q.len()];
    let [wide, narrow] = heads.token_sizes();
    let outputs = parts_mut(&mut out, sequences, wide);
    outputs.into_par_iter().zip(sequences.ranges().collect::<Vec<_>>()).for_each(|(out, tokens)| {
        let window = Window::new(inputs.of(tokens, wide, narrow), heads, angles);
        let mut scratch = Scratch::default();
        for (head, first) in window.blocks() {
            let (n, keys) = window.probabilities(head, first, &mut scratch, false);
            let out = &mut out[first * wide + head * heads.head_dim..];
            let values = window.of_key_head(window.v, head, keys.start);
            let scores = MatRef::by_rows(&scratch.p, keys.len());
            matmul_into((n, heads.head_dim, keys.len()), scores, values, (out, wide), false);
        }
    });
    out
}

/// d loss / d (q, k, v, sinks) from `slopes`, d loss / d output.
pub(super) fn backward(
    inputs: Inputs<'_>,
    slopes: &[f32],
    heads: &Heads,
    sequences: &Sequences,
    angles: &RotaryAngles,
) -> [Vec<f32>; 4] {
    let [mut of_q, mut of_k, mut of_v] = [inputs.q, inputs.k, inputs.v].map(|x| vec![0.0; x.len()]);
    let [wide, narrow] = heads.token_sizes();
    let of_keys = parts_mut(&mut of_k, sequences, narrow).into_par_iter().zip(parts_mut(&mut of_v, sequences, narrow));
    let outputs = parts_mut(&mut of_q, sequences, wide).into_par_iter().zip(of_keys);
    let all = outputs.zip(sequences.ranges().collect::<Vec<_>>()).map(|((of_q, (of_k, of_v)), tokens)| {
        let slopes = &slopes[tokens.start * wide..tokens.end * wide];
        let window = Window::new(inputs.of(tokens, wide, narrow), heads, angles);
        let (mut scratch, mut of_sinks) = (Scratch::default(), vec![0.0; heads.count]);
        for (head, first) in window.blocks() {
            of_sinks[head] += window.backward(head, first, slopes, [of_q, of_k, of_v], &mut scratch);
        }
        angles.turn_queries(of_q, heads.count, heads.scale, -1.0);
        angles.turn_keys(of_k, heads.kv_count, -1.0);
        of_sinks
    });
    // In the order of the sequences, so that the sum does not depend on the threads.
    let all: Vec<Vec<f64>> = all.collect();
    let of_sinks = (0..heads.count).map(|head| all.iter().map(|of| of[head]).sum::<f64>() as f32).collect();
    [of_q, of_k, of_v, of_sinks]
}

/// Scratch space for a block of queries, in which matrices have a row for each query and a column for each key.
#[derive(Default)]
struct Scratch {
    /// Probabilities of keys.
    p: Vec<f32>,
    /// The sink's probability for each query.
    of_sink: Vec<f32>,
    /// If scores have a bound, the derivatives of what they become.
    of_cap: Vec<f32>,
    /// d loss / d probability, then d loss / d score.
    slopes: Vec<f32>,
}

/// Divides values, of which each token has `size`, among the sequences.
fn parts_mut<'a>(mut values: &'a mut [f32], sequences: &Sequences, size: usize) -> Vec<&'a mut [f32]> {
    let mut parts = Vec::with_capacity(sequences.count());
    for range in sequences.ranges() {
        let (part, rest) = std::mem::take(&mut values).split_at_mut(range.len() * size);
        parts.push(part);
        values = rest;
    }
    parts
}

/// One sequence, with queries and keys rotated by their positions.
struct Window<'a> {
    heads: &'a Heads,
    /// Number of tokens.
    width: usize,
    /// Times the factor of the scores.
    q: Vec<f32>,
    k: Vec<f32>,
    v: &'a [f32],
    sinks: &'a [f32],
}

impl<'a> Window<'a> {
    fn new(Inputs { q, k, v, sinks }: Inputs<'a>, heads: &'a Heads, angles: &RotaryAngles) -> Self {
        let width = q.len() / heads.token_sizes()[0];
        let (mut q, mut k) = (q.to_vec(), k.to_vec());
        angles.turn_queries(&mut q, heads.count, heads.scale, 1.0);
        angles.turn_keys(&mut k, heads.kv_count, 1.0);
        Self { heads, width, q, k, v, sinks }
    }

    /// Pairs of each head and the first query of each block.
    fn blocks(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (count, width) = (self.heads.count, self.width);
        (0..count).flat_map(move |head| (0..width).step_by(BLOCK).map(move |first| (head, first)))
    }

    /// The part of `keys`, the sequence's keys or values, that a head reads: a matrix with a row for each position from
    /// `first` on.
    fn of_key_head<'b>(&self, keys: &'b [f32], head: usize, first: usize) -> MatRef<'b> {
        MatRef { values: &keys[self.key_at(head, first)..], strides: (self.heads.token_sizes()[1], 1) }
    }

    /// Index of the first value at this position that a head reads of keys or values.
    fn key_at(&self, head: usize, position: usize) -> usize {
        let key_head = head * self.heads.kv_count / self.heads.count;
        position * self.heads.token_sizes()[1] + key_head * self.heads.head_dim
    }

    /// The part of `queries`, the window's queries or a tensor of the same shape, that belongs to a head, from row
    /// `first` on.
    fn of_head<'b>(&self, queries: &'b [f32], head: usize, first: usize) -> MatRef<'b> {
        let stride = self.heads.count * self.heads.head_dim;
        MatRef { values: &queries[first * stride + head * self.heads.head_dim..], strides: (stride, 1) }
    }

    /// Computes the probabilities of a block, with a row for each of its n queries and a column for each key from the
    /// first that one of them sees to the last; they are 0 for keys that a query does not see. The derivatives of bounded
    /// scores are computed if they are wanted. Returns n and the positions of the keys.
    fn probabilities(
        &self,
        head: usize,
        first: usize,
        scratch: &mut Scratch,
        wants_slopes: bool,
    ) -> (usize, Range<usize>) {
        let (window, sink) = (self.heads.window, self.sinks[head]);
        let keys = first_key(first, window)..self.width.min(first + BLOCK);
        let (n, start, columns) = (keys.end - first, keys.start, keys.len());
        scratch.p.resize(n * columns, 0.0);
        scratch.of_sink.resize(n, 0.0);
        let (q, k) = (self.of_head(&self.q, head, first), self.of_key_head(&self.k, head, start).transposed());
        matmul_into((n, columns, self.heads.head_dim), q, k, (&mut scratch.p, columns), false);
        if let Some(cap) = self.heads.softcap {
            bound(&mut scratch.p, cap, wants_slopes.then_some(&mut scratch.of_cap));
        }
        let (scores, of_sink) = (&mut scratch.p[..], &mut scratch.of_sink[..]);
        in_vectors!(|scores: &'a mut [f32],
                     of_sink: &'a mut [f32],
                     sink: f32,
                     first: usize,
                     start: usize,
                     columns: usize,
                     window: Option<usize>| {
            for (i, (row, of_sink)) in scores.chunks_exact_mut(columns).zip(of_sink).enumerate() {
                let (row, behind) = row.split_at_mut(first + i + 1 - start);
                let (before, seen) = row.split_at_mut(first_key(first + i, window) - start);
                before.fill(0.0);
                let max = largest(seen);
                let max = if sink > max { sink } else { max };
                for x in &mut *seen {
                    let below = *x - max;
                    // NaN stays NaN; the product is 0 for all other values.
                    *x = if below <= FAINT { 0.0 } else { exp_nonpositive(below) + 0.0 * below };
                }
                let below = sink - max;
                *of_sink = if below <= FAINT { 0.0 } else { exp_nonpositive(below) + 0.0 * below };
                let share = 1.0 / (sum(seen, |x| x) + *of_sink);
                seen.iter_mut().for_each(|x| *x *= share);
                *of_sink *= share;
                behind.fill(0.0);
            }
        });
        (n, keys)
    }

    /// Adds a block's contribution to the gradients; those of queries and keys are still rotated and not yet scaled.
    /// Returns its contribution to that of the head's sink.
    fn backward(
        &self,
        head: usize,
        first: usize,
        slopes: &[f32],
        [of_q, of_k, of_v]: [&mut [f32]; 3],
        scratch: &mut Scratch,
    ) -> f64 {
        let head_dim = self.heads.head_dim;
        let (n, keys) = self.probabilities(head, first, scratch, true);
        let (start, columns) = (keys.start, keys.len());
        let slopes = self.of_head(slopes, head, first);
        scratch.slopes.resize(n * columns, 0.0);
        let values = self.of_key_head(self.v, head, start);
        matmul_into((n, columns, head_dim), slopes, values.transposed(), (&mut scratch.slopes, columns), false);
        let of_sink = scratch.through_softmax(columns);
        if self.heads.softcap.is_some() {
            let of_cap = scratch.of_cap.iter();
            scratch.slopes.iter_mut().zip(of_cap).for_each(|(of_score, of_cap)| *of_score *= of_cap);
        }
        let (p, of_scores) = (MatRef::by_rows(&scratch.p, columns), MatRef::by_rows(&scratch.slopes, columns));
        let [wide, narrow] = self.heads.token_sizes();
        let key_at = self.key_at(head, start);
        let of_v = (&mut of_v[key_at..], narrow);
        matmul_into((columns, head_dim, n), p.transposed(), slopes, of_v, true);
        let of_k = (&mut of_k[key_at..], narrow);
        matmul_into((columns, head_dim, n), of_scores.transposed(), self.of_head(&self.q, head, first), of_k, true);
        let of_q = (&mut of_q[first * wide + head * head_dim..], wide);
        matmul_into((n, head_dim, columns), of_scores, self.of_key_head(&self.k, head, start), of_q, false);
        of_sink
    }
}

impl Scratch {
    /// Turns d loss / d probability into d loss / d score, and returns d loss / d sink. The derivative of a softmax is
    /// P (dP - Σ P dP), and the dP of a sink, which has no value, is 0.
    fn through_softmax(&mut self, columns: usize) -> f64 {
        let mut total = 0.0;
        let (p, of_p, of_sink, total_slot) = (&self.p[..], &mut self.slopes[..], &self.of_sink[..], &mut total);
        in_vectors!(|p: &'a [f32],
                     of_p: &'a mut [f32],
                     of_sink: &'a [f32],
                     total_slot: &'a mut f64,
                     columns: usize| {
            for ((p, of_p), of_sink) in p.chunks_exact(columns).zip(of_p.chunks_exact_mut(columns)).zip(of_sink) {
                let mean = dot(p, of_p);
                of_p.iter_mut().zip(p).for_each(|(of_p, p)| *of_p = p * (*of_p - mean));
                *total_slot -= f64::from(of_sink * mean);
            }
        });
        total
    }
}

/// Replaces every score s by cap · tanh(s / cap), whose derivative is 1 - tanh²(s / cap).
fn bound(scores: &mut [f32], cap: f32, of_cap: Option<&mut Vec<f32>>) {
    in_vectors!(|scores: &'a mut [f32], cap: f32| {
        scores.iter_mut().for_each(|s| *s = tanh(*s / cap));
    });
    if let Some(of_cap) = of_cap {
        of_cap.clear();
        of_cap.extend(scores.iter().map(|t| 1.0 - t * t));
    }
    scores.iter_mut().for_each(|s| *s *= cap);
}
