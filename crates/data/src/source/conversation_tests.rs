use super::tests::write_columns;
use super::*;
use crate::document::Content;
use crate::text_dataset::TextDataset;
use crate::tokenizer::{SpecialIds, TextTokenizer};
use crate::{Dataset, Preparation};
use ::parquet::basic::Compression;
use arrow_array::builder::{ListBuilder, StringBuilder, StructBuilder};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field};
use logitcask_core::{Positions, SampleId};
use std::fs::File;
use std::sync::Arc;
use tempfile::TempDir;

fn read(path: &Path, edit: impl Fn(&mut DatasetConfig)) -> Result<Vec<Content>> {
    let mut config = DatasetConfig::at(path);
    edit(&mut config);
    Ok(read_documents(&config)?.documents.into_iter().map(|document| document.content).collect())
}

fn read_line(line: &str, edit: impl Fn(&mut DatasetConfig)) -> Result<Vec<Content>> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("chats.jsonl");
    fs::write(&path, line).unwrap();
    read(&path, edit)
}

/// The column `messages` of one row, as `datasets` writes it: all fields in every message, null where one has it not.
fn messages() -> ArrayRef {
    let fields = ["role", "content", "name"].map(|name| Field::new(name, DataType::Utf8, true));
    let mut list = ListBuilder::new(StructBuilder::from_fields(fields.to_vec(), 2));
    for message in [[Some("user"), Some("a"), None], [Some("assistant"), Some("é b"), Some("n")]] {
        for (index, text) in message.into_iter().enumerate() {
            list.values().field_builder::<StringBuilder>(index).unwrap().append_option(text);
        }
        list.values().append(true);
    }
    list.append(true);
    Arc::new(list.finish())
}

#[test]
fn every_shape_of_one_conversation_is_the_same() {
    let folder = TempDir::new().unwrap();
    let parquet = folder.path().join("a.parquet");
    write_columns(&parquet, vec![("messages", messages())], Compression::SNAPPY);
    let arrow = folder.path().join("a.arrow");
    let batch = RecordBatch::try_from_iter([("messages", messages())]).unwrap();
    let mut writer = arrow_ipc::writer::FileWriter::try_new(File::create(&arrow).unwrap(), &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    let lines = r#"{"messages": [{"role": "user", "content": "a", "name": null},
        {"role": "assistant", "content": [{"type": "text", "text": "é "}, {"type": "text", "text": "b"}], "name": "n"}]}"#;
    let expected = read_line(&lines.replace('\n', ""), |_| {}).unwrap();
    assert_eq!(read(&parquet, |_| {}).unwrap(), expected);
    assert_eq!(read(&arrow, |_| {}).unwrap(), expected);

    let plain = r#"{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "a\nx"},
        {"role": "assistant", "content": "b"}]}"#;
    let plain = read_line(&plain.replace('\n', ""), |_| {}).unwrap();
    for line in [
        r#"{"conversations": [{"from": "human", "value": "a\nx"}, {"from": "gpt", "value": "b"}], "system": "s"}"#,
        r#"{"instruction": "a", "input": "x", "output": "b", "system": "s", "id": 3}"#,
    ] {
        assert_eq!(read_line(line, |_| {}).unwrap(), plain, "{line}");
    }
}

#[test]
fn a_file_that_can_be_read_in_two_ways_is_refused_and_a_key_decides() {
    let line = r#"{"text": "t", "messages": [], "prompt": "p", "completion": "c", "input_ids": [1, 2]}"#;
    let error = read_line(line, |_| {}).unwrap_err().to_string();
    let expected = "has `text` and `input_ids`; say which with format = \"text\" or tokens_column = \"input_ids\"";
    assert!(error.ends_with(expected), "{error}");
    let error = read_line(r#"{"messages": [], "conversations": []}"#, |_| {}).unwrap_err().to_string();
    assert!(error.contains("messages_column = \"conversations\""), "{error}");
    assert!(matches!(read_line(line, |config| config.format = Some(Format::Text)).unwrap()[0], Content::Text(_)));
    assert!(matches!(read_line(line, |c| c.tokens_column = Some("input_ids".into())).unwrap()[0], Content::Tokens(_)));
    let pair = read_line(line, |config| config.format = Some(Format::PromptCompletion)).unwrap();
    assert!(matches!(pair[0], Content::Conversation(_)));
    // A column of texts with another name is meant.
    let other = read_line(r#"{"story": "t", "messages": []}"#, |config| config.text_column = "story".into()).unwrap();
    assert!(matches!(other[0], Content::Text(_)));
}

#[test]
fn what_is_no_conversation_is_refused_by_row_and_name() {
    let message = |message: &str| format!("{{\"messages\": [{message}]}}");
    for (line, problem) in [
        (message(r#"{"content": "a"}"#), "message 0 of `messages` has no `role`, only: content"),
        (message(r#"{"role": "user"}"#), "message 0 of `messages` (user) has no `content`, only: role"),
        (message(r#"{"role": "user", "content": 3}"#), "has a content that is or holds a number"),
        (
            message(r#"{"role": "user", "content": [{"type": "image", "url": "x"}]}"#),
            "a part of type `image`; only parts of type `text`",
        ),
        (message(r#"{"role": "", "content": "a"}"#), "has a `role` that is no text"),
        (message("\"hello\""), "message 0 of `messages` is a string, expected an object"),
        (message(r#"{"from": "robot", "value": "a"}"#), "is from `robot`; the known ones are system, human, user, gpt"),
        (message(r#"{"role": "assistant", "content": "a", "weight": 0}"#), "has a field `weight`"),
        (r#"{"messages": "hello"}"#.to_owned(), "`messages` is a string, expected a list of messages"),
        (r#"{"messages": [], "tools": "["}"#.to_owned(), "`tools` is a text that is no JSON"),
        (r#"{"messages": [], "tools": [3]}"#.to_owned(), "`tools` holds a number"),
        (
            r#"{"messages": [], "chat_template_kwargs": {"tools": []}}"#.to_owned(),
            "sets `tools`, which belongs to the conversation itself",
        ),
        (
            r#"{"messages": [{"role": "system", "content": "a"}], "system": "b"}"#.to_owned(),
            "`system` and the first message of `messages` are both system messages",
        ),
        (r#"{"prompt": "a", "completion": []}"#.to_owned(), "must both be texts or both be lists of messages"),
        (message("{\"role\": \"user\", \"content\": \"\u{E001}\"}"), "holds U+E001"),
    ] {
        let error = read_line(&line, |_| {}).unwrap_err().to_string();
        assert!(error.contains("line 1: ") && error.contains(problem), "{line}: {error}");
    }
    let error = read_line(r#"{"prompt": null, "completion": "a"}"#, |_| {}).unwrap_err().to_string();
    assert!(error.contains("line 1: has null as `prompt`"), "{error}");
    let blank = read_line("{\"messages\": null}\n{\"messages\": []}", |_| {}).unwrap_err().to_string();
    assert!(blank.contains("each of its 2 documents is blank"), "{blank}");
    let missing = read_line("{\"messages\": []}\n{\"text\": \"a\"}", |_| {}).unwrap_err().to_string();
    assert!(missing.contains("line 2: has no `messages`, only: text"), "{missing}");
    let set = |config: &mut DatasetConfig| config.chat.date = Some("2026-07-26".into());
    let error = read_line(r#"{"text": "a"}"#, set).unwrap_err().to_string();
    assert!(error.contains("[dataset.chat] is for conversations"), "{error}");
}

#[test]
fn what_a_row_says_and_nobody_reads_is_refused_unless_it_says_nothing() {
    let refused = [
        (
            r#"{"messages": [{"role": "assistant", "content": "a", "weight": 0.5}]}"#,
            "has a field `weight`, which changes",
        ),
        (r#"{"messages": [{"role": "assistant", "content": "a", "training": false}]}"#, "has a field `training`"),
        (
            r#"{"instruction": "a", "output": "b", "tools": [{"name": "f"}]}"#,
            "has `tools` beside `instruction` and `output`, which is not supported",
        ),
        (
            r#"{"instruction": "a", "output": "b", "chat_template_kwargs": {"x": 1}}"#,
            "has `chat_template_kwargs` beside `instruction` and `output`",
        ),
        (r#"{"prompt": "a", "completion": "b", "system": "s"}"#, "has `system` beside `prompt` and `completion`"),
    ];
    for (line, problem) in refused {
        let error = read_line(line, |_| {}).unwrap_err().to_string();
        assert!(error.contains("line 1: ") && error.contains(problem), "{line}: {error}");
    }
    for line in [
        r#"{"messages": [{"role": "user", "content": "a", "training": false, "weight": 0}]}"#,
        r#"{"messages": [{"role": "assistant", "content": "a", "training": true, "weight": 1.0}]}"#,
        r#"{"instruction": "a", "output": "b", "tools": [], "chat_template_kwargs": {}}"#,
        r#"{"instruction": "a", "output": "b", "tools": "[]", "chat_template_kwargs": null}"#,
        r#"{"prompt": "a", "completion": "b", "system": ""}"#,
    ] {
        read_line(line, |_| {}).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn a_function_call_becomes_a_tool_call() {
    let line = r#"{"conversations": [{"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {\"b\": 1, \"a\": 2}}"},
        {"from": "observation", "value": "3"}]}"#;
    let same = r#"{"messages": [{"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "f",
        "arguments": {"b": 1, "a": 2}}}]}, {"role": "tool", "content": "3"}]}"#;
    let read = |line: &str| read_line(&line.replace('\n', ""), |_| {}).unwrap();
    assert_eq!(read(line), read(same));
}

fn qwen() -> TextTokenizer {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/tokenizers/qwen");
    TextTokenizer::from_model_folder(&folder, SpecialIds::default()).unwrap().0
}

/// Conversations of growing length, every tenth without an answer.
fn chats(folder: &Path, name: &str, count: u64) {
    let line = |i: u64| {
        let answer = "the dog ".repeat((i % 9) as usize);
        let role = if i % 10 == 9 { "user" } else { "assistant" };
        serde_json::json!({"messages": [{"role": "user", "content": format!("{i}?")}, {"role": role, "content": answer}]})
    };
    fs::write(folder.join(name), (0..count).map(|i| format!("{}\n", line(i))).collect::<String>()).unwrap();
}

#[test]
fn a_conversation_is_one_sample_whose_positions_precede_the_answers() {
    let folder = TempDir::new().unwrap();
    let tokenizer = qwen();
    chats(folder.path(), "a.jsonl", 200);
    let config = DatasetConfig { held_out: 0.1, ..DatasetConfig::at(&folder.path().join("a.jsonl")) };
    let dataset = TextDataset::load(&config, &tokenizer, 40).unwrap();
    let end = 362;
    let mut samples = 0;
    for (split, count) in dataset.splits() {
        for id in (0..count).map(SampleId) {
            let sample = dataset.sample(&split, id).unwrap();
            let Positions::Chosen(chosen) = &sample.positions else { panic!("all positions") };
            let from = sample.input_ids.windows(2).rposition(|pair| pair == [83, 198]).unwrap() as u32 + 1;
            assert!(sample.origin.offset == 0 && sample.input_ids.len() <= 40);
            // From the line feed before the answer up to the token before its end.
            assert_eq!(*chosen, (from..from + chosen.len() as u32).collect::<Vec<_>>());
            assert_eq!(sample.labels().last(), Some(&end));
            samples += 1;
        }
    }
    let notes = dataset.notes().join("\n");
    assert!(notes.contains(&format!("{samples} of 200 conversations are samples;")), "{notes}");
    assert!(notes.contains("20 of 200 conversations have no answer and were left out"), "{notes}");
    assert!(notes.contains("conversations have more than max_length = 40 tokens and were left out"), "{notes}");
    assert!(samples < 180, "some are too long");

    // Cut on the right, those stay that have a token of their answer.
    let mut cut = config.clone();
    cut.chat.too_long = crate::TooLong::Cut;
    let cut = TextDataset::load(&cut, &tokenizer, 40).unwrap();
    assert_eq!(cut.splits().iter().map(|(_, count)| count).sum::<u64>(), 180);
    assert_ne!(cut.fingerprint(), dataset.fingerprint());
    // One whose answer is cut off is left out, and not counted as cut as well.
    let mut loses_some = false;
    for max_length in 9..40 {
        let mut shorter = config.clone();
        shorter.chat.too_long = crate::TooLong::Cut;
        let Ok(shorter) = TextDataset::load(&shorter, &tokenizer, max_length) else { continue };
        let samples: u64 = shorter.splits().iter().map(|(_, count)| count).sum();
        let notes = shorter.notes().join("\n");
        let before = notes.split_once(" of 200 conversations were cut").map_or("0", |(before, _)| before);
        let cut: u64 = before.rsplit(' ').next().unwrap().parse().unwrap();
        assert!(cut <= samples, "max_length = {max_length}: {cut} of {samples}");
        loses_some |= samples < 180;
    }
    assert!(loses_some);
    let error = TextDataset::load(&config, &tokenizer, 8).unwrap_err().to_string();
    assert!(error.contains("none of its 200 conversations is a sample: 180 have more than max_length = 8"), "{error}");
}

#[test]
fn another_template_is_another_dataset_even_if_it_writes_the_same() {
    let folder = TempDir::new().unwrap();
    chats(folder.path(), "a.jsonl", 20);
    let own = fs::read_to_string("../../data/golden/tokenizers/qwen/chat_template.jinja").unwrap();
    let fingerprint = |template: &str| {
        let path = folder.path().join("own.jinja");
        fs::write(&path, template).unwrap();
        let mut config = DatasetConfig::at(&folder.path().join("a.jsonl"));
        config.chat.template = Some(path);
        TextDataset::load(&config, &qwen(), 100).unwrap().fingerprint()
    };
    assert_eq!(fingerprint(&own), fingerprint(&own));
    assert_ne!(fingerprint(&own), fingerprint(&format!("{{# the same #}}{own}")));
    let usual = TextDataset::load(&DatasetConfig::at(&folder.path().join("a.jsonl")), &qwen(), 100).unwrap();
    assert_eq!(fingerprint(&own), usual.fingerprint(), "the place of a template does not count");
}

#[test]
fn prepared_conversations_are_those_in_memory() {
    let (folder, below) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let tokenizer = qwen();
    for (name, count) in [("a.jsonl", 300), ("b.jsonl", 2), ("c.jsonl", 150)] {
        chats(folder.path(), name, count);
    }
    let config = DatasetConfig { held_out: 0.2, ..DatasetConfig::at(folder.path()) };
    let loaded = TextDataset::load(&config, &tokenizer, 40).unwrap();
    let preparation = Preparation::new(&config, &tokenizer, 40, below.path()).unwrap();
    let prepared = preparation.run(&|_| {}).unwrap();
    assert!(prepared.parts() > 2);
    assert_eq!((prepared.fingerprint(), prepared.notes()), (loaded.fingerprint(), loaded.notes()));
    assert_eq!((prepared.splits(), prepared.rendering()), (loaded.splits(), loaded.rendering()));
    for (split, count) in loaded.splits() {
        for id in (0..count).map(SampleId) {
            assert_eq!(prepared.sample(&split, id).unwrap(), loaded.sample(&split, id).unwrap());
        }
    }
    let mut other = config.clone();
    other.chat.answers.end_of_turn = false;
    assert_ne!(Preparation::new(&other, &tokenizer, 40, below.path()).unwrap().folder(), prepared.folder());
}
