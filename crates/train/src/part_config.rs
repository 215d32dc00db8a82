//! Settings of parts of a student: which are trained, with adapters or in whole, and with which learning rate.

use crate::TrainConfig;
use logitcask_core::ConfigError;
use logitcask_model::{ModelConfig, parts};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

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
        let trained = self.trained(student).into_iter();
        match &self.lora {
            None => trained.map(|(_, shape)| shape.iter().product::<usize>()).sum(),
            Some(lora) => trained.map(|(_, shape)| lora.rank * shape.iter().sum::<usize>()).sum(),
        }
    }

    /// The parameters that are trained, with their shapes; with adapters, those that have one.
    fn trained(&self, student: &ModelConfig) -> Vec<Parameter> {
        let mut all = student.named_parameters();
        match &self.lora {
            None => all.retain(|(name, _)| !is_in_any(name, &self.freeze)),
            Some(lora) => {
                let linear: HashSet<String> = student.linear_maps().into_iter().collect();
                all.retain(|(name, _)| linear.contains(name) && is_in_any(name, &lora.targets));
            }
        }
        all
    }

    fn check_names(&self, student: &ModelConfig) -> Result<(), ConfigError> {
        let names = |parameters: Vec<Parameter>| parameters.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        let all = names(student.named_parameters());
        for part in &self.freeze {
            find("freeze", part, &all, "part of the student", student)?;
        }
        if let Some(lora) = &self.lora {
            for part in &lora.targets {
                let found = find("targets", part, &student.linear_maps(), "part with linear maps", student);
                found.map_err(|error| error.within("lora"))?;
            }
        }
        let trained = self.trained(student);
        if trained.is_empty() {
            let frozen = format!("{:?}", self.freeze);
            return Err(ConfigError::new("freeze", frozen, "a shorter list").because("it leaves nothing to train"));
        }
        let trained_names = names(trained.clone());
        for (i, one) in self.parts.iter().enumerate() {
            let found = find("part", &one.part, &trained_names, "part of the student that is trained", student);
            found.and_then(|()| one.check_decay(&trained)).map_err(|error| error.within(&format!("parts[{i}]")))?;
        }
        Ok(())
    }
}

impl PartConfig {
    /// Refuses a weight decay that would decay nothing.
    fn check_decay(&self, trained: &[Parameter]) -> Result<(), ConfigError> {
        let Some(decay) = self.weight_decay else { return Ok(()) };
        let is_decayed = |(name, shape): &Parameter| shape.len() == 2 && parts::is_in(name, &self.part);
        let expected = format!("left out for {:?}, which has no matrices", self.part);
        ConfigError::unless(trained.iter().any(is_decayed), "weight_decay", decay, expected)
            .map_err(|error| error.because("weights of norms and biases are not decayed"))
    }
}

/// A parameter's name and shape.
type Parameter = (String, Vec<usize>);

/// Whether a parameter belongs to one of these parts.
pub(crate) fn is_in_any(name: &str, wanted: &[String]) -> bool {
    wanted.iter().any(|part| parts::is_in(name, part))
}

/// Checks that a part has a parameter of these.
fn find(key: &str, part: &str, names: &[String], what: &str, student: &ModelConfig) -> Result<(), ConfigError> {
    let known = parts::listed(names.iter().map(String::as_str));
    let expected = format!("the name of a {what}, of {known}, or of some of its layers as in `layers.0.mlp`");
    let found = names.iter().any(|name| parts::is_in(name, part));
    ConfigError::unless(found, key, format!("{part:?}"), expected).map_err(|error| {
        let held = student.parts_in_files(part);
        match held.is_empty() || student.named_parameters().iter().any(|(name, _)| parts::is_in(name, part)) {
            true => error,
            false => {
                let (family, held) = (student.model_type().name(), parts::listed(held.iter().map(String::as_str)));
                error.because(format!("that is its name in files of `{family}`, and here it is {held}"))
            }
        }
    })
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
    fn parts_are_named_as_parameters_are() {
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
            (
                json!({"parts": [{"part": "input_layernorm", "weight_decay": 0.5}]}),
                &["parts[0].weight_decay = 0.5", "left out for \"input_layernorm\"", "not decayed"],
            ),
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
