//! The YAML beside DistillKit's files, which says how a position became bytes.

use crate::error::{Error, Result};
use half::{bf16, f16};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// Largest file that is read as settings.
const MAX_BYTES: u64 = 1 << 20;
/// Most classes of a position.
const MAX_K: u32 = 65_535;

/// How the values and ids of a position were stored. DistillKit has two forms.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Settings {
    /// Bytes: the columns `compressed_logprobs` and `bytepacked_indices`.
    Compressed(Compression),
    /// The older form: the columns `packed_indices`, `exact_values` and `coeffs`.
    Legacy(LegacyCompression),
}

/// The settings of the newer form. What a YAML leaves out is what DistillKit takes it for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compression {
    /// Number of classes; an id takes ceil(log2 d) bits.
    pub d: u64,
    /// Kept classes of a position.
    pub k: u32,
    /// Those of them, the first ones, whose values are stored by themselves.
    pub exact_k: u32,
    /// Their number format.
    #[serde(default)]
    pub exact_dtype: NumberFormat,
    /// Terms of the curve whose coefficients represent the other values; none: a curve that is 0.
    #[serde(default)]
    pub polynomial_terms: Option<Vec<Term>>,
    /// Number format of the coefficients.
    #[serde(default)]
    pub term_dtype: NumberFormat,
    /// Residuals of the curve, for the first values that it represents.
    pub residual_bins: Vec<ResidualBin>,
    /// Whether each value but the first is the difference from the value before it.
    #[serde(default = "yes")]
    pub delta_encoding: bool,
    /// How residuals were rounded; of no effect on reading.
    #[serde(default)]
    pub error_diffusion: bool,
    /// Whether the curve's argument runs from 0 to 1, rather than over 0, 1, 2, ...
    #[serde(default)]
    pub normalize_t: bool,
}

/// The settings of the older form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LegacyCompression {
    /// Kept classes of a position.
    pub k: u32,
    /// Those of them, the first ones, whose values are stored by themselves.
    pub exact_k: u32,
    /// Largest power of the curve.
    pub polynomial_degree: u32,
    /// Number of classes; an id takes ceil(log2 vocab_size) bits.
    pub vocab_size: u64,
    /// Whether the powers are those of 1 / place.
    #[serde(default = "yes")]
    pub invert_polynomial: bool,
    /// Whether sqrt(place) is a term too, the last one.
    #[serde(default)]
    pub with_sqrt_term: bool,
    /// Number format in which the coefficients were computed; of no effect on reading.
    #[serde(default)]
    pub term_dtype: NumberFormat,
}

/// A term of a curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Term {
    /// A power of the argument.
    Power(i32),
    /// Another function of it.
    Function(Function),
}

/// A term that is no power.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Function {
    /// The square root.
    Sqrt,
    /// The exponential.
    Exp,
}

impl Term {
    /// Its value at `t`.
    pub(super) fn at(self, t: f64) -> f64 {
        match self {
            Self::Power(power) => t.powi(power),
            Self::Function(Function::Sqrt) => t.sqrt(),
            Self::Function(Function::Exp) => t.exp(),
        }
    }
}

/// A run of residuals: a scale, and a signed integer for each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResidualBin {
    /// Number format of the scale.
    pub scale_dtype: NumberFormat,
    /// Bits of an integer, 1 to 64.
    pub element_bits: u32,
    /// Number of residuals.
    pub num_elements: u32,
}

/// A number format, little-endian.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NumberFormat {
    /// IEEE binary16.
    Float16,
    /// The upper half of a binary32.
    Bfloat16,
    /// IEEE binary32.
    #[default]
    Float32,
    /// IEEE binary64.
    Float64,
}

impl NumberFormat {
    /// Bytes of a number.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::Float16 | Self::Bfloat16 => 2,
            Self::Float32 => 4,
            Self::Float64 => 8,
        }
    }

    /// The number that these bytes are; NaN if they are of another length.
    pub(super) fn read(self, bytes: &[u8]) -> f64 {
        match self {
            Self::Float16 => bytes.try_into().map_or(f64::NAN, |bytes| f16::from_le_bytes(bytes).to_f64()),
            Self::Bfloat16 => bytes.try_into().map_or(f64::NAN, |bytes| bf16::from_le_bytes(bytes).to_f64()),
            Self::Float32 => bytes.try_into().map_or(f64::NAN, |bytes| f32::from_le_bytes(bytes).into()),
            Self::Float64 => bytes.try_into().map_or(f64::NAN, f64::from_le_bytes),
        }
    }
}

const fn yes() -> bool {
    true
}

/// Number of bits of the ids below `classes`.
pub(super) fn id_bits(classes: u64) -> u32 {
    u64::BITS - (classes - 1).leading_zeros()
}

impl Settings {
    /// Reads the settings: those in `named`, or else the only YAML file beside the data in `source`.
    ///
    /// # Errors
    /// No or several YAML files, a file that is no settings, and settings that contradict themselves.
    pub fn read(named: Option<&Path>, source: &Path) -> Result<Self> {
        let path = match named {
            Some(path) => path.to_owned(),
            None => beside(source)?,
        };
        let length = fs::metadata(&path).map_err(Error::io(&path, "read it"))?.len();
        if length > MAX_BYTES {
            return Err(Error::file(&path, format!("{length} bytes, but settings have at most {MAX_BYTES}")));
        }
        let text = fs::read_to_string(&path).map_err(Error::io(&path, "read it"))?;
        Self::parse(&text).map_err(|problem| Error::file(&path, problem))
    }

    /// Reads the settings in the text of a YAML file.
    fn parse(text: &str) -> Result<Self, String> {
        let refused = |problem: yaml_serde::Error| {
            format!("not the settings that DistillKit writes beside its files (compression_config.yaml): {problem}")
        };
        let value: yaml_serde::Value = yaml_serde::from_str(text).map_err(refused)?;
        let is_legacy = value.get("polynomial_degree").is_some();
        let settings = match is_legacy {
            true => Self::Legacy(yaml_serde::from_str(text).map_err(refused)?),
            false => Self::Compressed(yaml_serde::from_str(text).map_err(refused)?),
        };
        settings.check().map(|()| settings)
    }

    /// Kept classes of a position.
    pub fn k(&self) -> u32 {
        match self {
            Self::Compressed(settings) => settings.k,
            Self::Legacy(settings) => settings.k,
        }
    }

    fn check(&self) -> Result<(), String> {
        let (k, exact_k, classes, key) = match self {
            Self::Compressed(settings) => (settings.k, settings.exact_k, settings.d, "d"),
            Self::Legacy(settings) => (settings.k, settings.exact_k, settings.vocab_size, "vocab_size"),
        };
        if !(2..=1 << 32).contains(&classes) {
            return Err(format!("{key} = {classes}, but a vocabulary has 2 to {} classes", 1_u64 << 32));
        }
        if !(1..=MAX_K).contains(&k) || u64::from(k) > classes {
            return Err(format!("k = {k}, but 1 to {} classes can be kept", classes.min(MAX_K.into())));
        }
        if exact_k > k {
            return Err(format!("exact_k = {exact_k}, but it is at most k = {k}"));
        }
        match self {
            Self::Compressed(settings) => settings.check(),
            Self::Legacy(LegacyCompression { polynomial_degree: 0..=64, .. }) => Ok(()),
            Self::Legacy(LegacyCompression { polynomial_degree, .. }) => {
                Err(format!("polynomial_degree = {polynomial_degree}, but it is at most 64"))
            }
        }
    }
}

impl Compression {
    /// The terms of the curve.
    pub(super) fn terms(&self) -> &[Term] {
        self.polynomial_terms.as_deref().unwrap_or_default()
    }

    fn check(&self) -> Result<(), String> {
        let rest = self.k - self.exact_k;
        if rest > 0 && self.terms().is_empty() && self.residual_bins.is_empty() {
            return Err(format!(
                "k - exact_k = {rest} values have neither polynomial_terms nor residual_bins: nothing says what they \
                 are"
            ));
        }
        if self.terms().len() > 64 || self.terms().iter().any(|term| matches!(term, Term::Power(i32::MIN..0))) {
            return Err("polynomial_terms: up to 64 of powers from 0 on, sqrt and exp belong there".to_owned());
        }
        let binned = self.residual_bins.iter().map(|bin| u64::from(bin.num_elements)).sum::<u64>();
        if binned > u64::from(rest) {
            return Err(format!("residual_bins have {binned} elements, but k - exact_k = {rest} values can have one"));
        }
        match self.residual_bins.iter().find(|bin| !(1..=64).contains(&bin.element_bits) || bin.num_elements == 0) {
            None => Ok(()),
            Some(ResidualBin { element_bits, num_elements, .. }) => Err(format!(
                "residual_bins: {num_elements} elements of {element_bits} bits, but at least 1 of 1 to 64 bits belong \
                 there"
            )),
        }
    }
}

/// The only YAML file in the folder of the data.
fn beside(source: &Path) -> Result<PathBuf> {
    let folder = if source.is_dir() { source } else { source.parent().unwrap_or(Path::new("")) };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let entries = fs::read_dir(folder).map_err(Error::io(folder, "list it"))?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml"))
        .collect();
    found.sort();
    match <[PathBuf; 1]>::try_from(found) {
        Ok([path]) => Ok(path),
        Err(found) => {
            let names: Vec<_> = found.iter().filter_map(|path| path.file_name()?.to_str()).collect();
            let there =
                if names.is_empty() { "has no YAML file".to_owned() } else { format!("has {}", names.join(", ")) };
            Err(Error::file(
                folder,
                format!(
                    "the folder {there}, but the files can only be read with the settings that they were made with \
                     (compression_config.yaml): name them with --settings FILE"
                ),
            ))
        }
    }
}

#[cfg(test)]
mod tests;
