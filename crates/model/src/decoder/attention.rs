//! Attention.

use super::linear::Linear;
use super::norm::Norm;
use super::shape::AttentionShape;
use crate::causal_lm::LayerCache;
use crate::host::{self, Heads};
use crate::parameters::{ParameterBuilder, StoredParameter};
use crate::rope::{Rope, RotaryAngles, RotarySpeeds};
use crate::sequences::Sequences;
use burn::module::Module;
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, Device, Tensor};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Causal grouped-query attention with rotary positions.
#[derive(Module, Debug)]
pub(super) struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    /// Norms of each head's queries and keys, before they are turned.
    q_norm: Option<Norm>,
    k_norm: Option<Norm>,
    #[module(skip)]
    heads: Heads,
}

impl Attention {
    /// The attention named `name`.
    pub(super) fn build<E>(
        parameters: &mut ParameterBuilder<'_, E>,
        name: &str,
        shape: &AttentionShape,
        eps: f64,
    ) -> Result<Self, E> {
        let mut linear = |part: &str, has_bias| Linear::build(parameters, &format!("{name}.{part}"), has_bias);
        let [q, k, v] = [
            linear("q_proj", shape.has_qkv_bias)?,
            linear("k_proj", shape.has_qkv_bias)?,
            linear("v_proj", shape.has_qkv_bias)?,
        ];
        let o = linear("o_proj", shape.has_output_bias)?;
        let mut norm = |part: &str| {
            let norm = || Norm::build(parameters, &format!("{name}.{part}"), eps);
            shape.has_qk_norm.then(norm).transpose()
        };
        Ok(Self { q, k, v, o, q_norm: norm("q_norm")?, k_norm: norm("k_norm")?, heads: shape.heads })
    }

    /// The keys that a query may see, itself among them; `None` if it sees all before it.
    pub(super) fn window(&self) -> Option<usize> {
        self.heads.window
    }

    /// x: \[tokens, hidden\]; output as x. With a cache entry, there is one new token per row, which attends to those
    /// before it.
    pub(super) fn forward(&self, x: Tensor<2>, layout: &Layout, past: Option<&mut LayerCache>) -> Tensor<2> {
        let [q, k, v] = [&self.q, &self.k, &self.v].map(|linear| linear.forward(x.clone()));
        let [q, k] = [(q, &self.q_norm), (k, &self.k_norm)].map(|(x, norm)| self.normed(x, norm.as_ref()));
        self.o.forward(match layout {
            Layout::Host { sequences, angles } => {
                host::attention(q, k, v, self.heads, sequences.clone(), angles.clone())
            }
            Layout::Tensors(layout) => attend(q, k, v, &self.heads, layout, past),
        })
    }

    /// Normalises each head of queries or keys.
    fn normed(&self, x: Tensor<2>, norm: Option<&Norm>) -> Tensor<2> {
        let Some(norm) = norm else { return x };
        let [n, width] = x.dims();
        let heads = x.reshape([n * width / self.heads.head_dim, self.heads.head_dim]);
        norm.forward(heads).reshape([n, width])
    }

    /// Its parameters with their names.
    pub(super) fn named(&self, name: &str) -> Vec<(String, StoredParameter<'_>)> {
        let linear = [("q_proj", &self.q), ("k_proj", &self.k), ("v_proj", &self.v), ("o_proj", &self.o)];
        let norms = [("q_norm", &self.q_norm), ("k_norm", &self.k_norm)];
        let linear = linear.into_iter().flat_map(|(part, linear)| linear.named(&format!("{name}.{part}")));
        let norms = norms.into_iter().filter_map(|(part, norm)| Some(norm.as_ref()?.named(&format!("{name}.{part}"))));
        linear.chain(norms).collect()
    }
}

/// The positions of the tokens of a pass, and which of them see each other.
pub(super) enum Layout {
    /// For the operations of [`host`].
    Host {
        /// Each attends to itself only.
        sequences: Sequences,
        /// Those of positions from 0 on.
        angles: Arc<RotaryAngles>,
    },
    /// For a composition of tensor operations.
    Tensors(Box<TensorLayout>),
}

/// The layout for tensor operations.
pub(crate) struct TensorLayout {
    rope: Rope,
    /// Number of tokens of a row.
    width: usize,
    /// Number of tokens of the longest sequence. A window of at least this size hides nothing.
    longest: usize,
    /// For each window, the keys that each query must not see; without an entry, each row is one sequence without a
    /// window, or one new token.
    masks: BTreeMap<Option<usize>, Tensor<4, Bool>>,
}

impl TensorLayout {
    /// The tokens of a batch, for attentions with these windows.
    pub(crate) fn new(
        sequences: &Sequences,
        speeds: &RotarySpeeds,
        windows: impl Iterator<Item = Option<usize>>,
        device: &Device,
    ) -> Self {
        let ([rows, width], longest) = (sequences.shape(), sequences.longest());
        let rope = match sequences.are_rows() {
            true => Rope::new(&RotaryAngles::new(0..width, speeds), 1, device),
            false => {
                let positions: Vec<usize> = sequences.positions().collect();
                Rope::new(&RotaryAngles::new(positions.iter().copied(), speeds), rows, device)
            }
        };
        let mut masks = BTreeMap::new();
        for window in windows.map(|window| window.filter(|&size| size < longest)) {
            if window.is_some() || !sequences.are_rows() {
                masks.entry(window).or_insert_with(|| sequences.mask(window, device));
            }
        }
        Self { rope, width, longest, masks }
    }

    /// One new token in each row, at this position.
    pub(super) fn at(position: usize, speeds: &RotarySpeeds, device: &Device) -> Self {
        let rope = Rope::new(&RotaryAngles::new(position..position + 1, speeds), 1, device);
        Self { rope, width: 1, longest: 1, masks: BTreeMap::new() }
    }

    fn mask(&self, window: Option<usize>) -> Option<Tensor<4, Bool>> {
        self.masks.get(&window.filter(|&size| size < self.longest)).cloned()
    }
}

/// Attention by tensor operations, with operands and output as in [`host::attention`].
pub(crate) fn attend(
    q: Tensor<2>,
    k: Tensor<2>,
    v: Tensor<2>,
    heads: &Heads,
    layout: &TensorLayout,
    past: Option<&mut LayerCache>,
) -> Tensor<2> {
    let (n, width) = (q.dims()[0], layout.width);
    let split = |x: Tensor<2>, count: usize| x.reshape([n / width, width, count, heads.head_dim]).swap_dims(1, 2);
    let q = layout.rope.apply(split(q, heads.count));
    let (mut k, mut v) = (layout.rope.apply(split(k, heads.kv_count)), split(v, heads.kv_count));
    let mask = layout.mask(heads.window);
    let is_causal = past.is_none() && mask.is_none();
    if let Some(entry) = past {
        if let Some((past_k, past_v)) = entry.take() {
            k = within(Tensor::cat(vec![past_k, k], 2), heads.window);
            v = within(Tensor::cat(vec![past_v, v], 2), heads.window);
        }
        *entry = Some((k.clone(), v.clone()));
    }
    let group = heads.count / heads.kv_count;
    let options = AttentionModuleOptions { is_causal, ..Default::default() };
    let a = attention(q, repeat_kv(k, group), repeat_kv(v, group), mask, None, options);
    a.swap_dims(1, 2).reshape([n, heads.count * heads.head_dim])
}

/// The last keys or values, \[rows, kv, positions, head_dim\], that a new token sees. Those before them are not needed
/// again.
fn within(x: Tensor<4>, window: Option<usize>) -> Tensor<4> {
    let positions = x.dims()[2];
    match window {
        Some(size) if size < positions => x.narrow(2, positions - size, size),
        _ => x,
    }
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
