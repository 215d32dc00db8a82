//! Hidden states that were computed elsewhere become the rows that the whole teacher gives here.

use crate::fixture::Fixture;
use burn::tensor::{Int, Tensor, TensorData};
use logitcask_cache::CacheReader;
use logitcask_core::{RowSource, SampleId};
use logitcask_model::{CausalLm, DeviceChoice, Model, NormSide, Precision, PretrainedModel, Sequences};
use safetensors::tensor::{SafeTensors, TensorView};
use safetensors::{Dtype, serialize_to_file};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A fixture whose teacher has been exported, and its cache.
struct Exported {
    fixture: Fixture,
    /// The tokens of the cache's samples by their split.
    samples: BTreeMap<String, Vec<Vec<u32>>>,
    /// The teacher.
    after: Model,
    /// The same with a final norm whose weights are one.
    unweighted: Model,
}

fn load(folder: &Path) -> Model {
    let (device, _) = DeviceChoice::Cpu.open().unwrap();
    PretrainedModel::open(folder).unwrap().load(&device, Precision::F32).unwrap()
}

/// Replaces the weights of the final norm.
fn change_norm(folder: &Path) {
    let path = folder.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let weights: Vec<u8> = (0..32).flat_map(|i| (6.0 + (i as f32).sin() * 4.0).to_le_bytes()).collect();
    let norm = TensorView::new(Dtype::F32, vec![32], &weights).unwrap();
    let changed = tensors.tensors().into_iter().map(|(name, tensor)| match name == "model.norm.weight" {
        true => (name, norm.clone()),
        false => (name, tensor),
    });
    serialize_to_file(changed, None, &path).unwrap();
}

impl Exported {
    fn new() -> Self {
        let fixture = Fixture::new(40);
        let unweighted = load(&fixture.path("teacher"));
        change_norm(&fixture.path("teacher"));
        let after = load(&fixture.path("teacher"));
        fixture.ok(&["cache", "recipe.toml", "--device", "cpu"]);
        let cache = CacheReader::open(&fixture.path("cache")).unwrap();
        let tokens = |split: &str| cache.in_order(split).unwrap().map(|row| row.unwrap().sample.input_ids).collect();
        let samples = ["train", "test"].map(|split| (split.to_owned(), tokens(split)));
        Self { fixture, samples: samples.into(), after, unweighted }
    }

    /// One file for each sample of `train` and one of all of `test`, with the log-probabilities of tokens or without.
    fn write(&self, folder: &str, side: NormSide, with_log_probs: bool) {
        let file = |split: &str, name: String| {
            fs::create_dir_all(self.fixture.path(folder).join(split)).unwrap();
            self.fixture.path(folder).join(split).join(name)
        };
        for (number, tokens) in self.samples["train"].iter().enumerate() {
            let told = with_log_probs.then(|| self.log_probs(tokens));
            write(&file("train", format!("hs_{number}.safetensors")), tokens, &self.states(side, tokens), told);
        }
        let rows = &self.samples["test"];
        let width = rows.iter().map(Vec::len).max().unwrap();
        let padded = |row: &Vec<u32>| row.iter().copied().chain(std::iter::repeat_n(0, width - row.len())).collect();
        let ids: Vec<Vec<u32>> = rows.iter().map(padded).collect();
        let mask: Vec<u8> = rows.iter().flat_map(|row| (0..width).map(|place| u8::from(place < row.len()))).collect();
        let values: Vec<u8> = ids.iter().flat_map(|row| bytes(&self.states(side, row))).collect();
        let told = ids.iter().flat_map(|row| bytes(&self.log_probs(row))).collect::<Vec<u8>>();
        let ids: Vec<u8> = ids.concat().iter().flat_map(|&id| i64::from(id).to_le_bytes()).collect();
        let shape = vec![rows.len(), width];
        let view = |dtype, shape: &[usize], bytes| TensorView::new(dtype, shape.to_vec(), bytes).unwrap();
        let mut tensors = vec![
            ("input_ids", view(Dtype::I64, &shape, &ids)),
            ("attention_mask", view(Dtype::BOOL, &shape, &mask)),
            ("hidden_states", view(Dtype::F32, &[rows.len(), width, 32], &values)),
        ];
        tensors.extend(with_log_probs.then(|| ("token_logprobs", view(Dtype::F32, &shape, &told))));
        serialize_to_file(tensors, None, &file("test", "all.safetensors".to_owned())).unwrap();
    }

    /// The states of the tokens on a side of the final norm. Of the output h of a norm without weights, an input is c h with
    /// c² = eps / (1 - mean(h²)).
    fn states(&self, side: NormSide, tokens: &[u32]) -> Vec<f32> {
        if side == NormSide::After {
            return states(&self.after, tokens);
        }
        let config = fs::read(self.fixture.path("teacher/config.json")).unwrap();
        let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
        let eps = config["rms_norm_eps"].as_f64().unwrap();
        let input = |h: &[f32]| {
            let mean = h.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>() / h.len() as f64;
            let c = (eps / (1.0 - mean)).sqrt();
            h.iter().map(|value| (f64::from(*value) * c) as f32).collect::<Vec<f32>>()
        };
        states(&self.unweighted, tokens).chunks_exact(32).flat_map(input).collect()
    }

    /// The log-probability of each token after those before it, and NaN for the first.
    fn log_probs(&self, tokens: &[u32]) -> Vec<f32> {
        let hidden = Tensor::<2>::from_data(
            TensorData::new(states(&self.after, tokens), [tokens.len(), 32]),
            &self.after.device(),
        );
        let logits = self.after.head().logits(hidden).try_into_vec_as::<f32>().unwrap();
        let rows = logits.chunks_exact(self.after.vocab_size());
        let told = rows.zip(&tokens[1..]).map(|(row, &next)| {
            let log_z = row.iter().map(|logit| f64::from(*logit).exp()).sum::<f64>().ln();
            (f64::from(row[next as usize]) - log_z) as f32
        });
        std::iter::once(f32::NAN).chain(told).collect()
    }

    fn import(&self, folder: &str, norm: &str, out: &str, more: &[&str]) -> Vec<String> {
        let path = |split: &str| format!("{split}={folder}/{split}");
        let (train, test) = (path("train"), path("test"));
        let args = ["import", "hidden", &train, &test, "--norm", norm, "--teacher", "teacher", "--out", out];
        let keep = ["--selection", "{ kind = \"top_k\", k = 16 }", "--device", "cpu"];
        args.iter().chain(&keep).chain(more).map(|arg| (*arg).to_owned()).collect()
    }

    fn ok(&self, args: &[String]) -> (String, String) {
        let output = self.fixture.run(&args.iter().map(String::as_str).collect::<Vec<_>>());
        let [out, error] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        assert!(output.status.success(), "{error}");
        (out, error)
    }

    fn fails(&self, args: &[String]) -> String {
        self.fixture.fails(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The hidden states that a model has at each of the tokens.
fn states(model: &Model, tokens: &[u32]) -> Vec<f32> {
    let n = tokens.len();
    let ids: Vec<i64> = tokens.iter().copied().map(i64::from).collect();
    let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [1, n]), &model.device());
    model.hidden(ids, &Sequences::in_rows(1, n)).try_into_vec_as::<f32>().unwrap()
}

fn write(path: &Path, tokens: &[u32], states: &[f32], told: Option<Vec<f32>>) {
    let ids: Vec<u8> = tokens.iter().flat_map(|&id| i64::from(id).to_le_bytes()).collect();
    let (values, told) = (bytes(states), told.map(|told| bytes(&told)));
    let view = |dtype, shape: &[usize], bytes| TensorView::new(dtype, shape.to_vec(), bytes).unwrap();
    let n = tokens.len();
    let mut tensors = vec![
        ("token_ids", view(Dtype::I64, &[n], &ids)),
        ("hidden_states", view(Dtype::F32, &[n, states.len() / n], &values)),
    ];
    tensors.extend(told.as_ref().map(|told| ("token_logprobs", view(Dtype::F32, &[n], told))));
    serialize_to_file(tensors, None, path).unwrap();
}

/// Compares the rows of two caches: the same classes, and values that may be rounded to neighbouring numbers of f16.
fn same_rows(fixture: &Fixture, a: &str, b: &str) {
    let (a, b) = (CacheReader::open(&fixture.path(a)).unwrap(), CacheReader::open(&fixture.path(b)).unwrap());
    assert_eq!(a.plan().keep, b.plan().keep);
    assert_eq!(a.plan().teacher.fingerprint, b.plan().teacher.fingerprint);
    for split in ["train", "test"] {
        assert_eq!(a.len(split).unwrap(), b.len(split).unwrap());
        for (a, b) in a.in_order(split).unwrap().zip(b.in_order(split).unwrap()) {
            let (a, b) = (a.unwrap(), b.unwrap());
            assert_eq!(a.sample.input_ids, b.sample.input_ids);
            assert_eq!(a.rows.len(), b.rows.len());
            for (a, b) in a.rows.iter().zip(b.rows.iter()) {
                // The last bits of a product can decide how a value is rounded, and classes of equal values are ordered
                // by their ids.
                assert_eq!(a.class_ids.len(), b.class_ids.len());
                for (class, x) in a.class_ids.iter().zip(a.log_probs) {
                    let y = b.log_probs[b.class_ids.iter().position(|id| id == class).unwrap()];
                    assert!((x - y).abs() <= x.abs() / 1024.0, "{x} {y}");
                }
                assert!((a.log_z - b.log_z).abs() < 2e-6 * a.log_z.abs().max(1.0), "{} {}", a.log_z, b.log_z);
                assert_eq!(a.gold.rank, b.gold.rank);
                assert!((a.log_z_at(2.0) - b.log_z_at(2.0)).abs() < 1e-3);
            }
        }
    }
}

#[test]
fn states_from_both_sides_of_the_norm_give_the_rows_of_the_whole_teacher() {
    let exported = Exported::new();
    exported.write("after", NormSide::After, true);
    let (out, notes) = exported.ok(&exported.import("after", "after", "from-after", &[]));
    assert!(out.contains("alpha = 0.9") && out.contains("or any from 0.75 to 10"), "{out}");
    assert!(notes.contains("states from after the final norm: the log-probabilities of "), "{notes}");
    let fixture = &exported.fixture;
    fixture.ok(&["verify", "from-after"]);
    same_rows(fixture, "cache", "from-after");
    let cache = CacheReader::open(&fixture.path("from-after")).unwrap();
    assert_eq!(cache.plan().keep.source, RowSource::FULL);
    exported.write("before", NormSide::Before, false);
    let (_, notes) = exported.ok(&exported.import("before", "before", "from-before", &["--check", "model"]));
    assert!(notes.contains("states from before the final norm"), "{notes}");
    same_rows(fixture, "cache", "from-before");
    // A student learns from them at another temperature.
    fixture.edit_recipe("alpha = 0.5", "alpha = 0.5\ntemperature = 2.0");
    let recipe = fs::read_to_string(fixture.recipe()).unwrap();
    let (texts, cache) = (fixture.path("texts.jsonl"), fixture.path("cache"));
    let recipe = recipe
        .replace(texts.to_str().unwrap(), "none/texts")
        .replace(&format!("\"{}\"", cache.display()), &format!("\"{}\"", fixture.path("from-before").display()));
    fs::write(fixture.recipe(), recipe).unwrap();
    fixture.ok(&["train", "recipe.toml", "--device", "cpu", "--out", "run"]);
}

#[test]
fn the_wrong_side_of_the_norm_is_refused_and_named() {
    let exported = Exported::new();
    exported.write("after", NormSide::After, true);
    exported.write("silent", NormSide::After, false);
    for (folder, more) in [("after", &[][..]), ("silent", &["--check", "model"])] {
        let error = exported.fails(&exported.import(folder, "before", "wrong", more));
        assert!(
            error.contains("not from before the final norm but from after it") && error.contains("Say --norm after"),
            "{error}"
        );
    }
    let error = exported.fails(&exported.import("silent", "after", "wrong", &[]));
    assert!(error.contains("--check model") && error.contains("--check none"), "{error}");
    assert!(!exported.fixture.path("wrong").exists());
    // The states of another text belong to neither side.
    exported.write("other", NormSide::After, false);
    let (a, b) = (&exported.samples["train"][0], &exported.samples["train"][1]);
    let n = a.len().min(b.len());
    let folder = exported.fixture.path("other/train");
    fs::remove_dir_all(&folder).unwrap();
    fs::create_dir_all(&folder).unwrap();
    write(&folder.join("hs_0.safetensors"), &a[..n], &states(&exported.after, &b[..n]), None);
    fs::copy(folder.join("hs_0.safetensors"), exported.fixture.path("other/test/all.safetensors")).unwrap();
    let error = exported.fails(&exported.import("other", "after", "wrong", &["--check", "model"]));
    assert!(error.contains("do not give the log-probabilities of the tokens"), "{error}");
    let (_, notes) = exported.ok(&exported.import("other", "after", "unchecked", &["--check", "none"]));
    assert!(notes.contains("it was not checked that the states are from after the final norm"), "{notes}");
}

#[test]
fn the_same_arguments_go_on_and_others_are_refused() {
    let exported = Exported::new();
    exported.write("after", NormSide::After, true);
    let args = exported.import("after", "after", "from-after", &[]);
    exported.ok(&args);
    let id = |folder: &str| CacheReader::open(&exported.fixture.path(folder)).unwrap().cache_id();
    let first = id("from-after");
    assert!(exported.ok(&args).0.contains("everything was there already"));
    for lost in ["manifest.json", "_manifest/00000.json", "_commits/00000.json", "data/train-00000-of-00001.parquet"] {
        fs::remove_file(exported.fixture.path("from-after").join(lost)).unwrap();
    }
    exported.ok(&args);
    assert_eq!(id("from-after"), first);
    let mut fewer = exported.import("after", "after", "from-after", &["--classes", "8"]);
    assert!(exported.fails(&fewer).contains("cannot be used with"));
    fewer.retain(|arg| !arg.starts_with('{') && arg != "--selection");
    let error = exported.fails(&fewer);
    assert!(error.contains("cache of another plan") && error.contains("--replace"), "{error}");
    fewer.push("--replace".to_owned());
    exported.ok(&fewer);
    let cache = CacheReader::open(&exported.fixture.path("from-after")).unwrap();
    assert_eq!(cache.get("train", SampleId(0)).unwrap().rows.iter().next().unwrap().class_ids.len(), 8);
    // A file of one token more is another dataset.
    let longer = &exported.samples["train"][0];
    write(
        &exported.fixture.path("after/train/hs_0.safetensors"),
        &longer[..longer.len() - 1],
        &states(&exported.after, &longer[..longer.len() - 1]),
        Some(exported.log_probs(&longer[..longer.len() - 1])),
    );
    assert!(exported.fails(&args).contains("cache of another plan"));
}

#[test]
fn what_does_not_fit_the_teacher_is_refused() {
    let exported = Exported::new();
    let fixture = &exported.fixture;
    fs::create_dir(fixture.path("empty")).unwrap();
    let one = |sources: &[&str], more: &[&str]| {
        let args = ["--norm", "after", "--out", "wrong", "--device", "cpu"];
        fixture.fails(&[&["import", "hidden"], sources, &args, more].concat())
    };
    let teacher = ["--teacher", "teacher"];
    assert!(one(&["empty"], &teacher).contains("empty: no file in this folder has a name that ends in .safetensors"));
    assert!(one(&["nowhere"], &teacher).contains("nowhere: there is no such file or folder"));
    let elsewhere = one(&["empty"], &["--teacher", "elsewhere"]);
    assert!(elsewhere.contains("its files must be on this machine"), "{elsewhere}");
    let tokens = &exported.samples["train"][0];
    let path = fixture.path("wide.safetensors");
    write(&path, tokens, &vec![0.5; tokens.len() * 48], None);
    let error = one(&["wide.safetensors"], &teacher);
    assert!(
        error.contains("wide.safetensors: `hidden_states` has vectors of 48 numbers, but those of the teacher have 32"),
        "{error}"
    );
    let good = states(&exported.after, tokens);
    write(&path, tokens, &good, Some(exported.log_probs(tokens)));
    let twice = one(&["wide.safetensors", "wide.safetensors"], &teacher);
    assert!(twice.contains("the split `train` has this file twice"), "{twice}");
    let mut bad = good.clone();
    bad[32 * (tokens.len() - 2)] = f32::INFINITY;
    write(&path, tokens, &bad, Some(exported.log_probs(tokens)));
    let error = one(&["wide.safetensors"], &teacher);
    let place = format!("wide.safetensors: `hidden_states`: sequence 0, position {}: holds inf", tokens.len() - 2);
    assert!(error.contains(&place), "{error}");
    assert!(one(&["wide.safetensors"], &["--teacher", "teacher", "--classes", "0"]).contains("--selection"));
    assert!(!fixture.path("wrong").exists());
}

#[test]
fn states_in_bf16_are_within_the_bound() {
    let exported = Exported::new();
    let fixture = &exported.fixture;
    let tokens = &exported.samples["train"][0];
    // bf16 is the upper half of f32.
    let cut = |value: f32| f32::from_bits(value.to_bits() & 0xffff_0000);
    let rounded: Vec<f32> = states(&exported.after, tokens).into_iter().map(cut).collect();
    write(&fixture.path("one.safetensors"), tokens, &rounded, Some(exported.log_probs(tokens)));
    let args = ["import", "hidden", "one.safetensors", "--norm", "after", "--teacher", "teacher", "--out", "rounded"];
    fixture.ok(&args);
    fixture.ok(&["verify", "rounded"]);
}
