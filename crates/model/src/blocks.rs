//! Building blocks that decoders of several families share. Each block is one operation of [`host`] if that supports
//! the tensors, and a composition of tensor operations otherwise.

use crate::causal_lm::LayerCache;
use crate::host::{self, Heads};
use crate::rope::{Rope, RotaryAngles};
use crate::sequences::Sequences;
use burn::module::Param;
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, DType, Device, Tensor, activation};

/// The positions of the tokens of an attention, and the keys that each query may see.
pub(crate) struct AttentionLayout {
    rope: Rope,
    /// Number of tokens of a row.
    width: usize,
    /// The keys that each query must not see; `None` if each row is one sequence, or one new token.
    mask: Option<Tensor<4, Bool>>,
}

impl AttentionLayout {
    /// The tokens of a batch.
    pub(crate) fn new(sequences: &Sequences, head_dim: usize, theta: f64, device: &Device) -> Self {
        let [rows, width] = sequences.shape();
        if sequences.are_rows() {
            let angles = RotaryAngles::new(0..width, head_dim, theta);
            return Self { rope: Rope::new(&angles, 1, device), width, mask: None };
        }
        let positions: Vec<usize> = sequences.positions().collect();
        let angles = RotaryAngles::new(positions.iter().copied(), head_dim, theta);
        Self { rope: Rope::new(&angles, rows, device), width, mask: Some(sequences.mask(device)) }
    }

    /// One new token in each row, at this position.
    pub(crate) fn at(position: usize, head_dim: usize, theta: f64, device: &Device) -> Self {
        let angles = RotaryAngles::new(position..position + 1, head_dim, theta);
        Self { rope: Rope::new(&angles, 1, device), width: 1, mask: None }
    }
}

/// Causal attention by tensor operations, with operands and output as in [`host::attention`]. With a cache entry, there
/// is one new token per row, which attends to all before it.
pub(crate) fn attend(
    q: Tensor<2>,
    k: Tensor<2>,
    v: Tensor<2>,
    heads: &Heads,
    layout: &AttentionLayout,
    past: Option<&mut LayerCache>,
) -> Tensor<2> {
    let (n, width) = (q.dims()[0], layout.width);
    let split = |x: Tensor<2>, count: usize| x.reshape([n / width, width, count, heads.head_dim]).swap_dims(1, 2);
    let q = layout.rope.apply(split(q, heads.count));
    let (mut k, mut v) = (layout.rope.apply(split(k, heads.kv_count)), split(v, heads.kv_count));
    let is_causal = past.is_none() && layout.mask.is_none();
    if let Some(entry) = past {
        if let Some((past_k, past_v)) = entry.take() {
            k = Tensor::cat(vec![past_k, k], 2);
            v = Tensor::cat(vec![past_v, v], 2);
        }
        *entry = Some((k.clone(), v.clone()));
    }
    let group = heads.count / heads.kv_count;
    let options = AttentionModuleOptions { is_causal, ..Default::default() };
    let a = attention(q, repeat_kv(k, group), repeat_kv(v, group), layout.mask.clone(), None, options);
    a.swap_dims(1, 2).reshape([n, heads.count * heads.head_dim])
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

/// x / sqrt(mean(x²) + eps) · weight over the last dimension, computed in f32 whatever x is.
pub(crate) fn rms_norm<const D: usize>(x: Tensor<D>, weight: &Param<Tensor<1>>, eps: f64) -> Tensor<D> {
    if host::serves(&x) {
        return host::rms_norm(x, weight.val(), eps);
    }
    let dtype = x.dtype();
    let x = x.cast(DType::F32);
    let scale = (x.clone().square().mean_dim(D - 1) + eps).sqrt().recip();
    (x * scale).cast(dtype) * weight.val().unsqueeze()
}

/// silu(gate) · up, elementwise.
pub(crate) fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    match host::serves(&gate) {
        true => host::gate(gate, up),
        false => activation::silu(gate) * up,
    }
}
