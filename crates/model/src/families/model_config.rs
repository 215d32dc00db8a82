//! The interface of a config for code that does not depend on the family.

use super::{Model, ModelConfig};
use crate::parameters::{ParameterBuilder, Values};
use crate::{Error, Result, files};
use burn::tensor::{DType, Device};
use logitcask_core::ConfigError;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};
use std::fmt;
use std::path::Path;

/// The key that names the family, in config.json and in a recipe.
const MODEL_TYPE: &str = "model_type";

impl ModelConfig {
    /// Reads Hugging Face's config.json.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Config`] if it is missing or not an object, its family is unknown, or it has a setting
    /// that would change the forward pass and is not implemented.
    pub fn read(path: &Path) -> Result<Self> {
        Self::of_hf(&object(path)?).map_err(|problem| Error::Config { path: path.to_owned(), problem })
    }

    pub(super) fn of_hf(all: &Map<String, Value>) -> std::result::Result<Self, String> {
        let model_type = all.get(MODEL_TYPE).and_then(Value::as_str).unwrap_or("missing");
        let config = Self::from_hf(model_type, all).ok_or_else(|| unknown(model_type))?;
        if let Some(quantization) = all.get("quantization_config").filter(|v| !v.is_null()) {
            let method = quantization.get("quant_method").and_then(Value::as_str).unwrap_or("an unnamed method");
            return Err(format!(
                "its weights are quantized (`quantization_config` names {method}); this build reads f32, f16 and bf16: \
                 save the model again without quantization"
            ));
        }
        config
    }

    /// The config.json that `transformers` opens.
    pub(crate) fn to_hf(&self, dtype: &str) -> Map<String, Value> {
        let mut all = self.family().hf_keys();
        let general = [
            ("architectures", json!([self.architecture()])),
            (MODEL_TYPE, json!(self.model_type())),
            ("torch_dtype", json!(dtype)),
        ];
        all.extend(general.map(|(key, value)| (key.to_owned(), value)));
        all
    }

    /// The part of config.json that affects the forward pass, see [`identity`](crate::identity).
    pub(crate) fn identity(&self) -> Value {
        let mut keys = self.family().identity();
        keys[MODEL_TYPE] = json!(self.model_type());
        keys
    }

    /// Creates a model on `device` in `dtype`. `values` returns the f32 values of the parameter with a name and a
    /// shape, both Hugging Face's, in row-major order.
    pub(crate) fn build<E>(
        &self,
        device: &Device,
        dtype: DType,
        values: Values<'_, E>,
    ) -> std::result::Result<Model, E> {
        self.build_from(&mut ParameterBuilder::new(self.tensors(), device, dtype, values))
    }

    /// Fills in values that a recipe may leave out, including the number of classes and the context length, and checks
    /// that the values are consistent.
    ///
    /// # Errors
    /// The key that is invalid, and what it may be.
    pub fn resolved(mut self, vocab_size: usize, max_length: usize) -> std::result::Result<Self, ConfigError> {
        self.family_mut().resolve(vocab_size, max_length)?;
        Ok(self)
    }

    /// The same config with other tokens that start and end a text.
    pub fn with_special_tokens(mut self, bos: Option<u32>, eos: Vec<u32>) -> Self {
        self.family_mut().set_special_tokens(bos, eos);
        self
    }

    /// Number of classes: rows of the head, including those of no token.
    pub fn vocab_size(&self) -> usize {
        self.family().vocab_size()
    }

    /// Length of a hidden state.
    pub fn hidden_size(&self) -> usize {
        self.family().hidden_size()
    }

    /// Maximum sequence length that the model was made for, in tokens; 0 if a recipe leaves it to its data.
    pub fn max_position_embeddings(&self) -> usize {
        self.family().max_position_embeddings()
    }

    /// Token that starts a text, if the model has one.
    pub fn bos_token_id(&self) -> Option<u32> {
        self.family().bos_token_id()
    }

    /// Tokens that end a text, with the end of a document first; empty if the model has none.
    pub fn eos_token_ids(&self) -> &[u32] {
        self.family().eos_token_ids()
    }

    /// Number of parameters, from the sizes alone.
    pub fn parameters(&self) -> usize {
        self.family().parameters()
    }

    /// Every parameter with its Hugging Face name and shape (linear weights are \[out, in\] there).
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        self.family().tensors()
    }
}

/// The error message for an unknown family, which lists the known ones.
fn unknown(model_type: &str) -> String {
    let known: Vec<String> = ModelConfig::MODEL_TYPES.iter().map(|name| format!("`{name}`")).collect();
    format!("{MODEL_TYPE} is `{model_type}`, this build opens {}", known.join(", "))
}

impl<'de> Deserialize<'de> for ModelConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let mut keys = Map::deserialize(deserializer)?;
        let model_type = match keys.remove(MODEL_TYPE) {
            None => Self::MODEL_TYPES[0].to_owned(),
            Some(Value::String(name)) => name,
            Some(other) => return Err(D::Error::custom(format!("{MODEL_TYPE} = {other}, it is a name"))),
        };
        OfFamily(&model_type).deserialize(Value::Object(keys)).map_err(D::Error::custom)
    }
}

/// Parses the config of the family with this name, key by key in textual order, so that an error knows its place in the
/// text. [`ModelConfig`]'s own `Deserialize` does not, because it must see all keys before it knows the family.
pub struct OfFamily<'a>(pub &'a str);

impl<'de> DeserializeSeed<'de> for OfFamily<'_> {
    type Value = ModelConfig;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<ModelConfig, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for OfFamily<'_> {
    type Value = ModelConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the keys of a `{}` model", self.0)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<ModelConfig, A::Error> {
        let config = ModelConfig::from_keys(self.0, WithoutFamily(map));
        config.unwrap_or_else(|| Err(A::Error::custom(unknown(self.0))))
    }
}

/// The keys of a map without `model_type`.
struct WithoutFamily<A>(A);

impl<'de, A: MapAccess<'de>> MapAccess<'de> for WithoutFamily<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        mut seed: K,
    ) -> std::result::Result<Option<K::Value>, A::Error> {
        loop {
            match self.0.next_key_seed(OwnKey(seed))? {
                None => return Ok(None),
                Some(Ok(key)) => return Ok(Some(key)),
                Some(Err(unused)) => {
                    self.0.next_value::<IgnoredAny>()?;
                    seed = unused;
                }
            }
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> std::result::Result<V::Value, A::Error> {
        self.0.next_value_seed(seed)
    }
}

/// Forwards a key, unless it is `model_type`, which is returned.
struct OwnKey<K>(K);

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for OwnKey<K> {
    type Value = std::result::Result<K::Value, K>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Self::Value, D::Error> {
        let key = String::deserialize(deserializer)?;
        if key == MODEL_TYPE {
            return Ok(Err(self.0));
        }
        self.0.deserialize(key.into_deserializer()).map(Ok)
    }
}

/// A family's own keys, and `model_type` where a recipe requires it: runs are identified by the hash of this output.
pub(super) fn serialize<C: Serialize, S: Serializer>(
    model_type: &'static str,
    config: &C,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Tagged<'a, C> {
        model_type: &'static str,
        #[serde(flatten)]
        config: &'a C,
    }
    match model_type == ModelConfig::MODEL_TYPES[0] {
        true => config.serialize(serializer),
        false => Tagged { model_type, config }.serialize(serializer),
    }
}

/// Reads a JSON file that must contain an object.
pub(crate) fn object(path: &Path) -> Result<Map<String, Value>> {
    let bytes = files::read(path)?;
    serde_json::from_slice(&bytes)
        .map_err(|e| Error::Config { path: path.to_owned(), problem: format!("not a JSON object: {e}") })
}
