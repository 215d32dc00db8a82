//! Caches whose source told less than a teacher that runs beside the writer.

use super::*;
use crate::card::CARD_NAME;
use crate::{Error, Tier, schema};
use logitcask_core::Gold;

fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    for layout in [Layout::Plain, Layout::Packed] {
        let of = |selection| Plan { layout, ..plan(selection, &[("train", 12), ("val", 3)], 6) };
        plans.extend([
            told(of(TOP_K), LOG_PROBS),
            told(of(TOP_P), LOG_PROBS),
            told(of(TOP_P), RENORMALISED),
            told(of(TOP_K), RowSource { gold: GoldSource::Kept, ..RowSource::FULL }),
            told(of(TOP_P), RowSource { tail: TailSource::Mass, ..RowSource::FULL }),
            told(of(SAMPLE), RowSource { log_z: false, ..RowSource::FULL }),
            told(of(Selection::Dense {}), RowSource { log_z: false, ..RowSource::FULL }),
        ]);
    }
    plans
}

#[test]
fn what_was_told_comes_back_and_nothing_else_is_stored() {
    for plan in plans() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = write(folder.path(), &plan);
        assert_eq!(manifest.totals.log_z_error.is_empty(), plan.keep.tail.is_none());
        let reader = CacheReader::open(folder.path()).unwrap();
        assert_eq!(reader.plan(), &plan);
        let read: Vec<_> = reader.in_order("train").unwrap().map(|row| row.unwrap()).collect();
        let written = (0..2).flat_map(|unit| rows_of(&plan, unit, 0));
        assert!(read.into_iter().map(|row| (row.sample, row.rows)).eq(written), "{}", plan.keep.source);
        let report = crate::verify(folder.path(), Tier::Rows, &mut |_, _| {}).unwrap();
        assert!(report.is_whole(), "{}: {:?}", plan.keep.source, report.findings);
        let columns = schema::columns(&plan);
        let has = |name| columns.column_with_name(name).is_some();
        let source = plan.keep.source;
        if plan.layout == Layout::Packed {
            assert!(!has(schema::LOG_Z) && !has(schema::GOLD_RANKS) && !has(schema::TAIL_LOGITS));
            continue;
        }
        assert_eq!(has(schema::LOG_Z), source.log_z);
        assert_eq!(has(schema::GOLD_LOG_PROBS), source.gold == GoldSource::Always);
        assert_eq!(has(schema::GOLD_RANKS), source.gold != GoldSource::None);
        assert_eq!(has(schema::TAIL_LOGITS), plan.keep.tail.is_some());
    }
}

#[test]
fn a_full_source_is_left_out_of_plan_and_id_and_another_is_another_plan() {
    let full = plan(TOP_K, &[("train", 12)], 6);
    let text = String::from_utf8(json::to_bytes(&full)).unwrap();
    assert!(!text.contains("source"), "{text}");
    let partial = told(full.clone(), LOG_PROBS);
    assert_ne!(full.id(), partial.id());
    let differences = full.differences(&partial).join("; ");
    assert!(differences.contains("source: log_z, gold always, tail atoms here"), "{differences}");
}

#[test]
fn a_writer_and_a_reader_refuse_what_the_source_cannot_have_told() {
    let plan = told(plan(TOP_K, &[("train", 6)], 6), LOG_PROBS);
    type Breakage = fn(&mut SoftRows);
    let broken: [(&str, Breakage); 5] = [
        ("is said to be outside them, but the kept classes hold it", |rows| {
            let kept = rows.gold_ranks.iter_mut().find(|rank| **rank != Gold::UNKNOWN_RANK).unwrap();
            *kept = Gold::UNKNOWN_RANK;
        }),
        ("but the kept classes lack it", |rows| {
            let outside = rows.gold_ranks.iter_mut().find(|rank| **rank == Gold::UNKNOWN_RANK).unwrap();
            *outside = 0;
        }),
        ("of the probability, 1 at most belongs there", |rows| {
            rows.log_probs[..4].copy_from_slice(&[-0.5, -0.75, -1.0, -1.25]);
        }),
        ("that of equally probable classes", |rows| rows.log_probs.iter_mut().for_each(|lp| *lp -= 16.0)),
        ("`gold_ranks` holds", |rows| _ = rows.gold_ranks.pop()),
    ];
    for (message, breakage) in broken {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &plan);
        let mut rows = rows_of(&plan, 0, 0);
        let has = |rows: &SoftRows, is_known: bool| {
            rows.gold_ranks.iter().any(|rank| (*rank != Gold::UNKNOWN_RANK) == is_known)
        };
        let place = rows.iter().position(|(_, rows)| has(rows, true) && has(rows, false)).unwrap();
        breakage(&mut rows[place].1);
        let writer = tempfile::tempdir().unwrap();
        let writer = CacheWriter::open(writer.path(), plan.clone(), TOKENIZER).unwrap();
        let error = writer.write_unit(0, &rows, &RowErrors::new(&plan.keep)).unwrap_err();
        assert!(matches!(&error, Error::BadRow { sample, .. } if *sample == place as u64), "{error}");
        assert!(error.to_string().contains(message), "{error}");
        // The same rows in a shard that the manifest vouches for.
        forge(folder.path(), &plan, 0, &crate::codec::encode(&plan, plan.id(), 0, &rows).unwrap());
        let error = read_error(folder.path(), "train").unwrap();
        let shard = plan.shard_name(0);
        assert!(error.contains(message) && error.contains(&shard) && error.contains(&format!("{place}")), "{error}");
    }
}

#[test]
fn a_card_says_what_was_told_and_has_no_program_for_what_was_not() {
    for (source, words, has_program) in [
        (RowSource::FULL, &["a summary of all others"][..], true),
        (
            LOG_PROBS,
            &["told by the source | no log_z, gold kept, tail mass", "4294967295", "what these leave of 1"],
            false,
        ),
        (RENORMALISED, &["no log_z, gold none, tail none", "nothing of all others"], false),
    ] {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &told(plan(TOP_K, &[("train", 2)], 2), source));
        let card = fs::read_to_string(folder.path().join(CARD_NAME)).unwrap();
        assert!(words.iter().all(|word| card.contains(word)), "{card}");
        assert_eq!(card.contains("def log_z"), has_program, "{card}");
        assert_eq!(card.contains("- name: log_z\n"), source.log_z, "{card}");
    }
}
