//! Checks of a config's values.

use super::config::default_theta;
use super::{LayerType, ModelConfig};
use logitcask_core::ConfigError;

/// More layers than any decoder has: a larger number indicates a damaged file.
const MAX_LAYERS: usize = 4096;
/// More parameters than any decoder has. Below it no product of sizes overflows 64 bits.
const MAX_PARAMETERS: u128 = 1 << 44;

impl ModelConfig {
    /// Checks that sizes and constants are consistent.
    pub(super) fn check_sizes(&self) -> Result<(), ConfigError> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("max_position_embeddings", self.max_position_embeddings),
            ("sliding_window", self.sliding_window.unwrap_or(1)),
        ];
        for (key, size) in sizes {
            ConfigError::unless((1..=1 << 24).contains(&size), key, size, "at least 1 and at most 2^24")?;
        }
        let (layers, eps, theta) = (self.num_hidden_layers, self.rms_norm_eps, self.rope_theta);
        ConfigError::unless(layers <= MAX_LAYERS, "num_hidden_layers", layers, format!("at most {MAX_LAYERS}"))?;
        let is_number = eps >= 0.0 && eps.is_finite();
        ConfigError::unless(is_number, "rms_norm_eps", eps, "a finite number, at least 0")?;
        ConfigError::unless(theta > 0.0 && theta.is_finite(), "rope_theta", theta, "a finite number above 0")?;
        let (heads, of_keys) = (self.num_attention_heads, self.num_key_value_heads);
        let expected = format!("a multiple of num_key_value_heads = {of_keys}");
        ConfigError::unless(heads.is_multiple_of(of_keys), "num_attention_heads", heads, expected)?;
        ConfigError::unless(self.head_dim.is_multiple_of(2), "head_dim", self.head_dim, "even")
            .map_err(|error| error.because("rotary embedding turns pairs"))?;
        let (part, width) = (self.rotary_part(), self.rotary_width());
        let is_part = part >= 0.0 && width <= self.head_dim && width.is_multiple_of(2);
        let expected = format!("a number from 0 to 1 such that an even number of {} dimensions turns", self.head_dim);
        ConfigError::unless(is_part, "partial_rotary_factor", part, expected)?;
        let count = self.parameter_count();
        ConfigError::unless(count <= MAX_PARAMETERS, "hidden_size", self.hidden_size, "smaller")
            .map_err(|error| error.because(format!("the sizes come to {count} parameters, and at most 2^44 are read")))
    }

    /// For families whose heads divide the width: checks that they do.
    pub(super) fn require_own_head_dim(&self) -> Result<(), ConfigError> {
        let (size, heads) = (self.hidden_size, self.num_attention_heads);
        let expected =
            format!("left out: in `{}` models it is hidden_size / num_attention_heads", self.model_type.name());
        ConfigError::unless(heads > 0 && self.head_dim == size / heads, "head_dim", self.head_dim, expected)
    }

    /// For families whose query heads have each their own keys: checks that the config has no others.
    pub(super) fn require_plain_heads(&self) -> Result<(), ConfigError> {
        self.require_own_head_dim()?;
        let (heads, of_keys) = (self.num_attention_heads, self.num_key_value_heads);
        let expected = format!("num_attention_heads = {heads}: `{}` models have no groups", self.model_type.name());
        ConfigError::unless(of_keys == heads, "num_key_value_heads", of_keys, expected)
    }

    /// For families without rotary embedding: checks that the config has none.
    pub(super) fn require_no_rotary(&self) -> Result<(), ConfigError> {
        let expected = format!("left out: `{}` models have no rotary embedding", self.model_type.name());
        ConfigError::unless(self.rope_theta == default_theta(), "rope_theta", self.rope_theta, &expected)?;
        ConfigError::unless(self.rope_scaling.is_none(), "rope_scaling", "a table", &expected)
    }

    /// Checks that there is no key that the family's models do not have.
    pub(super) fn check_optional(&self) -> Result<(), ConfigError> {
        let has = self.model_type.family().optional_keys();
        let part = self.partial_rotary_factor;
        let optional = [
            ("partial_rotary_factor", part.unwrap_or(1.0).to_string(), part.is_some()),
            ("attention_bias", self.attention_bias.to_string(), self.attention_bias),
            ("mlp_bias", self.mlp_bias.to_string(), self.mlp_bias),
            ("sliding_window", self.sliding_window.unwrap_or(0).to_string(), self.sliding_window.is_some()),
            ("layer_types", format!("{:?}", self.layer_types), !self.layer_types.is_empty()),
        ];
        for (key, got, is_set) in optional {
            let expected = format!("left out: `{}` models have no such setting", self.model_type.name());
            ConfigError::unless(!is_set || has.contains(&key), key, got, expected)?;
        }
        Ok(())
    }

    /// Gives windows the one form that [`Self::layer_types`](field@Self::layer_types) describes, so that equal models
    /// have equal configs: there are types only if layers differ.
    pub(super) fn resolve_windows(&mut self) -> Result<(), ConfigError> {
        let (types, layers) = (self.layer_types.len(), self.num_hidden_layers);
        if types == 0 {
            return Ok(());
        }
        let expected = format!("one for each of the {layers} layers");
        ConfigError::unless(types == layers, "layer_types", format!("{types} kinds"), expected)?;
        let windowed = self.layer_types.iter().filter(|kind| **kind == LayerType::Sliding).count();
        if windowed == 0 {
            self.sliding_window = None;
        } else if self.sliding_window.is_none() {
            return Err(ConfigError::missing("sliding_window", "the window of the layers of kind `sliding_attention`"));
        }
        if windowed == 0 || windowed == layers {
            self.layer_types.clear();
        }
        Ok(())
    }
}
