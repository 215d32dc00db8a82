//! Batches: samples of different lengths, with the teacher's rows of all their positions one after the other.

use logitcask_cache::CachedSample;
use logitcask_core::divergence::NO_CLASS;
use logitcask_core::tail::{ATOM_STEP, KnownTail};
use logitcask_core::{SoftRow, SoftRows, TailAtom};
use numpy::{PyArray1, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Log-probability of an empty place, and log-weight of an empty atom.
const EMPTY: f32 = NO_CLASS as f32;

/// How a batch is laid out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Number of kept classes of a position that are used; the others join the tail.
    pub(crate) classes: Option<usize>,
    /// Number of tokens of a sample that are used.
    pub(crate) max_length: Option<usize>,
    /// Whether samples stand in one row, one after the other, instead of one per row.
    pub(crate) packed: bool,
}

/// A batch of B samples with P positions in memory.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// \[B, L\], padded with 0, or \[1, ΣL\].
    input_ids: Vec<i64>,
    /// Index of each token within its sample, in the shape of `input_ids`.
    position_ids: Vec<i64>,
    length: usize,
    lengths: Vec<i64>,
    sample_ids: Vec<i64>,
    /// Which of several caches each sample is from.
    sources: Vec<i64>,
    /// \[P\], indices into the flattened `input_ids`.
    rows: Vec<i64>,
    labels: Vec<i64>,
    /// \[P, width\].
    width: usize,
    class_ids: Vec<i64>,
    log_probs: Vec<f32>,
    /// \[P, width\]: number of classes that each kept class stands for; empty unless classes were drawn.
    counts: Vec<f32>,
    /// \[P, width\]: whether a kept class was drawn, and so is part of the tail; empty like `counts`.
    is_drawn: Vec<bool>,
    log_z: Vec<f32>,
    gold_log_probs: Vec<f32>,
    gold_ranks: Vec<i64>,
    /// \[P, tail_width\]: at inverse temperature b an atom (x, w) adds e^(w + b x) to the partition function.
    tail_width: usize,
    tail_logits: Vec<f32>,
    tail_log_weights: Vec<f32>,
    extras: Vec<(usize, Vec<f32>)>,
}

impl Batch {
    /// Lays out `samples`, each with the number of the cache it is from.
    pub(crate) fn new(samples: Vec<(CachedSample, usize)>, shape: Shape) -> Self {
        let samples: Vec<_> = samples.into_iter().map(|(cached, source)| (shortened(cached, shape), source)).collect();
        let mut batch = Self::default();
        batch.lay_tokens(&samples, shape.packed);
        let all = || samples.iter().map(|(cached, _)| &cached.rows);
        let keep = |count: u16| usize::from(count).min(shape.classes.unwrap_or(usize::MAX));
        batch.width = all().flat_map(|rows| rows.counts.iter()).map(|&count| keep(count)).max().unwrap_or(0);
        let has_drawn = all().any(|rows| rows.drawn.iter().any(|&drawn| drawn > 0));
        batch.tail_width = all().map(|rows| tail_width(rows, shape.classes)).max().unwrap_or(0);
        let positions = batch.rows.len();
        batch.class_ids.reserve_exact(positions * batch.width);
        batch.log_probs.reserve_exact(positions * batch.width);
        for rows in all() {
            batch.log_z.extend_from_slice(&rows.log_z);
            batch.gold_log_probs.extend_from_slice(&rows.gold_log_probs);
            batch.gold_ranks.extend(rows.gold_ranks.iter().map(|&rank| i64::from(rank)));
            for row in rows.iter() {
                let row = if has_drawn { row } else { row.prefix(shape.classes.unwrap_or(usize::MAX)) };
                batch.lay_row(&row, has_drawn);
            }
        }
        let columns = samples.first().map_or(0, |(cached, _)| cached.rows.extras.len());
        let extra = |i: usize| {
            let values = all().flat_map(|rows| rows.extras[i].values.iter().copied()).collect::<Vec<f32>>();
            (all().next().map_or(0, |rows| rows.extras[i].per_position), values)
        };
        batch.extras = (0..columns).map(extra).collect();
        batch
    }

    fn lay_tokens(&mut self, samples: &[(CachedSample, usize)], packed: bool) {
        let lengths = || samples.iter().map(|(cached, _)| cached.sample.input_ids.len());
        let longest = lengths().max().unwrap_or(0);
        self.length = if packed { lengths().sum() } else { longest };
        let size = if packed { self.length } else { self.length * samples.len() };
        (self.input_ids, self.position_ids) = (vec![0; size], vec![0; size]);
        let mut start = 0;
        for (CachedSample { sample, .. }, source) in samples {
            for (i, &token) in sample.input_ids.iter().enumerate() {
                self.input_ids[start + i] = i64::from(token);
                self.position_ids[start + i] = i as i64;
            }
            self.rows.extend(sample.position_indices().map(|position| (start + position) as i64));
            self.labels.extend(sample.labels().iter().map(|&label| i64::from(label)));
            self.lengths.push(sample.input_ids.len() as i64);
            self.sample_ids.push(sample.id.0 as i64);
            self.sources.push(*source as i64);
            start += if packed { sample.input_ids.len() } else { longest };
        }
    }

    fn lay_row(&mut self, row: &SoftRow<'_>, has_drawn: bool) {
        let end = (self.class_ids.len() / self.width.max(1) + 1) * self.width;
        self.class_ids.extend(row.class_ids.iter().map(|&id| i64::from(id)));
        self.class_ids.resize(end, 0);
        self.log_probs.extend_from_slice(row.log_probs);
        self.log_probs.resize(end, EMPTY);
        if has_drawn {
            self.counts.extend(row.importance_weights().map(|weight| weight as f32));
            self.counts.resize(end, 0.0);
            let certain = row.certain().len();
            self.is_drawn.extend((0..row.class_ids.len()).map(|i| i >= certain));
            self.is_drawn.resize(end, false);
        }
        let end = self.tail_logits.len() + self.tail_width;
        for &atom in row.tail.atoms.iter().filter(|atom| **atom != TailAtom::NONE) {
            self.tail_logits.push((ATOM_STEP * f64::from(atom.log_prob)) as f32);
            self.tail_log_weights.push(atom.log_term(0.0, row.tail.reference) as f32);
        }
        for &log_prob in row.tail.joined {
            self.tail_logits.push(log_prob);
            self.tail_log_weights.push(0.0);
        }
        if let KnownTail::Mass { log_mass } = row.tail.known {
            self.tail_logits.push(0.0);
            self.tail_log_weights.push((log_mass as f32).max(EMPTY));
        }
        self.tail_logits.resize(end, 0.0);
        self.tail_log_weights.resize(end, EMPTY);
    }

    /// The arrays, without a copy, by name; `extras` are the names of the extra columns.
    pub(crate) fn into_arrays<'py>(self, py: Python<'py>, extras: &[String]) -> PyResult<Bound<'py, PyDict>> {
        let (positions, samples) = (self.rows.len(), self.lengths.len());
        let arrays = PyDict::new(py);
        let length = self.length;
        let rows = if length == 0 { samples } else { self.input_ids.len() / length };
        let square = |name: &str, array: Bound<'py, PyAny>| arrays.set_item(name, array);
        square("input_ids", matrix(py, self.input_ids, rows, length)?)?;
        square("position_ids", matrix(py, self.position_ids, rows, length)?)?;
        square("class_ids", matrix(py, self.class_ids, positions, self.width)?)?;
        square("log_probs", matrix(py, self.log_probs, positions, self.width)?)?;
        square("tail_logits", matrix(py, self.tail_logits, positions, self.tail_width)?)?;
        square("tail_log_weights", matrix(py, self.tail_log_weights, positions, self.tail_width)?)?;
        if !self.counts.is_empty() {
            square("counts", matrix(py, self.counts, positions, self.width)?)?;
            square("is_drawn", matrix(py, self.is_drawn, positions, self.width)?)?;
        }
        arrays.set_item("lengths", PyArray1::from_vec(py, self.lengths))?;
        arrays.set_item("sample_ids", PyArray1::from_vec(py, self.sample_ids))?;
        arrays.set_item("sources", PyArray1::from_vec(py, self.sources))?;
        arrays.set_item("rows", PyArray1::from_vec(py, self.rows))?;
        arrays.set_item("labels", PyArray1::from_vec(py, self.labels))?;
        for (name, values) in [("log_z", self.log_z), ("gold_log_probs", self.gold_log_probs)] {
            if !values.is_empty() {
                arrays.set_item(name, PyArray1::from_vec(py, values))?;
            }
        }
        if !self.gold_ranks.is_empty() {
            arrays.set_item("gold_ranks", PyArray1::from_vec(py, self.gold_ranks))?;
        }
        let columns = PyDict::new(py);
        for (name, (per_position, values)) in extras.iter().zip(self.extras) {
            let count = if per_position > 0 { positions } else { samples };
            let size = values.len() / count.max(1);
            columns.set_item(name, matrix(py, values, count, size)?)?;
        }
        arrays.set_item("extras", columns)?;
        Ok(arrays)
    }
}

/// The part of a sample that is used.
fn shortened(mut cached: CachedSample, shape: Shape) -> CachedSample {
    if let Some(length) = shape.max_length {
        cached.sample.truncate(length);
        cached.rows.truncate(cached.sample.position_count());
    }
    cached
}

/// Number of atoms and joined classes of the row with most of them.
fn tail_width(rows: &SoftRows, classes: Option<usize>) -> usize {
    let known = usize::from(rows.source.tail == logitcask_core::TailSource::Mass);
    let joined = |&count: &u16| usize::from(count).saturating_sub(classes.unwrap_or(usize::MAX));
    rows.atoms() + known + rows.counts.iter().map(joined).max().unwrap_or(0)
}

fn matrix<T: numpy::Element>(
    py: Python<'_>,
    values: Vec<T>,
    rows: usize,
    columns: usize,
) -> PyResult<Bound<'_, PyAny>> {
    Ok(PyArray1::from_vec(py, values).reshape([rows, columns])?.into_any())
}
