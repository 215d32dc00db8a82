//! Forward, backward, selection and loss agree with other frameworks and with our own f64 reference.

use crate::fixture::keep;
use crate::golden::{self, assert_close, floats, ids};
use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Int, Tensor, TensorData};
use logitcask_core::divergence;
use logitcask_core::soft_row::log_sum_exp;
use logitcask_core::{Origin, Sample, SampleId, Selection, SoftRow, SoftRows, Tail, TailAtom, TailPolicy};
use logitcask_model::{DeviceChoice, KvCache, Llama, LogitsModel, ModelFiles, Precision};
use logitcask_teach::select::select_rows;
use logitcask_train::LossConfig;
use logitcask_train::batch::{Batch, SoftTargets};
use logitcask_train::loss::{forward_kl, log_sum_exp as log_sum_exp_tensor};
use logitcask_train::trainer::loss_sums;
use serde_json::Value;

const CHECKPOINTS: [&str; 5] = ["llama-gqa", "llama-tied", "llama-f16-sharded", "llama2c-tiny", "llama2c-gqa-untied"];

fn load(path: &std::path::Path, autodiff: bool) -> Llama {
    let (device, _) = DeviceChoice::Cpu.open().unwrap();
    let device = if autodiff { device.autodiff() } else { device };
    ModelFiles::open(path).unwrap().load(&device, Precision::F32).unwrap()
}

/// Logits of every position of the right-padded `rows`, row by row without the padding.
pub fn logits(model: &Llama, rows: &[Vec<u32>]) -> Vec<Vec<Vec<f64>>> {
    let device = model.device();
    let width = rows.iter().map(Vec::len).max().unwrap();
    let flat: Vec<i64> = rows
        .iter()
        .flat_map(|row| row.iter().copied().chain(std::iter::repeat(0)).take(width))
        .map(i64::from)
        .collect();
    let tokens = Tensor::<2, Int>::from_data(TensorData::new(flat, [rows.len(), width]), &device);
    let hidden = model.hidden(tokens);
    let d = hidden.dims()[2];
    let all = model.logits(hidden.reshape([rows.len() * width, d])).try_into_vec_as::<f32>().unwrap();
    let vocab = model.vocab_size();
    let position = |row: usize, p: usize| {
        let at = (row * width + p) * vocab;
        all[at..at + vocab].iter().map(|&z| f64::from(z)).collect()
    };
    rows.iter().enumerate().map(|(r, row)| (0..row.len()).map(|p| position(r, p)).collect()).collect()
}

#[test]
fn golden_forward_agrees_with_torch() {
    let golden = golden::read("llama_forward.json");
    for name in CHECKPOINTS {
        let case = &golden["checkpoints"][name];
        let model = load(&golden::folder().join(case["path"].as_str().unwrap()), false);
        let sequences = case["sequences"].as_array().unwrap();
        let rows: Vec<Vec<u32>> = sequences.iter().map(|s| ids(&s["token_ids"])).collect();
        // Both sequences in one batch: the shorter one's padding must not show.
        for (got, sequence) in logits(&model, &rows).iter().zip(sequences) {
            for (p, wanted) in floats(&sequence["log_z_f64"]).iter().enumerate() {
                assert_close(log_sum_exp(&got[p]), *wanted, 0.0, 1e-4, &format!("{name} log_z {p}"));
            }
            for (i, p) in ids(&sequence["logit_positions"]).into_iter().enumerate() {
                for (z, wanted) in got[p as usize].iter().zip(floats(&sequence["logits_f64"][i])) {
                    assert_close(*z, wanted, 0.0, 1e-4, &format!("{name} logits at {p}"));
                }
            }
        }
    }
}

/// Puts each parameter's gradient in the parameter's place.
struct Clothe<'a>(&'a GradientsParams);

impl ModuleMapper for Clothe<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let grad = self.0.get::<D>(param.id).expect("every parameter has a gradient");
        Param::initialized(param.id, grad)
    }
}

#[test]
fn golden_backward_agrees_with_torch() {
    let golden = golden::read("llama_forward.json");
    for name in ["llama-gqa", "llama-tied", "llama-f16-sharded"] {
        let case = &golden["checkpoints"][name];
        let model = load(&golden::folder().join(case["path"].as_str().unwrap()), true);
        let sample = |s: &Value| Sample {
            id: SampleId(0),
            origin: Origin { document: 0, offset: 0 },
            input_ids: ids(&s["token_ids"]),
        };
        let samples: Vec<_> = case["sequences"].as_array().unwrap().iter().map(|s| (sample(s), None)).collect();
        let batch = Batch::new(&samples, None).unwrap();
        let loss = loss_sums(&model, &batch, &LossConfig::LABELS).total / batch.positions.len() as f64;
        let wanted = &case["gradient"];
        let got = f64::from(loss.clone().into_scalar::<f32>());
        assert_close(got, wanted["loss"].as_f64().unwrap(), 1e-5, 0.0, name);
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        // The gradients in a model's clothes: read out under Hugging Face's names and layout, as weights are.
        let clothed = model.clone().map(&mut Clothe(&grads));
        for (tensor, _, values) in clothed.named_values() {
            let wanted = &wanted["params"][&tensor];
            let norm = values.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
            assert_close(norm, wanted["norm"].as_f64().unwrap(), 1e-4, 1e-7, &format!("{name} {tensor} norm"));
            for (g, w) in values.iter().zip(floats(&wanted["first8"])) {
                assert_close(f64::from(*g), w, 1e-3, 1e-5 * norm, &format!("{name} {tensor}"));
            }
        }
    }
}

#[test]
fn one_token_at_a_time_agrees_with_the_whole_sequence() {
    let model = load(&golden::folder().join("llama-gqa"), false);
    let tokens = vec![3u32, 77, 200, 14, 3, 9, 250, 1];
    let whole = &logits(&model, std::slice::from_ref(&tokens))[0];
    let mut cache = KvCache::default();
    for (position, &token) in tokens.iter().enumerate() {
        let token = Tensor::<1, Int>::from_data(TensorData::new(vec![i64::from(token); 2], [2]), &model.device());
        let step = model.step(token, &mut cache).try_into_vec_as::<f32>().unwrap();
        for (z, wanted) in step.iter().zip(whole[position].iter().chain(&whole[position])) {
            assert_close(f64::from(*z), *wanted, 1e-5, 1e-4, &format!("position {position}"));
        }
    }
}

/// Needs the fetched model (`make fetch-stories15m`); says so and passes without it.
#[test]
fn golden_stories15m_agrees_with_torch() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("data/models/stories15M/stories15M.bin");
    if !path.is_file() {
        eprintln!("skipped: {} is not there; `make fetch-stories15m` fetches it", path.display());
        return;
    }
    let golden = golden::read("stories15m_forward.json");
    let tokens = ids(&golden["token_ids"]);
    let got = &logits(&load(&path, false), std::slice::from_ref(&tokens))[0];
    for (p, row) in got.iter().enumerate() {
        assert_close(log_sum_exp(row), golden["log_z"][p].as_f64().unwrap(), 0.0, 1e-3, &format!("log_z {p}"));
        for (id, wanted) in ids(&golden["top_ids"][p]).iter().zip(floats(&golden["top_logits"][p])) {
            assert_close(row[*id as usize], wanted, 0.0, 1e-3, &format!("logit {id} at {p}"));
        }
    }
    for (p, wanted) in floats(&golden["next_token_nll"]).iter().enumerate() {
        let nll = log_sum_exp(&got[p]) - got[p][tokens[p + 1] as usize];
        assert_close(nll, *wanted, 0.0, 1e-3, &format!("nll {p}"));
    }
}

#[test]
fn golden_selection_agrees_with_numpy() {
    let golden = golden::read("selection_rows.json");
    for (i, row) in golden["rows"].as_array().unwrap().iter().enumerate() {
        let logits: Vec<f32> = floats(&row["logits"]).iter().map(|&z| z as f32).collect();
        let gold = row["gold_id"].as_u64().unwrap() as u32;
        let kept =
            |selection| select_rows(&logits, &[gold], &[0.0], &keep(selection), logits.len()).unwrap().0.remove(0);
        let top_k = kept(Selection::TopK { k: 64 });
        // Stored values that are equal stand in the order of their ids, whatever their order before rounding.
        let mut wanted_ids: Vec<(f32, u32)> = top_k.log_probs.iter().copied().zip(ids(&row["ids"])).collect();
        wanted_ids.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        assert!(top_k.class_ids.iter().eq(wanted_ids.iter().map(|(_, id)| id)), "row {i}");
        for (got, wanted) in top_k.log_probs.iter().zip(floats(&row["log_probs"])) {
            // Rounded to f16: eleven significant bits.
            assert_close(f64::from(*got), wanted, 1.0 / 2048.0, 1e-6, &format!("row {i}"));
        }
        assert_close(f64::from(top_k.log_z[0]), row["log_z"].as_f64().unwrap(), 1e-6, 1e-6, &format!("row {i} log_z"));
        assert_eq!(u64::from(top_k.gold_ranks[0]), row["gold_rank"].as_u64().unwrap(), "row {i}");
        let top_p = kept(Selection::TopP { p: 0.95, k: 100 });
        assert_eq!(top_p.class_ids.len() as u64, row["top_p95_cap100"].as_u64().unwrap(), "row {i}");
    }
}

/// The teacher of a case: kept log-probabilities at T over the whole vocabulary, and the tail's, as the policy wants them.
fn tempered(teacher: &[f64], kept: &[u32], t: f64, policy: TailPolicy) -> (Vec<f64>, Option<f64>) {
    let scaled: Vec<f64> = teacher.iter().map(|z| z / t).collect();
    let all = log_sum_exp(&scaled);
    let log_p: Vec<f64> = kept.iter().map(|&id| scaled[id as usize] - all).collect();
    let mass = log_sum_exp(&log_p);
    if policy == TailPolicy::Renormalize || kept.len() == teacher.len() {
        return (log_p.iter().map(|lp| lp - mass).collect(), None);
    }
    (log_p, Some((-mass.exp_m1()).ln()))
}

#[test]
fn golden_forward_kl_agrees_with_torch() {
    let golden = golden::read("forward_kl.json");
    let cases = golden.as_array().unwrap();
    let inputs = |group: &Value| cases.iter().find(|c| c.get("divergence").is_none() && c["group"] == *group).unwrap();
    let (device, _) = DeviceChoice::Cpu.open().unwrap();
    let device = device.autodiff();
    for case in cases.iter().filter(|c| c.get("divergence").is_some()) {
        let input = inputs(&case["group"]);
        let t = case["T"].as_f64().unwrap();
        let policy = if case["tail"] == "bucket" { TailPolicy::Bucket } else { TailPolicy::Renormalize };
        let what = format!("{} T={t} {policy:?}", case["group"]);
        let (mut class_ids, mut log_probs, mut tails, mut students) = (vec![], vec![], vec![], vec![]);
        for row in 0..3 {
            let student = floats(&input["student"][row]);
            let kept = ids(&input["ids"][row]);
            let (log_p, tail) = tempered(&floats(&input["teacher"][row]), &kept, t, policy);
            let exact = divergence::forward_kl(&student, &kept, &log_p, tail, t);
            assert_close(exact.loss, case["loss"][row].as_f64().unwrap(), 1e-10, 1e-12, &what);
            for (g, w) in exact.gradient.iter().zip(floats(&case["grad"][row])) {
                assert_close(*g, w, 1e-9, 1e-11, &what);
            }
            class_ids.extend(kept);
            log_probs.extend(log_p.iter().map(|&lp| lp as f32));
            tails.extend(tail.map(|tail| tail as f32));
            students.extend(student.iter().map(|&s| s as f32));
        }
        let (n, v) = (3, students.len() / 3);
        let width = class_ids.len() / n;
        let log_tail = (!tails.is_empty()).then_some(tails);
        let targets = SoftTargets { width, class_ids, log_probs, log_tail, is_ragged: false, best_ids: vec![0; n] };
        let student = Tensor::<2>::from_data(TensorData::new(students, [n, v]), &device).require_grad();
        let softened = student.clone() / t;
        let loss = forward_kl(softened.clone(), log_sum_exp_tensor(softened), &targets);
        for (got, wanted) in loss.clone().try_into_vec_as::<f32>().unwrap().iter().zip(floats(&case["loss"])) {
            assert_close(f64::from(*got), wanted, 1e-5, 1e-5, &what);
        }
        let grads = loss.sum().backward();
        let gradient = student.grad(&grads).unwrap().try_into_vec_as::<f32>().unwrap();
        let wanted: Vec<f64> = (0..n).flat_map(|row| floats(&case["grad"][row])).collect();
        for (g, w) in gradient.iter().zip(wanted) {
            assert_close(f64::from(*g), w, 1e-4, 1e-6, &what);
        }
    }
}

#[test]
fn ragged_targets_give_what_each_row_alone_gives() {
    let (device, _) = DeviceChoice::Cpu.open().unwrap();
    let student = vec![0.3f32, -1.0, 2.0, 0.1, 0.7, 0.2, -0.4, 1.0, 0.0, 0.5];
    let rows: [(&[u32], &[f32]); 2] = [(&[2], &[-0.3]), (&[0, 1, 4], &[-1.0, -1.5, -2.5])];
    let mut soft = SoftRows { reference: 0.5, ..SoftRows::default() };
    for (class_ids, log_probs) in rows {
        let outside = 1.0 - log_probs.iter().map(|&lp| f64::from(lp).exp()).sum::<f64>();
        let atoms = [TailAtom::new(outside.ln(), 0.5 * outside.ln())];
        let tail = Tail { reference: 0.5, atoms: &atoms, joined: &[] };
        soft.push(SoftRow { class_ids, log_probs, tail, ..SoftRow::default() });
    }
    let sample = Sample { id: SampleId(0), origin: Origin { document: 0, offset: 0 }, input_ids: vec![0, 1, 2] };
    let config = LossConfig { alpha: 1.0, temperature: 1.0, tail: TailPolicy::Bucket, classes: None };
    let targets = Batch::new(&[(sample, Some(soft.clone()))], Some(&config)).unwrap().targets.unwrap();
    let logits = Tensor::<2>::from_data(TensorData::new(student.clone(), [2, 5]), &device);
    let got = forward_kl(logits.clone(), log_sum_exp_tensor(logits), &targets).try_into_vec_as::<f32>().unwrap();
    for (i, row) in soft.iter().enumerate() {
        let (log_p, tail) = row.tempered(1.0, TailPolicy::Bucket);
        let student: Vec<f64> = student[i * 5..(i + 1) * 5].iter().map(|&s| f64::from(s)).collect();
        let exact = divergence::forward_kl(&student, row.class_ids, &log_p, tail, 1.0);
        assert_close(f64::from(got[i]), exact.loss, 1e-5, 1e-5, &format!("row {i}"));
    }
}
