use super::*;
use crate::rng::CounterRng;
use crate::select::select_reference;
use crate::tests::keep;
use crate::{RowErrors, Selection, SoftRows};

fn context(positions: &[TokenStats]) -> StepContext<'_> {
    StepContext { progress: 0.0, temperature: 2.0, vocab_size: 100, positions }
}

fn each(json: &str, positions: &[TokenStats]) -> Vec<TemperaturePair> {
    let rule: TemperatureRule = serde_json::from_str(json).unwrap();
    rule.check().unwrap();
    match rule.start(0).decide(&context(positions)) {
        Temperatures::PerToken(temperatures) => temperatures,
        Temperatures::Shared(pair) | Temperatures::TimesLogitStd { pair, .. } => vec![pair],
    }
}

fn sharpest(x: f64, y: f64) -> TokenStats {
    let facts = |largest| LogitStats { largest, ..LogitStats::default() };
    TokenStats { teacher: facts(x), student: facts(y), ..TokenStats::default() }
}

#[test]
fn dtkd_shares_the_heat_and_is_plain_where_both_are_as_sharp() {
    let temperatures = each(r#"{"kind":"dtkd"}"#, &[sharpest(8.0, 8.0), sharpest(12.0, 4.0), sharpest(-1.0, 4.0)]);
    assert_eq!(temperatures[0], TemperaturePair::same(2.0));
    assert_eq!(temperatures[1], TemperaturePair { teacher: 3.0, student: 1.0 });
    assert_eq!(temperatures[2], TemperaturePair::same(2.0), "the rule says nothing of logits that are not positive");
    let shifted = each(r#"{"kind":"dtkd"}"#, &[sharpest(19.3, 11.3)]);
    assert_ne!(shifted[0], temperatures[1], "it sees the raw scale");
    let extreme = each(r#"{"kind":"dtkd"}"#, &[sharpest(1e6, 1.0)]);
    assert!((extreme[0].teacher - 4.0).abs() < 1e-4);
    assert_eq!(extreme[0].student, 0.5, "a quarter at least");
}

#[test]
fn idts_is_colder_where_the_student_is_far_and_warmer_where_it_is_near() {
    let at = |distance| TokenStats { distance, ..TokenStats::default() };
    let positions = [at(0.1), at(0.4), at(0.9)];
    let temperatures = each(r#"{"kind":"idts"}"#, &positions);
    assert_eq!(temperatures[1], TemperaturePair::same(2.0), "the median keeps the temperature");
    assert!(temperatures[0].teacher > 2.0 && temperatures[2].teacher < 2.0);
    // s = tanh(log(.9 / .4)), T = 2 e^(-s / 2).
    let expected = 2.0 * (-0.5 * (2.25f64.ln()).tanh()).exp();
    assert!((temperatures[2].student - expected).abs() < 1e-12);
    let inverted = each(r#"{"kind":"idts","inverted":true}"#, &positions);
    assert!((inverted[2].teacher * temperatures[2].teacher - 4.0).abs() < 1e-12);
    // Never beyond T e^(±c), a student that has arrived included.
    let far = each(r#"{"kind":"idts"}"#, &[at(0.0), at(0.5), at(1.0)]);
    let bound = 2.0 * 0.5f64.exp() + 1e-12;
    assert!(far.iter().all(|h| h.teacher <= bound && h.teacher >= 4.0 / bound), "{far:?}");
}

#[test]
fn harder_positions_are_colder_and_the_mean_is_kept() {
    let student = |confidence: f64| LogitStats { largest: confidence.ln(), ..LogitStats::default() };
    let of = |confidence, cosine| TokenStats { student: student(confidence), cosine, ..TokenStats::default() };
    let positions = [of(0.9, 0.99), of(0.5, 0.6), of(0.4, 0.1)];
    for json in [r#"{"kind":"difficulty"}"#, r#"{"kind":"difficulty","measure":"cosine","beta":1.5,"gamma":2}"#] {
        let temperatures: Vec<f64> = each(json, &positions).iter().map(|h| h.teacher).collect();
        assert!(temperatures[0] > temperatures[1] && temperatures[1] > temperatures[2], "{json}: {temperatures:?}");
        assert!((temperatures.iter().sum::<f64>() / 3.0 - 2.0).abs() < 1e-12, "{json}: {temperatures:?}");
    }
    let cosine = each(r#"{"kind":"difficulty","measure":"cosine","gamma":2}"#, &positions);
    assert!((cosine[0].teacher - cosine[1].teacher - (0.16 - 0.0001)).abs() < 1e-12);
}

#[test]
fn dts_falls_within_its_bounds_and_lingers_while_the_student_lags() {
    let run = |gap: f64, json: &str| {
        let rule: TemperatureRule = serde_json::from_str(json).unwrap();
        let mut rule = rule.start(0);
        let mut all = Vec::new();
        for step in 0..200 {
            let context =
                StepContext { progress: f64::from(step) / 200.0, temperature: 8.0, vocab_size: 100, positions: &[] };
            let Temperatures::Shared(pair) = rule.decide(&context) else { panic!("one for all") };
            all.push(pair.teacher);
            rule.observe(&StepFeedback {
                cross_entropy: 2.0 + gap,
                teacher_cross_entropy: 2.0,
                ..StepFeedback::default()
            });
        }
        all
    };
    let json = r#"{"kind":"dts","lowest":1,"highest":8}"#;
    let (near, far) = (run(0.0, json), run(2.0, json));
    assert_eq!(near[0], 8.0);
    assert!(near.windows(2).all(|w| w[1] <= w[0]), "falls all the way");
    assert!(near[199] < 1.6 && near.iter().chain(&far).all(|t| (1.0..=8.0).contains(t)));
    assert!(near.iter().zip(&far).all(|(n, f)| f >= n) && far[100] > near[100] + 1.0);
    let still = run(1.0, r#"{"kind":"dts","lowest":3.999999,"highest":4}"#);
    assert!(still.iter().all(|t| (t - 4.0).abs() < 1e-5), "lowest = highest is a fixed temperature");
    // As published: the boost is for students that have nearly arrived, not for those that lag.
    let published = r#"{"kind":"dts","lowest":1,"highest":8,"boost":"published"}"#;
    assert!(run(0.2, published)[100] > run(2.0, published)[100] + 1.0);
}

#[test]
fn newton_finds_the_temperature_of_an_entropy() {
    let keep = keep(Selection::TopK { k: 6 });
    for seed in 0..8u64 {
        let mut rng = CounterRng::new("entropy test", &[seed]);
        let logits: Vec<f32> = (0..300).map(|_| (2.0 * rng.normal()) as f32).collect();
        let (mut rows, mut errors) = (SoftRows::new(&keep), RowErrors::new(&keep));
        select_reference(&logits, 0, &keep, 0.5, &mut rows, &mut errors);
        let row = rows.iter().next().unwrap();
        for nats in [4.0, 4.5, 5.0] {
            let t = temperature_of_entropy(&row, nats, (0.75, 10.0));
            assert!((row.entropy(t) - nats).abs() < 1e-5, "seed {seed}: {} at T = {t}", row.entropy(t));
            // And of the whole row, within what the atoms promise of entropy.
            let scaled: Vec<f64> = logits.iter().map(|z| f64::from(*z) / t).collect();
            let log_z = crate::math::log_sum_exp(&scaled);
            let dense: f64 = scaled.iter().map(|x| (x - log_z).exp() * (log_z - x)).sum();
            assert!((dense - nats).abs() < 0.02, "seed {seed}: {dense} at T = {t}");
        }
        assert!(
            (temperature_of_entropy(&row, 100.0, (0.75, 10.0)) - 10.0).abs() < 1e-6,
            "as near as the range lets it"
        );
        assert!((temperature_of_entropy(&row, 1e-6, (0.75, 10.0)) - 0.75).abs() < 1e-6);
    }
}

#[test]
fn rules_that_say_nothing_are_refused() {
    let refused = |json: &str| serde_json::from_str::<TemperatureRule>(json).unwrap().check().unwrap_err().to_string();
    assert!(refused(r#"{"kind":"dts","lowest":4,"highest":2}"#).contains("highest = 2"));
    assert!(refused(r#"{"kind":"idts","strength":0}"#).contains("strength = 0"));
    assert!(refused(r#"{"kind":"entropy","nats":-1}"#).contains("nats = -1"));
    assert!(serde_json::from_str::<TemperatureRule>(r#"{"kind":"dtkd","tau":4}"#).is_err(), "no key that is not known");
}

/// Positions of which everything is known.
fn known(count: usize) -> Vec<TokenStats> {
    let mut rng = CounterRng::new("all rules", &[]);
    let mut row = || LogitStats {
        log_z: 8.0,
        largest: 7.9 - rng.uniform(),
        second: 5.0,
        entropy: 2.0 * rng.uniform(),
        label: -rng.uniform(),
    };
    let position = |i: usize| TokenStats {
        teacher: row(),
        student: row(),
        gold_rank: i as u32 % 3,
        is_right: i.is_multiple_of(2),
        distance: 0.1 + 0.8 * (i as f64 / count as f64),
        cosine: 0.9 - 0.5 * (i as f64 / count as f64),
        target_temperature: 1.5,
    };
    (0..count).map(position).collect()
}

#[test]
fn every_rule_reads_only_what_it_asks_for_and_goes_on_from_its_state() {
    let all = known(16);
    assert_eq!(TemperatureRule::tested().len(), TemperatureRule::NAMES.len());
    for (config, name) in TemperatureRule::tested().iter().zip(TemperatureRule::NAMES) {
        config.check().unwrap();
        assert_eq!(serde_json::to_value(config).unwrap()["kind"], *name);
        let required = config.required_stats();
        let positions: Vec<TokenStats> = all.iter().map(|position| position.only(&required)).collect();
        let positions = if required.needs_positions() { positions.as_slice() } else { &[] };
        let slopes: Vec<f64> = (0..16).map(|i| f64::from(i) - 7.0).collect();
        let asked = |stat, x: f64| if required.contains(stat) { x } else { f64::NAN };
        let feedback = StepFeedback {
            divergence: 0.4,
            cross_entropy: asked(Stat::CrossEntropy, 2.0),
            teacher_cross_entropy: asked(Stat::CrossEntropy, 1.5),
            slopes: required.contains(Stat::Slopes).then_some(&slopes[..]),
        };
        let step = |rule: &mut Box<dyn AdaptiveTemperature>, i: u32| {
            let context = StepContext { progress: 0.2 + 0.05 * f64::from(i), ..context(positions) };
            let temperatures = rule.decide(&context);
            let pairs = match &temperatures {
                Temperatures::Shared(pair) | Temperatures::TimesLogitStd { pair, .. } => vec![*pair],
                Temperatures::PerToken(pairs) => pairs.clone(),
            };
            let (low, high) = config.range().unwrap_or((0.0, f64::INFINITY));
            for t in pairs.iter().flat_map(|pair| [pair.teacher, pair.student]) {
                assert!(t > 0.0 && t.is_finite() && (low..=high).contains(&t), "{name}: {t}");
            }
            rule.observe(&feedback);
            temperatures
        };
        let (mut rule, mut resumed) = (config.start(3), config.start(3));
        (0..4).for_each(|i| drop(step(&mut rule, i)));
        assert!(resumed.restore(&rule.state()), "{name}");
        for i in 4..8 {
            assert_eq!(step(&mut rule, i), step(&mut resumed, i), "{name} at step {i}");
        }
    }
}

#[test]
fn what_only_the_loss_reads_costs_no_look_at_the_positions() {
    let required = TemperatureRule::LogitStd(LogitStd {}).required_stats();
    assert!(required.needs(StatSource::Targets) && !required.needs_positions());
    assert!(RequiredStats::of(&[Stat::TeacherEntropy]).needs_positions());
    assert!(!RequiredStats::of(&[Stat::CrossEntropy, Stat::Slopes]).needs_positions());
}
