//! Settings of parts of a student: which are trained, with adapters or in whole, and with which learning rate.

use crate::TrainConfig;
use logitcask_core::ConfigError;
use logitcask_model::{ModelConfig, parts};
use serde::{Deserialize, Serialize};

/// Adapters of low rank (LoRA, 2106.09685): W + alpha / rank · A · B instead of W, where W stays as it is. A \[in, rank\]
/// begins with uniform numbers between ±1/√in and B \[rank, out\] with zeros, so that the first step is that of W.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraConfig {
    /// Number of columns of A.
    pub rank: usize,
    /// The change is multiplied by alpha / rank.
    pub alpha: f64,
    /// The parts whose linear maps get an adapter.
    pub targets: Vec<String>,
}

/// Settings of a part, where they differ from those of the whole student.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartConfig {
    /// The name of the part, see [`parts`].
    pub part: String,
    /// Peak learning rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// Decoupled weight decay of its matrices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
}

impl LoraConfig {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        ConfigError::unless(self.rank > 0, "rank", self.rank, "at least 1")?;
        let is_scale = self.alpha > 0.0 && self.alpha.is_finite();
        ConfigError::unless(is_scale, "alpha", self.alpha, "a positive number; a common choice is twice the rank")?;
        ConfigError::unless(!self.targets.is_empty(), "targets", "[]", "a list of parts such as \"q_proj\"")
    }
}

impl PartConfig {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if let Some(rate) = self.learning_rate {
            let expected = "a positive number; to leave a part as it is, name it in freeze";
            ConfigError::unless(rate > 0.0 && rate.is_finite(), "learning_rate", rate, expected)?;
        }
        if let Some(decay) = self.weight_decay {
            ConfigError::unless(decay >= 0.0 && decay.is_finite(), "weight_decay", decay, "0 or more")?;
        }
        match (self.learning_rate, self.weight_decay) {
            (None, None) => Err(ConfigError::missing("learning_rate", "set, or weight_decay")),
            _ => Ok(()),
        }
    }
}

impl TrainConfig {
    /// Refuses names of parts that a student of this shape does not have, and settings of parts that are not trained.
    ///
    /// # Errors
    /// Names the key, its value and what is accepted.
    pub fn check_parts(&self, student: &ModelConfig) -> Result<(), ConfigError> {
        self.check_names(student).map_err(|error| error.within("[train]"))
    }

    /// Number of values that are trained in a student of this shape.
    pub fn trained_parameters(&self, student: &ModelConfig) -> usize {
        let tensors = student.tensors().into_iter();
        match &self.lora {
            None => tensors
                .filter(|(name, _)| !self.freeze.iter().any(|part| parts::is_in(name, part)))
                .map(|(_, shape)| shape.iter().product::<usize>())
                .sum(),
            Some(lora) => {
                let linear = student.linear_maps();
                let is_target =
                    |name: &String| linear.contains(name) && lora.targets.iter().any(|part| parts::is_in(name, part));
                let targets = tensors.filter(|(name, _)| is_target(name));
                targets.map(|(_, shape)| lora.rank * shape.iter().sum::<usize>()).sum()
            }
        }
    }

    fn check_names(&self, student: &ModelConfig) -> Result<(), ConfigError> {
        let mut trained: Vec<String> = student.tensors().into_iter().map(|(name, _)| name).collect();
        for part in &self.freeze {
            find("freeze", part, &trained, "part of the student")?;
        }
        trained.retain(|name| !self.freeze.iter().any(|part| parts::is_in(name, part)));
        if trained.is_empty() {
            let frozen = format!("{:?}", self.freeze);
            return Err(ConfigError::new("freeze", frozen, "a shorter list").because("it leaves nothing to train"));
        }
        if let Some(lora) = &self.lora {
            trained = student.linear_maps();
            for part in &lora.targets {
                find("targets", part, &trained, "part with linear maps").map_err(|error| error.within("lora"))?;
            }
            trained.retain(|name| lora.targets.iter().any(|part| parts::is_in(name, part)));
        }
        for (i, one) in self.parts.iter().enumerate() {
            let found = find("part", &one.part, &trained, "part of the student that is trained");
            found.map_err(|error| error.within(&format!("parts[{i}]")))?;
        }
        Ok(())
    }
}

/// Checks that a part has a tensor of these.
fn find(key: &str, part: &str, names: &[String], what: &str) -> Result<(), ConfigError> {
    let known = parts::listed(names.iter().map(String::as_str));
    let expected = format!("the name of a {what}, of {known}, or of some of its layers as in `layers.0.mlp`");
    ConfigError::unless(names.iter().any(|name| parts::is_in(name, part)), key, format!("{part:?}"), expected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn student() -> ModelConfig {
        let keys = json!({"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 1, "tie_word_embeddings": false});
        serde_json::from_value::<ModelConfig>(keys).unwrap().resolved(11, 16).unwrap()
    }

    /// The error of a recipe with these keys, or nothing.
    fn refused(keys: Value) -> Option<String> {
        let mut all = json!({"steps": 1, "batch_size": 1, "learning_rate": 0.1});
        all.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        let config: TrainConfig = serde_json::from_value(all).unwrap();
        config.check().and_then(|()| config.check_parts(&student())).err().map(|error| error.to_string())
    }

    #[test]
    fn parts_are_named_as_tensors_are() {
        for part in
            ["embed_tokens", "lm_head", "norm", "layers", "layers.1", "layers.0.mlp", "q_proj", "input_layernorm"]
        {
            assert_eq!(refused(json!({"freeze": [part]})), None, "{part}");
            assert_eq!(refused(json!({"parts": [{"part": part, "learning_rate": 1e-4}]})), None, "{part}");
        }
        for part in ["layers.1", "self_attn", "mlp", "q_proj", "layers.0.mlp.down_proj"] {
            assert_eq!(refused(json!({"lora": {"rank": 2, "alpha": 4, "targets": [part]}})), None, "{part}");
        }
    }

    #[test]
    fn values_that_are_trained_are_counted() {
        let count = |keys: Value| {
            let mut all = json!({"steps": 1, "batch_size": 1, "learning_rate": 0.1});
            all.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
            serde_json::from_value::<TrainConfig>(all).unwrap().trained_parameters(&student())
        };
        assert_eq!(count(json!({})), student().parameters());
        assert_eq!(count(json!({"freeze": ["embed_tokens", "norm"]})), student().parameters() - 11 * 8 - 8);
        // Queries: 8 by 8, keys: 4 by 8, in two layers.
        let lora = json!({"rank": 3, "alpha": 1, "targets": ["q_proj", "k_proj"]});
        assert_eq!(count(json!({"lora": lora})), 2 * 3 * (8 + 8 + 4 + 8));
    }

    #[test]
    fn what_names_nothing_and_what_leaves_nothing_is_refused_by_name() {
        let lora = |targets: Value| json!({"rank": 2, "alpha": 4.0, "targets": targets});
        let cases = [
            (
                json!({"freeze": ["embed"]}),
                &["[train] freeze = \"embed\"", "`embed_tokens`", "`lm_head`", "`q_proj`"][..],
            ),
            (json!({"freeze": ["layers.2"]}), &["freeze = \"layers.2\""]),
            (json!({"freeze": [""]}), &["freeze = \"\""]),
            (json!({"freeze": ["model", "lm_head"]}), &["leaves nothing to train"]),
            (json!({"freeze": ["norm"], "lora": lora(json!(["q_proj"]))}), &["freeze = [\"norm\"]", "beside lora"]),
            (json!({"lora": lora(json!(["query"]))}), &["lora.targets = \"query\"", "`q_proj`"]),
            (json!({"lora": lora(json!(["embed_tokens"]))}), &["lora.targets = \"embed_tokens\""]),
            (json!({"lora": lora(json!([]))}), &["lora.targets = []"]),
            (json!({"lora": {"rank": 0, "alpha": 1, "targets": ["mlp"]}}), &["lora.rank = 0"]),
            (json!({"lora": {"rank": 1, "alpha": 0, "targets": ["mlp"]}}), &["lora.alpha = 0"]),
            (json!({"parts": [{"part": "norm"}]}), &["parts[0].learning_rate was not given"]),
            (json!({"parts": [{"part": "norm", "learning_rate": 0}]}), &["parts[0].learning_rate = 0", "freeze"]),
            (json!({"parts": [{"part": "norm", "weight_decay": -1}]}), &["parts[0].weight_decay = -1"]),
            (
                json!({"freeze": ["norm"], "parts": [{"part": "norm", "weight_decay": 0}]}),
                &["parts[0].part = \"norm\"", "that is trained"],
            ),
            (
                json!({"lora": lora(json!(["q_proj"])), "parts": [{"part": "mlp", "weight_decay": 0}]}),
                &["parts[0].part = \"mlp\"", "`q_proj`"],
            ),
        ];
        for (keys, words) in cases {
            let error = refused(keys.clone()).unwrap_or_else(|| panic!("{keys} is accepted"));
            words.iter().for_each(|word| assert!(error.contains(word), "{keys}: {error}"));
        }
    }
}
