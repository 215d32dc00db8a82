//! llama2.c model files, version 0: seven integers, then f32 tensors without names.

use super::{WeightSource, digest, floats};
use crate::{Error, ModelConfig, Precision, Result, files};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Take};
use std::path::{Path, PathBuf};

const HEADER_BYTES: u64 = 28;

/// A llama2.c checkpoint. Its query and key rows are in interleaved pairs; they are returned in the half-rotation order
/// of Hugging Face, so that one forward pass serves both formats.
pub struct Llama2cWeights {
    path: PathBuf,
    config: ModelConfig,
    /// Maps Hugging Face's names to the shape and the offset of the first byte in the file.
    tensors: BTreeMap<String, (Vec<usize>, u64)>,
}

impl Llama2cWeights {
    /// Reads the header and checks the length of the file against it.
    ///
    /// # Errors
    /// [`Error::NotAModel`] if its header is invalid or implies another length than the file has; [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self> {
        let (mut file, size) = files::open(path)?;
        let refuse = |problem: String| Error::NotAModel { path: path.to_owned(), problem };
        let mut header = [0; HEADER_BYTES as usize];
        file.read_exact(&mut header).map_err(|_| refuse("shorter than a llama2.c header".into()))?;
        let config = read_header(&header).map_err(|problem| refuse(format!("not a llama2.c file: {problem}")))?;
        let end = file_length(&config);
        if end != u128::from(size) {
            return Err(refuse(format!("its header asks for {end} bytes, the file has {size}: damaged or cut off")));
        }
        Ok(Self { path: path.to_owned(), tensors: layout(&config), config })
    }

    /// The shape in its header.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// A tensor's shape, and its bytes in the file.
    fn place(&self, name: &str) -> Result<(&[usize], Take<File>)> {
        let (shape, start) = self.tensors.get(name).ok_or_else(|| Error::Tensor {
            path: self.path.clone(),
            name: name.to_owned(),
            problem: "no such tensor".to_owned(),
        })?;
        let mut file = File::open(&self.path).map_err(Error::io(&self.path, "open"))?;
        file.seek(SeekFrom::Start(*start)).map_err(Error::io(&self.path, "read"))?;
        Ok((shape, file.take(4 * shape.iter().map(|&n| n as u64).product::<u64>())))
    }
}

fn read_header(header: &[u8]) -> std::result::Result<ModelConfig, String> {
    let numbers: Vec<i32> = header.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let [dim, hidden, layers, heads, kv_heads, vocab, context] = numbers[..] else {
        return Err("seven integers belong at its start".into());
    };
    let size = |n: i32| usize::try_from(n).unwrap_or(0);
    let config = ModelConfig {
        // A negative vocabulary size means that there is a separate head after the rotary tables.
        vocab_size: vocab.unsigned_abs() as usize,
        tie_word_embeddings: vocab > 0,
        hidden_size: size(dim),
        intermediate_size: size(hidden),
        num_hidden_layers: size(layers),
        num_attention_heads: size(heads),
        num_key_value_heads: size(kv_heads),
        max_position_embeddings: size(context),
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        // These models delimit texts by one token, 1, before each.
        bos_token_id: Some(1),
        eos_token_id: vec![1],
        ..ModelConfig::default()
    };
    if !config.hidden_size.is_multiple_of(config.num_attention_heads.max(1)) {
        return Err(format!("a width of {dim} does not divide into {heads} heads"));
    }
    config.resolved(0, 0).map_err(|e| e.to_string())
}

/// Length of the file, computed from the header alone: its f32 parameters and two tables of rotary angles.
fn file_length(c: &ModelConfig) -> u128 {
    let tables = c.max_position_embeddings as u128 * c.head_dim as u128;
    u128::from(HEADER_BYTES) + 4 * (c.parameters() as u128 + tables)
}

/// Shape and offset of every tensor.
fn layout(c: &ModelConfig) -> BTreeMap<String, (Vec<usize>, u64)> {
    let (d, f, layers) = (c.hidden_size, c.intermediate_size, c.num_hidden_layers);
    let [q, kv] = [c.num_attention_heads, c.num_key_value_heads].map(|heads| heads * c.head_dim);
    let mut tensors = BTreeMap::new();
    let mut at = HEADER_BYTES;
    let mut place = |name: String, shape: &[usize]| {
        tensors.insert(name, (shape.to_vec(), at));
        at += 4 * shape.iter().map(|&n| n as u64).product::<u64>();
    };
    place("model.embed_tokens.weight".into(), &[c.vocab_size, d]);
    let order: [(&str, &[usize]); 9] = [
        ("input_layernorm", &[d]),
        ("self_attn.q_proj", &[q, d]),
        ("self_attn.k_proj", &[kv, d]),
        ("self_attn.v_proj", &[kv, d]),
        ("self_attn.o_proj", &[d, q]),
        ("post_attention_layernorm", &[d]),
        ("mlp.gate_proj", &[f, d]),
        ("mlp.down_proj", &[d, f]),
        ("mlp.up_proj", &[f, d]),
    ];
    for (name, shape) in order {
        (0..layers).for_each(|layer| place(format!("model.layers.{layer}.{name}.weight"), shape));
    }
    place("model.norm.weight".into(), &[d]);
    // Two tables of rotary angles are in between; they are recomputed instead of read.
    let tables = [c.max_position_embeddings, c.head_dim];
    place(String::new(), &tables);
    if !c.tie_word_embeddings {
        place("lm_head.weight".into(), &[c.vocab_size, d]);
    }
    tensors.remove("");
    tensors
}

/// Moves rows (2i, 2i + 1) of every head to (i, i + head_dim / 2).
fn halves_from_pairs(values: &[f32], head_dim: usize, columns: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for head in values.chunks_exact(head_dim * columns) {
        for parity in 0..2 {
            for row in head.chunks_exact(columns).skip(parity).step_by(2) {
                out.extend_from_slice(row);
            }
        }
    }
    out
}

impl WeightSource for Llama2cWeights {
    fn path(&self) -> &Path {
        &self.path
    }

    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        self.tensors.iter().map(|(name, (shape, _))| (name.clone(), shape.clone())).collect()
    }

    fn stored(&self, _: &str) -> Result<Precision> {
        Ok(Precision::F32)
    }

    fn values(&self, name: &str) -> Result<Vec<f32>> {
        let (shape, data) = self.place(name)?;
        let values = floats(data, Precision::F32, &self.path)?;
        Ok(if is_rotated(name) { halves_from_pairs(&values, self.config.head_dim, shape[1]) } else { values })
    }

    fn digest(&self, name: &str) -> Result<blake3::Hash> {
        if is_rotated(name) {
            let bytes: Vec<u8> = self.values(name)?.iter().flat_map(|value| value.to_le_bytes()).collect();
            return Ok(blake3::hash(&bytes));
        }
        digest(self.place(name)?.1, &self.path)
    }
}

/// Whether the order of its rows differs from Hugging Face's.
fn is_rotated(name: &str) -> bool {
    name.ends_with("q_proj.weight") || name.ends_with("k_proj.weight")
}
