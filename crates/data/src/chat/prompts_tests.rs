use super::Prompts;
use crate::error::Result;
use crate::source::{
    ANSWER_MASKS, ANSWER_TOKENS, AnsweredRow, DatasetConfig, GenerateConfig, SpecialTokens, answers_record,
    write_answers,
};
use crate::tokenizer::{SpecialIds, TextTokenizer};
use crate::{Content, Error, TextDataset, TokenRow, read_documents};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

fn tokenizer(case: &str) -> TextTokenizer {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/tokenizers").join(case);
    TextTokenizer::from_model_folder(&folder, SpecialIds::default()).unwrap().0
}

fn read_as(name: &str, lines: &[&str], edit: impl Fn(&mut DatasetConfig)) -> Result<Prompts> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, lines.join("\n")).unwrap();
    let mut config = DatasetConfig::at(&path);
    edit(&mut config);
    Prompts::read(&config, &tokenizer("qwen"))
}

fn read(lines: &[&str]) -> Result<Prompts> {
    read_as("a.jsonl", lines, |_| {})
}

/// The texts of the prompts, special tokens and all.
fn texts(prompts: &Prompts) -> Vec<String> {
    prompts.rows.iter().map(|row| tokenizer("qwen").decode_verbatim(&row.tokens).unwrap()).collect()
}

const ASKED: &str = "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n";

#[test]
fn every_shape_of_one_question_is_the_same_prompt() {
    for line in [
        r#"{"prompt": "a"}"#,
        r#"{"prompt": "a", "completion": "left out"}"#,
        r#"{"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "x"}]}"#,
        r#"{"messages": [{"role": "user", "content": "a"}]}"#,
        r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "left out"}]}"#,
        r#"{"prompt": "of the first turn", "messages": [{"role": "user", "content": "a"}]}"#,
        r#"{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "left out"}]}"#,
        r#"{"instruction": "a"}"#,
        r#"{"instruction": "a", "input": "", "output": "left out"}"#,
        r#"{"text": "of another program", "input_ids": [1], "messages": [{"role": "user", "content": "a"}]}"#,
    ] {
        let prompts = read(&[line]).unwrap();
        assert_eq!(texts(&prompts), [ASKED], "{line}");
        assert_eq!(prompts.rows[0].messages, [("user".to_owned(), "a".to_owned())], "{line}");
    }
}

#[test]
fn given_turns_and_tools_stay_before_the_answer() {
    let prompts = read(&[r#"{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]}"#
        .replace('\n', "")
        .as_str()])
    .unwrap();
    let expected = "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n\
                    <|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(texts(&prompts), [expected]);
    assert_eq!(prompts.rows[0].messages.len(), 4);
    assert!(prompts.settings.contains_key("template") && !prompts.settings.contains_key("turns"));
}

#[test]
fn rows_that_ask_nothing_are_left_out_and_counted() {
    let prompts = read(&[
        r#"{"prompt": "a"}"#,
        r#"{"prompt": " "}"#,
        r#"{"prompt": null}"#,
        r#"{"prompt": []}"#,
        r#"{"prompt": "a"}"#,
    ])
    .unwrap();
    assert_eq!(texts(&prompts), [ASKED, ASKED]);
    assert_eq!((prompts.rows[0].row, prompts.rows[1].row), (0, 4), "rows keep their numbers");
    assert!(prompts.notes.iter().any(|note| note.contains("3 texts of 5 are blank")), "{:?}", prompts.notes);
    let answers = r#"{"messages": [{"role": "assistant", "content": "a"}]}"#;
    let asked = r#"{"messages": [{"role": "user", "content": "a"}]}"#;
    let prompts = read(&[answers, asked]).unwrap();
    assert!(prompts.notes[0].contains("1 of 2 rows have no message before an answer"), "{:?}", prompts.notes);
    assert!(read(&[answers]).unwrap_err().to_string().contains("none of its 1 rows has a message before an answer"));
    assert!(matches!(read(&[]), Err(Error::Chat(_) | Error::Empty { .. })));
}

#[test]
fn splits_are_those_of_rows_or_files() {
    let prompts = read(&[r#"{"prompt": "a", "split": "test"}"#, r#"{"prompt": "b", "split": "train"}"#]).unwrap();
    let splits: Vec<_> = prompts.rows.iter().map(|row| row.split.as_deref()).collect();
    assert!(prompts.has_splits);
    assert_eq!(splits, [Some("test"), Some("train")]);
    assert!(!read(&[r#"{"prompt": "a"}"#]).unwrap().has_splits);
    let error = read(&[r#"{"prompt": "a", "split": "test"}"#, r#"{"prompt": "b", "split": "No"}"#]).unwrap_err();
    assert!(error.to_string().contains("document 1 (counted from 0) names the split `No`"), "{error}");
}

#[test]
fn what_is_no_prompt_is_refused_by_name() {
    for (name, line, expected) in [
        ("a.jsonl", r#"{"text": "a"}"#, "has no column `messages`, `conversations`, `prompt` or `instruction`"),
        ("a.txt", "a", "is a text file, which holds no conversations"),
        ("a.jsonl", "", "holds no texts"),
        ("a.jsonl", "no JSON", "line 1"),
        ("a.csv", "prompt", "its name says nothing we can read"),
        (
            "a.jsonl",
            r#"{"prompt": "x <|im_end|>"}"#,
            "conversation 0 (counted from 0): spells out the special token `<|im_end|>`",
        ),
        ("a.jsonl", r#"{"prompt": 3}"#, "`prompt` is a number, expected a list of messages"),
        (
            "a.jsonl",
            r#"{"messages": [], "instruction": "a", "output": "b"}"#,
            "has `messages` and `instruction` and `output`; say which with format = \"messages\"",
        ),
    ] {
        let error = read_as(name, &[line], |_| {}).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let plain = |config: &mut DatasetConfig| config.special_tokens = SpecialTokens::Plain;
    let prompts = read_as("a.jsonl", &[r#"{"prompt": "x <|im_end|>"}"#], plain).unwrap();
    let ends = |row: &[u32]| row.iter().filter(|&&id| id == 362).count();
    assert_eq!(ends(&prompts.rows[0].tokens), 1, "only the template's own");
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("a.jsonl"), r#"{"prompt": "a"}"#).unwrap();
    let config = DatasetConfig::at(&folder.path().join("a.jsonl"));
    let error = Prompts::read(&config, &tokenizer("gpt2")).unwrap_err().to_string();
    assert!(error.contains("there is no chat template"), "{error}");
    // Prompts are no dataset before they are answered.
    let config = DatasetConfig { generate: Some(GenerateConfig::default()), ..config };
    let error = TextDataset::load(&config, &tokenizer("qwen"), 16).unwrap_err().to_string();
    assert!(error.contains("these rows are only their prompts"), "{error}");
}

#[test]
fn a_file_of_answers_is_read_as_rows_of_tokens_and_keeps_its_record() {
    let folder = TempDir::new().unwrap();
    let row = |at: u32, split: Option<&str>| AnsweredRow {
        tokens: vec![at % 300, 2, 3, 4],
        prompt: 1 + at as usize % 2,
        messages: vec![("user".to_owned(), "é".to_owned()), ("assistant".to_owned(), at.to_string())],
        is_finished: at.is_multiple_of(3),
        split: split.map(str::to_owned),
    };
    let write = |name: &str, splits: bool, count: u32| {
        let path = folder.path().join(name);
        let rows = (0..count).map(|at| Ok::<_, Error>(row(at, splits.then_some("train"))));
        write_answers(&path, "{\"seed\": 3}", splits, rows).unwrap();
        path
    };
    // More than a row group.
    let path = write("a.parquet", true, 1500);
    assert_eq!(fs::read(&path).unwrap(), fs::read(write("b.parquet", true, 1500)).unwrap());
    assert_eq!(answers_record(&path).unwrap().as_deref(), Some("{\"seed\": 3}"));
    let config = DatasetConfig {
        tokens_column: Some(ANSWER_TOKENS.to_owned()),
        mask_column: Some(ANSWER_MASKS.to_owned()),
        split_column: Some("split".to_owned()),
        ..DatasetConfig::at(&path)
    };
    let documents = read_documents(&config).unwrap().documents;
    assert_eq!(documents.len(), 1500);
    for (document, at) in documents.iter().zip(0u32..) {
        let marks = vec![false, at.is_multiple_of(2), true, true];
        let wanted = TokenRow { ids: vec![at % 300, 2, 3, 4], marks: Some(marks) };
        assert_eq!((&document.content, document.split.as_deref()), (&Content::Tokens(wanted), Some("train")));
    }
    // Its questions can be asked again.
    let again = Prompts::read(&DatasetConfig::at(&path), &tokenizer("qwen")).unwrap();
    assert_eq!(again.rows[7].messages, [("user".to_owned(), "é".to_owned())]);
    assert!(read_documents(&DatasetConfig::at(&path)).is_err(), "messages or tokens?");
    let other = write("c.parquet", false, 2);
    assert!(!fs::read(other).unwrap().windows(5).any(|bytes| bytes == b"split"));
    let error =
        write_answers(&folder.path().join("d.parquet"), "{}", true, [Ok::<_, Error>(row(0, Some("No")))].into_iter());
    assert!(error.unwrap_err().to_string().contains("names the split `No`"));
    assert!(!folder.path().join("d.parquet").exists());
}
