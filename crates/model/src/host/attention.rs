//! Causal attention with rotary positions, one sequence after the other.
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

/// q: \[tokens, heads · head_dim\], k and v: \[tokens, kv_heads · head_dim\], as the projections produce them; output as q.
pub(super) fn forward(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    heads: &Heads,
    sequences: &Sequences,
    angles: &RotaryAngles,
) -> Vec<f32> {
    let mut out = vec![0.0; q.len()];
    let [wide, narrow] = heads.token_sizes();
    let inputs = Inputs { q, k, v };
    let outputs = parts_mut(&mut out, sequences, wide);
    outputs.into_par_iter().zip(sequences.ranges().collect::<Vec<_>>()).for_each(|(out, tokens)| {
        let window = Window::new(inputs.of(tokens, wide, narrow), heads, angles);
        let mut scores = Vec::new();
        for (head, first) in window.blocks() {
            let (n, keys) = window.probabilities(head, first, &mut scores, None);
            let out = &mut out[first * wide + head * heads.head_dim..];
            let values = window.of_key_head(window.v, head, keys.start);
            let scores = MatRef::by_rows(&scores, keys.len());
            matmul_into((n, heads.head_dim, keys.len()), scores, values, (out, wide), false);
        }
    });
    out
}

/// d loss / d (q, k, v) from `slopes`, d loss / d output.
pub(super) fn backward(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    slopes: &[f32],
    heads: &Heads,
    sequences: &Sequences,
    angles: &RotaryAngles,
) -> [Vec<f32>; 3] {
    let mut of_q = vec![0.0; q.len()];
    let [mut of_k, mut of_v] = [k, v].map(|x| vec![0.0; x.len()]);
    let [wide, narrow] = heads.token_sizes();
    let inputs = Inputs { q, k, v };
    let of_keys = parts_mut(&mut of_k, sequences, narrow).into_par_iter().zip(parts_mut(&mut of_v, sequences, narrow));
    let outputs = parts_mut(&mut of_q, sequences, wide).into_par_iter().zip(of_keys);
    outputs.zip(sequences.ranges().collect::<Vec<_>>()).for_each(|((of_q, (of_k, of_v)), tokens)| {
        let slopes = &slopes[tokens.start * wide..tokens.end * wide];
        let window = Window::new(inputs.of(tokens, wide, narrow), heads, angles);
        let mut scratch = [Vec::new(), Vec::new(), Vec::new()];
        for (head, first) in window.blocks() {
            window.backward(head, first, slopes, [of_q, of_k, of_v], &mut scratch);
        }
        angles.turn(of_q, heads.count, heads.scale, -1.0);
        angles.turn(of_k, heads.kv_count, 1.0, -1.0);
    });
    [of_q, of_k, of_v]
}

/// Queries, keys and values of all tokens, or of one sequence.
#[derive(Clone, Copy)]
struct Inputs<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
}

impl<'a> Inputs<'a> {
    /// Those of some tokens, each of which has `wide` queries and `narrow` keys and values.
    fn of(self, tokens: Range<usize>, wide: usize, narrow: usize) -> Self {
        let part = |x: &'a [f32], size: usize| &x[tokens.start * size..tokens.end * size];
        Self { q: part(self.q, wide), k: part(self.k, narrow), v: part(self.v, narrow) }
    }
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
}

impl<'a> Window<'a> {
    fn new(Inputs { q, k, v }: Inputs<'a>, heads: &'a Heads, angles: &RotaryAngles) -> Self {
        let width = q.len() / heads.token_sizes()[0];
        let (mut q, mut k) = (q.to_vec(), k.to_vec());
        angles.turn(&mut q, heads.count, heads.scale, 1.0);
        angles.turn(&mut k, heads.kv_count, 1.0, 1.0);
        Self { heads, width, q, k, v }
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

    /// Computes the probabilities of a block, a row for each of its n queries and a column for each key from the first
    /// that one of them sees to the last, 0 for keys that a query does not see. If scores have a bound, `of_cap` receives
    /// the derivative of what they become. Returns n and the positions of the keys.
    fn probabilities(
        &self,
        head: usize,
        first: usize,
        out: &mut Vec<f32>,
        of_cap: Option<&mut Vec<f32>>,
    ) -> (usize, Range<usize>) {
        let window = self.heads.window;
        let keys = first_key(first, window)..self.width.min(first + BLOCK);
        let (n, start, columns) = (keys.end - first, keys.start, keys.len());
        out.resize(n * columns, 0.0);
        let (q, k) = (self.of_head(&self.q, head, first), self.of_key_head(&self.k, head, start).transposed());
        matmul_into((n, columns, self.heads.head_dim), q, k, (out, columns), false);
        if let Some(cap) = self.heads.softcap {
            bound(out, cap, of_cap);
        }
        let scores = &mut out[..];
        in_vectors!(|scores: &'a mut [f32], first: usize, start: usize, columns: usize, window: Option<usize>| {
            for (i, row) in scores.chunks_exact_mut(columns).enumerate() {
                let (row, behind) = row.split_at_mut(first + i + 1 - start);
                let (before, seen) = row.split_at_mut(first_key(first + i, window) - start);
                before.fill(0.0);
                let max = largest(seen);
                for x in &mut *seen {
                    let below = *x - max;
                    // NaN stays NaN; the product is 0 for all other values.
                    *x = if below <= FAINT { 0.0 } else { exp_nonpositive(below) + 0.0 * below };
                }
                let share = 1.0 / sum(seen, |x| x);
                seen.iter_mut().for_each(|x| *x *= share);
                behind.fill(0.0);
            }
        });
        (n, keys)
    }

    /// Adds a block's contribution to the gradients; those of queries and keys are still rotated and not yet scaled.
    fn backward(
        &self,
        head: usize,
        first: usize,
        slopes: &[f32],
        [of_q, of_k, of_v]: [&mut [f32]; 3],
        [scores, of_scores, of_cap]: &mut [Vec<f32>; 3],
    ) {
        let head_dim = self.heads.head_dim;
        let (n, keys) = self.probabilities(head, first, scores, Some(of_cap));
        let (start, columns) = (keys.start, keys.len());
        let slopes = self.of_head(slopes, head, first);
        of_scores.resize(n * columns, 0.0);
        let values = self.of_key_head(self.v, head, start);
        matmul_into((n, columns, head_dim), slopes, values.transposed(), (of_scores, columns), false);
        let (p, of_p) = (&scores[..], &mut of_scores[..]);
        in_vectors!(|p: &'a [f32], of_p: &'a mut [f32], columns: usize| {
            for (p, of_p) in p.chunks_exact(columns).zip(of_p.chunks_exact_mut(columns)) {
                // The derivative of a softmax: P (dP - Σ P dP).
                let mean = dot(p, of_p);
                of_p.iter_mut().zip(p).for_each(|(of_p, p)| *of_p = p * (*of_p - mean));
            }
        });
        if self.heads.softcap.is_some() {
            of_scores.iter_mut().zip(of_cap.iter()).for_each(|(of_score, of_cap)| *of_score *= of_cap);
        }
        let (p, of_scores) = (MatRef::by_rows(scores, columns), MatRef::by_rows(of_scores, columns));
        let [wide, narrow] = self.heads.token_sizes();
        let key_at = self.key_at(head, start);
        let of_v = (&mut of_v[key_at..], narrow);
        matmul_into((columns, head_dim, n), p.transposed(), slopes, of_v, true);
        let of_k = (&mut of_k[key_at..], narrow);
        matmul_into((columns, head_dim, n), of_scores.transposed(), self.of_head(&self.q, head, first), of_k, true);
        let of_q = (&mut of_q[first * wide + head * head_dim..], wide);
        matmul_into((n, head_dim, columns), of_scores, self.of_key_head(&self.k, head, start), of_q, false);
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
