//! Architectures on burn, and the weights that go into and out of them.
//!
//! A teacher is a [`LogitsModel`] without gradients, a student one with an optimizer: today's student is tomorrow's
//! teacher. [`open`] reads what others wrote (Hugging Face folders, llama2.c files), [`export`] writes a folder that
//! others open.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod companions;
pub mod config;
pub mod device;
mod error;
pub mod export;
mod files;
pub mod head;
mod hf;
mod host;
pub mod identity;
pub mod llama;
mod matmul;
pub mod memory;
pub mod open;
mod rope;
pub mod weights;

pub use companions::Companions;
pub use config::LlamaConfig;
pub use device::{DeviceChoice, Precision};
pub use error::{Error, Result};
pub use head::Head;
pub use llama::{KvCache, Llama};
pub use open::{PretrainedModel, TokenizerSource};

pub use burn::tensor::Device;

use burn::tensor::{Int, Tensor};

/// What both stages ask of a language model.
///
/// The forward is cut in two so that the vocabulary-wide product is paid only for the positions somebody wants.
pub trait LogitsModel {
    /// Final hidden states. tokens: \[rows, width\]; output: \[rows, width, hidden\]. Causal: what stands to the right of
    /// a position, padding included, never reaches it.
    fn hidden(&self, tokens: Tensor<2, Int>) -> Tensor<3>;

    /// Final hidden states of some positions. positions: \[n\], flat indices into \[rows, width\]; output: \[n, hidden\].
    fn hidden_at(&self, tokens: Tensor<2, Int>, positions: Tensor<1, Int>) -> Tensor<2> {
        let hidden = self.hidden(tokens);
        let [rows, width, size] = hidden.dims();
        hidden.reshape([rows * width, size]).select(0, positions)
    }

    /// What turns hidden states into logits: \[hidden, vocabulary\].
    fn head(&self) -> Tensor<2>;

    /// Raw logits. hidden: \[n, hidden\]; output: \[n, vocabulary\].
    fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        hidden.matmul(self.head())
    }

    /// Number of classes.
    fn vocab_size(&self) -> usize;

    /// Positions whose logits fit a buffer of 64 MiB: half of the smallest storage-buffer limit met in the field.
    fn logits_chunk(&self) -> usize {
        ((64 << 20) / (4 * self.vocab_size())).max(1)
    }
}
