//! Caches whose source told less than a teacher of our own: what they serve is right, and the rest is refused by name.

use crate::fixture::keep;
use crate::losses::{LABEL, all, cached_by, judge, term, told};
use logitcask_core::divergence::{Properties, compare};
use logitcask_core::{GoldSource, RowSource, Schedule, Selection, SoftRow, TailPolicy, TailSource, Truncation};
use logitcask_train::LossConfig;

fn sources() -> Vec<Truncation> {
    let of = |selection, source: RowSource| {
        let keep = keep(selection);
        Truncation { tail: keep.tail.filter(|_| source.tail == TailSource::Atoms), source, ..keep }
    };
    let (top_k, top_p) = (Selection::TopK { k: 5 }, Selection::TopP { p: 0.8, k: 12 });
    let full = RowSource::FULL;
    vec![
        of(top_k, RowSource { log_z: false, gold: GoldSource::Kept, tail: TailSource::Mass }),
        of(top_p, RowSource { tail: TailSource::Mass, ..full }),
        of(top_p, RowSource { log_z: false, gold: GoldSource::None, tail: TailSource::None }),
        of(top_k, RowSource { gold: GoldSource::Kept, ..full }),
        of(top_k, RowSource { log_z: false, ..full }),
        of(Selection::Dense {}, RowSource { log_z: false, ..full }),
    ]
}

#[test]
fn every_loss_is_refused_or_gives_what_the_reference_gives() {
    for keep in sources() {
        keep.check(30).unwrap();
        let vocab_size = 30;
        let (rows, students) = cached_by(&keep, vocab_size);
        let rows: Vec<SoftRow> = rows.iter().collect();
        let (mut accepted, mut refused) = (0, 0);
        for divergence in all() {
            for tail in TailPolicy::ALL {
                for temperature in [1.0, 2.0] {
                    let config = LossConfig {
                        alpha: Schedule::Constant(0.5),
                        divergence,
                        tail,
                        temperature: Schedule::Constant(temperature),
                        ..LossConfig::LABELS
                    };
                    if config.check().is_err() || (divergence.needs_all_classes() && !keep.is_dense()) {
                        continue;
                    }
                    if config.check_against(&keep).is_err() {
                        refused += 1;
                        continue;
                    }
                    accepted += 1;
                    let term = term(divergence, tail, temperature);
                    let exact: Vec<_> = rows
                        .iter()
                        .zip(&students)
                        .map(|(row, s)| compare(divergence, s, temperature, &told(row, &term)))
                        .collect();
                    let loss: Vec<f64> = exact.iter().map(|e| e.loss).collect();
                    let gradient: Vec<f64> = exact.into_iter().flat_map(|e| e.gradient).collect();
                    let what = format!("{} {term:?}", keep.source);
                    assert!(loss.iter().chain(&gradient).all(|number| number.is_finite()), "{what}: {loss:?}");
                    judge(&rows, &[LABEL; 6], &students, &term, (&loss, &gradient), &what);
                }
            }
        }
        assert!(accepted > 0 && refused > 0, "{}: {accepted} accepted, {refused} refused", keep.source);
    }
}

#[test]
fn what_a_source_did_not_tell_is_named() {
    let loss = |more: &str| -> LossConfig { serde_json::from_str(&format!("{{\"alpha\":0.5{more}}}")).unwrap() };
    let [served, mass, nothing, kept, no_log_z, _] = <[Truncation; 6]>::try_from(sources()).unwrap();
    let refused = |more: &str, keep: &Truncation, words: &[&str]| {
        let problem = loss(more).check_against(keep).unwrap_err().to_string();
        assert!(words.iter().all(|word| problem.contains(word)), "{more}: {problem}");
    };
    let accepted = |more: &str, keep: &Truncation| assert_eq!(loss(more).check_against(keep), Ok(()), "{more}");
    refused(r#","temperature":2"#, &served, &["temperature = 2", "1 over this cache", "\"mass\"", "\"renorm\""]);
    refused(r#","temperature":{"kind":"linear","start":1,"end":4}"#, &mass, &["temperature = 4"]);
    accepted(r#","temperature":2,"tail":"renorm""#, &served);
    accepted(r#","classes":3"#, &served);
    refused("", &nothing, &["tail = \"bucket\"", "\"renorm\" over this cache", "probability of the tail"]);
    accepted(r#","tail":"renorm","temperature":3"#, &nothing);
    let mean_squares = r#","divergence":{"kind":"mean_squares"},"tail":"renorm""#;
    refused(mean_squares, &no_log_z, &["mean_squares", "keep.source.log_z"]);
    refused(r#","divergence":{"kind":"mean_squares","centred":true},"tail":"renorm""#, &mass, &["shape of the tail"]);
    refused(r#","divergence":{"kind":"pearson"}"#, &mass, &["pearson", "shape of the tail"]);
    refused(r#","divergence":{"kind":"decoupled"}"#, &kept, &["decoupled", "keep.source.gold"]);
    accepted(r#","divergence":{"kind":"decoupled"}"#, &mass);
    for target in [r#"{"kind":"swap"}"#, r#"{"kind":"lift","margin":1}"#, r#"{"kind":"label"}"#] {
        refused(&format!(r#","target":{target}"#), &kept, &["target", "keep.source.gold"]);
    }
    accepted(r#","target":{"kind":"similar","classes":4,"temperature":0.1}"#, &kept);
    // DTKD compares the teacher's raw logits with the student's, NormKD divides by their deviation.
    refused(r#","temperature_rule":{"kind":"dtkd"}"#, &no_log_z, &["temperature_rule", "keep.source.log_z"]);
    refused(r#","temperature_rule":{"kind":"logit_std"}"#, &mass, &["temperature_rule", "shape of the tail"]);
    accepted(r#","temperature_rule":{"kind":"logit_std"}"#, &no_log_z);
    refused(
        r#","token_weight":{"kind":"gate","rank":3}"#,
        &kept,
        &["token_weight", "TeacherLabel", "keep.source.gold"],
    );
    // A loss on labels alone needs nothing of the teacher.
    let labels = LossConfig { temperature: Schedule::Constant(2.0), ..LossConfig::LABELS };
    assert_eq!(labels.check_against(&nothing), Ok(()));
}
