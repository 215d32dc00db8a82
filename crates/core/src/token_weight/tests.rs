use super::*;
use crate::Schedule;
use crate::temperature::{LogitStats, TokenStats};

fn context(positions: &[TokenStats], progress: f64) -> StepContext<'_> {
    StepContext { progress, temperature: 1.0, vocab_size: 100, positions }
}

fn positions(distances: &[f64]) -> Vec<TokenStats> {
    distances.iter().map(|&distance| TokenStats { distance, ..TokenStats::default() }).collect()
}

#[test]
fn the_top_share_is_chosen_and_the_loss_is_its_mean() {
    let positions = positions(&[0.1, 0.5, 0.5, 0.2]);
    let mut top = TokenWeight::Top(Top { by: By::Distance, share: Schedule::Constant(0.5) }).start();
    assert_eq!(top.weights(&context(&positions, 0.0)), [0.0, 2.0, 2.0, 0.0]);
    let mut one = TokenWeight::Top(Top { by: By::Distance, share: Schedule::Constant(0.01) }).start();
    assert_eq!(one.weights(&context(&positions, 0.0)), [0.0, 4.0, 0.0, 0.0], "never none, ties to the first");
}

#[test]
fn positions_are_ranked_by_what_is_asked() {
    let student = |largest: f64, second: f64, entropy| LogitStats { log_z: 3.0, largest, second, entropy, label: 0.0 };
    let positions = [
        TokenStats { student: student(2.9, 0.0, 1.0), ..TokenStats::default() },
        TokenStats { student: student(2.5, 2.4, 3.0), ..TokenStats::default() },
        TokenStats { student: student(2.0, 0.0, 2.0), ..TokenStats::default() },
    ];
    let chosen = |by| {
        let share = Schedule::Constant(0.3);
        let weights = TokenWeight::Top(Top { by, share }).start().weights(&context(&positions, 0.0));
        weights.iter().position(|w| *w > 0.0)
    };
    assert_eq!(chosen(By::Entropy), Some(1));
    assert_eq!(chosen(By::Margin), Some(1));
    assert_eq!(chosen(By::LeastConfidence), Some(2));
}

#[test]
fn uncertainty_is_a_share_of_the_most_there_can_be() {
    let of = |entropy| TokenStats { student: LogitStats { entropy, ..LogitStats::default() }, ..TokenStats::default() };
    let mut rule = TokenWeight::Entropy(Entropy { of: Of::Student }).start();
    let weights = rule.weights(&context(&[of(0.0), of(100f64.ln()), of(50f64.ln())], 0.0));
    assert_eq!((weights[0], weights[1]), (0.0, 1.0));
    assert!((weights[2] - 50f64.ln() / 100f64.ln()).abs() < 1e-12);
    let mut teacher = TokenWeight::Entropy(Entropy { of: Of::Teacher }).start();
    assert_eq!(teacher.weights(&context(&[of(1.0)], 0.0)), [0.0], "the student's own does not count here");
}

#[test]
fn a_gate_tells_right_from_wrong_and_turns_during_the_run() {
    let ranked = |gold_rank| TokenStats { gold_rank, ..TokenStats::default() };
    let positions = [ranked(0), ranked(4), ranked(5)];
    let gate: TokenWeight = serde_json::from_str(r#"{"kind":"gate","rank":5}"#).unwrap();
    assert_eq!(gate.start().weights(&context(&positions, 0.0)), [1.0, 1.0, 0.0]);
    let gate: TokenWeight = serde_json::from_str(
        r#"{"kind":"gate","right":{"kind":"linear","start":1,"end":0.5},"wrong":{"kind":"linear","start":0.1,"end":0.6}}"#,
    )
    .unwrap();
    assert_eq!(gate.start().weights(&context(&positions, 0.0))[..2], [1.0, 0.1]);
    assert_eq!(gate.start().weights(&context(&positions, 1.0))[..2], [0.5, 0.6]);
}

#[test]
fn the_share_follows_the_loss() {
    let positions = positions(&[0.5; 100]);
    let mut rule = TokenWeight::Latf(Latf::default()).start();
    let mut share_after = |losses: &[f64], progress: f64| {
        for &divergence in losses {
            rule.weights(&context(&positions, progress));
            rule.observe(&StepFeedback { divergence, ..StepFeedback::default() });
        }
        rule.state()[0]
    };
    assert_eq!(share_after(&[9.0, 1.0, 5.0], 0.01), 1.0, "the warm-up");
    // The mean must fall by a twentieth before the share does, and each time by a twentieth of itself.
    let fallen = share_after(&[0.0; 7], 0.5);
    assert!((fallen - 0.95).abs() < 1e-12, "{fallen}");
    assert!((share_after(&[0.0; 400], 0.5) - 0.1).abs() < 0.01, "not below a tenth");
    assert!(share_after(&[50.0; 400], 0.9) > 0.9, "a rising loss brings positions back");

    let state = rule.state();
    let mut again = TokenWeight::Latf(Latf::default()).start();
    assert!(again.restore(&state) && again.state() == state);
    assert!(!again.restore(&[1.0]));
}

#[test]
fn shares_and_weights_that_are_none_are_refused() {
    let refused = |json: &str| serde_json::from_str::<TokenWeight>(json).unwrap().check().unwrap_err().to_string();
    assert!(refused(r#"{"kind":"top","by":"entropy","share":0}"#).contains("share = 0"));
    assert!(refused(r#"{"kind":"gate","wrong":-1}"#).contains("wrong = -1"));
    assert!(refused(r#"{"kind":"latf","delta":1.5}"#).contains("delta = 1.5"));
    assert!(serde_json::from_str::<TokenWeight>(r#"{"kind":"latf","shrink":1}"#).is_err());
}

#[test]
fn an_uncertain_student_follows_the_first_of_two_teachers() {
    let of = |entropy| TokenStats { student: LogitStats { entropy, ..LogitStats::default() }, ..TokenStats::default() };
    let positions = [of(0.0), of(100f64.ln()), of(2.0), of(3.0)];
    let second = |json: &str| {
        let mut blend: Blend = serde_json::from_str(json).unwrap();
        blend.weights(&context(&positions, 0.5))
    };
    assert_eq!(second(r#"{"kind":"hard"}"#), [1.0, 0.0, 1.0, 0.0], "one half each");
    let soft = second(r#"{"kind":"soft"}"#);
    assert_eq!((soft[0], soft[1]), (1.0, 0.0));
    assert!(soft[2] > soft[3]);
    assert_eq!(second(r#"{"kind":"fixed","share":{"kind":"linear","start":0,"end":1}}"#), [0.5]);
    let refused =
        serde_json::from_str::<Blend>(r#"{"kind":"fixed","share":2}"#).unwrap().check().unwrap_err().to_string();
    assert!(refused.contains("share = 2"), "{refused}");
}
