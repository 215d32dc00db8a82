//! What a recipe may not say about a loss, and why.

use crate::fixture::keep;
use logitcask_core::{Curve, Divergence, Selection, TailPolicy};
use logitcask_train::LossConfig;

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let config = |divergence, tail| LossConfig { alpha: Curve::Constant(0.9), divergence, tail, ..LossConfig::LABELS };
    let refused = config(Divergence::ReverseKl {}, TailPolicy::Renormalize).check().unwrap_err();
    assert!(refused.contains("renorm") && refused.contains("bucket"), "{refused}");
    let refused = config(Divergence::JensenShannon { beta: 2.0 }, TailPolicy::Bucket).check().unwrap_err();
    assert!(refused.contains("beta = 2"), "{refused}");
    let sampled = config(Divergence::ForwardKl {}, TailPolicy::Sampled);
    let refused = sampled.fits(&keep(Selection::TopK { k: 5 })).unwrap_err();
    assert!(refused.contains("drawn_counts"), "{refused}");
    assert!(sampled.fits(&keep(Selection::Sample { n: 8, seed: 0 })).is_ok());

    // What moves is judged by where it goes, not by where it starts.
    let moving = |alpha: &str, temperature: &str| LossConfig {
        alpha: serde_json::from_str(alpha).unwrap(),
        temperature: serde_json::from_str(temperature).unwrap(),
        ..LossConfig::LABELS
    };
    let to = |end: f64| format!(r#"{{"kind":"linear","start":1,"end":{end}}}"#);
    assert!(moving(&to(1.5), "1").check().unwrap_err().contains("alpha = 1.5"));
    assert!(moving("0.5", &to(0.0)).check().unwrap_err().contains("temperature = 0"));
    let hot = moving("0.5", &to(50.0)).fits(&keep(Selection::TopK { k: 5 })).unwrap_err();
    assert!(hot.contains("temperature = 50 is outside"), "{hot}");
    assert!(moving(&to(0.0), "1").needs_teacher() && !moving("0", "1").needs_teacher());
}
