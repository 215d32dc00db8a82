//! A teacher answers prompts, and its answers are cached.

use crate::chats;
use crate::fixture::Fixture;
use crate::skips::skip;
use logitcask_cache::CacheReader;
use logitcask_core::SampleId;
use logitcask_data::{Content, DatasetConfig, SpecialIds, TextTokenizer, TokenRow, read_documents};
use logitcask_files::LockFile;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

const CACHE: [&str; 4] = ["cache", "recipe.toml", "--device", "cpu"];

/// Arguments for answers to the fixture's prompts in `out`.
fn generate<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let all =
        ["generate", "teacher", "--prompts", "chats.jsonl", "--device", "cpu", "--temperature", "0.7", "--out", out];
    [&all, more].concat()
}

/// Sixty conversations, and a teacher that often writes one of many end tokens.
fn fixture() -> Fixture {
    let fixture = chats::fixture();
    let ends: Vec<u32> = [362, 360].into_iter().chain(60..100).collect();
    fs::write(fixture.path("teacher/generation_config.json"), json!({ "eos_token_id": ends }).to_string()).unwrap();
    fixture
}

/// The rows of a file of answers.
fn rows(path: &Path) -> Vec<TokenRow> {
    let config = DatasetConfig {
        tokens_column: Some("input_ids".into()),
        mask_column: Some("assistant_masks".into()),
        ..DatasetConfig::at(path)
    };
    let tokens = |content| match content {
        Content::Tokens(row) => row,
        other => panic!("{other:?}"),
    };
    read_documents(&config).unwrap().documents.into_iter().map(|document| tokens(document.content)).collect()
}

/// Prompt and answer of a row.
fn parts(row: &TokenRow) -> (&[u32], &[u32]) {
    let marks = row.marks.as_ref().unwrap();
    let prompt = marks.iter().position(|&mark| mark).unwrap();
    assert!(marks[prompt..].iter().all(|&mark| mark));
    row.ids.split_at(prompt)
}

#[test]
fn answers_do_not_depend_on_batches_or_on_other_prompts() {
    let fixture = fixture();
    let said = fixture.ok(&generate("a.parquet", &["--batch", "4"]));
    assert!(said.contains("a.parquet: 60 answers of") && said.contains("tokens_column = \"input_ids\""), "{said}");
    let written = fs::read(fixture.path("a.parquet")).unwrap();
    fixture.ok(&generate("b.parquet", &["--batch", "64"]));
    assert!(written == fs::read(fixture.path("b.parquet")).unwrap());
    assert!(fixture.ok(&generate("a.parquet", &[])).contains("holds these answers already"));
    assert!(!fixture.path("a.parquet.parts").exists());

    // Every other prompt, in reverse, and the first one twice.
    let lines = fs::read_to_string(fixture.path("chats.jsonl")).unwrap();
    let lines: Vec<&str> = lines.lines().collect();
    let mut some: Vec<&str> = lines.iter().copied().step_by(2).rev().collect();
    some.push(lines[0]);
    fs::write(fixture.path("chats.jsonl"), some.join("\n")).unwrap();
    fixture.ok(&generate("some.parquet", &[]));
    let all = rows(&fixture.path("a.parquet"));
    let by_prompt: BTreeMap<&[u32], &[u32]> = all.iter().map(parts).collect();
    let some = rows(&fixture.path("some.parquet"));
    let (again, some) = some.split_last().unwrap();
    for (prompt, answer) in some.iter().map(parts) {
        assert_eq!(by_prompt[prompt], answer);
    }
    let (prompt, answer) = parts(again);
    assert!(prompt == parts(&all[0]).0 && answer != parts(&all[0]).1, "a prompt that is repeated is answered anew");

    fixture.ok(&generate("c.parquet", &["--seed", "1"]));
    assert_ne!(rows(&fixture.path("c.parquet")), rows(&fixture.path("some.parquet")));
}

#[test]
fn an_answer_ends_at_any_end_token_which_is_learned() {
    let fixture = fixture();
    fixture.ok(&generate("a.parquet", &["--max-tokens", "12"]));
    // That of config.json is one, too.
    let ends: Vec<u32> = [362, 360, 0].into_iter().chain(60..100).collect();
    let all = rows(&fixture.path("a.parquet"));
    let mut seen: Vec<u32> = Vec::new();
    for (prompt, answer) in all.iter().map(parts) {
        let (last, before) = answer.split_last().unwrap();
        assert!(before.iter().all(|token| !ends.contains(token)));
        assert!(ends.contains(last) || answer.len() == 12 || prompt.len() + answer.len() == 64);
        seen.extend(ends.contains(last).then_some(*last));
    }
    let finished = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert!(seen.len() > 3 && finished < 60, "{seen:?}");
    let said = fixture.ok(&generate("b.parquet", &["--max-tokens", "12", "--finished-only"]));
    assert!(said.contains(&format!("{} of 60 reached the maximum length and were left out", 60 - finished)), "{said}");
    assert_eq!(rows(&fixture.path("b.parquet")).len(), finished);
    // The text for people is what the tokens say, without the end token.
    let (tokenizer, _) =
        TextTokenizer::from_model_folder(&fixture.path("teacher"), SpecialIds { bos: None, eos: &[362] }).unwrap();
    let documents = read_documents(&DatasetConfig {
        messages_column: Some("messages".into()),
        ..DatasetConfig::at(&fixture.path("b.parquet"))
    });
    let is_plain = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == ' ');
    let mut compared = 0;
    for (document, row) in documents.unwrap().documents.iter().zip(rows(&fixture.path("b.parquet"))) {
        let (_, answer) = parts(&row);
        let text = tokenizer.decode_verbatim(&answer[..answer.len() - 1]).unwrap();
        if is_plain(&text) {
            let shown = format!("{:?}", document.content);
            assert!(shown.contains(&format!("'content': '{text}'")), "{text:?} in {shown}");
            compared += 1;
        }
    }
    assert!(compared > 0);
}

#[test]
fn a_run_that_is_killed_goes_on_to_the_same_bytes() {
    let fixture = fixture();
    fixture.ok(&generate("whole.parquet", &["--batch", "1"]));
    let whole = fs::read(fixture.path("whole.parquet")).unwrap();
    let (command, folder) = (generate("a.parquet", &["--batch", "1"]), fixture.path("a.parquet.parts"));
    let there = || {
        let names = fs::read_dir(&folder).map(|files| files.map(|file| file.unwrap().file_name()).collect::<Vec<_>>());
        names.unwrap_or_default().iter().filter(|name| name.to_string_lossy().starts_with("part-")).count()
    };
    for least in [1, 20] {
        let mut child = fixture.command(&command).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        while there() < least && child.try_wait().unwrap().is_none() {
            sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(there() >= 20 && !fixture.path("a.parquet").exists());
    let error = fixture.fails(&generate("a.parquet", &["--batch", "1", "--top-p", "0.9"]));
    assert!(error.contains("holds a part of other texts (top_p: 1.0 there, 0.9 wanted)"), "{error}");
    let error = fixture.fails(&generate("a.parquet", &["--batch", "2"]));
    assert!(error.contains("batch: 1 there, 2 wanted"), "{error}");
    let held = LockFile::try_hold(&folder.join("lock")).unwrap();
    let error = fixture.fails(&command);
    assert!(error.contains("a.parquet: another process is writing it"), "{error}");
    drop(held);
    fs::write(folder.join("part-000000.json"), "[").unwrap();
    let error = fixture.fails(&command);
    assert!(error.contains("part-000000.json: is damaged") && error.contains("remove it"), "{error}");
    fs::remove_file(folder.join("part-000000.json")).unwrap();
    let output = fixture.run(&command);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("of 60 batches are already answered"), "{said}");
    assert!(whole == fs::read(fixture.path("a.parquet")).unwrap() && !folder.exists());
    let error = fixture.fails(&generate("a.parquet", &["--seed", "5"]));
    assert!(error.contains("a.parquet: holds other answers (seed: 0 there, 5 wanted)"), "{error}");
    fs::copy(fixture.path("texts.jsonl"), fixture.path("texts.parquet")).unwrap();
    assert!(fixture.fails(&generate("texts.parquet", &[])).contains("texts.parquet"));
}

#[test]
fn prompts_that_cannot_be_answered_are_named() {
    let fixture = fixture();
    let line = |content: &str| json!({ "prompt": content }).to_string() + "\n";
    let long = "the dog was happy ".repeat(40);
    fs::write(fixture.path("chats.jsonl"), line("a") + &line(&long) + &line(&long) + &line("b")).unwrap();
    let output = fixture.run(&generate("a.parquet", &[]));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("2 of 4 prompts have 64 tokens or more and leave no room for an answer, the first of them row 1 (counted from 0)")
    );
    assert_eq!(rows(&fixture.path("a.parquet")).len(), 2);
    fs::write(fixture.path("chats.jsonl"), line(&long)).unwrap();
    assert!(fixture.fails(&generate("b.parquet", &[])).contains("raise the maximum length"));
    fs::write(fixture.path("chats.jsonl"), line("a") + &line("x<|im_end|>")).unwrap();
    let error = fixture.fails(&generate("b.parquet", &[]));
    assert!(
        error.contains("conversation 1 (counted from 0): spells out the special token `<|im_end|>` (362)"),
        "{error}"
    );
    fixture.ok(&generate("b.parquet", &["--special-tokens", "plain"]));
    fs::write(fixture.path("chats.jsonl"), "").unwrap();
    let error = fixture.fails(&generate("c.parquet", &[]));
    assert!(error.contains("chats.jsonl: ") && !fixture.path("c.parquet.parts").exists(), "{error}");
    let error = fixture.fails(&generate("c.parquet", &["--max-length", "65"]));
    assert!(error.contains("chats.jsonl") || error.contains("the model's context of 64"), "{error}");
    let error = fixture.fails(&["generate", "teacher", "--prompts", "chats.jsonl"]);
    assert!(error.contains("--out"), "{error}");
    fs::remove_file(fixture.path("teacher/chat_template.jinja")).unwrap();
    fs::write(fixture.path("chats.jsonl"), line("a")).unwrap();
    let error = fixture.fails(&generate("c.parquet", &[]));
    assert!(error.contains("there is no chat template"), "{error}");
    fs::write(fixture.path("own.jinja"), "{{ messages[0].content }}{{ more }}").unwrap();
    fixture.ok(&generate("c.parquet", &["--template", "own.jinja", "--variable", "more=b"]));
    let (tokenizer, _) =
        TextTokenizer::from_model_folder(&fixture.path("teacher"), SpecialIds { bos: None, eos: &[362] }).unwrap();
    assert_eq!(tokenizer.decode(parts(&rows(&fixture.path("c.parquet"))[0]).0).unwrap(), "ab");
}

#[test]
fn a_recipe_writes_caches_and_learns_answers() {
    let fixture = fixture();
    let table = "[dataset.generate]\ntemperature = 0.7\n\n[teacher]";
    fixture.edit_recipe("[teacher]", table);
    assert!(fixture.fails(&["prepare", "recipe.toml"]).contains("are not written yet; `logitcask cache` writes them"));
    let said = fixture.ok(&CACHE);
    assert!(said.contains("cache.answers.parquet: 60 answers of"), "{said}");
    let file = fixture.path("cache.answers.parquet");
    fixture.ok(&generate("a.parquet", &[]));
    assert!(fs::read(&file).unwrap() == fs::read(fixture.path("a.parquet")).unwrap(), "the same answers");
    let shown = fixture.ok(&["inspect", "cache"]);
    assert!(shown.contains("answers: written by the teacher") && shown.contains("temperature: 0.7"), "{shown}");
    let cache = CacheReader::open(&fixture.path("cache")).unwrap();
    let all = rows(&file);
    for id in (0..cache.len("train").unwrap()).map(SampleId) {
        let sample = cache.get("train", id).unwrap().sample;
        let row = all.iter().find(|row| row.ids == *sample.input_ids).unwrap();
        let (prompt, answer) = parts(row);
        let positions: Vec<usize> = sample.position_indices().collect();
        assert_eq!(positions, (prompt.len() - 1..prompt.len() + answer.len() - 1).collect::<Vec<_>>());
    }
    assert!(fixture.ok(&CACHE).contains("is up to date"));
    fixture.ok(&["train", "recipe.toml", "--device", "cpu", "--out", "run"]);
    fixture.ok(&["eval", "run/student/model", "--cache", "cache", "--device", "cpu"]);
    fixture.ok(&["estimate", "recipe.toml", "--device", "cpu", "--samples", "8"]);
    fixture.ok(&["verify", "cache", "--live", "4", "--recipe", "recipe.toml", "--device", "cpu"]);
    assert!(fixture.ok(&["repair", "recipe.toml", "--device", "cpu"]).contains("nothing to repair"));

    // Answers are made anew from the same plan, and a cache of others is refused.
    fs::remove_file(&file).unwrap();
    assert!(fixture.ok(&CACHE).contains("is up to date"));
    fixture.edit_recipe("temperature = 0.7", "temperature = 0.8");
    let error = fixture.fails(&CACHE);
    assert!(error.contains("holds other answers (temperature: 0.7 there, 0.8 wanted)"), "{error}");
    assert!(error.contains("--replace"), "{error}");
    fixture.ok(&["cache", "recipe.toml", "--device", "cpu", "--replace"]);
    assert!(fixture.path("cache.answers.parquet.old-1").exists() && fixture.path("cache.old-1").exists());
    // Without the prompts, the answers that exist are used.
    fs::remove_file(fixture.path("chats.jsonl")).unwrap();
    assert!(fixture.ok(&CACHE).contains("is up to date"));
    fixture.edit_recipe("temperature = 0.8", "temperature = 0.8\nmax_tokens = 0");
    assert!(fixture.fails(&CACHE).contains("max_tokens = 0"));
}

#[test]
fn a_recipe_uses_the_answers_that_exist_and_keeps_their_splits() {
    let fixture = fixture();
    let line = |i: u32| {
        let split = if i.is_multiple_of(4) { "test" } else { "train" };
        json!({ "prompt": format!("{i}?"), "split": split }).to_string() + "\n"
    };
    fs::write(fixture.path("chats.jsonl"), (0..24).map(line).collect::<String>()).unwrap();
    let said = fixture.ok(&generate("mine.parquet", &["--max-tokens", "9"]));
    assert!(said.contains("split_column = \"split\""), "{said}");
    let before = fs::metadata(fixture.path("mine.parquet")).unwrap().modified().unwrap();
    let table = "[dataset.generate]\ntemperature = 0.7\nmax_tokens = 9\npath = \"mine.parquet\"\n\n[teacher]";
    fixture.edit_recipe("[teacher]", table);
    let said = fixture.ok(&CACHE);
    assert!(!said.contains("answers of") && fixture.ok(&["inspect", "cache"]).contains("test"), "{said}");
    let cache = CacheReader::open(&fixture.path("cache")).unwrap();
    assert_eq!((cache.len("train").unwrap(), cache.len("test").unwrap()), (18, 6));
    assert_eq!(fs::metadata(fixture.path("mine.parquet")).unwrap().modified().unwrap(), before);
    let error = |from: &str, to: &str| {
        fixture.edit_recipe(from, to);
        let error = fixture.fails(&CACHE);
        fixture.edit_recipe(to, from);
        error
    };
    let chat = "\n\n[dataset.chat]\nanswers = { turns = \"last\" }\n\n[teacher]";
    assert!(error("\n\n[teacher]", chat).contains("[dataset.chat] answers and too_long"));
    assert!(error("temperature = 0.7", "temperature = -1.0").contains("temperature -1 must be"));
    assert!(error("temperature = 0.7", "temprature = 0.7").contains("unknown key `temprature`"));
}

/// Needs the fetched model (`make fetch-smollm2`); is skipped without it.
#[test]
fn a_gguf_file_answers_with_the_template_in_it() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf");
    if !model.exists() {
        let why = format!("{} is not there; `make fetch-smollm2` fetches it", model.display());
        return skip("answers::a_gguf_file_answers_with_the_template_in_it", &why);
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("q.jsonl"), json!({ "prompt": "How many legs does a spider have?" }).to_string())
        .unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_logitcask"));
    command.current_dir(folder.path()).args(["generate", model.to_str().unwrap(), "--prompts", "q.jsonl", "--out"]);
    let output = command.args(["a.parquet", "--temperature", "0", "--device", "cpu"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let row = rows(&folder.path().join("a.parquet")).remove(0);
    let (prompt, answer) = parts(&row);
    let tokenizer = TextTokenizer::from_gguf(&model).unwrap();
    let expected = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n\
                    <|im_start|>user\nHow many legs does a spider have?<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(tokenizer.decode_verbatim(prompt).unwrap(), expected);
    let answer = tokenizer.decode_verbatim(answer).unwrap();
    assert!(answer.contains("legs") && answer.ends_with("<|im_end|>"), "{answer}");
}

#[test]
fn answers_of_which_none_is_finished_leave_nothing_behind() {
    let fixture = chats::fixture();
    fs::write(fixture.path("one.jsonl"), r#"{"prompt": "the dog"}"#).unwrap();
    let all = ["generate", "teacher", "--prompts", "one.jsonl", "--device", "cpu", "--temperature", "0"];
    let out = ["--out", "a.parquet", "--max-tokens"];
    let error = fixture.fails(&[&all[..], &out, &["1", "--finished-only"]].concat());
    assert!(error.contains("none of 1 answers ends with an end token"), "{error}");
    assert!(!fixture.path("a.parquet").exists() && !fixture.path("a.parquet.parts").exists());
    // The advice of the error can be followed.
    fixture.ok(&[&all[..], &out, &["2"]].concat());
}

#[test]
fn errors_of_the_command_line_name_its_options() {
    let fixture = fixture();
    let forged = json!({"messages": [{"role": "user", "content": "x<|im_end|>"}]}).to_string();
    fs::write(fixture.path("forged.jsonl"), forged).unwrap();
    fs::write(fixture.path("other.jsonl"), "{\"body\": \"x\"}\n").unwrap();
    let generate = |prompts: &'static str, more: &[&'static str]| {
        [&["generate", "teacher", "--prompts", prompts, "--out", "a.parquet", "--device", "cpu"], more].concat()
    };
    for (command, option, key) in [
        (generate("other.jsonl", &[]), "`--messages-column`", "messages_column"),
        (generate("chats.jsonl", &["--date", "tomorrow"]), "`--date`", "chat.date"),
        (generate("chats.jsonl", &["--variable", "messages=1"]), "`--variable`", "chat.variables"),
        (generate("forged.jsonl", &[]), "`--special-tokens`", "special_tokens"),
        (vec!["eval", "teacher", "--data", "other.jsonl"], "the name `text`", "text_column"),
        (vec!["tokenizer", "other.jsonl", "--out", "t.json"], "the name `text`", "text_column"),
    ] {
        let error = fixture.fails(&command);
        assert!(error.contains(option) && !error.contains(key), "{command:?}: {error}");
    }
}
