//! The numbers of extra columns, gathered position by position.

use logitcask_core::{ExtraColumn, ExtraValues, HiddenPositions, Sample, SoftRows};

/// Adds the vectors of one position of `sample` to its `rows`, which have that position's row already. `vector` is the
/// place of the position in `vectors`, the \[positions, size\] of each column. Positions come in order; with the last
/// one the numbers become those that are stored.
pub(crate) fn add_vectors(
    columns: &[ExtraColumn],
    vectors: &[Vec<f32>],
    vector: usize,
    sample: &Sample,
    rows: &mut SoftRows,
) {
    let none = |column: &ExtraColumn| ExtraValues { per_position: column.per_position(), values: Vec::new() };
    if rows.extras.is_empty() {
        rows.extras = columns.iter().map(none).collect();
    }
    let (seen, count) = (rows.len(), sample.position_count());
    for ((column, all), out) in columns.iter().zip(vectors).zip(&mut rows.extras) {
        let size = column.size as usize;
        let vector = &all[vector * size..][..size];
        let round = |number: f32| column.precision.round(number);
        match column.from.positions() {
            HiddenPositions::All => out.values.extend(vector.iter().copied().map(round)),
            HiddenPositions::Last if seen == count => out.values = vector.iter().copied().map(round).collect(),
            HiddenPositions::Last => {}
            HiddenPositions::Mean => {
                out.values.resize(size, 0.0);
                out.values.iter_mut().zip(vector).for_each(|(sum, number)| *sum += number);
                if seen == count {
                    out.values.iter_mut().for_each(|sum| *sum = round(*sum / count as f32));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logitcask_core::{ColumnPrecision, ExtraSource, Origin, SampleId, SoftRow};

    #[test]
    fn vectors_are_listed_taken_last_or_averaged() {
        let column = |positions| ExtraColumn {
            name: "hidden".to_owned(),
            from: ExtraSource::Hidden { positions, project: None },
            precision: ColumnPrecision::F16,
            size: 2,
        };
        let columns = [HiddenPositions::All, HiddenPositions::Last, HiddenPositions::Mean].map(column);
        let sample = Sample::new(SampleId(0), Origin { document: 0, offset: 0 }, vec![1, 2, 3, 4]);
        let mut rows = SoftRows::default();
        // Two pieces: of two positions, and of one. 1/3 is rounded to f16.
        for (piece, count) in [(vec![1.0, 2.0, 3.0, 5.0], 2), (vec![1.0 / 3.0, 8.0], 1)] {
            for place in 0..count {
                rows.push(SoftRow { class_ids: &[1], log_probs: &[-0.5], ..SoftRow::default() });
                add_vectors(&columns, &vec![piece.clone(); 3], place, &sample, &mut rows);
            }
        }
        let third = 0.333_251_95;
        let values: Vec<&[f32]> = rows.extras.iter().map(|extra| &extra.values[..]).collect();
        assert_eq!(values, [&[1.0, 2.0, 3.0, 5.0, third, 8.0][..], &[third, 8.0], &[1.444_335_9, 5.0]]);
        assert_eq!(rows.extras.iter().map(|extra| extra.per_position).collect::<Vec<_>>(), [2, 0, 0]);
    }
}
