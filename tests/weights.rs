//! Weights in other forms are the same models: GGUF files, and models that are named instead of being a folder.

use crate::fixture::Fixture;
use crate::golden::{self, assert_close, floats, ids};
use crate::parity::logits;
use crate::skips::skip;
use logitcask_core::math::log_sum_exp;
use logitcask_data::tokenizer::TextTokenizer;
use logitcask_model::{DeviceChoice, Precision, PretrainedModel, export};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

fn open(path: &Path) -> PretrainedModel {
    PretrainedModel::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn gguf(name: &str) -> PathBuf {
    golden::folder().join("gguf").join(name)
}

/// The fingerprint covers the config and every tensor: equal ones mean the same model to the last bit. The files were
/// written by llama.cpp's Python package, with its names and its order of rows.
#[test]
fn a_gguf_file_is_the_model_it_was_made_from() {
    for (file, folder) in [
        ("llama-bf16", "llama-tied"),
        ("llama-bias", "families/llama_bias"),
        ("qwen2", "families/qwen2"),
        ("qwen3", "families/qwen3"),
        ("llama-quantised", "gguf/llama-quantised"),
    ] {
        let (file, folder) = (open(&gguf(&format!("{file}.gguf"))), open(&golden::folder().join(folder)));
        assert_eq!(file.fingerprint().unwrap(), folder.fingerprint().unwrap(), "{}", file.name());
    }
}

/// A file tells the scaling of Llama 3 by its divisors alone.
#[test]
fn the_rotary_scaling_of_llama3_is_found_in_its_divisors() {
    let folder = tempfile::tempdir().unwrap();
    let golden = golden::folder().join("families/llama_bias");
    fs::copy(golden.join("model.safetensors"), folder.path().join("model.safetensors")).unwrap();
    let mut config: Value = serde_json::from_slice(&fs::read(golden.join("config.json")).unwrap()).unwrap();
    config["rope_parameters"] = json!({
        "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "original_max_position_embeddings": 8192,
        "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    });
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let file = gguf("llama3.gguf");
    assert_eq!(open(&file).fingerprint().unwrap(), open(folder.path()).fingerprint().unwrap());
    let other = refused("llama3.gguf", &8f32.to_le_bytes(), &7f32.to_le_bytes());
    assert!(other.contains("`rope_freqs.weight` scales the rotary embedding otherwise"), "{other}");
}

/// A GGUF file with further keys, each with its type and value.
fn with_keys(name: &str, keys: &[(&str, u32, &[u8])]) -> Result<PretrainedModel, String> {
    let mut bytes = fs::read(gguf(name)).unwrap();
    let text = |text: &[u8]| [&(text.len() as u64).to_le_bytes(), text].concat();
    let key = |name: &str, kind: u32, value: &[u8]| [&text(name.as_bytes()), &kind.to_le_bytes()[..], value].concat();
    let mut more = keys.iter().flat_map(|(name, kind, value)| key(name, *kind, value)).collect::<Vec<u8>>();
    // A text that keeps the tensors at multiples of the alignment.
    let filler = (64 - (more.len() + key("filler", 8, &text(b"")).len()) % 32) % 32;
    more.extend(key("filler", 8, &text(&vec![b'.'; filler])));
    let count = u64::from_le_bytes(bytes[16..24].try_into().unwrap()) + keys.len() as u64 + 1;
    bytes.splice(16..24, [&count.to_le_bytes()[..], &more].concat());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    fs::write(&path, bytes).unwrap();
    let opened = PretrainedModel::open(&path).map_err(|error| error.to_string());
    // The weights are read while the file is there.
    opened.inspect(|model| _ = model.fingerprint().unwrap())
}

/// llama.cpp scales linearly by a factor unless another type is said, and by none where that is `none`.
#[test]
fn a_rotary_factor_without_a_type_is_linear() {
    let factor = |factor: f32| ("llama.rope.scaling.factor", 6, factor.to_le_bytes());
    let kind =
        |kind: &str| ("llama.rope.scaling.type", 8, [&(kind.len() as u64).to_le_bytes(), kind.as_bytes()].concat());
    let open = |factor: Option<(&str, u32, [u8; 4])>, kind: Option<(&str, u32, Vec<u8>)>| {
        let factor = factor.iter().map(|(name, kind, value)| (*name, *kind, &value[..]));
        let kind = kind.iter().map(|(name, kind, value)| (*name, *kind, &value[..]));
        with_keys("llama-bias.gguf", &factor.chain(kind).collect::<Vec<_>>()).unwrap().config().clone()
    };
    let (plain, linear) = (open(None, None), open(Some(factor(4.0)), Some(kind("linear"))));
    assert_ne!(plain, linear);
    assert_eq!(open(Some(factor(4.0)), None), linear);
    for (number, kind) in [(1.0, None), (0.0, None), (4.0, Some(kind("none")))] {
        assert_eq!(open(Some(factor(number)), kind), plain, "{number}");
    }
    let (name, kind, value) = factor(4.0);
    let error = with_keys("llama3.gguf", &[(name, kind, &value)]).err().unwrap();
    assert!(error.contains("both by a factor") && error.contains("`rope_freqs.weight`"), "{error}");
    // The name, one dimension of 4, and the type.
    let tensor =
        |id: u32| [b"rope_freqs.weight", &1u32.to_le_bytes()[..], &4u64.to_le_bytes(), &id.to_le_bytes()].concat();
    let error = refused("llama3.gguf", &tensor(0), &tensor(1));
    assert!(error.contains("`rope_freqs.weight` has the type F16, expected F32"), "{error}");
}

#[test]
fn an_exported_gguf_file_is_the_same_model() {
    let (device, _) = DeviceChoice::Cpu.open().unwrap();
    let file = open(&gguf("qwen3.gguf"));
    let folder = tempfile::tempdir().unwrap();
    let model = file.load(&device, Precision::F32).unwrap();
    export::export(&model, Precision::F32, None, &file.companions().unwrap(), folder.path()).unwrap();
    assert_eq!(open(folder.path()).fingerprint().unwrap(), file.fingerprint().unwrap());
}

/// Opens a GGUF file in which `from` is replaced by `to` of the same length.
fn refused(name: &str, from: &[u8], to: &[u8]) -> String {
    let mut bytes = fs::read(gguf(name)).unwrap();
    let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
    bytes[at..at + from.len()].copy_from_slice(to);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    fs::write(&path, bytes).unwrap();
    PretrainedModel::open(&path).err().unwrap_or_else(|| panic!("{from:?}: opened")).to_string()
}

#[test]
fn what_a_gguf_file_has_and_this_build_does_not_know_is_named() {
    for (from, to, part) in [
        ("qwen3.context_length", "qwen3.contexX_length", "`qwen3.contexX_length`, which this build does not know"),
        ("qwen3.context_length", "qwen4.context_length", "key `qwen3.context_length`: it is missing"),
        ("blk.1.ffn_up.weight", "blk.1.ffn_uq.weight", "tensor `model.layers.1.mlp.up_proj.weight`"),
        ("blk.1.ffn_up.weight", "blk.7.ffn_up.weight", "tensor `model.layers.1.mlp.up_proj.weight`"),
        ("GGUF", "GGUX", "not a GGUF file"),
    ] {
        let error = refused("qwen3.gguf", from.as_bytes(), to.as_bytes());
        assert!(error.contains("a.gguf") && error.contains(part), "{from}: {error}");
    }
    let error = refused("qwen3.gguf", b"\x05\0\0\0\0\0\0\0qwen3", b"\x05\0\0\0\0\0\0\0bloom");
    assert!(error.contains("`general.architecture` is `bloom`"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    fs::copy(gguf("qwen3.gguf"), folder.path().join("model.gguf")).unwrap();
    let error = PretrainedModel::open(folder.path()).err().unwrap().to_string();
    assert!(error.contains("a GGUF file is a model by itself: name ") && error.contains("model.gguf"), "{error}");
}

/// A damaged file is refused, or is another model; it never makes the program panic or allocate more than there is.
#[test]
fn a_damaged_gguf_file_is_no_accident() {
    let whole = fs::read(gguf("llama-bias.gguf")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    let mut opened = 0;
    for at in (0..2000).step_by(3) {
        for byte in [0, 1, 0x7f, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            fs::write(&path, &bytes).unwrap();
            opened += usize::from(PretrainedModel::open(&path).is_ok());
        }
    }
    assert!(opened > 0, "bytes of constants may be any");
}

/// The cache of a hub with one model, as Hugging Face's tools make it.
fn hub(fixture: &Fixture) -> PathBuf {
    let commit = "89abcdef0123456789abcdef0123456789abcdef";
    let model = fixture.path("hub/models--org--teacher");
    fs::create_dir_all(model.join("refs")).unwrap();
    fs::create_dir_all(model.join("snapshots")).unwrap();
    fs::write(model.join("refs/main"), commit).unwrap();
    fs::rename(fixture.path("teacher"), model.join("snapshots").join(commit)).unwrap();
    fixture.path("hub")
}

#[test]
fn a_model_may_be_named_wherever_there_is_one() {
    let fixture = Fixture::new(40);
    let in_folder = fixture.ok(&["cache", "recipe.toml"]);
    let cache = hub(&fixture);
    let named = |args: &[&str]| -> Command {
        let mut command = fixture.command(args);
        command.env("HF_HUB_CACHE", &cache).env("HF_HUB_OFFLINE", "1");
        command
    };
    let run = |args: &[&str]| {
        let output = named(args).output().unwrap();
        let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        assert!(output.status.success(), "{args:?}: {err}");
        (out, err)
    };
    fixture.edit_recipe(&format!("model = \"{}\"", fixture.path("teacher").display()), "model = \"org/teacher\"");
    // What changed in the last two seconds could change again unseen, and would not be recorded.
    std::thread::sleep(Duration::from_millis(2_100));
    // The same teacher under another name: the cache is up to date.
    let (out, err) = run(&["cache", "recipe.toml"]);
    assert!(out.contains("is up to date"), "{in_folder} {out}");
    assert!(err.contains("org/teacher is commit 89abcdef0123456789abcdef0123456789abcdef in "), "{err}");
    let (_, err) = run(&["cache", "recipe.toml"]);
    assert!(!err.contains("commit"), "the second time nothing is read: {err}");
    run(&["train", "recipe.toml"]);
    run(&["eval", "org/teacher@main", "--cache", "cache"]);
    run(&["export", "org/teacher@89abcdef0123456789abcdef0123456789abcdef", "--out", "exported"]);
    // A folder of the same name wins.
    fs::create_dir_all(fixture.path("org")).unwrap();
    fs::rename(fixture.path("exported"), fixture.path("org/teacher")).unwrap();
    fs::remove_dir_all(&cache).unwrap();
    let (_, err) = run(&["eval", "org/teacher", "--cache", "cache"]);
    assert!(!err.contains("commit"), "{err}");
    let output = named(&["eval", "org/other", "--cache", "cache"]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("models--org--other/refs/main") && error.contains("HF_HUB_OFFLINE"), "{error}");
}

/// Between the two, another program may fetch a newer commit of the branch.
#[test]
fn what_was_located_is_what_is_opened() {
    let cache = tempfile::tempdir().unwrap();
    let (model, commit) = (cache.path().join("models--org--name"), "89abcdef0123456789abcdef0123456789abcdef");
    let (snapshot, golden) = (model.join("snapshots").join(commit), golden::folder().join("families/llama3"));
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(model.join("refs")).unwrap();
    fs::write(model.join("refs/main"), commit).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(golden.join(name), snapshot.join(name)).unwrap();
    }
    let offline = logitcask_hub::Settings {
        cache: cache.path().to_owned(),
        endpoint: String::new(),
        token: None,
        token_file: PathBuf::new(),
        offline: true,
    };
    let located = logitcask_hub::locate(Path::new("org/name"), &offline, &mut |_, _| (), &|_| Ok(())).unwrap().unwrap();
    fs::write(model.join("refs/main"), "0".repeat(40)).unwrap();
    let opened = PretrainedModel::open_snapshot(&located).unwrap();
    assert_eq!((opened.path(), opened.name().as_str()), (snapshot.as_path(), "name"));
    // What is refused without weights: the check before they are fetched.
    fs::remove_file(snapshot.join("model.safetensors")).unwrap();
    PretrainedModel::check_folder(&snapshot).unwrap();
    fs::write(snapshot.join("config.json"), r#"{"model_type": "mamba"}"#).unwrap();
    let error = PretrainedModel::check_folder(&snapshot).unwrap_err().to_string();
    assert!(error.contains("model_type is `mamba`"), "{error}");
}

/// Needs the fetched model (`make fetch-smollm2`); is skipped without it. The numbers are from numpy in float64, and
/// the values of blocks, tokens and positions in it from nothing of ours.
#[test]
fn a_published_gguf_file_agrees_with_numpy() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf");
    if !path.is_file() {
        let why = format!("{} is not there; `make fetch-smollm2` fetches it", path.display());
        return skip("weights::a_published_gguf_file_agrees_with_numpy", &why);
    }
    let golden = golden::read("gguf/smollm2.json");
    let tokenizer = TextTokenizer::from_gguf(&path).unwrap();
    assert_eq!((tokenizer.vocab_size(), tokenizer.bos(), tokenizer.eos()), (49_152, None, Some(2)));
    let (device, _) = DeviceChoice::Cpu.open().unwrap();
    let model = open(&path).load(&device, Precision::F32).unwrap();
    for sequence in golden["sequences"].as_array().unwrap() {
        let tokens = ids(&sequence["ids"]);
        assert_eq!(tokenizer.encode(sequence["text"].as_str().unwrap()).unwrap(), tokens);
        let got = &logits(&model, std::slice::from_ref(&tokens))[0];
        for (p, row) in got.iter().enumerate() {
            assert_close(log_sum_exp(row), sequence["log_z"][p].as_f64().unwrap(), 0.0, 1e-3, &format!("log_z {p}"));
            for (id, wanted) in ids(&sequence["top_ids"][p]).iter().zip(floats(&sequence["top_logits"][p])) {
                assert_close(row[*id as usize], wanted, 0.0, 1e-3, &format!("logit {id} at {p}"));
            }
        }
        for (p, wanted) in floats(&sequence["nll"]).iter().enumerate() {
            let nll = log_sum_exp(&got[p]) - got[p][tokens[p + 1] as usize];
            assert_close(nll, *wanted, 0.0, 1e-3, &format!("nll {p}"));
        }
    }
    for case in golden["continuations"].as_array().unwrap() {
        let [prompt, continuation] = ["prompt", "continuation"].map(|key| case[key].as_str().unwrap());
        let mut command = Command::new(env!("CARGO_BIN_EXE_logitcask"));
        command.args(["generate", path.to_str().unwrap(), "--prompt", prompt, "--temperature", "0", "--device", "cpu"]);
        let output = command.args(["--max-tokens", &case["tokens"].to_string()]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            text.trim(),
            format!("{prompt}{continuation}").trim(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
