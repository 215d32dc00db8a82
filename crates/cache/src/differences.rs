//! Descriptions of the differences between two plans.

use crate::pins::{ArtifactRef, Versions};
use crate::plan::Plan;
use logitcask_core::{Fingerprint, LogProbPrecision};
use std::fmt;

/// A field's value as shown in a message; equal values identify the same thing.
enum Described {
    Text(String),
    /// The name is shown and the fingerprint is compared.
    ArtifactRef(String, Fingerprint),
}

impl PartialEq for Described {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::ArtifactRef(_, a), Self::ArtifactRef(_, b)) => a == b,
            _ => false,
        }
    }
}

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::ArtifactRef(name, fingerprint) => write!(f, "{name} ({})", fingerprint.short()),
        }
    }
}

fn sentence(field: &str, here: &impl fmt::Display, wanted: &impl fmt::Display) -> String {
    format!("{field}: {here} here, {wanted} wanted")
}

impl ArtifactRef {
    /// Describes the difference if this pin is not the `wanted` one; `field` names what is pinned.
    pub fn difference(&self, field: &str, wanted: &Self) -> Option<String> {
        let described = |pin: &Self| Described::ArtifactRef(pin.name.clone(), pin.fingerprint);
        (self.fingerprint != wanted.fingerprint).then(|| sentence(field, &described(self), &described(wanted)))
    }
}

impl Plan {
    /// Returns one sentence for each field in which `self`, the existing plan, differs from the wanted one; empty for
    /// plans with the same id.
    pub fn differences(&self, wanted: &Self) -> Vec<String> {
        let all = self.described().into_iter().zip(wanted.described());
        let mut differences: Vec<String> = all
            .filter(|((_, here), (_, wanted))| here != wanted)
            .map(|((field, here), (_, wanted))| sentence(field, &here, &wanted))
            .collect();
        if (&self.splits, self.samples_per_unit) != (&wanted.splits, wanted.samples_per_unit) {
            differences.push(sentence("units", &self.cut(), &wanted.cut()));
        }
        differences
    }

    fn described(&self) -> [(&'static str, Described); 22] {
        let token = |id: Option<u32>| id.map_or("no token".to_owned(), |id| format!("token {id}"));
        let pin = |pin: &ArtifactRef| Described::ArtifactRef(pin.name.clone(), pin.fingerprint);
        let text = Described::Text;
        let values = match self.keep.values {
            LogProbPrecision::F16 {} => "f16".to_owned(),
            LogProbPrecision::Quantised { step } => format!("quantised to {step} nat"),
        };
        let tail = self.keep.tail.map_or("none".to_owned(), |tail| {
            format!("{} atoms for T = {} to {}", tail.atoms, tail.lowest_temperature, tail.highest_temperature)
        });
        let extras = match self.extras.is_empty() {
            true => "none".to_owned(),
            false => self.extras.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        };
        let setting = |(name, value): (&String, &String)| format!("{name} {value}");
        let conversations = match self.conversations.is_empty() {
            true => "none".to_owned(),
            false => self.conversations.iter().map(setting).collect::<Vec<_>>().join(", "),
        };
        let Versions { tokenisation, forward, selection, codec } = self.versions;
        [
            ("format_version", text(self.format_version.to_string())),
            (
                "versions",
                text(format!("tokenisation {tokenisation}, forward {forward}, selection {selection}, codec {codec}")),
            ),
            ("layout", text(self.layout.name().to_owned())),
            ("vocab_size", text(self.vocab_size.to_string())),
            ("padding", text(self.keep.padding.to_string())),
            ("max_length", text(self.max_length.to_string())),
            ("precision", text(self.precision.clone())),
            ("batch_tokens", text(self.batch_tokens.to_string())),
            ("positions", text(self.positions.to_string())),
            ("selection", text(self.selection())),
            ("always_keep", text(format!("{:?}", self.keep.always_keep))),
            ("values", text(values)),
            ("source", text(self.keep.source.to_string())),
            ("tail", text(tail)),
            ("extra columns", text(extras)),
            ("teacher", pin(&self.teacher)),
            ("tokenizer", pin(&self.tokenizer)),
            ("added_tokens", text(format!("{:?}", self.added_tokens))),
            ("special_tokens", text(self.special_tokens.clone())),
            ("conversations", text(conversations)),
            ("bos and end", text(format!("{} and {}", token(self.bos), token(self.end)))),
            ("dataset", pin(&self.dataset)),
        ]
    }

    /// Describes how the splits are divided into units.
    fn cut(&self) -> String {
        let splits = self.splits.iter().map(|split| format!("{} {} samples", split.name, split.samples));
        format!("{} by {}", splits.collect::<Vec<_>>().join(", "), self.samples_per_unit)
    }
}
