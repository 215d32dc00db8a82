//! Decoding of a row group's columns to samples and soft rows.

use super::kept::{Find, KeptColumns, unsigned};
use super::packed::{self, Model};
use super::{check_sample, hash_of_numbers, plain};
use crate::column_chunk::{ColumnError, ColumnRows};
use crate::plan::Plan;
use crate::row_problem::RowProblem;
use crate::schema;
use logitcask_core::{ExtraColumn, ExtraValues, InputHash, Origin, Positions, Sample, SampleId, SoftRows};
use parquet::data_type::{DataType, FloatType, Int32Type, Int64Type};

/// Reads rows of a row group in order.
pub(crate) struct RowColumns<'a> {
    plan: &'a Plan,
    sample_ids: ColumnRows<Int64Type>,
    documents: ColumnRows<Int64Type>,
    document_offsets: ColumnRows<Int32Type>,
    input_hashes: [ColumnRows<Int64Type>; 2],
    input_ids: ColumnRows<Int32Type>,
    positions: Option<ColumnRows<Int32Type>>,
    kept: Box<dyn KeptColumns + 'a>,
    extras: Vec<(usize, ColumnRows<FloatType>)>,
}

impl<'a> RowColumns<'a> {
    /// Opens the columns through `find`, by name, with those of the plan's extra columns that are in `extras`. `model` is
    /// the shard's, if it is packed.
    pub(crate) fn of(
        plan: &'a Plan,
        extras: &[ExtraColumn],
        model: Option<&'a Model>,
        find: &Find<'_, '_>,
    ) -> Result<Self, ColumnError> {
        Ok(Self {
            plan,
            sample_ids: open(find, schema::SAMPLE_ID)?,
            documents: open(find, schema::DOCUMENT)?,
            document_offsets: open(find, schema::DOCUMENT_OFFSET)?,
            input_hashes: [open(find, schema::INPUT_HASH_LOW)?, open(find, schema::INPUT_HASH_HIGH)?],
            input_ids: open(find, schema::INPUT_IDS)?,
            positions: (!plan.positions.is_all()).then(|| open(find, schema::POSITIONS)).transpose()?,
            kept: match model {
                None => Box::new(plain::PlainColumns::of(plan, find)?),
                Some(model) => Box::new(packed::PackedColumns::of(model, find)?),
            },
            extras: extras
                .iter()
                .map(|extra| Ok((extra.per_position(), open(find, &extra.name)?)))
                .collect::<Result<_, ColumnError>>()?,
        })
    }

    /// Returns the next row with its stored input hash. Only the tokens and the positions are checked, whose numbers bound
    /// everything else.
    pub(crate) fn next(&mut self) -> Result<(Sample, SoftRows, InputHash), RowProblem> {
        let sample = Sample {
            id: SampleId(self.sample_ids.next_value()?.cast_unsigned()),
            origin: Origin {
                document: self.documents.next_value()?.cast_unsigned(),
                offset: self.document_offsets.next_value()?.cast_unsigned(),
            },
            input_ids: unsigned(self.input_ids.next()?),
            positions: match &mut self.positions {
                None => Positions::All,
                Some(positions) => Positions::Chosen(unsigned(positions.next()?)),
            },
        };
        let [low, high] = &mut self.input_hashes;
        let hash = hash_of_numbers([low.next_value()?.cast_unsigned(), high.next_value()?.cast_unsigned()]);
        check_sample(self.plan, &sample)?;
        let extra = |(per_position, column): &mut (usize, ColumnRows<FloatType>)| {
            Ok(ExtraValues { per_position: *per_position, values: column.next()?.to_vec() })
        };
        let extras = self.extras.iter_mut().map(extra).collect::<Result<_, ColumnError>>()?;
        let rows = SoftRows { extras, ..self.kept.next(self.plan, &sample)? };
        Ok((sample, rows, hash))
    }
}

/// Opens the column `name`.
fn open<T: DataType>(find: &Find<'_, '_>, name: &str) -> Result<ColumnRows<T>, ColumnError> {
    find(name)?.open()
}
