//! Reading of GGUF, the format of llama.cpp: one file with metadata and tensors, most of them quantised in blocks.
//!
//! Layout, little-endian: `GGUF`, `u32` version (2 or 3), `u64` number of tensors, `u64` number of keys; for every key
//! its name, the `u32` type of its value and the value; for every tensor its name, `u32` number of dimensions, `u64`
//! dimensions with the contiguous one first, `u32` type and `u64` offset; then, from the next multiple of
//! `general.alignment` (32 if absent), the tensors. A string is its `u64` length in bytes and its bytes.
//!
//! Nothing here knows models or tokenizers.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod blocks;
mod error;
mod file;
mod header;
mod tensor_type;
#[cfg(test)]
mod tests;
mod value;

pub use error::{Error, Result};
pub use file::GgufFile;
pub use header::Tensor;
pub use tensor_type::TensorType;
pub use value::{Numbers, Value};
