//! A teacher of a few thousand parameters and a few hundred texts in a temporary folder.

use logitcask_core::rng::CounterRng;
use logitcask_core::{LogProbPrecision, RowSource, Selection, TailRule, Truncation};
use logitcask_data::tokenizer::train_byte_level_bpe;
use logitcask_model::{Companions, DeviceChoice, ModelConfig, Precision, export, weights};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub struct Fixture {
    pub dir: tempfile::TempDir,
}

/// Texts of uneven length from a small grammar.
pub fn texts(count: u64) -> Vec<String> {
    let words = ["the", "cat", "dog", "sun", "saw", "big", "red", "ran", "and", "then", "home", "a", "little", "tree"];
    let text = |i| {
        let mut rng = CounterRng::new("fixture text", &[i]);
        let length = 5 + rng.below(60);
        (0..length).map(|_| words[rng.below(words.len() as u64) as usize]).collect::<Vec<_>>().join(" ")
    };
    (0..count).map(text).collect()
}

impl Fixture {
    /// `documents` texts in texts.jsonl, a random teacher in teacher/, and recipe.toml.
    pub fn new(documents: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let texts = texts(documents);
        let lines: String = texts.iter().map(|text| format!("{{\"text\": \"{text}\"}}\n")).collect();
        fs::write(dir.path().join("texts.jsonl"), lines).unwrap();
        let tokenizer = train_byte_level_bpe(texts.into_iter(), 300).unwrap();
        write_teacher(&dir.path().join("teacher"), 1, 300, tokenizer.json());
        let fixture = Self { dir };
        fixture.write_recipe("");
        fixture
    }

    /// Writes the recipe, followed by the tables in `more`.
    pub fn write_recipe(&self, more: &str) {
        let recipe = RECIPE.replace("DIR", &self.dir.path().display().to_string()) + more;
        fs::write(self.recipe(), recipe).unwrap();
    }

    pub fn edit_recipe(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.recipe()).unwrap();
        assert!(text.contains(from), "the recipe has no `{from}`");
        fs::write(self.recipe(), text.replace(from, to)).unwrap();
    }

    pub fn recipe(&self) -> PathBuf {
        self.path("recipe.toml")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs the program in the fixture's folder.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_logitcask"));
        command.args(args).current_dir(self.dir.path());
        command
    }

    /// Runs it and expects success; returns its standard output.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs it and expects failure; returns its standard error.
    pub fn fails(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(!output.status.success(), "{args:?} should fail");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Every file of a cache that is part of its identity, with its bytes.
    pub fn cache_files(&self) -> Vec<(String, Vec<u8>)> {
        let root = self.path("cache");
        let mut files = vec!["plan.json".to_owned(), "manifest.json".to_owned(), "tokenizer.json".to_owned()];
        for folder in ["data", "_commits", "_manifest"] {
            let entries = fs::read_dir(root.join(folder)).unwrap();
            files.extend(entries.map(|e| format!("{folder}/{}", e.unwrap().file_name().to_string_lossy())));
        }
        files.sort();
        files.into_iter().map(|name| (name.clone(), fs::read(root.join(&name)).unwrap())).collect()
    }
}

/// A truncation with this selection and the tail of the default temperature range.
pub fn keep(selection: Selection) -> Truncation {
    let tail = TailRule { lowest_temperature: 0.75, highest_temperature: 10.0, atoms: 5 };
    let tail = (selection != (Selection::Dense {})).then_some(tail);
    Truncation {
        selection,
        always_keep: Vec::new(),
        values: LogProbPrecision::F16 {},
        tail,
        padding: 0,
        source: RowSource::FULL,
    }
}

/// Writes a random teacher with weights large enough that it prefers some words over others.
pub fn write_teacher(folder: &Path, seed: u64, vocab_size: usize, tokenizer: &[u8]) {
    let (device, _) = DeviceChoice::Cpu.open().unwrap();
    let model = weights::init(&config_of(vocab_size), seed, &device);
    export::export(&model, Precision::F32, Some(tokenizer), &Companions::default(), folder).unwrap();
}

pub fn config() -> ModelConfig {
    config_of(300)
}

fn config_of(vocab_size: usize) -> ModelConfig {
    let keys = serde_json::json!({
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "bos_token_id": 0, "eos_token_id": 0,
    });
    serde_json::from_value::<ModelConfig>(keys).unwrap().resolved(vocab_size, 64).unwrap()
}

const RECIPE: &str = r#"
[dataset]
path = "DIR/texts.jsonl"
held_out = 0.1

[teacher]
model = "DIR/teacher"
batch_tokens = 512

[cache]
path = "DIR/cache"
max_length = 48
selection = { kind = "top_k", k = 16 }
samples_per_unit = 32

[student]
hidden_size = 16
intermediate_size = 32
num_hidden_layers = 1
num_attention_heads = 2
num_key_value_heads = 1

[loss]
alpha = 0.5

[train]
steps = 12
batch_size = 4
accumulate = 2
learning_rate = 1e-2
warmup = 2
checkpoint_every = 5
"#;
