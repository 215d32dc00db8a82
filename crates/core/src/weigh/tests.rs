use super::*;
use crate::adapt::{Facts, Position};

fn scene(positions: &[Position], done: f64) -> Scene<'_> {
    Scene { done, temperature: 1.0, vocab_size: 100, positions }
}

fn positions(distances: &[f64]) -> Vec<Position> {
    distances.iter().map(|&distance| Position { distance, ..Position::default() }).collect()
}

#[test]
fn the_top_share_is_chosen_and_the_loss_is_its_mean() {
    let positions = positions(&[0.1, 0.5, 0.5, 0.2]);
    let mut top = Weigh::Top { by: top::By::Distance, share: Curve::Constant(0.5) }.start();
    assert_eq!(top.weights(&scene(&positions, 0.0)), [0.0, 2.0, 2.0, 0.0]);
    let mut one = Weigh::Top { by: top::By::Distance, share: Curve::Constant(0.01) }.start();
    assert_eq!(one.weights(&scene(&positions, 0.0)), [0.0, 4.0, 0.0, 0.0], "never none, ties to the first");
}

#[test]
fn positions_are_ranked_by_what_is_asked() {
    let student = |largest: f64, second: f64, entropy| Facts { log_z: 3.0, largest, second, entropy, gold: 0.0 };
    let positions = [
        Position { student: student(2.9, 0.0, 1.0), ..Position::default() },
        Position { student: student(2.5, 2.4, 3.0), ..Position::default() },
        Position { student: student(2.0, 0.0, 2.0), ..Position::default() },
    ];
    let chosen = |by| {
        let share = Curve::Constant(0.3);
        let weights = Weigh::Top { by, share }.start().weights(&scene(&positions, 0.0));
        weights.iter().position(|w| *w > 0.0)
    };
    assert_eq!(chosen(top::By::Entropy), Some(1));
    assert_eq!(chosen(top::By::Margin), Some(1));
    assert_eq!(chosen(top::By::LeastConfidence), Some(2));
}

#[test]
fn uncertainty_is_a_share_of_the_most_there_can_be() {
    let of = |entropy| Position { student: Facts { entropy, ..Facts::default() }, ..Position::default() };
    let mut rule = Weigh::Entropy { of: Whose::Student }.start();
    let weights = rule.weights(&scene(&[of(0.0), of(100f64.ln()), of(50f64.ln())], 0.0));
    assert_eq!((weights[0], weights[1]), (0.0, 1.0));
    assert!((weights[2] - 50f64.ln() / 100f64.ln()).abs() < 1e-12);
    let mut teacher = Weigh::Entropy { of: Whose::Teacher }.start();
    assert_eq!(teacher.weights(&scene(&[of(1.0)], 0.0)), [0.0], "the student's own does not count here");
}

#[test]
fn a_gate_tells_right_from_wrong_and_turns_during_the_run() {
    let ranked = |gold_rank| Position { gold_rank, ..Position::default() };
    let positions = [ranked(0), ranked(4), ranked(5)];
    let gate: Weigh = serde_json::from_str(r#"{"kind":"gate","rank":5}"#).unwrap();
    assert_eq!(gate.start().weights(&scene(&positions, 0.0)), [1.0, 1.0, 0.0]);
    let gate: Weigh = serde_json::from_str(
        r#"{"kind":"gate","right":{"kind":"linear","start":1,"end":0.5},"wrong":{"kind":"linear","start":0.1,"end":0.6}}"#,
    )
    .unwrap();
    assert_eq!(gate.start().weights(&scene(&positions, 0.0))[..2], [1.0, 0.1]);
    assert_eq!(gate.start().weights(&scene(&positions, 1.0))[..2], [0.5, 0.6]);
}

#[test]
fn the_share_follows_the_loss() {
    let positions = positions(&[0.5; 100]);
    let mut rule = Weigh::Latf(latf::Latf::default()).start();
    let mut share_after = |losses: &[f64], done: f64| {
        for &divergence in losses {
            rule.weights(&scene(&positions, done));
            rule.learn(&Outcome { divergence, ..Outcome::default() });
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
    let mut again = Weigh::Latf(latf::Latf::default()).start();
    assert!(again.restore(&state) && again.state() == state);
    assert!(!again.restore(&[1.0]));
}

#[test]
fn shares_and_weights_that_are_none_are_refused() {
    let refused = |json: &str| serde_json::from_str::<Weigh>(json).unwrap().check().unwrap_err();
    assert!(refused(r#"{"kind":"top","by":"entropy","share":0}"#).contains("share = 0"));
    assert!(refused(r#"{"kind":"gate","wrong":-1}"#).contains("wrong = -1"));
    assert!(refused(r#"{"kind":"latf","delta":1.5}"#).contains("delta = 1.5"));
    assert!(serde_json::from_str::<Weigh>(r#"{"kind":"latf","shrink":1}"#).is_err());
}

#[test]
fn an_uncertain_student_follows_the_first_of_two_teachers() {
    let of = |entropy| Position { student: Facts { entropy, ..Facts::default() }, ..Position::default() };
    let positions = [of(0.0), of(100f64.ln()), of(2.0), of(3.0)];
    let second = |json: &str| {
        let mut blend: Blend = serde_json::from_str(json).unwrap();
        blend.weights(&scene(&positions, 0.5))
    };
    assert_eq!(second(r#"{"kind":"hard"}"#), [1.0, 0.0, 1.0, 0.0], "one half each");
    let soft = second(r#"{"kind":"soft"}"#);
    assert_eq!((soft[0], soft[1]), (1.0, 0.0));
    assert!(soft[2] > soft[3]);
    assert_eq!(second(r#"{"kind":"fixed","share":{"kind":"linear","start":0,"end":1}}"#), [0.5]);
    let refused = serde_json::from_str::<Blend>(r#"{"kind":"fixed","share":2}"#).unwrap().check().unwrap_err();
    assert!(refused.contains("share = 2"), "{refused}");
}
