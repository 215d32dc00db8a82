//! Writing a cache from logits, or from summaries of them, that another program computed.

use crate::error::{RowError, exception, invalid};
use crate::select::{Summaries, select_logits, select_summaries};
use logitcask_cache::{CacheWriter, Claim, Claimed, Plan};
use logitcask_core::{ExtraColumn, ExtraValues, Origin, Positions, RowErrors, Sample, SampleId, SoftRows};
use logitcask_select::SummarySpec;
use numpy::{PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Writes a cache unit by unit.
#[pyclass(frozen, module = "logitcask._core")]
pub(crate) struct Writer {
    writer: CacheWriter,
    threads: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: BTreeMap<usize, OpenUnit>,
    committed: BTreeSet<usize>,
}

/// A unit of which some samples are missing.
struct OpenUnit {
    rows: Vec<Option<(Sample, SoftRows)>>,
    missing: usize,
    errors: RowErrors,
    /// Tells other processes that the unit is being made; none if one of them does.
    claim: Option<Claim>,
}

/// A sample whose rows are to be added.
struct Place {
    unit: usize,
    index: usize,
    split: String,
    sample: Sample,
}

#[pymethods]
impl Writer {
    /// Begins the cache of this plan (JSON) in `folder`, or goes on with it. `tokenizer` is the content of
    /// `tokenizer.json`, and `companions` are other files that students inherit, by name. Rows are selected by `threads`
    /// threads.
    #[new]
    fn new(
        folder: std::path::PathBuf,
        plan: &str,
        tokenizer: &[u8],
        companions: Vec<(String, Vec<u8>)>,
        threads: usize,
    ) -> PyResult<Self> {
        let files = || companions.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
        let mut plan: Plan = serde_json::from_str(plan).map_err(|error| invalid(format!("the plan: {error}")))?;
        plan.companions = logitcask_cache::companions::pins(files());
        let writer = CacheWriter::open(&folder, plan, tokenizer).map_err(exception)?;
        writer.lay_companions(files()).map_err(exception)?;
        Ok(Self { writer, threads: threads.max(1), state: Mutex::default() })
    }

    /// The plan of the cache as JSON.
    #[getter]
    fn plan(&self) -> PyResult<String> {
        serde_json::to_string(self.writer.plan()).map_err(|error| invalid(error.to_string()))
    }

    /// Number, split, first sample and end of every unit that is not committed.
    fn pending(&self) -> PyResult<Vec<(usize, String, u64, u64)>> {
        let describe = |unit: usize| {
            let work = self.writer.plan().unit(unit);
            (unit, work.split.to_owned(), work.start, work.end)
        };
        Ok(self.writer.pending().map_err(exception)?.into_iter().map(describe).collect())
    }

    /// Whether the unit is left to this process: it is neither committed nor claimed by another one. The claim is held
    /// until the unit is written, or the process ends.
    fn claim(&self, unit: usize) -> PyResult<bool> {
        let mut state = self.lock();
        if state.open.contains_key(&unit) {
            return Ok(true);
        }
        match self.writer.claim(unit).map_err(exception)? {
            Claimed::Mine(claim) => _ = state.open.insert(unit, self.open_unit(unit, Some(claim))),
            Claimed::Elsewhere => return Ok(false),
            Claimed::Committed => {
                state.committed.insert(unit);
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What a summary of a row of `width` logits has to contain: the number of largest classes, and the lowest inverse
    /// temperature, step and number of the sums. `None` if rows can only be selected from all logits.
    fn summary(&self, width: usize) -> Option<(usize, f64, f64, usize)> {
        let spec = SummarySpec::new(&self.writer.plan().keep, width)?;
        Some((spec.count, spec.grid.0, spec.grid.1, spec.powers))
    }

    /// Selects the rows of a sample from `logits` (\[positions, vocabulary + padding\]). Returns whether its unit was
    /// completed and written by this call. Samples of committed units are ignored.
    #[pyo3(signature = (split, sample_id, origin, input_ids, positions, logits, extras))]
    #[allow(clippy::too_many_arguments, reason = "these are the keyword arguments of a Python method")]
    fn add_logits(
        &self,
        py: Python<'_>,
        split: &str,
        sample_id: u64,
        origin: (u64, u32),
        input_ids: Vec<u32>,
        positions: Option<Vec<u32>>,
        logits: PyReadonlyArray2<'_, f32>,
        extras: BTreeMap<String, PyReadonlyArray1<'_, f32>>,
    ) -> PyResult<bool> {
        let Some(place) = self.place(split, sample_id, origin, input_ids, positions)? else { return Ok(false) };
        let extras = self.extras(&place.sample, &extras)?;
        let array = logits.as_array();
        let (count, width) = array.dim();
        self.check_shape(&place, count, width)?;
        let Some(logits) = array.as_slice() else { return Err(invalid("the logits are not contiguous")) };
        let keep = &self.writer.plan().keep;
        let selected = py.detach(|| select_logits(logits, width, &place.sample, split, keep, self.threads));
        let (mut rows, errors) = selected.map_err(|(position, problem)| self.bad_row(&place, position, &problem))?;
        rows.extras = extras;
        self.put(py, place, rows, &errors)
    }

    /// [`Self::add_logits`] from summaries of the rows; `row` gives the logits of a position whose summary does not
    /// determine what is kept.
    #[pyo3(signature = (split, sample_id, origin, input_ids, positions, width, summaries, row, extras))]
    #[allow(clippy::too_many_arguments, reason = "these are the keyword arguments of a Python method")]
    fn add_summaries(
        &self,
        py: Python<'_>,
        split: &str,
        sample_id: u64,
        origin: (u64, u32),
        input_ids: Vec<u32>,
        positions: Option<Vec<u32>>,
        width: usize,
        summaries: Summaries<'_>,
        row: Bound<'_, PyAny>,
        extras: BTreeMap<String, PyReadonlyArray1<'_, f32>>,
    ) -> PyResult<bool> {
        let Some(place) = self.place(split, sample_id, origin, input_ids, positions)? else { return Ok(false) };
        let extras = self.extras(&place.sample, &extras)?;
        self.check_shape(&place, summaries.len(), width)?;
        let whole_row = |position: usize| -> PyResult<Vec<f32>> {
            let logits: PyReadonlyArray1<'_, f32> = row.call1((position,))?.extract()?;
            Ok(logits.as_array().to_vec())
        };
        let keep = &self.writer.plan().keep;
        let refused = |position, problem| self.bad_row(&place, position, &problem);
        let (mut rows, errors) = select_summaries(&summaries, width, &place.sample, split, keep, whole_row, refused)?;
        rows.extras = extras;
        self.put(py, place, rows, &errors)
    }

    /// Completes the cache and returns its id.
    fn finish(&self, py: Python<'_>) -> PyResult<String> {
        let manifest = py.detach(|| self.writer.finish()).map_err(exception)?;
        Ok(manifest.cache_id().to_string())
    }
}

impl Writer {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_unit(&self, unit: usize, claim: Option<Claim>) -> OpenUnit {
        let samples = self.writer.plan().unit(unit).samples() as usize;
        let rows = (0..samples).map(|_| None).collect();
        OpenUnit { rows, missing: samples, errors: RowErrors::new(&self.writer.plan().keep), claim }
    }

    /// Where a sample belongs; `None` if its unit is committed.
    fn place(
        &self,
        split: &str,
        id: u64,
        (document, offset): (u64, u32),
        input_ids: Vec<u32>,
        positions: Option<Vec<u32>>,
    ) -> PyResult<Option<Place>> {
        let plan = self.writer.plan();
        let units = plan.units(split);
        let found = units.and_then(|mut units| units.find(|&unit| plan.unit(unit).ids().contains(&id)));
        let Some(unit) = found else {
            return Err(invalid(format!("the plan has no sample {id} in the split {split:?}")));
        };
        let mut state = self.lock();
        if state.committed.contains(&unit) {
            return Ok(None);
        }
        if !state.open.contains_key(&unit) {
            let claim = match self.writer.claim(unit).map_err(exception)? {
                Claimed::Mine(claim) => Some(claim),
                Claimed::Elsewhere => None,
                Claimed::Committed => {
                    state.committed.insert(unit);
                    return Ok(None);
                }
            };
            state.open.insert(unit, self.open_unit(unit, claim));
        }
        let index = (id - plan.unit(unit).start) as usize;
        if state.open.get(&unit).is_some_and(|open| open.rows[index].is_some()) {
            return Err(invalid(format!("sample {id} of the split {split:?} was added before")));
        }
        let mut sample = Sample::new(SampleId(id), Origin { document, offset }, input_ids);
        sample.positions = positions.map_or(Positions::All, Positions::Chosen);
        let end = sample.next_tokens();
        if let Some(beyond) = sample.position_indices().find(|&position| position >= end) {
            return Err(RowError::new_err(format!(
                "{split} sample {id}: position {beyond} was given, but the sample has {} tokens, and a position needs \
                 a next token",
                sample.input_ids.len()
            )));
        }
        if let Some(token) = sample.input_ids.iter().find(|&&token| token >= plan.vocab_size) {
            return Err(RowError::new_err(format!(
                "{split} sample {id}: token {token} is outside the vocabulary of {}",
                plan.vocab_size
            )));
        }
        Ok(Some(Place { unit, index, split: split.to_owned(), sample }))
    }

    fn check_shape(&self, Place { split, sample, .. }: &Place, rows: usize, width: usize) -> PyResult<()> {
        let (plan, positions) = (self.writer.plan(), sample.position_count());
        let expected = (plan.vocab_size + plan.keep.padding) as usize;
        if width != expected {
            return Err(RowError::new_err(format!(
                "{split} sample {}: rows of {width} logits were given, but the plan has {expected} (vocab_size {} and \
                 padding {})",
                sample.id.0, plan.vocab_size, plan.keep.padding
            )));
        }
        if rows != positions {
            return Err(RowError::new_err(format!(
                "{split} sample {}: {rows} rows were given for {positions} positions",
                sample.id.0
            )));
        }
        Ok(())
    }

    fn bad_row(&self, Place { split, sample, .. }: &Place, position: usize, problem: &impl std::fmt::Display) -> PyErr {
        let at = sample.position_indices().nth(position).unwrap_or(position);
        RowError::new_err(format!("{split} sample {}, position {at}: {problem}", sample.id.0))
    }

    /// The numbers of the plan's extra columns, rounded as they are stored.
    fn extras(
        &self,
        sample: &Sample,
        given: &BTreeMap<String, PyReadonlyArray1<'_, f32>>,
    ) -> PyResult<Vec<ExtraValues>> {
        let columns = &self.writer.plan().extras;
        if let Some(name) = given.keys().find(|name| columns.iter().all(|column| column.name != **name)) {
            return Err(invalid(format!("the plan has no extra column {name:?}")));
        }
        let values = |column: &ExtraColumn| {
            let Some(array) = given.get(&column.name) else {
                return Err(invalid(format!("sample {} has no numbers for the column {:?}", sample.id.0, column.name)));
            };
            let values = array.as_array().iter().map(|&value| column.precision.round(value)).collect();
            Ok(ExtraValues { per_position: column.per_position(), values })
        };
        columns.iter().map(values).collect()
    }

    /// Adds the rows of a sample to its unit, and writes the unit if it is complete.
    fn put(&self, py: Python<'_>, place: Place, rows: SoftRows, errors: &RowErrors) -> PyResult<bool> {
        let Place { unit, index, sample, .. } = place;
        let complete = {
            let mut state = self.lock();
            let Some(open) = state.open.get_mut(&unit) else { return Ok(false) };
            if open.rows[index].is_some() {
                return Err(invalid(format!("sample {} was added twice at once", sample.id.0)));
            }
            open.rows[index] = Some((sample, rows));
            open.errors.merge(errors);
            open.missing -= 1;
            if open.missing == 0 { state.open.remove(&unit) } else { None }
        };
        let Some(OpenUnit { rows, errors, claim, .. }) = complete else { return Ok(false) };
        let rows: Vec<(Sample, SoftRows)> = rows.into_iter().flatten().collect();
        py.detach(|| self.writer.write_unit(unit, &rows, &errors)).map_err(exception)?;
        self.lock().committed.insert(unit);
        drop(claim);
        Ok(true)
    }
}
