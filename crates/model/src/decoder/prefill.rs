//! The first pass over texts that a model continues.

use super::Model;
use super::attention::Past;
use crate::host::Heads;
use crate::kv_cache::{KvCache, LayerCache, last_columns};
use crate::rope::{Rope, RotaryAngles, RotarySpeeds};
use crate::{CausalLm, Sequences};
use burn::tensor::{Device, Int, Tensor, TensorData};

/// Where the tokens of a pass stand in a [`KvCache`]: the last ones of all texts in one column.
pub(super) struct Columns {
    rows: usize,
    width: usize,
    /// Index of the token at each place of \[rows, width\] among those of the pass; any where a row has padding.
    tokens: Tensor<1, Int>,
    /// The angles of these places, for each of the model's rotary embeddings.
    ropes: Vec<Rope>,
}

impl Columns {
    /// `starts` are the indices of the first tokens of texts of these `lengths` among the tokens of the pass.
    fn new(starts: &[usize], lengths: &[usize], ropes: &[RotarySpeeds], device: &Device) -> Self {
        let (rows, width) = (lengths.len(), lengths.iter().copied().max().unwrap_or(0));
        let position = |length: usize, column: usize| (column + length).saturating_sub(width);
        let positions =
            || lengths.iter().flat_map(move |&length| (0..width).map(move |column| position(length, column)));
        let tokens: Vec<i64> =
            positions().enumerate().map(|(at, position)| (starts[at / width] + position) as i64).collect();
        let tokens = Tensor::from_data(TensorData::new(tokens, [rows * width]), device);
        let rope = |speeds| Rope::new(&RotaryAngles::new(positions(), speeds), rows, device);
        Self { rows, width, tokens, ropes: ropes.iter().map(rope).collect() }
    }

    /// Keys and values of an attention, \[tokens of the pass, heads · head_dim\] each, as its entry in the cache;
    /// `rope` is the index of its rotary embedding.
    pub(super) fn keys_and_values(&self, k: Tensor<2>, v: Tensor<2>, heads: &Heads, rope: usize) -> [Tensor<4>; 2] {
        let placed = |x: Tensor<2>| {
            let x = x.select(0, self.tokens.clone());
            x.reshape([self.rows, self.width, heads.kv_count, heads.head_dim]).swap_dims(1, 2)
        };
        let (k, v) = (self.ropes[rope].apply(placed(k)), placed(v));
        let seen = heads.window.unwrap_or(self.width);
        [k, v].map(|x| last_columns(x, seen))
    }
}

impl Model {
    /// See [`CausalLm::prefill`].
    pub(super) fn read_texts(&self, texts: &[&[u32]]) -> (Tensor<2>, KvCache) {
        if self.layers.iter().any(|layer| layer.attention().is_none()) {
            return self.read_token_by_token(texts);
        }
        let device = self.device();
        let lengths: Vec<usize> = texts.iter().map(|text| text.len()).collect();
        let sequences = Sequences::packed(lengths.iter().copied(), self.packing());
        let (tokens, starts) = (sequences.token_tensor(texts.iter().copied(), &device), sequences.starts());
        let columns = Columns::new(&starts, &lengths, &self.ropes, &device);
        let mut layers = vec![LayerCache::Empty; self.layers.len()];
        let mut x = self.embedding.forward(tokens, &sequences);
        let layout = self.layout(&x, &sequences);
        for (layer, entry) in self.layers.iter().zip(&mut layers) {
            x = layer.forward(x, &layout, Some(Past::Start(entry, &columns)));
        }
        let [rows, width, size] = x.dims();
        let last: Vec<i64> = starts.iter().zip(&lengths).map(|(start, length)| (start + length - 1) as i64).collect();
        let last = Tensor::<1, Int>::from_data(TensorData::new(last, [lengths.len()]), &device);
        let x = x.reshape([rows * width, size]).select(0, last);
        let x = self.head_input.forward(x.unsqueeze());
        let size = x.dims()[2];
        (self.head().logits(x.reshape([lengths.len(), size])), KvCache::of(layers, &lengths))
    }

    /// The same for a model of which some layers have a state instead of keys and values, which only a step computes.
    fn read_token_by_token(&self, texts: &[&[u32]]) -> (Tensor<2>, KvCache) {
        let read = |text: &&[u32]| {
            let mut cache = KvCache::default();
            let step = |token: &u32| {
                let token = Tensor::<1, Int>::from_data([i64::from(*token)], &self.device());
                self.step(token, &mut cache)
            };
            let logits = text.iter().map(step).last();
            (logits.unwrap_or_else(|| unreachable!("a text without tokens")), cache)
        };
        let (logits, caches): (Vec<_>, Vec<_>) = texts.iter().map(read).unzip();
        (Tensor::cat(logits, 0), KvCache::stack(caches))
    }
}
