//! The Llama decoder: RMS norm, rotary grouped-query attention, SwiGLU; also what SmolLM and its kin are.

use crate::host::{self, Heads};
use crate::rope::{Rope, RotaryAngles};
use crate::{Head, LlamaConfig, LogitsModel};
use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::module::{attention, embedding};
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{DType, Device, Int, Tensor, TensorData, activation};
use std::sync::Arc;

/// A Llama decoder. Linear weights are stored \[in, out\], the transpose of Hugging Face's layout, so that forward and
/// gradients are plain products.
#[derive(Module, Debug)]
pub struct Llama {
    pub(crate) embed_tokens: Param<Tensor<2>>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) norm: Param<Tensor<1>>,
    pub(crate) lm_head: Option<Param<Tensor<2>>>,
    #[module(skip)]
    pub(crate) config: LlamaConfig,
}

/// One decoder layer.
#[derive(Module, Debug)]
pub struct Layer {
    pub(crate) input_norm: Param<Tensor<1>>,
    pub(crate) q: Param<Tensor<2>>,
    pub(crate) k: Param<Tensor<2>>,
    pub(crate) v: Param<Tensor<2>>,
    pub(crate) o: Param<Tensor<2>>,
    pub(crate) post_norm: Param<Tensor<1>>,
    pub(crate) gate: Param<Tensor<2>>,
    pub(crate) up: Param<Tensor<2>>,
    pub(crate) down: Param<Tensor<2>>,
}

/// Keys and values of what a model has read so far, for generation one token at a time.
#[derive(Clone, Debug, Default)]
pub struct KvCache {
    layers: Vec<Option<(Tensor<4>, Tensor<4>)>>,
    length: usize,
}

impl KvCache {
    /// Keeps only the given rows (sequences still being written), in their order.
    pub fn keep(&mut self, rows: &[usize], device: &Device) {
        let rows: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
        let count = rows.len();
        let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [count]), device);
        for entry in self.layers.iter_mut().flatten() {
            entry.0 = entry.0.clone().select(0, rows.clone());
            entry.1 = entry.1.clone().select(0, rows.clone());
        }
    }
}

impl Llama {
    /// A model whose parameter `name` (Hugging Face's) of `shape` (Hugging Face's) holds the f32 values that `values`
    /// gives in row-major order; kept as `dtype` on `device`.
    pub(crate) fn build<E>(
        config: &LlamaConfig,
        device: &Device,
        dtype: DType,
        mut values: impl FnMut(&str, &[usize]) -> Result<Vec<f32>, E>,
    ) -> Result<Self, E> {
        let shapes: std::collections::HashMap<String, Vec<usize>> = config.tensors().into_iter().collect();
        let mut data = |name: &str| -> Result<(Vec<f32>, Vec<usize>), E> {
            let Some(shape) = shapes.get(name) else { unreachable!("`tensors` names all that is asked for: {name}") };
            Ok((values(name, shape)?, shape.clone()))
        };
        let data_of = |(values, shape): (Vec<f32>, Vec<usize>)| TensorData::new(values, shape);
        let matrix = |of| Param::from_tensor(Tensor::<2>::from_data(data_of(of), (device, dtype)));
        let vector = |of| Param::from_tensor(Tensor::<1>::from_data(data_of(of), (device, dtype)));
        let embed_tokens = matrix(data("model.embed_tokens.weight")?);
        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        for layer in 0..config.num_hidden_layers {
            let mut part = |name: &str| data(&format!("model.layers.{layer}.{name}.weight"));
            layers.push(Layer {
                input_norm: vector(part("input_layernorm")?),
                q: matrix(transposed(part("self_attn.q_proj")?)),
                k: matrix(transposed(part("self_attn.k_proj")?)),
                v: matrix(transposed(part("self_attn.v_proj")?)),
                o: matrix(transposed(part("self_attn.o_proj")?)),
                post_norm: vector(part("post_attention_layernorm")?),
                gate: matrix(transposed(part("mlp.gate_proj")?)),
                up: matrix(transposed(part("mlp.up_proj")?)),
                down: matrix(transposed(part("mlp.down_proj")?)),
            });
        }
        let norm = vector(data("model.norm.weight")?);
        let lm_head = match config.tie_word_embeddings {
            true => None,
            false => Some(matrix(transposed(data("lm_head.weight")?))),
        };
        Ok(Self { embed_tokens, layers, norm, lm_head, config: config.clone() })
    }

    /// Every parameter under its Hugging Face name, f32, row-major in Hugging Face's layout; read as it is asked for, so
    /// that one at a time is in memory.
    pub fn state_dict(&self) -> impl Iterator<Item = (String, Vec<usize>, Vec<f32>)> {
        self.named_parameters().into_iter().map(|(name, shape, stored)| (name, shape, stored.values()))
    }

    /// Every parameter under its Hugging Face name and with its Hugging Face shape, not read yet.
    pub(crate) fn named_parameters(&self) -> Vec<(String, Vec<usize>, Stored<'_>)> {
        let mut all = vec![Stored::Plain(&self.embed_tokens)];
        for layer in &self.layers {
            all.push(Stored::Vector(&layer.input_norm));
            all.extend([&layer.q, &layer.k, &layer.v, &layer.o].map(Stored::Turned));
            all.push(Stored::Vector(&layer.post_norm));
            all.extend([&layer.gate, &layer.up, &layer.down].map(Stored::Turned));
        }
        all.push(Stored::Vector(&self.norm));
        all.extend(self.lm_head.as_ref().map(Stored::Turned));
        self.config.tensors().into_iter().zip(all).map(|((name, shape), stored)| (name, shape, stored)).collect()
    }

    /// Its shape.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// The device its parameters live on.
    pub fn device(&self) -> Device {
        self.embed_tokens.val().device()
    }

    /// Its head as it is now, for forwards and gradients outside any graph.
    pub fn detached_head(&self) -> Head {
        match &self.lm_head {
            Some(head) => Head::new(head.val(), false),
            None => Head::new(self.embed_tokens.val(), true),
        }
    }

    /// Adds d loss / d head, \[vocabulary, hidden\] and in no graph, to `grads`.
    pub fn add_head_gradient(&self, grads: &mut GradientsParams, of_head: Tensor<2>) {
        let (id, of_head) = match &self.lm_head {
            Some(head) => (head.id, of_head.transpose()),
            None => (self.embed_tokens.id, of_head),
        };
        let sum = match grads.remove::<2>(id) {
            Some(there) => there + of_head,
            None => of_head,
        };
        grads.register(id, sum);
    }

    /// Logits after one more token in each row. tokens: \[rows\]; output: \[rows, vocabulary\].
    pub fn step(&self, tokens: Tensor<1, Int>, cache: &mut KvCache) -> Tensor<2> {
        cache.layers.resize(self.layers.len(), None);
        let c = &self.config;
        let (heads, angles) = (c.heads(1), RotaryAngles::new(cache.length, 1, c.head_dim, c.rope_theta));
        let rope = Rope::new(&angles, &self.device());
        let mut x = embedding(self.embed_tokens.val(), tokens.unsqueeze_dim(1));
        for (layer, entry) in self.layers.iter().zip(&mut cache.layers) {
            x = layer.forward(x, c, |q, k, v| attend(q, k, v, &heads, &rope, Some(entry)));
        }
        cache.length += 1;
        let [rows, _, d] = x.dims();
        self.logits(rms_norm(x, &self.norm, c.rms_norm_eps).reshape([rows, d]))
    }
}

impl LlamaConfig {
    /// The shape of an attention over windows of so many positions.
    fn heads(&self, width: usize) -> Heads {
        let (count, kv_count) = (self.num_attention_heads, self.num_key_value_heads);
        Heads { width, count, kv_count, head_dim: self.head_dim }
    }
}

impl LogitsModel for Llama {
    fn hidden(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        let c = &self.config;
        let [_, width] = tokens.dims();
        let (heads, angles) = (c.heads(width), RotaryAngles::new(0, width, c.head_dim, c.rope_theta));
        let mut x = embedding(self.embed_tokens.val(), tokens);
        let rope = (!host::serves(&x)).then(|| Rope::new(&angles, &self.device()));
        let angles = Arc::new(angles);
        for layer in &self.layers {
            x = layer.forward(x, c, |q, k, v| match &rope {
                None => host::attention(q, k, v, heads, angles.clone()),
                Some(rope) => attend(q, k, v, &heads, rope, None),
            });
        }
        rms_norm(x, &self.norm, c.rms_norm_eps)
    }

    fn head(&self) -> Tensor<2> {
        match &self.lm_head {
            Some(head) => head.val(),
            None => self.embed_tokens.val().swap_dims(0, 1),
        }
    }

    fn vocab_size(&self) -> usize {
        self.config.vocab_size
    }
}

impl Layer {
    /// x: \[rows, width, hidden\]. `attention` of queries, keys and values as the projections leave them, \[rows · width,
    /// heads · head_dim\].
    fn forward(
        &self,
        x: Tensor<3>,
        c: &LlamaConfig,
        attention: impl FnOnce(Tensor<2>, Tensor<2>, Tensor<2>) -> Tensor<2>,
    ) -> Tensor<3> {
        let [rows, width, d] = x.dims();
        let x = x.reshape([rows * width, d]);
        let y = rms_norm(x.clone(), &self.input_norm, c.rms_norm_eps);
        let [q, k, v] = [&self.q, &self.k, &self.v].map(|w| y.clone().matmul(w.val()));
        let x = x + attention(q, k, v).matmul(self.o.val());

        let y = rms_norm(x.clone(), &self.post_norm, c.rms_norm_eps);
        let (gate, up) = (y.clone().matmul(self.gate.val()), y.matmul(self.up.val()));
        let gated = match host::serves(&gate) {
            true => host::gate(gate, up),
            false => activation::silu(gate) * up,
        };
        (x + gated.matmul(self.down.val())).reshape([rows, width, d])
    }
}

/// Causal attention by tensor operations. With a cache entry, there is one new token a row, which attends to all before it.
pub(crate) fn attend(
    q: Tensor<2>,
    k: Tensor<2>,
    v: Tensor<2>,
    heads: &Heads,
    rope: &Rope,
    past: Option<&mut Option<(Tensor<4>, Tensor<4>)>>,
) -> Tensor<2> {
    let n = q.dims()[0];
    let split =
        |x: Tensor<2>, count: usize| x.reshape([n / heads.width, heads.width, count, heads.head_dim]).swap_dims(1, 2);
    let q = rope.apply(split(q, heads.count));
    let (mut k, mut v) = (rope.apply(split(k, heads.kv_count)), split(v, heads.kv_count));
    let is_causal = past.is_none();
    if let Some(entry) = past {
        if let Some((past_k, past_v)) = entry.take() {
            k = Tensor::cat(vec![past_k, k], 2);
            v = Tensor::cat(vec![past_v, v], 2);
        }
        *entry = Some((k.clone(), v.clone()));
    }
    let group = heads.count / heads.kv_count;
    let options = AttentionModuleOptions { is_causal, ..Default::default() };
    let a = attention(q, share(k, group), share(v, group), None, None, options);
    a.swap_dims(1, 2).reshape([n, heads.count * heads.head_dim])
}

/// Repeats every key-value head for the `group` query heads that share it. \[rows, kv, positions, head_dim\] in,
/// \[rows, kv · group, positions, head_dim\] out.
fn share(x: Tensor<4>, group: usize) -> Tensor<4> {
    if group == 1 {
        return x;
    }
    let [rows, kv, positions, width] = x.dims();
    let spread = x.unsqueeze_dim::<5>(2).expand([rows, kv, group, positions, width]);
    spread.reshape([rows, kv * group, positions, width])
}

/// x / sqrt(mean(x²) + eps) · weight over the last dimension, computed in f32 whatever x is.
fn rms_norm<const D: usize>(x: Tensor<D>, weight: &Param<Tensor<1>>, eps: f64) -> Tensor<D> {
    if host::serves(&x) {
        return host::rms_norm(x, weight.val(), eps);
    }
    let dtype = x.dtype();
    let x = x.cast(DType::F32);
    let scale = (x.clone().square().mean_dim(D - 1) + eps).sqrt().recip();
    (x * scale).cast(dtype) * weight.val().unsqueeze()
}

/// A matrix's values and shape with rows and columns exchanged.
fn transposed((values, shape): (Vec<f32>, Vec<usize>)) -> (Vec<f32>, Vec<usize>) {
    let (rows, columns) = (shape[0], shape[1]);
    let mut out = vec![0f32; rows * columns];
    for (r, row) in values.chunks_exact(columns).enumerate() {
        for (c, &value) in row.iter().enumerate() {
            out[c * rows + r] = value;
        }
    }
    (out, vec![columns, rows])
}

/// A parameter on its device: as Hugging Face lays it out, or transposed.
pub(crate) enum Stored<'a> {
    /// A matrix in Hugging Face's layout.
    Plain(&'a Param<Tensor<2>>),
    /// The transpose of a matrix in Hugging Face's layout.
    Turned(&'a Param<Tensor<2>>),
    /// A vector.
    Vector(&'a Param<Tensor<1>>),
}

impl Stored<'_> {
    /// Its values in f32, row-major in Hugging Face's layout.
    pub(crate) fn values(self) -> Vec<f32> {
        match self {
            Self::Plain(matrix) => read(matrix.val()),
            Self::Turned(matrix) => read(matrix.val().swap_dims(0, 1)),
            Self::Vector(vector) => read(vector.val()),
        }
    }
}

/// A tensor's values in f32, row-major.
fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}
