//! The types of tensors: plain numbers, or blocks of quantised ones.

use crate::blocks;

/// A type of tensors that this build reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorType {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// Blocks of 32: 4 bits, a scale.
    Q4_0,
    /// Blocks of 32: 4 bits, a scale and a minimum.
    Q4_1,
    /// Blocks of 32: 5 bits, a scale.
    Q5_0,
    /// Blocks of 32: 5 bits, a scale and a minimum.
    Q5_1,
    /// Blocks of 32: 8 bits, a scale.
    Q8_0,
    /// Blocks of 256 in 8 groups: 4 bits, scales and minima of 6 bits.
    Q4K,
    /// Blocks of 256 in 8 groups: 5 bits, scales and minima of 6 bits.
    Q5K,
    /// Blocks of 256 in 16 groups: 6 bits, scales of 8 bits.
    Q6K,
}

/// The names of all types, by their number in the file.
const NAMES: [&str; 42] = [
    "F32",
    "F16",
    "Q4_0",
    "Q4_1",
    "Q4_2",
    "Q4_3",
    "Q5_0",
    "Q5_1",
    "Q8_0",
    "Q8_1",
    "Q2_K",
    "Q3_K",
    "Q4_K",
    "Q5_K",
    "Q6_K",
    "Q8_K",
    "IQ2_XXS",
    "IQ2_XS",
    "IQ3_XXS",
    "IQ1_S",
    "IQ4_NL",
    "IQ3_S",
    "IQ2_S",
    "IQ4_XS",
    "I8",
    "I16",
    "I32",
    "I64",
    "F64",
    "IQ1_M",
    "BF16",
    "Q4_0_4_4",
    "Q4_0_4_8",
    "Q4_0_8_8",
    "TQ1_0",
    "TQ2_0",
    "IQ4_NL_4_4",
    "IQ4_NL_4_8",
    "IQ4_NL_8_8",
    "MXFP4",
    "NVFP4",
    "Q1_0",
];

impl TensorType {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// The type with this number in a file; `None` if this build does not read it.
    pub(crate) fn of(id: u32) -> Option<Self> {
        let name = Self::name_of(id)?;
        Self::ALL.into_iter().find(|tensor_type| tensor_type.name() == name)
    }

    /// The name of any type that GGUF has.
    pub(crate) fn name_of(id: u32) -> Option<&'static str> {
        NAMES.get(id as usize).copied()
    }

    /// Its name in llama.cpp.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
        }
    }

    /// Number of values of a block.
    pub const fn block_values(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Number of bytes of a block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q4_0 => 2 + 16,
            Self::Q4_1 => 4 + 16,
            Self::Q5_0 => 2 + 4 + 16,
            Self::Q5_1 => 4 + 4 + 16,
            Self::Q8_0 => 2 + 32,
            Self::Q4K => 4 + 12 + 128,
            Self::Q5K => 4 + 12 + 32 + 128,
            Self::Q6K => 128 + 64 + 16 + 2,
        }
    }

    /// Appends the values of whole blocks to `out`. The products and sums are those of llama.cpp, in f32.
    pub fn dequantise(self, bytes: &[u8], out: &mut Vec<f32>) {
        let each: fn(&[u8], &mut Vec<f32>) = match self {
            Self::F32 => blocks::f32,
            Self::F16 => blocks::f16,
            Self::Bf16 => blocks::bf16,
            Self::Q4_0 => blocks::q4_0,
            Self::Q4_1 => blocks::q4_1,
            Self::Q5_0 => blocks::q5_0,
            Self::Q5_1 => blocks::q5_1,
            Self::Q8_0 => blocks::q8_0,
            Self::Q4K => blocks::q4_k,
            Self::Q5K => blocks::q5_k,
            Self::Q6K => blocks::q6_k,
        };
        let blocks = bytes.chunks_exact(self.block_bytes());
        out.reserve(blocks.len() * self.block_values());
        blocks.for_each(|block| each(block, out));
    }
}
