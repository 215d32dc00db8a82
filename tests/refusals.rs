//! Invalid settings of a loss are refused with the reason.

use crate::fixture::keep;
use logitcask_core::divergence::{ForwardKl, JensenShannon, ReverseKl};
use logitcask_core::{Divergence, Schedule, Selection, TailPolicy, TailRule, Truncation};
use logitcask_train::LossConfig;

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    fn config(divergence: impl Into<Divergence>, tail: TailPolicy) -> LossConfig {
        let (alpha, divergence) = (Schedule::Constant(0.9), divergence.into());
        LossConfig { alpha, divergence, tail, ..LossConfig::LABELS }
    }
    let refused = config(ReverseKl {}, TailPolicy::Renormalize).check().unwrap_err().to_string();
    assert!(refused.contains("renorm") && refused.contains("bucket"), "{refused}");
    let refused = config(JensenShannon { beta: 2.0 }, TailPolicy::Bucket).check().unwrap_err().to_string();
    assert!(refused.contains("beta = 2"), "{refused}");
    let sampled = config(ForwardKl {}, TailPolicy::Sampled);
    let refused = sampled.check_against(&keep(Selection::TopK { k: 5 })).unwrap_err().to_string();
    assert!(refused.contains("drawn_counts"), "{refused}");
    assert!(sampled.check_against(&keep(Selection::Sample { n: 8, seed: 0 })).is_ok());

    // A schedule is checked over its whole course, not only at its start.
    let moving = |alpha: &str, temperature: &str| LossConfig {
        alpha: serde_json::from_str(alpha).unwrap(),
        temperature: serde_json::from_str(temperature).unwrap(),
        ..LossConfig::LABELS
    };
    let to = |end: f64| format!(r#"{{"kind":"linear","start":1,"end":{end}}}"#);
    assert!(moving(&to(1.5), "1").check().unwrap_err().to_string().contains("alpha = 1.5"));
    assert!(moving("0.5", &to(0.0)).check().unwrap_err().to_string().contains("temperature = 0"));
    let hot = moving("0.5", &to(50.0)).check_against(&keep(Selection::TopK { k: 5 })).unwrap_err();
    assert_eq!((hot.key.as_str(), hot.got.as_deref()), ("[loss] temperature", Some("50")), "{hot}");
    assert!(moving(&to(0.0), "1").needs_teacher() && !moving("0", "1").needs_teacher());
}

#[test]
fn what_a_caches_rows_cannot_answer_is_refused_by_name() {
    let loss = |more: &str| -> LossConfig { serde_json::from_str(&format!("{{\"alpha\":0.5{more}}}")).unwrap() };
    let top_k = keep(Selection::TopK { k: 5 });
    let drawn = keep(Selection::Sample { n: 8, seed: 0 });
    let tail = TailRule { lowest_temperature: 0.75, highest_temperature: 4.0, atoms: 5 };
    let narrow = Truncation { tail: Some(tail), ..top_k.clone() };
    let always = Truncation { always_keep: vec![1, 2], ..top_k.clone() };
    let bounds = r#""lowest":1,"highest":4"#;
    let refused = |more: &str, keep: &Truncation, words: &[&str]| {
        let problem = loss(more).check_against(keep).unwrap_err().to_string();
        assert!(words.iter().all(|word| problem.contains(word)), "{more}: {problem}");
    };
    refused(r#","classes":8"#, &always, &["classes = 8", "keeps 7"]);
    assert_eq!(loss(r#","classes":7"#).check_against(&always), Ok(()));
    // The teacher's most probable class may not have been sampled.
    for rule in [
        r#""kind":"dtkd""#.to_owned(),
        format!(r#""kind":"agent",{bounds}"#),
        format!(r#""kind":"curriculum","instance":true,{bounds}"#),
        r#""kind":"difficulty","measure":"cosine""#.to_owned(),
    ] {
        let more = format!(r#","temperature_rule":{{{rule}}}"#);
        refused(&more, &drawn, &["temperature_rule", "drawn_counts"]);
        assert_eq!(loss(&more).check_against(&top_k), Ok(()), "{more}");
    }
    assert_eq!(loss(&format!(r#","temperature_rule":{{"kind":"curriculum",{bounds}}}"#)).check_against(&drawn), Ok(()));
    // The recipe's temperature is checked in addition to the rule's.
    refused(r#","temperature":12,"temperature_rule":{"kind":"idts"}"#, &top_k, &["temperature = 12", "0.75 to 10"]);
    // Equal logits would result in an infinite temperature.
    for more in [
        r#","temperature_rule":{"kind":"logit_std"}"#,
        r#","divergence":{"kind":"mean_squares","centred":true},"tail":"renorm""#,
    ] {
        refused(more, &narrow, &["up to 10", "0.75 to 4"]);
        assert_eq!(loss(more).check_against(&top_k), Ok(()), "{more}");
    }
    // Squared probabilities correspond to half the temperature.
    refused(r#","divergence":{"kind":"pearson"}"#, &drawn, &["temperature = 1", "0.5"]);
    assert_eq!(loss(r#","divergence":{"kind":"pearson"},"temperature":1.5"#).check_against(&drawn), Ok(()));
    refused(
        r#","divergence":{"kind":"pearson"},"temperature":2,"temperature_rule":{"kind":"idts"}"#,
        &drawn,
        &["temperature = 0.75"],
    );
    assert_eq!(loss(r#","divergence":{"kind":"pearson"}"#).check_against(&top_k), Ok(()));
}
