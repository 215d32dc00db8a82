//! Attention as a composition of tensor operations, which works on any device.

use crate::host::Heads;
use crate::kv_cache::{LayerCache, last_columns};
use crate::rope::{Rope, RotaryAngles, RotarySpeeds};
use crate::sequences::Sequences;
use burn::tensor::activation::softmax;
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use std::collections::BTreeMap;

/// The layout for tensor operations.
pub(crate) struct TensorLayout {
    /// One for each of the model's rotary embeddings.
    ropes: Vec<Rope>,
    sequences: Sequences,
    /// The positions of one new token in each row, or the one of all rows; empty for other batches.
    positions: Vec<usize>,
    /// Number of tokens of the longest sequence. A window of at least this size hides nothing.
    longest: usize,
    /// For each window, the keys that each query must not see; without an entry, each row is one sequence without a
    /// window, or one new token that sees all keys.
    masks: BTreeMap<Option<usize>, Tensor<4, Bool>>,
}

impl TensorLayout {
    /// The tokens of a batch, for attentions with these windows.
    pub(crate) fn new(
        sequences: &Sequences,
        ropes: &[RotarySpeeds],
        windows: impl Iterator<Item = Option<usize>>,
        device: &Device,
    ) -> Self {
        let ([rows, width], longest) = (sequences.shape(), sequences.longest());
        let places = (!sequences.are_rows()).then(|| {
            let positions: Vec<i64> = sequences.positions().map(|position| position as i64).collect();
            Tensor::<1, Int>::from_data(TensorData::new(positions, [rows * width]), device)
        });
        let rope = |speeds: &RotarySpeeds| {
            let rope = Rope::new(&RotaryAngles::new(0..longest, speeds), 1, device);
            match &places {
                Some(places) => rope.at(places, rows),
                None => rope,
            }
        };
        let ropes = ropes.iter().map(rope).collect();
        let mut masks = BTreeMap::new();
        for window in windows.map(|window| window.filter(|&size| size < longest)) {
            if window.is_some() || !sequences.are_rows() {
                masks.entry(window).or_insert_with(|| sequences.mask(window, device));
            }
        }
        Self { ropes, sequences: sequences.clone(), positions: Vec::new(), longest, masks }
    }

    /// One new token in each of `rows`, for attentions with these windows, after `before` columns of a cache, of which the
    /// first `padding` of each row hold no token (empty if there are none).
    pub(super) fn after(
        before: usize,
        padding: &[usize],
        rows: usize,
        ropes: &[RotarySpeeds],
        windows: impl Iterator<Item = Option<usize>>,
        device: &Device,
    ) -> Self {
        let positions = match padding {
            [] => vec![before],
            padding => padding.iter().map(|unused| before - unused).collect(),
        };
        let rope = |speeds| Rope::new(&RotaryAngles::new(positions.iter().copied(), speeds), positions.len(), device);
        let (ropes, longest) = (ropes.iter().map(rope).collect(), before + 1);
        let mut masks = BTreeMap::new();
        for window in windows.map(|window| window.filter(|&size| size < longest)) {
            let keys = window.unwrap_or(longest);
            let hidden: Vec<usize> = padding.iter().map(|unused| unused.saturating_sub(longest - keys)).collect();
            if hidden.iter().any(|&count| count > 0) {
                masks.entry(window).or_insert_with(|| first_keys(&hidden, keys, device));
            }
        }
        Self { ropes, sequences: Sequences::in_rows(rows, 1), positions, longest, masks }
    }

    /// The positions of one new token in each row, or the one of all rows.
    pub(super) fn positions(&self) -> &[usize] {
        &self.positions
    }

    /// The sequences of the tokens.
    pub(super) fn sequences(&self) -> &Sequences {
        &self.sequences
    }

    fn mask(&self, window: Option<usize>) -> Option<Tensor<4, Bool>> {
        self.masks.get(&window.filter(|&size| size < self.longest)).cloned()
    }
}

/// Attention by tensor operations, with operands and output as in [`host::attention`](crate::host::attention); `layout`
/// comes with the index of the rotary embedding. A sink is a logit for each head that takes part in the softmax.
pub(crate) fn attend(
    [q, k, v]: [Tensor<2>; 3],
    heads: &Heads,
    sinks: Option<Tensor<1>>,
    (layout, rope): (&TensorLayout, usize),
    past: Option<&mut LayerCache>,
) -> Tensor<2> {
    let (n, [_, width]) = (q.dims()[0], layout.sequences.shape());
    let split = |x: Tensor<2>, count: usize| x.reshape([n / width, width, count, heads.head_dim]).swap_dims(1, 2);
    let rope = &layout.ropes[rope];
    let q = rope.apply_to_queries(split(q, heads.count));
    let (mut k, mut v) = (rope.apply(split(k, heads.kv_count)), split(v, heads.kv_count));
    let mask = layout.mask(heads.window);
    let is_causal = past.is_none() && mask.is_none();
    let (group, is_step) = (heads.count / heads.kv_count, past.is_some());
    let (q, k, v, mask) = match past {
        Some(entry) => {
            if let LayerCache::KeysAndValues(past) = std::mem::take(entry) {
                let [past_k, past_v] = *past;
                // What comes before the window is not needed again.
                let seen = |past: Tensor<4>, x| {
                    last_columns(Tensor::cat(vec![past, x], 2), heads.window.unwrap_or(usize::MAX))
                };
                (k, v) = (seen(past_k, k), seen(past_v, v));
            }
            *entry = LayerCache::KeysAndValues(Box::new([k.clone(), v.clone()]));
            // Query heads with common keys are queries of one head, so that no key is repeated.
            let mask = mask.map(|mask| mask.expand([n, 1, group, k.dims()[2]]));
            (q.reshape([n, heads.kv_count, group, heads.head_dim]), k, v, mask)
        }
        None => (q, repeat_kv(k, group), repeat_kv(v, group), mask),
    };
    let a = match sinks {
        Some(sinks) => {
            let mask = mask.or_else(|| is_causal.then(|| causal(width, &q.device())));
            attend_with_sinks([q, k, v], sinks, heads, mask)
        }
        None => {
            let softcap = heads.softcap.map(f64::from);
            let options = AttentionModuleOptions { is_causal, scale: Some(f64::from(heads.scale)), softcap };
            attention(q, k, v, mask, None, options)
        }
    };
    let a = if is_step { a } else { a.swap_dims(1, 2) };
    a.reshape([n, heads.count * heads.head_dim])
}

/// softmax(\[q kᵀ · scale, sink\]) v without the sink's weight, all \[rows, heads, positions, head_dim\].
fn attend_with_sinks(
    [q, k, v]: [Tensor<4>; 3],
    sinks: Tensor<1>,
    shape: &Heads,
    mask: Option<Tensor<4, Bool>>,
) -> Tensor<4> {
    let ([rows, heads, queries, _], keys) = (q.dims(), k.dims()[2]);
    let mut scores = q.matmul(k.swap_dims(2, 3)) * f64::from(shape.scale);
    if let Some(cap) = shape.softcap {
        scores = (scores / cap).tanh() * cap;
    }
    if let Some(mask) = mask {
        let mask = mask.expand([rows, heads, queries, keys]);
        scores = scores.mask_fill(mask, f32::NEG_INFINITY);
    }
    // One for each head, or for each of the heads that are queries of one.
    let each = sinks.dims()[0] / heads;
    let sinks = sinks.reshape([1, heads, each, 1]).expand([rows, heads, queries, 1]);
    let weights = softmax(Tensor::cat(vec![scores, sinks], 3), 3);
    weights.narrow(3, 0, keys).matmul(v)
}

/// Which keys each query of a row must not see, because they come later: \[1, 1, width, width\].
fn causal(width: usize, device: &Device) -> Tensor<4, Bool> {
    Sequences::in_rows(1, width).mask(None, device)
}

/// The first of `keys` keys that the one query of each row must not see, \[rows, 1, 1, keys\].
fn first_keys(hidden: &[usize], keys: usize, device: &Device) -> Tensor<4, Bool> {
    let hidden_keys: Vec<bool> = hidden.iter().flat_map(|&count| (0..keys).map(move |key| key < count)).collect();
    Tensor::from_data(TensorData::new(hidden_keys, [hidden.len(), 1, 1, keys]), device)
}

/// Repeats every key-value head for the `group` query heads that share it. \[rows, kv, positions, head_dim\] in,
/// \[rows, kv · group, positions, head_dim\] out.
fn repeat_kv(x: Tensor<4>, group: usize) -> Tensor<4> {
    if group == 1 {
        return x;
    }
    let [rows, kv, positions, width] = x.dims();
    let spread = x.unsqueeze_dim::<5>(2).expand([rows, kv, group, positions, width]);
    spread.reshape([rows, kv * group, positions, width])
}
