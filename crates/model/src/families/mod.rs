//! The families of models that this build knows: a module each, and a line each in the table below.

#[macro_use]
mod dispatch;
mod family;
pub mod llama;
mod model_config;
#[cfg(test)]
mod tests;

pub use family::{FamilyConfig, Initial};
pub use model_config::OfFamily;
pub(crate) use model_config::object;

// A line: the variant's name, `model_type` in config.json, the model and its config. A recipe that names no `model_type`
// means the first.
families! {
    /// Llama, and what is built like it.
    Llama, "llama", llama::Llama, llama::LlamaConfig;
}
