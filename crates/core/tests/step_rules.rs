//! What temperature rules and token weights decide for one step, and the losses that follow, on record: a package for
//! another language, which has the same rules, is tested against the same record (data/golden/step_rules.json).
#![allow(clippy::unwrap_used)]

use logitcask_core::divergence::{ForwardKl, Hellinger, ReverseKl, compare};
use logitcask_core::math::log_sum_exp;
use logitcask_core::rng::CounterRng;
use logitcask_core::temperature::{
    LogitStats, RequiredStats, StepContext, TemperaturePair, Temperatures, TokenStats, temperature_of_entropy,
};
use logitcask_core::{Divergence, Gold, SoftRow, TailPolicy, TemperatureRule, TemperedRow, TokenWeight};
use serde_json::{Value, json};

const POSITIONS: usize = 10;
const VOCAB: usize = 24;
const KEPT: usize = 6;
const NATS: f64 = 1.5;
/// Temperatures that the rows serve.
const RANGE: (f64, f64) = (0.75, 10.0);

/// A position: the teacher's classes by probability, and the student's logits.
struct Position {
    ids: Vec<u32>,
    log_probs: Vec<f32>,
    log_z: f32,
    gold: Gold,
    label: u32,
    student: Vec<f64>,
}

impl Position {
    fn new(number: u64) -> Self {
        let mut rng = CounterRng::new("step rules", &[number]);
        let spread = [0.5, 6.0, 2.0][number as usize % 3];
        let logits: Vec<f64> = (0..VOCAB).map(|_| spread * rng.normal() + 1.0).collect();
        let student = logits.iter().map(|z| f64::from((0.6 * z + rng.normal()) as f32)).collect();
        let log_z = log_sum_exp(&logits);
        let mut ids: Vec<u32> = (0..VOCAB as u32).collect();
        ids.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]));
        let log_probs: Vec<f32> = ids.iter().map(|&id| (logits[id as usize] - log_z) as f32).collect();
        let rank = rng.below(9) as usize;
        let gold = Gold { log_prob: log_probs[rank], rank: rank as u32 };
        Self { label: ids[rank], ids, log_probs, log_z: log_z as f32, gold, student }
    }

    /// The row with its first classes; the others are in the tail, one by one.
    fn row(&self) -> SoftRow<'_> {
        let all = SoftRow {
            class_ids: &self.ids,
            log_probs: &self.log_probs,
            log_z: self.log_z,
            gold: self.gold,
            ..SoftRow::default()
        };
        all.prefix(KEPT)
    }

    fn stats(&self) -> TokenStats {
        let row = self.row();
        let log_z = log_sum_exp(&self.student);
        let mut sorted = self.student.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let student = LogitStats {
            log_z,
            largest: sorted[0],
            second: sorted[1],
            entropy: self.student.iter().map(|s| (s - log_z).exp() * (log_z - s)).sum(),
            label: self.student[self.label as usize] - log_z,
        };
        let teacher = LogitStats {
            log_z: f64::from(row.log_z),
            largest: f64::from(row.log_probs[0]) + f64::from(row.log_z),
            entropy: row.entropy(1.0),
            label: f64::from(row.gold.log_prob),
            ..LogitStats::default()
        };
        let apart = compare(Hellinger {}, &self.student, 1.0, &TemperedRow::of(&row, 1.0, TailPolicy::Bucket)).loss;
        let theirs: Vec<f64> = row.log_probs.iter().map(|&lp| f64::from(lp) + f64::from(row.log_z)).collect();
        let ours: Vec<f64> = row.class_ids.iter().map(|&id| self.student[id as usize]).collect();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        TokenStats {
            teacher,
            student,
            gold_rank: row.gold.rank,
            is_right: sorted[0] == self.student[self.label as usize],
            distance: apart.max(0.0).sqrt(),
            cosine: dot(&theirs, &ours) / (dot(&theirs, &theirs) * dot(&ours, &ours)).sqrt(),
            target_temperature: temperature_of_entropy(&row, NATS, RANGE),
        }
    }
}

/// Statistics of all positions, as a rule with these needs gets them.
fn told(positions: &[Position], required: &RequiredStats) -> Vec<TokenStats> {
    positions.iter().map(|position| position.stats().only(required)).collect()
}

fn context(temperature: f64, positions: &[TokenStats]) -> StepContext<'_> {
    StepContext { progress: 0.5, temperature, vocab_size: VOCAB, positions }
}

fn std_dev(logits: &[f64]) -> f64 {
    let mean = logits.iter().sum::<f64>() / logits.len() as f64;
    (logits.iter().map(|z| (z - mean).powi(2)).sum::<f64>() / logits.len() as f64).sqrt()
}

/// The temperatures at each position, the teacher's within [`RANGE`].
fn temperatures(rule: &TemperatureRule, temperature: f64, positions: &[Position]) -> Vec<TemperaturePair> {
    let seen = told(positions, &rule.required_stats());
    let chosen = match rule.start(0).decide(&context(temperature, &seen)) {
        Temperatures::PerToken(chosen) => chosen,
        Temperatures::Shared(pair) => vec![pair; positions.len()],
        Temperatures::TimesLogitStd { pair, .. } => positions
            .iter()
            .map(|position| TemperaturePair {
                teacher: pair.teacher * position.row().logit_moments(0.0).1,
                student: pair.student * std_dev(&position.student),
            })
            .collect(),
    };
    let within = |pair: TemperaturePair| TemperaturePair { teacher: pair.teacher.clamp(RANGE.0, RANGE.1), ..pair };
    chosen.into_iter().map(within).collect()
}

/// The teacher's temperature squared times the divergence, at each position.
fn losses(divergence: Divergence, positions: &[Position], temperatures: &[TemperaturePair]) -> Vec<f64> {
    let loss = |(position, pair): (&Position, &TemperaturePair)| {
        let target = TemperedRow::of(&position.row(), pair.teacher, TailPolicy::Bucket);
        pair.teacher.powi(2) * compare(divergence, &position.student, pair.student, &target).loss
    };
    positions.iter().zip(temperatures).map(loss).collect()
}

fn record() -> Vec<Value> {
    let positions: Vec<Position> = (0..POSITIONS as u64).map(Position::new).collect();
    let mut lines: Vec<Value> = positions
        .iter()
        .map(|p| {
            json!({ "class_ids": p.ids, "log_probs": p.log_probs, "log_z": p.log_z, "label": p.label,
                    "gold_rank": p.gold.rank, "student": p.student })
        })
        .collect();
    let rules = [
        json!({ "kind": "dtkd" }),
        json!({ "kind": "difficulty" }),
        json!({ "kind": "difficulty", "measure": "cosine", "beta": 3.0, "gamma": 0.5 }),
        json!({ "kind": "idts" }),
        json!({ "kind": "idts", "strength": 1.5, "inverted": true }),
        json!({ "kind": "logit_std" }),
        json!({ "kind": "entropy", "nats": NATS }),
    ];
    for (json, temperature) in rules.iter().flat_map(|rule| [(rule, 1.0), (rule, 2.5)]) {
        let rule: TemperatureRule = serde_json::from_value(json.clone()).unwrap();
        let chosen = temperatures(&rule, temperature, &positions);
        let teacher: Vec<f64> = chosen.iter().map(|pair| pair.teacher).collect();
        let student: Vec<f64> = chosen.iter().map(|pair| pair.student).collect();
        let of = |divergence: Divergence| losses(divergence, &positions, &chosen);
        lines.push(
            json!({ "temperature_rule": json, "temperature": temperature, "teacher": teacher, "student": student,
                           "forward_kl": of(ForwardKl {}.into()), "reverse_kl": of(ReverseKl {}.into()) }),
        );
    }
    let by = ["distance", "entropy", "margin", "least_confidence"];
    let tops =
        by.iter().flat_map(|by| [0.01, 0.25, 0.5].map(|share| json!({ "kind": "top", "by": by, "share": share })));
    let others = [
        json!({ "kind": "entropy", "of": "teacher" }),
        json!({ "kind": "entropy", "of": "student" }),
        json!({ "kind": "gate" }),
        json!({ "kind": "gate", "rank": 4, "right": 0.75, "wrong": 0.125 }),
    ];
    for json in tops.chain(others) {
        let rule: TokenWeight = serde_json::from_value(json.clone()).unwrap();
        let seen = told(&positions, &rule.required_stats());
        lines.push(json!({ "token_weight": json, "weights": rule.start().weights(&context(1.0, &seen)) }));
    }
    lines
}

/// Whether two values are the same up to the rounding of the elementary functions.
fn is_near(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            (a - b).abs() <= 1e-9 * b.abs().max(1.0)
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_near(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| is_near(a, b)))
        }
        _ => a == b,
    }
}

#[test]
fn rules_decide_for_a_step_as_on_record() {
    let got = record();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/golden/step_rules.json");
    if std::env::var_os("LOGITCASK_BLESS").is_some() {
        let lines: Vec<String> = got.iter().map(Value::to_string).collect();
        std::fs::write(path, format!("[\n{}\n]\n", lines.join(",\n"))).unwrap();
    }
    let record: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(got.len(), record.len());
    for (got, record) in got.iter().zip(&record) {
        assert!(is_near(got, record), "got {got}\non record {record}");
    }
}
