//! Scaled rotary embedding: speeds that a model's authors adapted to texts longer than those of its training.

use logitcask_core::ConfigError;
use serde::{Deserialize, Serialize};
use std::f64::consts::TAU;

/// The kinds of scaling, with Hugging Face's names.
///
/// The speeds of `dynamic` and `longrope` depend on the length of the text. Here that is one length for all texts of a
/// model ([`ModelConfig::for_texts_of`](crate::ModelConfig::for_texts_of)), so that the logits of a position do not depend
/// on what comes after it, nor on the texts beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RopeType {
    /// All pairs turn slower by `factor`.
    Linear,
    /// Pairs that turn slowly over the original length turn slower by `factor`, those that turn fast keep their speed.
    Llama3,
    /// The same with another transition, and attention scores are scaled.
    Yarn,
    /// In texts longer than the model was trained for, theta grows with the length.
    Dynamic,
    /// Only the first pairs of a head turn, with the speeds that they have where all of them turn, slower by `factor`.
    Proportional,
    /// Each pair turns slower by a factor of its own: by one in texts of at most the original length, and by another in
    /// longer ones. Attention scores are scaled.
    Longrope,
}

/// The lengths on which the speeds of some kinds depend, in tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TextLengths {
    /// That of the texts; `None`: they are not longer than the model was trained for.
    pub(crate) text: Option<usize>,
    /// `max_position_embeddings`.
    pub(crate) trained: usize,
}

/// `rope_scaling` with Hugging Face's names. What may be left out is filled in when a config is resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RopeScaling {
    /// The kind, which decides which of the other keys there may be.
    pub rope_type: RopeType,
    /// How much longer texts may be.
    pub factor: f64,
    /// `longrope`: the factor of each pair in texts of at most the original length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short_factor: Option<Vec<f64>>,
    /// `longrope`: the factor of each pair in longer texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long_factor: Option<Vec<f64>>,
    /// Context length before the scaling; if left out: `max_position_embeddings`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original_max_position_embeddings: Option<usize>,
    /// `llama3`: pairs with at most this many turns in the original length are slowed down in full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low_freq_factor: Option<f64>,
    /// `llama3`: pairs with at least this many turns in the original length are not slowed down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high_freq_factor: Option<f64>,
    /// `yarn`: pairs with at least this many turns in the original length are not slowed down; if left out: 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beta_fast: Option<f64>,
    /// `yarn`: pairs with at most this many turns in the original length are slowed down in full; if left out: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beta_slow: Option<f64>,
    /// `yarn`, `longrope`: factor of turned queries and keys; if left out: 0.1 ln factor + 1, and for `longrope`
    /// sqrt(1 + ln factor / ln original length).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention_factor: Option<f64>,
    /// `yarn`: with `mscale_all_dim`, another formula of `attention_factor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mscale: Option<f64>,
    /// `yarn`: see `mscale`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mscale_all_dim: Option<f64>,
    /// `proportional`: the part of a head's dimensions that turns; if left out: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial_rotary_factor: Option<f64>,
    /// `yarn`: whether the ends of the transition are rounded to whole pairs; if left out: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncate: Option<bool>,
}

impl RopeType {
    /// All of them.
    pub(crate) const ALL: [Self; 6] =
        [Self::Linear, Self::Llama3, Self::Yarn, Self::Dynamic, Self::Proportional, Self::Longrope];
}

impl RopeScaling {
    /// The keys that a kind reads besides `rope_type` and `factor`.
    pub(crate) fn keys_of(kind: RopeType) -> &'static [&'static str] {
        match kind {
            RopeType::Linear | RopeType::Dynamic => &[],
            RopeType::Proportional => &["partial_rotary_factor"],
            RopeType::Longrope => {
                &["original_max_position_embeddings", "attention_factor", "short_factor", "long_factor"]
            }
            RopeType::Llama3 => &["original_max_position_embeddings", "low_freq_factor", "high_freq_factor"],
            RopeType::Yarn => &[
                "original_max_position_embeddings",
                "beta_fast",
                "beta_slow",
                "attention_factor",
                "mscale",
                "mscale_all_dim",
                "truncate",
            ],
        }
    }

    /// Fills in what may be left out, and checks that there are the keys of the kind and no others.
    ///
    /// # Errors
    /// The key that is invalid, and what it may be.
    pub(crate) fn resolve(&mut self, max_position_embeddings: usize, pairs: usize) -> Result<(), ConfigError> {
        let kind = self.rope_type;
        if Self::keys_of(kind).contains(&"original_max_position_embeddings") {
            self.original_max_position_embeddings.get_or_insert(max_position_embeddings);
        }
        if kind == RopeType::Yarn {
            self.beta_fast.get_or_insert(32.0);
            self.beta_slow.get_or_insert(1.0);
            self.truncate.get_or_insert(true);
            let is_said = |scale: Option<f64>| scale.is_some_and(|scale| scale != 0.0);
            if self.attention_factor.is_some() || !is_said(self.mscale) || !is_said(self.mscale_all_dim) {
                (self.mscale, self.mscale_all_dim) = (None, None);
            }
        }
        if kind == RopeType::Proportional {
            let part = *self.partial_rotary_factor.get_or_insert(1.0);
            ConfigError::unless(part <= 1.0, "partial_rotary_factor", part, "at most 1")?;
        }
        self.check_factors(pairs)?;
        self.check()
    }

    /// Checks the factors of single pairs.
    fn check_factors(&self, pairs: usize) -> Result<(), ConfigError> {
        let is_needed = self.rope_type == RopeType::Longrope;
        for (key, factors) in [("short_factor", &self.short_factor), ("long_factor", &self.long_factor)] {
            let expected = format!("{pairs} finite numbers above 0, one for each pair that turns");
            match factors {
                None if is_needed => return Err(ConfigError::missing(key, expected)),
                None => {}
                Some(_) if !is_needed => {
                    return Err(ConfigError::new(key, "a list", "left out: only `longrope` reads it"));
                }
                Some(factors) => {
                    let are_numbers = factors.iter().all(|factor| *factor > 0.0 && factor.is_finite());
                    let got = format!("{} numbers", factors.len());
                    ConfigError::unless(factors.len() == pairs && are_numbers, key, got, expected)?;
                }
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), ConfigError> {
        let (kind, keys) = (self.rope_type, Self::keys_of(self.rope_type));
        let numbers = [
            ("factor", Some(self.factor)),
            ("original_max_position_embeddings", self.original_max_position_embeddings.map(|length| length as f64)),
            ("low_freq_factor", self.low_freq_factor),
            ("high_freq_factor", self.high_freq_factor),
            ("beta_fast", self.beta_fast),
            ("beta_slow", self.beta_slow),
            ("attention_factor", self.attention_factor),
            ("mscale", self.mscale),
            ("mscale_all_dim", self.mscale_all_dim),
            ("partial_rotary_factor", self.partial_rotary_factor),
        ];
        for (key, number) in numbers {
            let Some(number) = number else { continue };
            let is_read = key == "factor" || keys.contains(&key);
            ConfigError::unless(is_read, key, number, format!("left out: {kind:?} scaling does not read it"))?;
            ConfigError::unless(number > 0.0 && number.is_finite(), key, number, "a finite number above 0")?;
        }
        if let Some(truncate) = self.truncate.filter(|_| kind != RopeType::Yarn) {
            return Err(ConfigError::new("truncate", truncate, "left out: only `yarn` reads it"));
        }
        if kind == RopeType::Llama3 {
            let needed = |key| ConfigError::missing(key, "a number of turns: `llama3` has no default for it");
            let low = self.low_freq_factor.ok_or_else(|| needed("low_freq_factor"))?;
            let high = self.high_freq_factor.ok_or_else(|| needed("high_freq_factor"))?;
            ConfigError::unless(low < high, "high_freq_factor", high, format!("above low_freq_factor = {low}"))?;
        }
        Ok(())
    }

    /// The factor of turned queries and keys.
    pub(super) fn attention_factor(&self) -> f64 {
        if self.rope_type == RopeType::Longrope {
            let original = self.original_max_position_embeddings.unwrap_or_default() as f64;
            let growth = (1.0 + self.factor.ln() / original.ln()).sqrt();
            return self.attention_factor.unwrap_or(if self.factor <= 1.0 { 1.0 } else { growth });
        }
        if self.rope_type != RopeType::Yarn {
            return 1.0;
        }
        let growth = |scale: f64| if self.factor <= 1.0 { 1.0 } else { 0.1 * scale * self.factor.ln() + 1.0 };
        match (self.attention_factor, self.mscale, self.mscale_all_dim) {
            (Some(factor), ..) => factor,
            (None, Some(scale), Some(of_all)) => growth(scale) / growth(of_all),
            _ => growth(1.0),
        }
    }

    /// The speeds after scaling, from those of theta alone.
    pub(super) fn scaled(&self, speeds: Vec<f64>, theta: f64, lengths: TextLengths) -> Vec<f64> {
        let original = self.original_max_position_embeddings.unwrap_or_default() as f64;
        let slow_share: Box<dyn Fn(usize, f64) -> f64> = match self.rope_type {
            RopeType::Linear => Box::new(|_, _| 1.0),
            RopeType::Llama3 => {
                let (low, high) = (self.low_freq_factor.unwrap_or(1.0), self.high_freq_factor.unwrap_or(4.0));
                Box::new(move |_, speed| 1.0 - ((original * speed / TAU - low) / (high - low)).clamp(0.0, 1.0))
            }
            RopeType::Yarn => {
                let (low, high) = self.transition(2 * speeds.len(), original, theta);
                Box::new(move |pair, _| ((pair as f64 - low) / (high - low)).clamp(0.0, 1.0))
            }
            RopeType::Dynamic => return self.dynamic(speeds, theta, lengths),
            RopeType::Proportional => {
                let turning = (self.partial_rotary_factor.unwrap_or(1.0) * speeds.len() as f64).floor() as usize;
                let scaled = |(pair, speed): (usize, f64)| if pair < turning { speed / self.factor } else { 0.0 };
                return speeds.into_iter().enumerate().map(scaled).collect();
            }
            RopeType::Longrope => {
                let is_long = lengths.text.is_some_and(|length| length as f64 > original);
                let factors = if is_long { &self.long_factor } else { &self.short_factor };
                let factors = factors.iter().flatten();
                return speeds.into_iter().zip(factors).map(|(speed, factor)| speed / factor).collect();
            }
        };
        let scaled = |(pair, speed): (usize, f64)| {
            let slow = slow_share(pair, speed);
            slow * speed / self.factor + (1.0 - slow) * speed
        };
        speeds.into_iter().enumerate().map(scaled).collect()
    }

    /// The speeds of a base that is the larger the longer the text is.
    fn dynamic(&self, speeds: Vec<f64>, theta: f64, lengths: TextLengths) -> Vec<f64> {
        let (width, trained) = (2.0 * speeds.len() as f64, lengths.trained as f64);
        match lengths.text.map(|length| length as f64).filter(|length| *length > trained) {
            None => speeds,
            Some(length) => {
                let growth = self.factor * length / trained - (self.factor - 1.0);
                let theta = theta * growth.powf(width / (width - 2.0));
                (0..speeds.len()).map(|pair| theta.powf(-2.0 * pair as f64 / width)).collect()
            }
        }
    }

    /// The pairs between which `yarn` goes over from full speed to that divided by `factor`.
    fn transition(&self, width: usize, original: f64, theta: f64) -> (f64, f64) {
        let pair_of = |turns: f64| width as f64 * (original / (turns * TAU)).ln() / (2.0 * theta.ln());
        let (mut low, mut high) = (pair_of(self.beta_fast.unwrap_or(32.0)), pair_of(self.beta_slow.unwrap_or(1.0)));
        if self.truncate.unwrap_or(true) {
            (low, high) = (low.floor(), high.ceil());
        }
        let (low, high) = (low.max(0.0), high.min(width as f64 - 1.0));
        (low, if low == high { high + 0.001 } else { high })
    }
}
