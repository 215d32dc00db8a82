//! Validation of a loss against what the source of a cache's rows could tell.

use crate::loss::{LossConfig, LossTerm};
use logitcask_core::divergence::Properties;
use logitcask_core::temperature::{RequiredStats, Stat};
use logitcask_core::token_weight::TokenWeighting;
use logitcask_core::{ConfigError, GoldSource, RowSource, TailPolicy, TailSource, TargetTransform};

type Check = Result<(), ConfigError>;

const NO_LOG_Z: &str =
    "it needs the teacher's raw logits, and this cache's source did not tell them (keep.source.log_z)";
const NO_GOLD: &str = "it needs the probability and rank of every label, and this cache's source told them of no label \
                       outside the kept classes (keep.source.gold)";
const NO_SHAPE: &str = "it needs the shape of the tail, and this cache's source did not tell it (keep.source.tail)";
const NO_MASS: &str =
    "it needs the probability of the tail, and this cache's source did not tell it (keep.source.tail)";

/// Rejects a loss that needs what the source did not tell.
pub(super) fn check(loss: &LossConfig, source: RowSource) -> Check {
    if source.is_full() {
        return Ok(());
    }
    let uses_labels = !matches!(loss.target, TargetTransform::Teacher {} | TargetTransform::Similar { .. });
    if uses_labels && source.gold != GoldSource::Always {
        return Err(ConfigError::new("target", "a rule that edits rows", "left out").because(NO_GOLD));
    }
    if let Some(rule) = loss.token_weight {
        check_stats("token_weight", rule.required_stats(), source)?;
    }
    if let Some(second) = &loss.second_teacher {
        check_stats("second_teacher.blend", second.blend.required_stats(), source)?;
    }
    check_term(&loss.first_term(), source)?;
    for (i, term) in loss.extra_terms.iter().enumerate() {
        check_term(term, source).map_err(|error| error.within(&format!("extra_terms[{i}]")))?;
    }
    Ok(())
}

fn check_term(term: &LossTerm, source: RowSource) -> Check {
    let divergence = &term.divergence;
    let refused =
        |why| Err(ConfigError::new("divergence", divergence.name(), "another one over this cache").because(why));
    if divergence.needs_label() && source.gold != GoldSource::Always {
        return refused(NO_GOLD);
    }
    if divergence.needs_logits() && !source.log_z {
        return refused(NO_LOG_Z);
    }
    let needs_shape = divergence.needs_squares() || divergence.needs_mean_logit();
    if needs_shape && source.tail != TailSource::Atoms {
        return refused(NO_SHAPE);
    }
    if let Some(rule) = term.temperature_rule {
        if source.tail != TailSource::Atoms {
            let error = ConfigError::new("temperature_rule", "a rule", "left out over this cache");
            return Err(error.because(
                "it moves the temperature, and this cache's source told no shape of the tail: it is for T = 1",
            ));
        }
        check_stats("temperature_rule", rule.required_stats(), source)?;
    }
    check_tail(term, source.tail)
}

/// Rejects tail policies and temperatures for which the rows have no tail.
fn check_tail(term: &LossTerm, tail: TailSource) -> Check {
    let is_used = term.tail != TailPolicy::Renormalize;
    let or_renorm = match term.divergence.check_tail_policy(TailPolicy::Renormalize) {
        Ok(()) => "; or use tail = \"renorm\"",
        Err(_) => "",
    };
    let (low, high) = term.temperature.range();
    match tail {
        TailSource::Mass if is_used && (low, high) != (1.0, 1.0) => {
            let outside = if low == 1.0 { high } else { low };
            Err(ConfigError::new("temperature", outside, "1 over this cache").because(format!(
                "its source told the tail's probability at T = 1 alone (keep.source.tail = \"mass\"), from which \
                 that at another temperature does not follow{or_renorm}"
            )))
        }
        TailSource::None if is_used => {
            Err(ConfigError::new("tail", format!("\"{}\"", term.tail.name()), "\"renorm\" over this cache")
                .because(NO_MASS))
        }
        _ => Ok(()),
    }
}

/// Rejects rules that request statistics which the rows do not have.
fn check_stats(key: &str, required: RequiredStats, source: RowSource) -> Check {
    let why = |stat| match stat {
        Stat::TeacherConfidence | Stat::Cosine => (!source.log_z).then_some(NO_LOG_Z),
        Stat::TeacherLabel | Stat::CrossEntropy => (source.gold != GoldSource::Always).then_some(NO_GOLD),
        Stat::TeacherEntropy | Stat::TeacherLogitStd | Stat::TargetTemperature | Stat::Slopes => {
            (source.tail != TailSource::Atoms).then_some(NO_SHAPE)
        }
        Stat::Distance => (source.tail == TailSource::None).then_some(NO_MASS),
        Stat::StudentConfidence | Stat::StudentSecond | Stat::StudentLabel | Stat::StudentEntropy => None,
    };
    match required.iter().find_map(|stat| Some((stat, why(stat)?))) {
        None => Ok(()),
        Some((stat, why)) => {
            let got = format!("a rule that asks for {stat:?}");
            Err(ConfigError::new(key, got, "another rule over this cache").because(why))
        }
    }
}
