//! Which units of a layer are kept, and how its tensors are cut.

use super::Kept;
use crate::{ModelConfig, StoredParameter};
use std::collections::BTreeMap;

/// The units that tensors are cut by.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Unit {
    /// A key head, its value head, and the query heads that share it.
    Group,
    /// A channel of the feed-forward network.
    Channel,
}

/// A part of a layer whose tensors have one block of rows, or of columns, for each unit.
struct CutPart {
    name: &'static str,
    unit: Unit,
    /// Whether the weight has the units in its columns (and then the bias none of them).
    in_columns: bool,
    /// Whether its weight counts for the scores.
    is_scored: bool,
}

const fn part(name: &'static str, unit: Unit, in_columns: bool, is_scored: bool) -> CutPart {
    CutPart { name, unit, in_columns, is_scored }
}

/// Norms of queries and keys have units only in models that normalise all heads at once.
const PARTS: [CutPart; 11] = [
    part("self_attn.q_proj", Unit::Group, false, true),
    part("self_attn.gate_proj", Unit::Group, false, false),
    part("self_attn.k_proj", Unit::Group, false, true),
    part("self_attn.v_proj", Unit::Group, false, true),
    part("self_attn.o_proj", Unit::Group, true, true),
    part("self_attn.q_norm", Unit::Group, false, false),
    part("self_attn.k_norm", Unit::Group, false, false),
    part("self_attn.sinks", Unit::Group, false, false),
    part("mlp.gate_proj", Unit::Channel, false, true),
    part("mlp.up_proj", Unit::Channel, false, true),
    part("mlp.down_proj", Unit::Channel, true, true),
];

/// The units of one layer that are kept, in their order.
pub(super) struct Choice {
    groups: Vec<usize>,
    channels: Vec<usize>,
    /// Numbers of units before.
    before: [usize; 2],
}

impl Choice {
    /// The units of a layer with the largest scores.
    pub(super) fn of_layer(
        tensors: &BTreeMap<String, StoredParameter<'_>>,
        layer: usize,
        kept: &Kept,
        source: &ModelConfig,
    ) -> Self {
        let before = [source.num_key_value_heads, source.intermediate_size];
        let choose = |unit, count: usize, keep: usize| match count == keep {
            true => (0..count).collect(),
            false => largest(&scores(tensors, layer, unit, count), keep),
        };
        Self {
            groups: choose(Unit::Group, before[0], kept.groups),
            channels: choose(Unit::Channel, before[1], kept.channels),
            before,
        }
    }

    /// Cuts the tensor with this name, of shape `from`, row-major, to the units that are kept; unchanged if it has the
    /// shape `to` already, or no units.
    pub(super) fn cut(&self, name: &str, values: Vec<f32>, from: &[usize], to: &[usize]) -> Vec<f32> {
        let Some(part) = PARTS.iter().find(|part| is_of(name, part.name)).filter(|_| from != to) else { return values };
        let (kept, count) = match part.unit {
            Unit::Group => (&self.groups, self.before[0]),
            Unit::Channel => (&self.channels, self.before[1]),
        };
        let columns = if part.in_columns { from.get(1).copied().unwrap_or(1) } else { values.len() };
        let block = columns / count;
        let mut out = Vec::with_capacity(values.len() / count * kept.len());
        for row in values.chunks_exact(columns) {
            kept.iter().for_each(|unit| out.extend_from_slice(&row[unit * block..][..block]));
        }
        out
    }
}

/// The scores of the units of a layer, see the [module](super).
fn scores(tensors: &BTreeMap<String, StoredParameter<'_>>, layer: usize, unit: Unit, count: usize) -> Vec<f64> {
    let mut scores = vec![0.0; count];
    for part in PARTS.iter().filter(|part| part.unit == unit && part.is_scored) {
        let Some(stored) = tensors.get(&in_layer(layer, &format!("{}.weight", part.name))) else { continue };
        let (values, shape) = (stored.values(), stored.shape());
        let columns = if part.in_columns { shape[1] } else { values.len() };
        for row in values.chunks_exact(columns) {
            for (score, block) in scores.iter_mut().zip(row.chunks_exact(columns / count)) {
                *score += block.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>();
            }
        }
    }
    scores
}

/// The indices of the `keep` largest scores, in ascending order; of equal scores, the lower index.
pub(super) fn largest(scores: &[f64], keep: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    order.truncate(keep);
    order.sort_unstable();
    order
}

/// Cuts or pads embedding and head, \[rows, columns\]: a new row is the mean of the first `tokens` rows. A head with a
/// bias has its classes in columns instead.
pub(super) fn with_rows(mut values: Vec<f32>, from: &[usize], to: &[usize], tokens: usize) -> Vec<f32> {
    let ([rows, columns], [wanted, wanted_columns]) = (from, to) else { return values };
    if columns != wanted_columns {
        let rows_of = |values: &[f32], [rows, columns]: [usize; 2]| -> Vec<f32> {
            (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column])).collect()
        };
        let by_class = rows_of(&values, [*rows, *columns]);
        let resized = with_rows(by_class, &[*columns, *rows], &[*wanted_columns, *rows], tokens);
        return rows_of(&resized, [*wanted_columns, *rows]);
    }
    values.truncate(wanted * columns);
    if wanted > rows {
        let tokens = tokens.min(*rows);
        let of_column = |column| values.iter().skip(column).step_by(*columns).take(tokens).map(|&x| f64::from(x));
        let mean = |column| (of_column(column).sum::<f64>() / tokens as f64) as f32;
        let mean: Vec<f32> = (0..*columns).map(mean).collect();
        (*rows..*wanted).for_each(|_| values.extend(&mean));
    }
    values
}

/// The full name of a tensor of a layer.
pub(super) fn in_layer(layer: usize, part: &str) -> String {
    format!("model.layers.{layer}.{part}")
}

/// The layer of a tensor, and its name in it.
pub(super) fn layer_of(name: &str) -> Option<(usize, &str)> {
    let (layer, part) = name.strip_prefix("model.layers.")?.split_once('.')?;
    Some((layer.parse().ok()?, part))
}

/// Whether a tensor with this full name belongs to a part of its layer.
fn is_of(name: &str, part: &str) -> bool {
    layer_of(name)
        .is_some_and(|(_, own)| own.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}
