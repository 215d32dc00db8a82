//! Selection from summaries that were computed in f64, compared with selection from the whole rows.

use super::*;
use crate::RowSelector;
use logitcask_core::rng::CounterRng;
use logitcask_core::{LogProbPrecision, RowSource, TailRule};

fn keep(selection: Selection, always_keep: Vec<u32>, padding: u32) -> Truncation {
    let tail = Some(TailRule { lowest_temperature: 0.75, highest_temperature: 10.0, atoms: 4 });
    Truncation { selection, always_keep, values: LogProbPrecision::F16 {}, tail, padding, source: RowSource::FULL }
}

/// A summary that owns its numbers.
struct Summary {
    ids: Vec<u32>,
    logits: Vec<f32>,
    always_kept: Vec<f32>,
    rank: u32,
    bound: f32,
    sums: Vec<f64>,
}

fn summarise(row: &[f32], gold: u32, keep: &Truncation, spec: &SummarySpec) -> Summary {
    let classes = row.len() - spec.padding;
    let mut order: Vec<u32> = (0..classes as u32).collect();
    order.sort_by(|&a, &b| row[b as usize].total_cmp(&row[a as usize]).then(a.cmp(&b)));
    let rank = order.iter().position(|&id| id == gold).unwrap() as u32;
    let ids = order[..spec.count].to_vec();
    let rest: Vec<f64> = (0..row.len() as u32)
        .filter(|id| !ids.contains(id) && !keep.always_keep.contains(id))
        .map(|id| f64::from(row[id as usize]))
        .collect();
    let bound = rest.iter().copied().fold(f64::MIN, f64::max);
    let (low, step) = spec.grid;
    let powers = (0..spec.powers).map(|j| low + j as f64 * step).chain([1.0]);
    let sums = powers.map(|b| rest.iter().map(|z| (b * (z - bound)).exp()).sum()).collect();
    let logits_of = |ids: &[u32]| ids.iter().map(|&id| row[id as usize]).collect();
    Summary { logits: logits_of(&ids), always_kept: logits_of(&keep.always_keep), ids, rank, bound: bound as f32, sums }
}

#[test]
fn a_summary_gives_the_row_that_all_logits_give() {
    let mut rng = CounterRng::new("summary test", &[]);
    let mut decided = 0;
    for i in 0..200 {
        let selection = if i % 2 == 0 { Selection::TopK { k: 1 + i } } else { Selection::TopP { p: 0.9, k: 40 } };
        let keep = keep(selection, if i % 3 == 0 { vec![5, 17] } else { Vec::new() }, if i % 5 == 0 { 7 } else { 0 });
        let spread = [0.5, 2.0, 4.0][i as usize % 3];
        let row: Vec<f32> = (0..1500).map(|_| (spread * (rng.normal() + rng.normal())) as f32).collect();
        let gold = rng.below(1400) as u32;
        let spec = SummarySpec::new(&keep, row.len()).unwrap();
        let summary = summarise(&row, gold, &keep, &spec);
        let summary = RowSummary {
            ids: &summary.ids,
            logits: &summary.logits,
            always_kept: &summary.always_kept,
            gold: row[gold as usize],
            rank: summary.rank,
            bound: summary.bound,
            sums: &summary.sums,
        };
        let (mut got, mut got_errors) = (SoftRows::new(&keep), RowErrors::new(&keep));
        if !SummarySelector::new(&keep).select(summary, gold, &mut got, &mut got_errors).unwrap() {
            continue;
        }
        decided += 1;
        let (mut wanted, mut errors) = (SoftRows::new(&keep), RowErrors::new(&keep));
        RowSelector::new(&keep).select(&row, gold, 0.0, &mut wanted, &mut errors).unwrap();
        assert_eq!((&got.class_ids, &got.gold_ranks), (&wanted.class_ids, &wanted.gold_ranks), "{keep:?}");
        assert!((got.log_z[0] - wanted.log_z[0]).abs() < 1e-5, "{} instead of {}", got.log_z[0], wanted.log_z[0]);
        let worst = |errors: &RowErrors| errors.log_z.iter().map(|error| error.worst()).fold(0.0, f64::max);
        assert!(worst(&got_errors) < worst(&errors) + 2e-3, "{} and {}", worst(&got_errors), worst(&errors));
    }
    assert!(decided > 190, "only {decided} of 200 summaries determined their rows");
}

#[test]
fn what_a_summary_cannot_tell_is_left_to_the_whole_row() {
    let top_k = keep(Selection::TopK { k: 8 }, Vec::new(), 0);
    assert!(SummarySpec::new(&top_k, 1000).is_some());
    assert_eq!(SummarySpec::new(&top_k, 100), None);
    assert_eq!(SummarySpec::new(&keep(Selection::Sample { n: 8, seed: 0 }, Vec::new(), 0), 1000), None);
    assert_eq!(SummarySpec::new(&Truncation { tail: None, ..top_k }, 1000), None);
}
