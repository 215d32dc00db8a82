//! Conversations through both stages, as a user runs them.

use crate::fixture::{Fixture, write_teacher};
use logitcask_cache::CacheReader;
use logitcask_core::{Positions, SampleId};
use logitcask_data::{SpecialIds, TextTokenizer};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs;
use std::path::Path;

const CACHE: [&str; 4] = ["cache", "recipe.toml", "--device", "cpu"];
const TRAIN: [&str; 6] = ["train", "recipe.toml", "--device", "cpu", "--out", "run"];

/// Sixty conversations of one or two turns, and a teacher with Qwen's kind of template.
pub fn fixture() -> Fixture {
    let fixture = Fixture::new(20);
    let golden = Path::new("data/golden/tokenizers/qwen");
    let (tokenizer, _) = TextTokenizer::from_model_folder(golden, SpecialIds::default()).unwrap();
    fs::remove_dir_all(fixture.path("teacher")).unwrap();
    write_teacher(&fixture.path("teacher"), 1, tokenizer.vocab_size() as usize, tokenizer.json());
    for name in ["chat_template.jinja", "tokenizer_config.json"] {
        fs::copy(golden.join(name), fixture.path("teacher").join(name)).unwrap();
    }
    // The model's answers end with <|im_end|> or <|endoftext|>.
    fs::write(fixture.path("teacher/generation_config.json"), r#"{"eos_token_id": [362, 360]}"#).unwrap();
    write_chats(&fixture, 60);
    fixture.edit_recipe("texts.jsonl", "chats.jsonl");
    fixture.edit_recipe("max_length = 48", "max_length = 64");
    fixture
}

fn write_chats(fixture: &Fixture, count: u32) {
    let message = |role: &str, content: String| json!({ "role": role, "content": content });
    let line = |i: u32| {
        let words = ["the dog", "was happy", "Zürich 😀", "a little tree"];
        let word = |at: u32| words[(i + at) as usize % 4];
        let mut messages = vec![message("user", format!("{i}?")), message("assistant", word(1).into())];
        if i.is_multiple_of(3) {
            messages.extend([message("user", word(2).into()), message("assistant", format!(" {} ", word(3)))]);
        }
        json!({ "messages": messages }).to_string() + "\n"
    };
    fs::write(fixture.path("chats.jsonl"), (0..count).map(line).collect::<String>()).unwrap();
}

#[test]
fn answers_are_cached_shown_learned_and_handed_on() {
    let fixture = fixture();
    let output = fixture.run(&CACHE);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("60 of 60 conversations are samples;"), "{said}");
    let shown = fixture.ok(&["inspect", "cache", "--sample", "0", "--positions", "60"]);
    let expected = "<|im_start|>user\n0?<|im_end|>\n<|im_start|>assistant\n⟦was happy<|im_end|>⟧\n\
                    <|im_start|>user\nZürich 😀<|im_end|>\n<|im_start|>assistant\n⟦ a little tree <|im_end|>⟧\n";
    assert!(shown.contains(expected), "{shown}");
    let cache = CacheReader::open(&fixture.path("cache")).unwrap();
    let shown = fixture.ok(&["inspect", "cache"]);
    assert!(shown.contains("chats        turns: all") && shown.contains("positions: marked"), "{shown}");
    let positions = cache.manifest().totals.positions;
    fixture.ok(&TRAIN);
    let student = fixture.path("run/student/model");
    let template = fs::read(student.join("chat_template.jinja")).unwrap();
    assert_eq!(template, fs::read(fixture.path("teacher/chat_template.jinja")).unwrap());
    let config: Value = serde_json::from_slice(&fs::read(student.join("generation_config.json")).unwrap()).unwrap();
    assert_eq!(config["eos_token_id"], json!([362, 360]), "a student stops where the teacher does");
    let tokens: Value = serde_json::from_slice(&fs::read(student.join("tokenizer_config.json")).unwrap()).unwrap();
    assert_eq!(tokens["eos_token"], "<|im_end|>");
    let test: u64 = cache.in_order("test").unwrap().map(|row| row.unwrap().rows.len() as u64).sum();
    let judged = fixture.ok(&["eval", "run/student/model", "--cache", "cache", "--device", "cpu"]);
    assert!(test < positions && judged.contains(&format!("(over {test} positions of ")), "{judged}");
    // A text is evaluated by the same rules.
    fixture.ok(&["eval", "run/student/model", "--data", "chats.jsonl", "--device", "cpu"]);
    // A cache without its teacher is compared by the template that it holds itself.
    fs::rename(fixture.path("teacher"), fixture.path("gone")).unwrap();
    fixture.ok(&TRAIN);
}

#[test]
fn rows_of_answers_are_those_of_a_cache_of_all_positions() {
    let fixture = fixture();
    fixture.ok(&CACHE);
    fixture.edit_recipe("[cache]", "[cache]\npositions = { kind = \"all\" }");
    fixture.edit_recipe("/cache\"", "/whole\"");
    fixture.ok(&CACHE);
    let open = |name: &str| CacheReader::open(&fixture.path(name)).unwrap();
    let (answers, whole) = (open("cache"), open("whole"));
    let end = 362;
    for id in (0..answers.len("train").unwrap()).map(SampleId) {
        let (some, all) = (answers.get("train", id).unwrap(), whole.get("train", id).unwrap());
        assert_eq!(
            (some.sample.input_ids.as_slice(), &all.sample.positions),
            (&all.sample.input_ids[..], &Positions::All)
        );
        let all: HashMap<usize, _> = all.sample.position_indices().zip(all.rows.iter()).collect();
        let ids = &some.sample.input_ids;
        for (position, row) in some.sample.position_indices().zip(some.rows.iter()) {
            let other = &all[&position];
            assert_eq!((row.class_ids, row.log_probs, row.gold), (other.class_ids, other.log_probs, other.gold));
            assert_eq!(row.log_z, other.log_z);
        }
        // The first position of an answer is the line feed before it, the last one that before its end.
        let first = some.sample.position_indices().next().unwrap();
        assert!(first > 0 && ids[..=first].ends_with(&[77, 83, 198]), "{:?}", &ids[..=first]);
        assert_eq!(some.sample.labels().last(), Some(&end));
        assert!(!some.sample.tokens_at_positions().contains(&end));
    }
    let bytes = |cache: &CacheReader| cache.manifest().totals.positions;
    assert!(bytes(&answers) * 2 < bytes(&whole));
}

#[test]
fn a_template_of_the_recipe_is_part_of_the_cache_and_goes_to_the_student() {
    let fixture = fixture();
    let own = "{% for m in messages %}{{ m.role }}: {{ m.content }}<|im_end|>{% endfor %}\
               {% if add_generation_prompt %}assistant: {% endif %}{# DAY #}";
    fs::write(fixture.path("own.jinja"), own).unwrap();
    let chat = "samples_per_unit = 32\n\n[dataset.chat]\ntemplate = \"own.jinja\"\nanswers = { turns = \"last\" }";
    fixture.edit_recipe("samples_per_unit = 32", chat);
    fixture.ok(&CACHE);
    let shown = fixture.ok(&["inspect", "cache", "--sample", "0"]);
    let expected = "user: 0?<|im_end|>assistant: was happy<|im_end|>user: Zürich 😀<|im_end|>assistant: \
                    ⟦ a little tree <|im_end|>⟧";
    assert!(shown.contains(expected), "{shown}");
    fixture.ok(&TRAIN);
    assert_eq!(fs::read_to_string(fixture.path("run/student/model/chat_template.jinja")).unwrap(), own);
    assert!(fixture.ok(&CACHE).contains("up to date"));

    fs::write(fixture.path("own.jinja"), own.replace("DAY", "{{ 1 }}")).unwrap();
    let error = fixture.fails(&CACHE);
    assert!(error.contains("conversations: ") && error.contains("template ") && error.contains("dataset: "), "{error}");
    fs::write(fixture.path("own.jinja"), own.replace("{# DAY #}", "{{ strftime_now('%Y') }}")).unwrap();
    let error = fixture.fails(&CACHE);
    assert!(
        error.contains("chats.jsonl: conversation 0 (counted from 0): the chat template: it writes the current day"),
        "{error}"
    );
    fixture.edit_recipe("template = ", "date = \"2026-07-26\"\ntemplate = ");
    fixture.ok(&["cache", "recipe.toml", "--device", "cpu", "--replace"]);
    fixture.edit_recipe("turns = \"last\"", "turns = \"first\"");
    assert!(fixture.fails(&CACHE).contains("unknown value `first`, expected `all` or `last`"));
}

#[test]
fn estimates_say_what_becomes_of_the_conversations() {
    let fixture = fixture();
    fixture.edit_recipe("max_length = 64", "max_length = 40");
    let output = fixture.run(&["estimate", "recipe.toml", "--device", "cpu", "--samples", "8"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("have more than max_length = 40 tokens and were left out"),
        "{said}"
    );
    assert!(said.contains("% of") || said.contains("%) are answers"), "{said}");
    // A user who forges the end of a turn.
    let forged =
        json!({"messages": [{"role": "user", "content": "x<|im_end|>"}, {"role": "assistant", "content": "b"}]});
    let chats = fs::read_to_string(fixture.path("chats.jsonl")).unwrap();
    fs::write(fixture.path("chats.jsonl"), format!("{chats}{forged}\n")).unwrap();
    let error = fixture.fails(&CACHE);
    assert!(
        error.contains("conversation 60 (counted from 0): spells out the special token `<|im_end|>` (362)"),
        "{error}"
    );
    fixture.edit_recipe("held_out = 0.1", "held_out = 0.1\nspecial_tokens = \"plain\"");
    fixture.ok(&CACHE);
}

#[test]
fn students_learn_answers_without_a_teacher_too() {
    let fixture = fixture();
    fs::remove_file(fixture.path("teacher/model.safetensors")).unwrap();
    let recipe = fs::read_to_string(fixture.recipe()).unwrap();
    let from = recipe.find("[teacher]").unwrap();
    let to = recipe.find("[cache]").unwrap();
    let tokenizer = "[tokenizer]\npath = \"teacher/tokenizer.json\"\n\n";
    let recipe = format!("{}{tokenizer}{}", &recipe[..from], &recipe[to..]).replace("alpha = 0.5", "alpha = 0.0");
    fs::write(fixture.recipe(), recipe).unwrap();
    fixture.ok(&TRAIN);
    fixture.ok(&["prepare", "recipe.toml"]);
    fixture.ok(&["train", "recipe.toml", "--device", "cpu", "--out", "again"]);
    let losses = |run: &str| fs::read_to_string(fixture.path(run).join("summary.json")).unwrap();
    let positions = |run: &str| serde_json::from_str::<Value>(&losses(run)).unwrap()["student"]["positions"].clone();
    assert_eq!(positions("run"), positions("again"));
    let template = |folder: &str| fs::read(fixture.path(folder).join("chat_template.jinja")).unwrap();
    assert_eq!(template("run/student/model"), template("teacher"));
}

#[test]
fn a_student_that_starts_as_a_base_model_is_written_with_the_template_that_it_learned() {
    let fixture = fixture();
    fixture.ok(&CACHE);
    fs::create_dir(fixture.path("base")).unwrap();
    for entry in fs::read_dir(fixture.path("teacher")).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), fixture.path("base").join(entry.file_name())).unwrap();
    }
    fs::remove_file(fixture.path("base/chat_template.jinja")).unwrap();
    fs::write(fixture.path("base/generation_config.json"), r#"{"eos_token_id": 360, "top_p": 0.8}"#).unwrap();
    let recipe = fs::read_to_string(fixture.recipe()).unwrap();
    let (from, to) = (recipe.find("[student]").unwrap(), recipe.find("[loss]").unwrap());
    let student = "[student]\nfrom = \"base\"\n\n";
    fs::write(fixture.recipe(), format!("{}{student}{}", &recipe[..from], &recipe[to..])).unwrap();
    fixture.ok(&TRAIN);
    let written = |name: &str| fs::read(fixture.path("run/student/model").join(name)).unwrap();
    assert_eq!(written("chat_template.jinja"), fs::read(fixture.path("teacher/chat_template.jinja")).unwrap());
    let generation: Value = serde_json::from_slice(&written("generation_config.json")).unwrap();
    assert_eq!(generation, json!({"eos_token_id": [360, 362], "top_p": 0.8}), "it stops where turns end, too");
}
