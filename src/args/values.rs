//! Parsers of single arguments.

use super::Target;
use logitcask_cache::Layout;
use logitcask_data::SpecialTokens;
use logitcask_model::Precision;
use serde_json::Value;

/// A whole number that is at least `least`.
pub(super) fn whole<N: TryFrom<u64>>(least: u64) -> impl Fn(&str) -> Result<N, String> + Clone {
    move |text| {
        let number =
            text.parse().ok().filter(|number| *number >= least).and_then(|number: u64| N::try_from(number).ok());
        number.ok_or_else(|| format!("it must be a whole number, {least} or more"))
    }
}

/// A temperature of sampling.
pub(super) fn temperature(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|t: &f64| t.is_finite() && *t >= 0.0);
    number.ok_or_else(|| "a temperature is 0 or a positive number".to_owned())
}

/// A probability that excludes 0.
pub(super) fn probability(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|p: &f64| *p > 0.0 && *p <= 1.0);
    number.ok_or_else(|| "a probability here is above 0 and at most 1".to_owned())
}

/// The layout of a cache.
pub(super) fn layout(text: &str) -> Result<Layout, String> {
    [Layout::Plain, Layout::Packed]
        .into_iter()
        .find(|layout| layout.name() == text)
        .ok_or_else(|| format!("`{text}` is none of plain, packed"))
}

/// A tool that a cache can be written for.
pub(super) fn target(text: &str) -> Result<Target, String> {
    match text {
        "distillkit" => Ok(Target::DistillKit),
        other => Err(format!("`{other}` is not distillkit, the only tool that a cache can be written for")),
    }
}

/// A number format.
pub(super) fn precision(text: &str) -> Result<Precision, String> {
    match text {
        "f32" => Ok(Precision::F32),
        "f16" => Ok(Precision::F16),
        "bf16" => Ok(Precision::Bf16),
        other => Err(format!("`{other}` is none of f32, f16, bf16")),
    }
}

/// A variable of a template and its value: JSON, or otherwise a text.
pub(super) fn variable(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("a variable is NAME=VALUE")?;
    Ok((name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| value.into())))
}

/// A treatment of special tokens.
pub(super) fn special_tokens(text: &str) -> Result<SpecialTokens, String> {
    [SpecialTokens::Refuse, SpecialTokens::Plain, SpecialTokens::Parse]
        .into_iter()
        .find(|rule| rule.name() == text)
        .ok_or_else(|| format!("`{text}` is none of refuse, plain, parse"))
}
