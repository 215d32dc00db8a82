//! Models of every family agree with transformers, whichever version wrote their config.json.
//!
//! The checkpoints are those of LOGITCASK_FAMILIES, which can have more families than this build opens, or the
//! repository's own.

use crate::fixture::Fixture;
use crate::golden::{self, assert_close, floats, ids};
use crate::parity::logits;
use burn::module::Module;
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor, TensorData};
use logitcask_core::math::log_sum_exp;
use logitcask_model::{
    CausalLm, Companions, DeviceChoice, Error, KvCache, Model, Packing, Precision, PretrainedModel, Sequences, export,
};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const PACKINGS: [Packing; 2] = [Packing::OneRow, Packing::FilledRows];
/// config.json as transformers 5 writes it, as transformers 4 does, and without the keys that repeat a default.
const SPELLINGS: [&str; 3] = ["config.json", "config.v4.json", "config.sparse.json"];

/// A checkpoint with what transformers says of it.
struct Case {
    folder: PathBuf,
    expected: Value,
    /// How far rounding alone moves any of its logits.
    noise: f64,
}

impl Case {
    fn all() -> Vec<Self> {
        let folder =
            std::env::var_os("LOGITCASK_FAMILIES").map_or_else(|| golden::folder().join("families"), PathBuf::from);
        let mut folders: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        folders.sort();
        folders.into_iter().map(Self::of).collect()
    }

    fn of(folder: PathBuf) -> Self {
        let expected = golden::read_from(&folder, "expected.json");
        let noise = expected["noise"]["max_abs_f32_vs_f64"].as_f64().unwrap();
        Self { folder, expected, noise }
    }

    fn name(&self) -> String {
        self.folder.file_name().unwrap().to_string_lossy().into_owned()
    }

    /// Its files, with this one as config.json; `None` if it has no such file.
    fn spelled(&self, spelling: &str) -> Option<TempDir> {
        let folder = tempfile::tempdir().unwrap();
        fs::copy(self.folder.join(spelling), folder.path().join("config.json")).ok()?;
        for entry in fs::read_dir(&self.folder).unwrap().map(Result::unwrap) {
            let name = entry.file_name();
            if name.to_string_lossy().starts_with("model") {
                fs::copy(entry.path(), folder.path().join(name)).unwrap();
            }
        }
        Some(folder)
    }

    fn sequences(&self) -> Vec<Vec<u32>> {
        self.expected["sequences"].as_array().unwrap().iter().map(|sequence| ids(&sequence["ids"])).collect()
    }

    /// Compares the logits of every position of the sequences; returns the largest difference.
    fn check(&self, got: &[Vec<Vec<f64>>], what: &str) -> f64 {
        let mut worst = 0f64;
        for (got, wanted) in got.iter().zip(self.expected["sequences"].as_array().unwrap()) {
            let (tokens, log_z, nll) = (ids(&wanted["ids"]), floats(&wanted["log_z"]), floats(&wanted["nll"]));
            assert_eq!((got.len(), log_z.len()), (tokens.len(), tokens.len()), "{what}");
            for (p, logits) in got.iter().enumerate() {
                let (top, values) = (ids(&wanted["top_ids"][p]), floats(&wanted["top_logits"][p]));
                let mut order: Vec<u32> = (0..logits.len() as u32).collect();
                order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]));
                let mut close = |got: f64, wanted: f64, part: &str| {
                    worst = worst.max((got - wanted).abs());
                    assert_close(got, wanted, 0.0, 10.0 * self.noise, &format!("{what}, position {p}: {part}"));
                };
                let got_z = log_sum_exp(logits);
                close(got_z, log_z[p], "log_z");
                top.iter().zip(values).for_each(|(&id, value)| close(logits[id as usize], value, "logit"));
                if let Some(&next) = tokens.get(p + 1) {
                    close(got_z - logits[next as usize], nll[p], "nll");
                }
                assert_eq!(order[..8], top, "{what}, position {p}");
            }
        }
        worst
    }
}

fn open(folder: &Path, autodiff: bool) -> Result<Model, Error> {
    let (device, _) = DeviceChoice::Cpu.open().unwrap();
    let device = if autodiff { device.autodiff() } else { device };
    PretrainedModel::open(folder)?.load(&device, Precision::F32)
}

/// A model and sequences that it computes.
type Group = (Model, Vec<Vec<u32>>);

/// Groups of sequences with a model for each: one for all, or where rotary angles depend on the length of texts one for
/// each sequence, as `transformers` computes a text alone.
fn models(folder: &Path, sequences: &[Vec<u32>]) -> Result<Vec<Group>, Error> {
    let (device, _) = DeviceChoice::Cpu.open().unwrap();
    if !PretrainedModel::open(folder)?.config().depends_on_text_length() {
        return Ok(vec![(open(folder, false)?, sequences.to_vec())]);
    }
    let alone = |sequence: &Vec<u32>| {
        let files = PretrainedModel::open(folder)?.for_texts_of(sequence.len());
        Ok((files.load(&device, Precision::F32)?, vec![sequence.clone()]))
    };
    sequences.iter().map(alone).collect()
}

/// What is computed for each group of sequences, in the order of these.
fn of_all(models: &[Group], logits: impl Fn(&Model, &[Vec<u32>]) -> Vec<Vec<Vec<f64>>>) -> Vec<Vec<Vec<f64>>> {
    models.iter().flat_map(|(model, sequences)| logits(model, sequences)).collect()
}

fn tensor<const D: usize>(tokens: Vec<u32>, shape: [usize; D], model: &Model) -> Tensor<D, Int> {
    let tokens: Vec<i64> = tokens.into_iter().map(i64::from).collect();
    Tensor::from_data(TensorData::new(tokens, shape), &model.device())
}

/// Rows of logits in f64.
fn rows(logits: Tensor<2>) -> Vec<Vec<f64>> {
    let classes = logits.dims()[1];
    let flat: Vec<f64> = logits.into_data().iter::<f64>().collect();
    flat.chunks(classes).map(<[f64]>::to_vec).collect()
}

/// The logits of all sequences without padding, or in as few rows as they need.
fn packed(model: &Model, sequences: &[Vec<u32>], packing: Packing) -> Vec<Vec<Vec<f64>>> {
    let layout = Sequences::packed(sequences.iter().map(Vec::len), packing);
    let tokens = layout.tokens(sequences.iter().map(Vec::as_slice));
    let hidden = model.hidden(tensor(tokens, layout.shape(), model), &layout);
    let [count, width, d] = hidden.dims();
    let all = rows(model.head().logits(hidden.reshape([count * width, d])));
    layout.starts().iter().zip(sequences).map(|(&start, one)| all[start..start + one.len()].to_vec()).collect()
}

/// The logits of all sequences, computed token by token.
fn generated(model: &Model, sequences: &[Vec<u32>]) -> Vec<Vec<Vec<f64>>> {
    let one = |tokens: &Vec<u32>| {
        let mut cache = KvCache::default();
        tokens.iter().flat_map(|&token| rows(model.step(tensor(vec![token], [1], model), &mut cache))).collect()
    };
    sequences.iter().map(one).collect()
}

/// Mean loss of the next token.
fn loss(model: &Model, tokens: &[u32]) -> Tensor<1> {
    let n = tokens.len() - 1;
    let hidden = model.hidden(tensor(tokens[..n].to_vec(), [1, n], model), &Sequences::in_rows(1, n));
    let d = hidden.dims()[2];
    let next = tensor(tokens[1..].to_vec(), [n, 1], model);
    -log_softmax(model.head().logits(hidden.reshape([n, d])), 1).gather(1, next).mean()
}

/// One step lowers the loss and changes every parameter.
fn check_step(folder: &Path, tokens: &[u32], name: &str) -> [f32; 2] {
    let model = open(folder, true).unwrap();
    let before = loss(&model, tokens);
    let grads = GradientsParams::from_grads(before.clone().backward(), &model);
    let old: Vec<Vec<f32>> = model.state_dict().map(|(.., values)| values).collect();
    let model = AdamConfig::new().init().step(1e-3, model, grads);
    for ((parameter, _, values), old) in model.state_dict().zip(old) {
        // An expert that none of the tokens uses learns nothing.
        let has_learned = values.iter().zip(old).any(|(new, old)| *new != old);
        assert!(has_learned || parameter.contains(".experts."), "{name}: {parameter} has not learned");
    }
    let [before, after] = [before, loss(&model, tokens)].map(|loss| loss.into_scalar::<f32>());
    assert!(after < before, "{name}: {before} became {after}");
    [before, after]
}

/// An export is the same model, and keeps its fingerprint.
fn check_export(folder: &Path, model: &Model, name: &str) {
    let export = tempfile::tempdir().unwrap();
    let opened = PretrainedModel::open(folder).unwrap();
    let companions = opened.companions().unwrap();
    export::export(model, Precision::F32, None, &companions, export.path()).unwrap();
    let again = PretrainedModel::open(export.path()).unwrap();
    assert_eq!(again.config(), opened.config(), "{name}");
    let there = again.load(&model.device(), Precision::F32).unwrap();
    assert!(model.state_dict().eq(there.state_dict()), "{name}");
    // An export without the values of its teacher's config is the same too.
    let bare = tempfile::tempdir().unwrap();
    export::export(model, Precision::F32, None, &Companions::default(), bare.path()).unwrap();
    let bare = PretrainedModel::open(bare.path()).unwrap();
    assert_eq!(bare.config().clone(), opened.config().clone(), "{name}");
    assert_eq!(again.fingerprint().unwrap(), bare.fingerprint().unwrap(), "{name}");
}

#[test]
fn families_agree_with_transformers() {
    let own_files = std::env::var_os("LOGITCASK_FAMILIES").is_none();
    for case in Case::all() {
        let (name, sequences) = (case.name(), case.sequences());
        let (mut worst, mut fingerprints) = (0f64, Vec::new());
        for spelling in SPELLINGS {
            let Some(folder) = case.spelled(spelling) else { continue };
            let what = format!("{name}/{spelling}");
            let models = match models(folder.path(), &sequences) {
                Ok(models) => models,
                // Another family is refused by its name, and what is supported is said.
                Err(error @ Error::Config { .. }) if !own_files => {
                    eprintln!("{what:32} refused: {}", error.to_string().rsplit_once("config.json: ").unwrap().1);
                    continue;
                }
                Err(error) => panic!("{what}: {error}"),
            };
            worst = worst.max(case.check(&of_all(&models, logits), &what));
            for packing in PACKINGS {
                let packed = of_all(&models, |model, sequences| packed(model, sequences, packing));
                worst = worst.max(case.check(&packed, &format!("{what}, {packing:?}")));
            }
            worst = worst.max(case.check(&of_all(&models, generated), &format!("{what}, generated")));
            fingerprints.push(PretrainedModel::open(folder.path()).unwrap().fingerprint().unwrap());
            if spelling == SPELLINGS[0] {
                let (model, _) = &models[0];
                check_export(folder.path(), model, &name);
                let [before, after] = check_step(folder.path(), &sequences[2], &name);
                eprint!("{name:16} loss {before:.4} -> {after:.4}, {} parameters", model.num_params());
            }
        }
        assert!(fingerprints.windows(2).all(|pair| pair[0] == pair[1]), "{name}: one model, one fingerprint");
        if !fingerprints.is_empty() {
            eprintln!(", {} spellings, worst {worst:.1e}, noise {:.1e}", fingerprints.len(), case.noise);
        }
    }
}

/// Checks one of the repository's own checkpoints on a device, where tensor operations serve instead of the CPU's own.
#[cfg(feature = "wgpu")]
pub fn check_on(device: &logitcask_model::Device, name: &str) {
    let case = Case::of(golden::folder().join("families").join(name));
    let model = PretrainedModel::open(&case.folder).unwrap().load(device, Precision::F32).unwrap();
    let sequences = case.sequences();
    case.check(&logits(&model, &sequences), name);
    for packing in PACKINGS {
        case.check(&packed(&model, &sequences, packing), &format!("{name}, {packing:?}"));
    }
}

#[test]
fn a_tensor_that_no_block_reads_is_refused() {
    let folder = golden::folder().join("families");
    for (name, change, tensor) in [
        ("llama_bias", ("attention_bias", Value::Bool(false)), ".self_attn."),
        ("llama_bias", ("mlp_bias", Value::Bool(false)), ".mlp."),
        ("qwen2", ("model_type", Value::from("llama")), "_proj.bias"),
        ("qwen3", ("model_type", Value::from("mistral")), "_norm.weight"),
    ] {
        let files = Case::of(folder.join(name)).spelled("config.json").unwrap();
        let path = files.path().join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        config[change.0] = change.1;
        fs::write(&path, config.to_string()).unwrap();
        let error = open(files.path(), false).unwrap_err();
        assert!(matches!(error, Error::ExtraTensor { .. }), "{error}");
        assert!(error.to_string().contains(tensor), "{error}");
    }
}

#[test]
fn a_student_of_any_family_trains_and_is_exported() {
    let fixture = Fixture::new(40);
    fixture.ok(&["cache", "recipe.toml", "--device", "cpu"]);
    let types = "layer_types = [\"full_attention\", \"sliding_attention\"]\nsliding_window = 4";
    for (name, more) in [
        (
            "llama",
            "attention_bias = true\nmlp_bias = true\nrope_scaling = { rope_type = \"yarn\", factor = 2.0 }".to_owned(),
        ),
        ("mistral", "sliding_window = 4".to_owned()),
        ("qwen2", types.to_owned()),
        ("qwen3", format!("attention_bias = true\n{types}")),
    ] {
        fixture.write_recipe("");
        let layers = "num_hidden_layers = 2";
        fixture.edit_recipe("num_hidden_layers = 1", &format!("model_type = \"{name}\"\n{layers}\n{more}"));
        fixture.ok(&["train", "recipe.toml", "--device", "cpu", "--out", name]);
        let model = PretrainedModel::open(&fixture.path(&format!("{name}/student/model"))).unwrap();
        assert_eq!(model.config().model_type().name(), name);
        let loaded = model.load(&DeviceChoice::Cpu.open().unwrap().0, Precision::F32).unwrap();
        for (parameter, _, values) in loaded.state_dict().filter(|(parameter, ..)| parameter.ends_with(".bias")) {
            assert!(values.iter().any(|value| *value != 0.0), "{name}: {parameter} has not learned");
        }
    }
    fixture.write_recipe("");
    fixture.edit_recipe("num_hidden_layers = 1", "num_hidden_layers = 1\nsliding_window = 4");
    let error = fixture.fails(&["train", "recipe.toml", "--device", "cpu", "--out", "refused"]);
    assert!(error.contains("sliding_window = 4") && error.contains("`llama` models have no such setting"), "{error}");
}
