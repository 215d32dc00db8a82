//! Model folders: the same model in another form has the same fingerprint, incomplete and ambiguous models are refused
//! by name, and an export keeps companion files.

use crate::fixture::{config, write_teacher};
use crate::golden;
use logitcask_data::tokenizer::train_byte_level_bpe;
use logitcask_model::{Companions, DeviceChoice, Precision, PretrainedModel, export, weights};
use safetensors::{SafeTensors, tensor::TensorView};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const WEIGHTS: &str = "model.safetensors";
const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";

/// A model folder that tests can change.
struct Folder(tempfile::TempDir);

impl Folder {
    fn golden(name: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        copy(&golden::folder().join(name), &folder.path());
        folder
    }

    /// A random teacher with its tokenizer.
    fn teacher() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let tokenizer = train_byte_level_bpe(crate::fixture::texts(40).into_iter(), 300).unwrap();
        write_teacher(&folder.path(), 1, 300, tokenizer.json());
        folder
    }

    /// The model is in a subfolder, so that a test can export beside it.
    fn path(&self) -> PathBuf {
        self.0.path().join("model")
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn edit_json(&self, name: &str, edit: impl FnOnce(&mut Value)) {
        let mut value = serde_json::from_slice(&fs::read(self.path().join(name)).unwrap()).unwrap();
        edit(&mut value);
        self.write(name, value.to_string());
    }

    fn fingerprint(&self) -> String {
        PretrainedModel::open(&self.path()).unwrap().fingerprint().unwrap().to_string()
    }

    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        files(&self.path())
    }

    /// Exports the model to the folder `out` beside it; returns the error if that fails.
    fn export(&self, out: &str, more: &[&str]) -> Result<PathBuf, String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_logitcask"));
        command.current_dir(self.0.path()).args(["export", "model", "--out", out]).args(more);
        let output = command.output().unwrap();
        match output.status.success() {
            true => Ok(self.0.path().join(out)),
            false => Err(String::from_utf8(output.stderr).unwrap()),
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for (name, bytes) in files(from) {
        fs::write(to.join(name), bytes).unwrap();
    }
}

fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = folder.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let plain = entries.filter(|path| path.is_file());
    plain.map(|path| (path.file_name().unwrap().into(), fs::read(&path).unwrap())).collect()
}

/// Every tensor of these files, by name.
fn tensors(files: &[Vec<u8>]) -> BTreeMap<String, TensorView<'_>> {
    files.iter().flat_map(|bytes| SafeTensors::deserialize(bytes).unwrap().tensors()).collect()
}

/// Writes the tensors alternately into a number of shards.
fn write_shards(folder: &Folder, tensors: BTreeMap<String, TensorView>, shards: usize) {
    let name = |shard: usize| format!("model-{:05}-of-{shards:05}.safetensors", shard + 1);
    let mut map = serde_json::Map::new();
    for shard in 0..shards {
        let mine: Vec<_> = tensors.iter().enumerate().filter(|(i, _)| i % shards == shard).map(|(_, t)| t).collect();
        map.extend(mine.iter().map(|(tensor, _)| ((*tensor).clone(), json!(name(shard)))));
        folder.write(&name(shard), safetensors::serialize(mine, None).unwrap());
    }
    folder.write("model.safetensors.index.json", json!({"metadata": {}, "weight_map": map}).to_string());
}

#[test]
fn a_model_in_another_form_has_the_same_fingerprint() {
    let folder = Folder::golden("llama-gqa");
    let one = folder.fingerprint();
    folder.edit_json("config.json", |config| {
        config["_some_new_key"] = json!({"deep": [1.5]});
        config["eos_token_id"] = json!([2, 3]);
        config["dtype"] = json!("bfloat16");
        config["max_position_embeddings"] = json!(4096);
        config["rope_theta"] = json!(10000);
        config.as_object_mut().unwrap().remove("rope_parameters");
        config.as_object_mut().unwrap().remove("head_dim");
    });
    assert_eq!(folder.fingerprint(), one, "keys that shape nothing, and defaults");
    let whole = [fs::read(folder.path().join(WEIGHTS)).unwrap()];
    fs::remove_file(folder.path().join(WEIGHTS)).unwrap();
    write_shards(&folder, tensors(&whole), 3);
    assert_eq!(folder.fingerprint(), one, "three shards");
    fs::rename(folder.path(), folder.0.path().join("renamed")).unwrap();
    let renamed = PretrainedModel::open(&folder.0.path().join("renamed")).unwrap().fingerprint().unwrap();
    assert_eq!(renamed.to_string(), one, "another name");

    let sharded = Folder::golden("llama-f16-sharded");
    let three = sharded.fingerprint();
    let shards: Vec<Vec<u8>> = sharded
        .files()
        .into_iter()
        .filter(|(name, _)| name.extension().unwrap() == "safetensors")
        .map(|f| f.1)
        .collect();
    write_shards(&sharded, tensors(&shards), 1);
    for shard in 1..=3 {
        fs::remove_file(sharded.path().join(format!("model-0000{shard}-of-00003.safetensors"))).unwrap();
    }
    assert_eq!(sharded.fingerprint(), three, "one shard");
}

#[test]
fn a_tied_copy_and_old_angles_are_no_part_of_a_model() {
    let folder = Folder::golden("llama-tied");
    let one = folder.fingerprint();
    let whole = [fs::read(folder.path().join(WEIGHTS)).unwrap()];
    let mut more = tensors(&whole);
    let angles = TensorView::new(safetensors::Dtype::F32, vec![2], &[0; 8]).unwrap();
    more.insert("model.layers.0.self_attn.rotary_emb.inv_freq".into(), angles);
    more.insert("lm_head.weight".into(), more["model.embed_tokens.weight"].clone());
    folder.write(WEIGHTS, safetensors::serialize(more, None).unwrap());
    assert_eq!(folder.fingerprint(), one);
}

#[test]
fn another_model_has_another_fingerprint() {
    let folder = Folder::golden("llama-gqa");
    let mut seen = std::collections::BTreeSet::from([folder.fingerprint()]);
    for (key, value) in
        [("rms_norm_eps", json!(1e-6)), ("rope_parameters", json!({"rope_theta": 5e5, "rope_type": "default"}))]
    {
        folder.edit_json("config.json", |config| config[key] = value);
        assert!(seen.insert(folder.fingerprint()), "{key}");
    }
    let mut bytes = fs::read(folder.path().join(WEIGHTS)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    folder.write(WEIGHTS, bytes);
    assert!(seen.insert(folder.fingerprint()), "one bit");
    let rounded = folder.export("rounded", &["--precision", "f16"]);
    assert!(rounded.is_err(), "no tokenizer, no export");
}

#[test]
fn a_llama2c_file_has_the_fingerprint_of_its_folder() {
    let (device, _) = DeviceChoice::Cpu.open().unwrap();
    for name in ["llama2c-tiny.bin", "llama2c-gqa-untied.bin"] {
        let files = PretrainedModel::open(&golden::folder().join(name)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let model = files.load(&device, Precision::F32).unwrap();
        export::export(&model, Precision::F32, None, &files.companions().unwrap(), folder.path()).unwrap();
        let exported = PretrainedModel::open(folder.path()).unwrap();
        assert_eq!(exported.fingerprint().unwrap(), files.fingerprint().unwrap(), "{name}");
        // Texts end with token 1 here, which the companions alone tell.
        let companions = exported.companions().unwrap();
        let generation: Value = serde_json::from_slice(companions.get("generation_config.json").unwrap()).unwrap();
        assert_eq!(generation["eos_token_id"], 1);
    }
}

/// Checks that opening the folder after `change` fails with a message that contains all `parts`.
fn refused(golden: &str, change: impl FnOnce(&Folder), parts: &[&str]) {
    let folder = Folder::golden(golden);
    PretrainedModel::open(&folder.path()).unwrap();
    change(&folder);
    let error = PretrainedModel::open(&folder.path()).err().unwrap_or_else(|| panic!("{parts:?}: opened")).to_string();
    parts.iter().for_each(|part| assert!(error.contains(part), "{part}: {error}"));
}

const SHARD: &str = "model-00002-of-00003.safetensors";
const INDEX: &str = "model.safetensors.index.json";

#[test]
fn what_lies_instead_of_files_is_named() {
    let pointer = "is a Git LFS pointer, not the file: `git lfs pull` fetches it";
    for name in ["config.json", WEIGHTS, "tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        refused("llama-gqa", |folder| folder.write(name, POINTER), &[name, pointer]);
    }
    for name in [SHARD, INDEX] {
        refused("llama-f16-sharded", |folder| folder.write(name, POINTER), &[name, pointer]);
    }
    let bin = tempfile::tempdir().unwrap();
    fs::write(bin.path().join("a.bin"), POINTER).unwrap();
    assert!(PretrainedModel::open(&bin.path().join("a.bin")).err().unwrap().to_string().contains(pointer));
}

#[test]
#[cfg(unix)]
fn a_link_to_nothing_is_named() {
    let link = |name: &'static str| {
        move |folder: &Folder| {
            fs::remove_file(folder.path().join(name)).ok();
            std::os::unix::fs::symlink("../blobs/0123", folder.path().join(name)).unwrap();
        }
    };
    let incomplete = "is a link to ../blobs/0123, which is not there: the download is incomplete";
    for name in ["config.json", WEIGHTS, "tokenizer.json", "chat_template.jinja"] {
        refused("llama-gqa", link(name), &[name, incomplete]);
    }
    for name in [SHARD, INDEX] {
        refused("llama-f16-sharded", link(name), &[name, incomplete]);
    }
}

#[test]
fn half_a_model_is_refused() {
    let remove = |name: &'static str| move |folder: &Folder| fs::remove_file(folder.path().join(name)).unwrap();
    refused("llama-gqa", remove("config.json"), &["no config.json"]);
    refused("llama-f16-sharded", remove(SHARD), &["names model-00002-of-00003.safetensors, which is not there"]);
    refused(
        "llama-f16-sharded",
        remove(INDEX),
        &["holds model-00001-of-00003.safetensors, but no model.safetensors.index"],
    );
    let cut_off = |folder: &Folder| {
        folder.edit_json(INDEX, |index| {
            index["weight_map"].as_object_mut().unwrap().retain(|_, shard| shard != SHARD);
        });
        fs::remove_file(folder.path().join(SHARD)).unwrap();
    };
    refused("llama-f16-sharded", cut_off, &["names 2 of 3 shards and not shard 2"]);
    let elsewhere =
        |folder: &Folder| folder.edit_json(INDEX, |index| index["weight_map"]["model.norm.weight"] = json!(SHARD));
    refused("llama-f16-sharded", elsewhere, &[SHARD, "model.norm.weight", "the index says"]);
    let headless = |folder: &Folder| {
        let whole = [fs::read(folder.path().join(WEIGHTS)).unwrap()];
        let mut rest = tensors(&whole);
        rest.remove("lm_head.weight").unwrap();
        folder.write(WEIGHTS, safetensors::serialize(rest, None).unwrap());
    };
    refused("llama-gqa", headless, &["lm_head.weight", "tie_word_embeddings"]);
    let in_the_form = |name: &'static str| {
        move |folder: &Folder| fs::rename(folder.path().join(WEIGHTS), folder.path().join(name)).unwrap()
    };
    refused("llama-gqa", in_the_form("pytorch_model.bin"), &["pytorch_model.bin, a pickle", "save_pretrained"]);
    refused("llama-gqa", in_the_form("model.q4.gguf"), &["model.q4.gguf", "name "]);
    refused("llama-gqa", in_the_form("weights"), &["neither model.safetensors nor"]);
    refused("llama-gqa", |folder| folder.write("config.json", "[1]"), &["config.json", "not a JSON object"]);
}

#[test]
fn what_could_be_two_models_is_refused() {
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        refused("llama-gqa", |folder| folder.write(name, "{}"), &[name, "merge_and_unload"]);
    }
    for method in ["awq", "bitsandbytes", "compressed-tensors", "fp8", "gptq", "mxfp4"] {
        let quantized = |folder: &Folder| {
            folder.edit_json("config.json", |config| config["quantization_config"] = json!({"quant_method": method}));
        };
        refused("llama-gqa", quantized, &["config.json", "quantized", method, "GGUF"]);
    }
    let by_mlx = |folder: &Folder| {
        folder.edit_json("config.json", |config| config["quantization"] = json!({"bits": 4, "group_size": 64}));
    };
    refused("llama-gqa", by_mlx, &["config.json", "MLX"]);
    for (name, method) in [("quantize_config.json", "GPTQ"), ("hf_quant_config.json", "ModelOpt")] {
        refused("llama-gqa", |folder| folder.write(name, "{}"), &[name, method]);
    }
    refused("llama-gqa", |folder| folder.write(SHARD, "x"), &["holds both model.safetensors and model-00002-of-00003"]);
    let other = "model-00001-of-00004.safetensors";
    refused("llama-f16-sharded", |folder| folder.write(other, "x"), &[other, "does not name"]);
    refused(
        "llama-f16-sharded",
        |folder| folder.write(WEIGHTS, "x"),
        &["holds model.safetensors, which", "does not name"],
    );
}

#[test]
fn a_header_that_claims_millions_of_layers_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bomb.bin");
    for (layers, message) in [(16_000_000, "at most 4096"), (1_000_000, "at most 4096"), (4096, "the file has 28")] {
        let header = [64, 172, layers, 8, 4, 512, 512].map(i32::to_le_bytes).concat();
        fs::write(&path, header).unwrap();
        let begun = Instant::now();
        let error = PretrainedModel::open(&path).err().unwrap().to_string();
        assert!(error.contains(message), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(1), "{layers} layers took {:?}", begun.elapsed());
    }
}

#[test]
fn an_export_keeps_what_the_folder_said() {
    let folder = Folder::teacher();
    let kept = [
        ("generation_config.json", "{\"eos_token_id\": [0, 5],  \"top_p\": 0.9}"),
        ("tokenizer_config.json", "{\"bos_token\": \"<|endoftext|>\", \"pad_token\": \"x\", \"model_max_length\": 64}"),
        ("special_tokens_map.json", "{\"pad_token\": \"x\"}"),
        ("chat_template.jinja", "{{ messages }}\n"),
        ("additional_chat_templates/tools.jinja", "{{ tools }}"),
    ];
    kept.iter().for_each(|(name, text)| folder.write(name, text));
    folder.edit_json("config.json", |config| {
        config["eos_token_id"] = json!([0, 5]);
        config["pad_token_id"] = json!(5);
        config["_some_note"] = json!("kept");
    });
    folder.edit_json("tokenizer.json", |tokenizer| tokenizer["padding"] = Value::Null);
    let out = folder.export("copy", &[]).unwrap();
    for name in kept.iter().map(|(name, _)| *name).chain(["tokenizer.json", WEIGHTS]) {
        assert_eq!(fs::read(out.join(name)).unwrap(), fs::read(folder.path().join(name)).unwrap(), "{name}");
    }
    let config: Value = serde_json::from_slice(&fs::read(out.join("config.json")).unwrap()).unwrap();
    assert_eq!((&config["eos_token_id"], &config["pad_token_id"]), (&json!([0, 5]), &json!(5)));
    assert_eq!((&config["_some_note"], &config["torch_dtype"]), (&json!("kept"), &json!("float32")));
    // An exported folder can be opened like any other.
    let [first, again] =
        [folder.path(), out.clone()].map(|path| PretrainedModel::open(&path).unwrap().companions().unwrap());
    assert_eq!(first.iter().collect::<Vec<_>>(), again.iter().collect::<Vec<_>>());
    assert_eq!(Companions::from_folder(&out).unwrap().iter().count(), kept.len());
}

#[test]
fn a_folder_without_generation_config_still_tells_every_end_token() {
    let folder = Folder::teacher();
    folder.edit_json("config.json", |config| {
        config["eos_token_id"] = json!([0, 7]);
        config["pad_token_id"] = json!(7);
    });
    let companions = PretrainedModel::open(&folder.path()).unwrap().companions().unwrap();
    let generation: Value = serde_json::from_slice(companions.get("generation_config.json").unwrap()).unwrap();
    let wanted = json!({"_from_model_config": true, "bos_token_id": 0, "eos_token_id": [0, 7], "pad_token_id": 7});
    assert_eq!(generation, wanted);
}

#[test]
fn an_export_never_overwrites_a_model() {
    let folder = Folder::teacher();
    let before = folder.files();
    let other = folder.export("other", &[]).unwrap();
    let kept = files(&other);
    #[cfg(unix)]
    std::os::unix::fs::symlink("model", folder.0.path().join("link")).unwrap();
    let targets = ["model", "model/.", "./model/../model", "model/deep/inside", "other"];
    for target in targets.into_iter().chain(cfg!(unix).then_some("link")) {
        let error = folder.export(target, &["--precision", "f16"]).unwrap_err();
        let reason = if target == "other" { "holds a model already" } else { "the model that is read" };
        assert!(error.contains(reason), "{target}: {error}");
    }
    assert!(folder.files() == before && files(&other) == kept && !folder.path().join("deep").exists());
}

#[test]
fn weights_that_do_not_fit_are_an_error_before_anything_is_written() {
    let folder = Folder::teacher();
    let bytes = fs::read(folder.path().join(WEIGHTS)).unwrap();
    let name = "model.layers.1.mlp.up_proj.weight";
    let start = {
        let whole = SafeTensors::deserialize(&bytes).unwrap();
        whole.tensor(name).unwrap().data().as_ptr() as usize - bytes.as_ptr() as usize
    };
    for (value, precision, limit) in [(1e5, "f16", "f16 ends at 65504"), (f32::MAX, "bf16", "bf16 ends at 33895")] {
        let mut bytes = bytes.clone();
        bytes[start..start + 4].copy_from_slice(&f32::to_le_bytes(value));
        folder.write(WEIGHTS, bytes);
        let error = folder.export("rounded", &["--precision", precision]).unwrap_err();
        assert!(error.contains(name) && error.contains(&format!("{value}")) && error.contains(limit), "{error}");
        assert!(!folder.0.path().join("rounded").exists());
    }
    // The largest number that does not round to infinity.
    let mut bytes = bytes.clone();
    bytes[start..start + 4].copy_from_slice(&65_519f32.to_le_bytes());
    folder.write(WEIGHTS, bytes);
    folder.export("rounded", &["--precision", "f16"]).unwrap();
}

#[test]
fn an_export_that_is_cut_short_leaves_no_model() {
    let (device, _) = DeviceChoice::Cpu.open().unwrap();
    let model = weights::init(&config().with_special_tokens(Some(0), vec![0, 1]), 3, &device);
    let folder = tempfile::tempdir().unwrap();
    let to = |none: &Companions| export::export(&model, Precision::F32, None, none, folder.path());
    to(&Companions::default()).unwrap();
    assert_eq!(PretrainedModel::open(folder.path()).unwrap().config().eos_token_ids(), [0, 1]);
    fs::write(folder.path().join("chat_template.jinja"), "of another model").unwrap();
    to(&Companions::default()).unwrap();
    assert_eq!(files(folder.path()).len(), 2, "nothing of an earlier model stays");
    // The weights cannot be written, since a folder has their name.
    fs::remove_file(folder.path().join(WEIGHTS)).unwrap();
    fs::create_dir_all(folder.path().join(WEIGHTS).join("full")).unwrap();
    assert!(to(&Companions::default()).unwrap_err().to_string().contains(WEIGHTS));
    assert!(PretrainedModel::open(folder.path()).err().unwrap().to_string().contains("no config.json"));
}
