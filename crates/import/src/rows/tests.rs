use super::*;
use crate::source::Place;
use logitcask_core::{GoldSource, LogProbPrecision, Positions, RowSource, Selection, TailSource};
use std::path::Path;

fn rules(k: u32, renormalise: bool) -> Rules {
    let source = RowSource { log_z: false, gold: GoldSource::Kept, tail: TailSource::Mass };
    let keep = Truncation {
        selection: Selection::TopK { k },
        always_keep: Vec::new(),
        values: LogProbPrecision::F16 {},
        tail: None,
        padding: 0,
        source,
    };
    Rules { keep, vocab_size: 10, renormalise }
}

/// A sample of two tokens whose only position has these classes and probabilities.
fn sample(entries: &[(u64, f64)]) -> ForeignSample {
    let entry = |&(id, p): &(u64, f64)| Entry { id, log_prob: p.ln() };
    ForeignSample {
        place: Place { path: Path::new("data_3.parquet").into(), unit: "row", number: 5 },
        document: 7,
        input_ids: vec![1, 2],
        positions: Positions::All,
        rows: vec![ForeignPosition { entries: entries.iter().map(entry).collect(), log_z: None }],
    }
}

fn taken(entries: &[(u64, f64)], renormalise: bool) -> Result<(SoftRows, Tally, RowErrors)> {
    let rules = rules(entries.len() as u32, renormalise);
    let (mut errors, mut tally) = (RowErrors::new(&rules.keep), Tally::default());
    let (sample, rows) = take(sample(entries), 3, &rules, &mut errors, &mut tally)?;
    assert_eq!((sample.id.0, sample.origin.document, &*sample.input_ids), (3, 7, &[1, 2][..]));
    assert_eq!(rows.check(&rules.keep, &sample.labels(), 10), Ok(()));
    Ok((rows, tally, errors))
}

fn refused(entries: &[(u64, f64)], words: &str) {
    let error = taken(entries, false).unwrap_err().to_string();
    assert!(error.starts_with("data_3.parquet: row 5: position 0: "), "{error}");
    assert!(error.contains(words), "{error}");
}

#[test]
fn values_that_rise_again_are_sorted_and_counted() {
    let (rows, tally, errors) = taken(&[(4, 0.5), (2, 0.125), (9, 0.25)], false).unwrap();
    assert_eq!((&*rows.class_ids, &*rows.gold_ranks), (&[4, 9, 2][..], &[2][..]));
    let expected = [0.5f64, 0.25, 0.125].map(f64::ln);
    assert!(rows.log_probs.iter().zip(expected).all(|(stored, exact)| (f64::from(*stored) - exact).abs() < 1e-3));
    assert_eq!(tally, Tally { positions: 1, sorted: 1, labels_kept: 1, ..Tally::default() });
    assert!(errors.codec.worst() > 0.0 && errors.codec.worst() < 1e-3, "f16 rounds");
    let (.., tally, _) = taken(&[(4, 0.5), (9, 0.25), (2, 0.25)], false).unwrap();
    assert_eq!(tally.sorted, 0, "equal values fall");
}

#[test]
fn equal_values_are_in_the_order_of_ids() {
    let (rows, ..) = taken(&[(9, 0.25), (4, 0.25)], false).unwrap();
    assert_eq!(rows.class_ids, [4, 9]);
}

#[test]
fn of_a_label_outside_the_kept_classes_nothing_is_known() {
    let (rows, tally, _) = taken(&[(4, 0.5), (9, 0.25)], false).unwrap();
    assert_eq!((&*rows.gold_ranks, tally.labels_kept), (&[Gold::UNKNOWN_RANK][..], 0));
    assert!(rows.gold_log_probs.is_empty() && rows.log_z.is_empty() && rows.tail.is_empty());
}

#[test]
fn mass_above_one_is_put_down_to_rounding_refused_or_divided() {
    let (.., tally, _) = taken(&[(4, 0.7), (9, 0.305)], false).unwrap();
    assert_eq!((tally.above_one, tally.renormalised), (1, 0));
    refused(&[(4, 0.7), (9, 0.5)], "hold 1.2000 of the probability, and at most 1.01 belongs there");
    refused(&[(4, 0.7), (9, 0.5)], "--renormalise");
    let (rows, tally, _) = taken(&[(4, 0.75), (9, 0.5)], true).unwrap();
    assert_eq!((tally.above_one, tally.renormalised), (0, 1));
    let masses: Vec<f32> = rows.log_probs.iter().map(|log_prob| log_prob.exp()).collect();
    assert!((masses[0] - 0.6).abs() < 1e-3 && (masses[1] - 0.4).abs() < 1e-3, "{masses:?}");
    let (.., tally, _) = taken(&[(4, 0.5), (9, 0.25)], true).unwrap();
    assert_eq!(tally.renormalised, 0, "a mass below 1 is right as it is");
}

#[test]
fn classes_that_cannot_be_are_refused() {
    refused(&[(4, 0.5), (9, 0.25), (4, 0.1)], "class 4 is there twice");
    refused(&[(4, 0.5), (10, 0.25)], "place 1 holds class 10, but the tokenizer has 10 tokens");
    refused(&[(4, 0.5), (9, 0.0)], "place 1 holds the log-probability -inf for class 9");
    refused(&[(4, f64::NAN)], "NaN");
}

#[test]
fn tokens_and_positions_that_do_not_fit_are_refused() {
    let rules = rules(1, false);
    let error = |foreign: ForeignSample| {
        let (mut errors, mut tally) = (RowErrors::new(&rules.keep), Tally::default());
        take(foreign, 0, &rules, &mut errors, &mut tally).unwrap_err().to_string()
    };
    let whole = sample(&[(4, 0.5)]);
    let beyond = ForeignSample { input_ids: vec![1, 10], ..whole.clone() };
    assert!(error(beyond).contains("row 5: token 1 has the id 10, but the tokenizer has 10 tokens"));
    let longer = ForeignSample { input_ids: vec![1, 2, 3], ..whole };
    assert!(error(longer).contains("row 5: 3 tokens have 2 positions, but 1 are stored"));
}
