//! Architectures on burn, and reading and writing of their weights.
//!
//! A teacher is a [`CausalLm`] without gradients, and a student is one with an optimizer: today's student is tomorrow's
//! teacher. [`open`] reads models of other programs (Hugging Face folders, llama2.c files), and [`export`] writes a
//! folder that other programs can open. [`Model`] and [`ModelConfig`] represent any of the [`families`].
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod activation;
pub mod causal_lm;
mod companions;
mod decoder;
pub mod device;
mod error;
pub mod export;
pub mod families;
mod files;
pub mod head;
mod host;
pub mod identity;
mod kv_cache;
mod matmul;
pub mod memory;
pub mod open;
pub mod parameters;
pub mod parts;
pub mod pruned;
mod rope;
pub mod sequences;
pub mod weights;

pub use activation::Activation;
pub use causal_lm::CausalLm;
pub use companions::Companions;
pub use decoder::{FinalLayers, Model, NormSide};
pub use device::{DeviceChoice, Precision};
pub use error::{Error, Result};
pub use families::{LayerType, ModelConfig, ModelType};
pub use head::{Head, HeadParameter, HeadWeights};
pub use kv_cache::KvCache;
pub use open::{PretrainedModel, TokenizerSource};
pub use parameters::StoredParameter;
pub use pruned::{PrunedConfig, PrunedModel};
pub use rope::{RopeScaling, RopeType};
pub use sequences::{Packing, Sequences};

pub use burn::tensor::Device;
