//! Forward pass, backward pass, selection and loss agree with other frameworks and with our f64 reference.

use crate::fixture::keep;
use crate::golden::{self, assert_close, floats, ids};
use crate::skips::skip;
use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Int, Tensor, TensorData};
use logitcask_core::math::log_sum_exp;
use logitcask_core::{Origin, Sample, SampleId, Selection};
use logitcask_model::{CausalLm, DeviceChoice, KvCache, Model, Precision, PretrainedModel, Sequences};
use logitcask_teach::select::select_rows;
use logitcask_train::batch::Batch;
use logitcask_train::loss::LossAtStep;
use logitcask_train::update::{gradients, loss_totals};
use serde_json::Value;

const CHECKPOINTS: [&str; 5] = ["llama-gqa", "llama-tied", "llama-f16-sharded", "llama2c-tiny", "llama2c-gqa-untied"];

fn load(path: &std::path::Path, autodiff: bool) -> Model {
    let (device, _) = DeviceChoice::Cpu.open().unwrap();
    let device = if autodiff { device.autodiff() } else { device };
    PretrainedModel::open(path).unwrap().load(&device, Precision::F32).unwrap()
}

/// Logits of every position of the right-padded `rows`, row by row without the padding.
pub fn logits(model: &Model, rows: &[Vec<u32>]) -> Vec<Vec<Vec<f64>>> {
    let device = model.device();
    let width = rows.iter().map(Vec::len).max().unwrap();
    let flat: Vec<i64> = rows
        .iter()
        .flat_map(|row| row.iter().copied().chain(std::iter::repeat(0)).take(width))
        .map(i64::from)
        .collect();
    let tokens = Tensor::<2, Int>::from_data(TensorData::new(flat, [rows.len(), width]), &device);
    let hidden = model.hidden(tokens, &Sequences::in_rows(rows.len(), width));
    let d = hidden.dims()[2];
    let all = model.head().logits(hidden.reshape([rows.len() * width, d])).try_into_vec_as::<f32>().unwrap();
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
        // Both sequences are in one batch: the padding of the shorter one must not change results.
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

/// Replaces each parameter by its gradient.
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
        let sample = |s: &Value| Sample::new(SampleId(0), Origin { document: 0, offset: 0 }, ids(&s["token_ids"]));
        let samples: Vec<_> = case["sequences"].as_array().unwrap().iter().map(|s| (sample(s), Vec::new())).collect();
        let batch = Batch::new(&samples, None).unwrap();
        let mut sums = loss_totals(&model, &batch, &LossAtStep::LABELS);
        let grads = gradients(&model, &mut sums, batch.positions.len()).unwrap();
        let count = batch.positions.len() as f64;
        let wanted = &case["gradient"];
        let got = f64::from(sums.cross_entropy.unwrap().into_scalar::<f32>()) / count;
        assert_close(got, wanted["loss"].as_f64().unwrap(), 1e-5, 0.0, name);
        // The gradients as the weights of a model, so that they can be read with Hugging Face's names and layout.
        let clothed = model.clone().map(&mut Clothe(&grads));
        for (tensor, _, values) in clothed.state_dict() {
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

/// Needs the fetched model (`make fetch-stories15m`); is skipped without it.
#[test]
fn golden_stories15m_agrees_with_torch() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("data/models/stories15M/stories15M.bin");
    if !path.is_file() {
        let why = format!("{} is not there; `make fetch-stories15m` fetches it", path.display());
        return skip("parity::golden_stories15m_agrees_with_torch", &why);
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
        // Classes with equal stored values are in the order of their ids, whatever their order before rounding.
        let mut wanted_ids: Vec<(f32, u32)> = top_k.log_probs.iter().copied().zip(ids(&row["ids"])).collect();
        wanted_ids.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        assert!(top_k.class_ids.iter().eq(wanted_ids.iter().map(|(_, id)| id)), "row {i}");
        for (got, wanted) in top_k.log_probs.iter().zip(floats(&row["log_probs"])) {
            // f16 has eleven significant bits.
            assert_close(f64::from(*got), wanted, 1.0 / 2048.0, 1e-6, &format!("row {i}"));
        }
        assert_close(f64::from(top_k.log_z[0]), row["log_z"].as_f64().unwrap(), 1e-6, 1e-6, &format!("row {i} log_z"));
        assert_eq!(u64::from(top_k.gold_ranks[0]), row["gold_rank"].as_u64().unwrap(), "row {i}");
        let top_p = kept(Selection::TopP { p: 0.95, k: 100 });
        assert_eq!(top_p.class_ids.len() as u64, row["top_p95_cap100"].as_u64().unwrap(), "row {i}");
    }
}
