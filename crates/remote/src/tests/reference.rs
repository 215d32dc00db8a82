//! Answers that another program made from a model, with the rows that belong to them, and answers that lie.

use super::stand_in::{Reply, StandIn};
use crate::{AnswerPosition, AnswerProblem, Client, Entry, Error, Interface, RetryPolicy, ServerRowBuilder};
use logitcask_core::{Gold, LogProbPrecision, RowErrors, Selection, SoftRows, Truncation};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

/// `LOGITCASK_SERVER` names another folder of such answers.
fn path(name: &str) -> PathBuf {
    let ours = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/server");
    std::env::var_os("LOGITCASK_SERVER").map_or_else(ours, PathBuf::from).join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap()
}

pub(super) fn json(name: &str) -> Value {
    serde_json::from_str(&text(name)).unwrap()
}

/// The prompts and the expected rows.
pub(super) struct Expected {
    prompts: Vec<Vec<u32>>,
    json: Value,
    pub(super) k: u32,
    vocab_size: u32,
}

fn ids(list: &Value) -> Vec<u32> {
    list.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

pub(super) fn expected() -> Expected {
    let json = json("expected.json");
    let prompts = json["prompts"].as_array().unwrap().iter().map(|prompt| ids(&prompt["input_ids"])).collect();
    let number = |key: &str| json[key].as_u64().unwrap() as u32;
    Expected { prompts, k: number("k"), vocab_size: number("vocab_size"), json }
}

fn rows(expected: &Expected, interface: Interface, selection: Selection) -> ServerRowBuilder {
    let keep = Truncation {
        selection,
        always_keep: Vec::new(),
        values: LogProbPrecision::F16 {},
        tail: None,
        padding: 0,
        source: interface.source(),
    };
    keep.check(expected.vocab_size).unwrap();
    ServerRowBuilder::new(keep, expected.vocab_size).unwrap()
}

/// What the client makes of an answer to all prompts.
pub(super) fn told(expected: &Expected, interface: Interface, answer: &str) -> crate::Result<Vec<Vec<AnswerPosition>>> {
    let answer = answer.to_owned();
    let server = StandIn::new(move |_| Reply::json(answer.clone()));
    let client = Client::new(&server.url, "teacher", interface, None, RetryPolicy::default()).unwrap();
    let prompts: Vec<&[u32]> = expected.prompts.iter().map(|prompt| &prompt[..]).collect();
    let told = client.log_probs(&prompts, expected.k);
    assert_eq!(server.asked(), 1, "an answer that is there is not asked for again");
    told
}

/// The first problem of an answer, with its prompt and position.
pub(super) fn problem(expected: &Expected, interface: Interface, answer: &str) -> (usize, usize, AnswerProblem) {
    let told = match told(expected, interface, answer) {
        Ok(told) => told,
        Err(Error::Answer { prompt, position, problem }) => return (prompt, position, problem),
        Err(other) => panic!("{other}"),
    };
    let rows = rows(expected, interface, Selection::TopK { k: expected.k });
    for (prompt, (tokens, told)) in expected.prompts.iter().zip(&told).enumerate() {
        for (position, told) in told.iter().enumerate() {
            let (mut out, mut errors) = (SoftRows::new(rows.keep()), RowErrors::new(rows.keep()));
            if let Err(problem) = rows.push(told, tokens[position + 1], &mut out, &mut errors) {
                assert!(out.is_empty() && errors == RowErrors::new(rows.keep()), "nothing of it stays");
                return (prompt, position, problem);
            }
        }
    }
    panic!("nothing is refused");
}

#[test]
fn requests_ask_for_what_the_samples_ask_for_and_for_an_uncut_distribution() {
    let expected = expected();
    for (interface, name) in [(Interface::PromptLogprobs, "vllm_prompt_logprobs"), (Interface::Echo, "echo_token_ids")]
    {
        let server = StandIn::new(|_| Reply::status(400, "no"));
        let client = Client::new(&server.url, "teacher", interface, None, RetryPolicy::default()).unwrap();
        let prompts: Vec<&[u32]> = expected.prompts.iter().map(|prompt| &prompt[..]).collect();
        client.log_probs(&prompts, expected.k).unwrap_err();
        let request = server.requests.lock().unwrap()[0].clone();
        assert_eq!(request.path, "/v1/completions");
        let mut sent: Value = serde_json::from_str(&request.body).unwrap();
        assert_eq!(sent.as_object_mut().unwrap().remove("top_p"), Some(1.0.into()));
        assert_eq!(sent, json(&format!("{name}.request.json")));
    }
}

#[test]
fn rows_are_what_the_model_said() {
    assert_rows(Interface::PromptLogprobs, &text("vllm_prompt_logprobs.response.json"));
    assert_rows(Interface::Echo, &text("echo_token_ids.response.json"));
}

/// Compares the rows of an answer to all prompts with the expected ones.
pub(super) fn assert_rows(interface: Interface, answer: &str) {
    let expected = expected();
    let told = told(&expected, interface, answer).unwrap();
    let rows = rows(&expected, interface, Selection::TopK { k: expected.k });
    let mut masked = 0;
    for (prompt, (tokens, told)) in expected.prompts.iter().zip(&told).enumerate() {
        let wanted = expected.json["prompts"][prompt]["positions"].as_array().unwrap();
        assert_eq!((told.len(), wanted.len()), (tokens.len() - 1, tokens.len() - 1));
        for (position, (told, wanted)) in told.iter().zip(wanted).enumerate() {
            let label = tokens[position + 1];
            let (mut out, mut errors) = (SoftRows::new(rows.keep()), RowErrors::new(rows.keep()));
            let pushed = rows.push(told, label, &mut out, &mut errors);
            if wanted["label_log_prob"].is_null() {
                let refused = matches!(pushed, Err(AnswerProblem::Masked { class: 7, log_prob: -9999.0 }));
                assert!(refused, "{pushed:?}");
                masked += 1;
                continue;
            }
            assert_eq!(pushed, Ok(()), "{interface:?}, prompt {prompt}, position {position}");
            assert_eq!(out.check(rows.keep(), &[label], expected.vocab_size), Ok(()));
            assert_row(&out, wanted, interface);
            assert!(errors.codec.worst() < 0.01, "{errors:?}");
        }
    }
    assert_eq!(masked, 1);
}

/// Compares a row with the expected one.
fn assert_row(rows: &SoftRows, wanted: &Value, interface: Interface) {
    let row = rows.iter().next().unwrap();
    let f16 = LogProbPrecision::F16 {};
    let rounded = |value: &Value| f16.round(value.as_f64().unwrap() as f32).unwrap();
    let wanted_log_probs: Vec<f32> = wanted["log_probs"].as_array().unwrap().iter().map(rounded).collect();
    // Classes whose values are equal once they are rounded stand in the order of ids.
    let mut pairs: Vec<(u32, f32)> = ids(&wanted["kept"]).into_iter().zip(wanted_log_probs).collect();
    pairs.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let (kept, log_probs): (Vec<u32>, Vec<f32>) = pairs.into_iter().unzip();
    assert_eq!((row.class_ids, row.log_probs), (&kept[..], &log_probs[..]));
    assert!(row.log_z.is_nan());
    let rank = match interface {
        Interface::PromptLogprobs => &wanted["label_rank"],
        Interface::Echo | Interface::Sglang => &wanted["label_rank_from_echo"],
    };
    match rank.as_u64() {
        None => assert_eq!(row.gold.rank, Gold::UNKNOWN_RANK),
        Some(rank) => {
            assert_eq!(u64::from(row.gold.rank), rank);
            assert_eq!(row.gold.log_prob, rounded(&wanted["label_log_prob"]));
        }
    }
}

#[test]
fn a_nucleus_is_cut_from_the_likeliest() {
    let expected = expected();
    let told = told(&expected, Interface::PromptLogprobs, &text("vllm_prompt_logprobs.response.json")).unwrap();
    let (p, k) = (0.9, expected.k);
    let rows = rows(&expected, Interface::PromptLogprobs, Selection::TopP { p, k });
    let mut sizes = Vec::new();
    for (position, told) in told[0].iter().enumerate() {
        let label = expected.prompts[0][position + 1];
        let (mut out, mut errors) = (SoftRows::new(rows.keep()), RowErrors::new(rows.keep()));
        rows.push(told, label, &mut out, &mut errors).unwrap();
        assert_eq!(out.check(rows.keep(), &[label], expected.vocab_size), Ok(()));
        let wanted = &expected.json["prompts"][0]["positions"][position]["log_probs"];
        let mut mass = 0.0;
        let count = wanted.as_array().unwrap().iter().take_while(|lp| {
            let is_short = mass < p;
            mass += lp.as_f64().unwrap().exp();
            is_short
        });
        let count = count.count();
        assert_eq!(out.counts, [count as u16], "position {position}");
        sizes.push(count);
    }
    assert!(sizes.contains(&1) && sizes.iter().any(|size| *size > 1), "{sizes:?}");
}

#[test]
fn a_text_is_not_taken_for_an_id() {
    let (prompt, position, problem) = problem(&expected(), Interface::Echo, &text("echo_text.response.json"));
    assert_eq!((prompt, position), (0, 0));
    assert!(matches!(problem, AnswerProblem::Text { .. }), "{problem}");
}

/// Every answer that is there and lies.
const BAD: [(&str, usize, &str); 7] = [
    ("shifted", 0, "is not listed: these are log-probabilities of another position or prompt"),
    ("truncated", 0, "has log-probabilities for"),
    ("other_prompt", 0, "token 2 of it is 5"),
    ("swapped_choices", 0, "the answer is for another prompt"),
    ("tempered", 0, "1 at most belongs there"),
    ("nulls", 0, "the answer has no log-probabilities here"),
    ("too_many", 0, "is outside the vocabulary of"),
];

#[test]
fn answers_that_lie_are_refused_by_name() {
    let expected = expected();
    let mut there: Vec<String> = fs::read_dir(path("bad"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().trim_end_matches(".json").to_owned())
        .filter(|name| name != "error_400")
        .collect();
    there.sort();
    let mut tested: Vec<&str> = BAD.iter().map(|(name, ..)| *name).collect();
    tested.sort_unstable();
    assert_eq!(there, tested, "the folder of bad answers is the list of tests");
    for (name, wanted, message) in BAD {
        let (prompt, position, problem) =
            problem(&expected, Interface::PromptLogprobs, &text(&format!("bad/{name}.json")));
        assert_eq!(prompt, wanted, "{name}");
        assert!(problem.to_string().contains(message), "{name}, position {position}: {problem}");
    }
}

#[test]
fn a_refusal_is_final_and_says_what_to_do() {
    let body = text("bad/error_400.json");
    let server = StandIn::new(move |_| Reply::Say(400, String::new(), body.clone()));
    let client = Client::new(&server.url, "teacher", Interface::PromptLogprobs, None, RetryPolicy::default()).unwrap();
    let error = client.log_probs(&[&[0, 1]], 64).unwrap_err().to_string();
    assert!(error.contains("HTTP 400") && error.contains("greater than max allowed: 20"), "{error}");
    assert!(error.contains("[cache] selection") && error.contains("--max-logprobs"), "{error}");
    assert_eq!(server.asked(), 1);
}

/// Changes to a good answer, each of which is a lie of its own.
#[test]
fn what_else_an_answer_can_have_wrong() {
    type Change = fn(&mut Value);
    let vllm: [(Change, &str); 12] = [
        (|r| *at(r, 5, "logprob") = Value::Null, "is no finite number"),
        (|r| *at(r, 5, "logprob") = (-9999.0).into(), "with which servers mask classes"),
        (|r| *at(r, 5, "logprob") = 0.5.into(), "1 at most belongs there"),
        (|r| *at(r, 5, "rank") = 40.into(), "has rank 40"),
        (|r| scale(r, 2.0), "and all others at most"),
        (|r| r["choices"][0]["prompt_logprobs"] = Value::Null, "no `prompt_logprobs`"),
        (|r| r["choices"][0]["prompt_token_ids"] = Value::Null, "prompt_token_ids"),
        (|r| r["choices"][0]["prompt_token_ids"].as_array_mut().unwrap().truncate(9), "token 9 of it is missing"),
        (|r| r["choices"][0]["index"] = 1.into(), "has 0 choices for this prompt"),
        (|r| drop(r["choices"].as_array_mut().unwrap().remove(0)), "has 0 choices for this prompt"),
        (without_the_least, "3 classes are listed where the 4 likeliest"),
        (|r| _ = members(r, 5).insert("the".to_owned(), serde_json::json!({"logprob": -9.0})), "named by its text"),
    ];
    let echo: [(Change, &str); 5] = [
        (|r| r["choices"][0]["logprobs"]["token_logprobs"][6] = (-3.0).into(), "does not fit the other classes"),
        (|r| r["choices"][0]["logprobs"]["token_logprobs"][6] = Value::Null, "is no finite number"),
        (|r| r["choices"][0]["logprobs"]["tokens"][3] = "token_id:7".into(), "token 3 of it is 7"),
        (|r| r["choices"][0]["logprobs"]["top_logprobs"][6] = Value::Null, "has no log-probabilities here"),
        (|r| _ = r["choices"][0]["logprobs"]["top_logprobs"].as_array_mut().unwrap().pop(), "for 17 tokens, 18"),
    ];
    let expected = expected();
    let of = |interface, name: &str, changes: &[(Change, &str)]| {
        for (change, message) in changes {
            let mut answer = json(&format!("{name}.response.json"));
            change(&mut answer);
            let (prompt, position, problem) = problem(&expected, interface, &answer.to_string());
            assert!(problem.to_string().contains(message), "{message}: {prompt}, {position}: {problem}");
            assert_eq!(prompt, 0, "{problem}");
        }
    };
    of(Interface::PromptLogprobs, "vllm_prompt_logprobs", &vllm);
    of(Interface::Echo, "echo_token_ids", &echo);
}

/// Python writes numbers that JSON does not have.
#[test]
fn numbers_that_are_not_finite_are_found_at_their_position() {
    for word in ["NaN", "-Infinity", "Infinity"] {
        let answer = text("vllm_prompt_logprobs.response.json").replace("-11.340861320495605", word);
        let (prompt, position, problem) = problem(&expected(), Interface::PromptLogprobs, &answer);
        assert_eq!((prompt, position), (0, 1), "{problem}");
        assert!(matches!(problem, AnswerProblem::NotFinite { class: 1885 }), "{word}: {problem}");
    }
}

fn members(answer: &mut Value, index: usize) -> &mut serde_json::Map<String, Value> {
    answer["choices"][0]["prompt_logprobs"][index].as_object_mut().unwrap()
}

/// A member of the label's entry.
fn at<'a>(answer: &'a mut Value, index: usize, key: &str) -> &'a mut Value {
    let label = answer["choices"][0]["prompt_token_ids"][index].to_string();
    &mut members(answer, index)[&label][key]
}

/// Removes the least likely class of a position.
fn without_the_least(answer: &mut Value) {
    let value = |member: &(&String, &Value)| member.1["logprob"].as_f64().unwrap();
    let members = members(answer, 5);
    let least = members.iter().min_by(|a, b| value(a).total_cmp(&value(b))).unwrap().0.clone();
    members.remove(&least);
}

/// What another temperature leaves of log-probabilities that are not normalised again.
fn scale(answer: &mut Value, factor: f64) {
    for index in 1..18 {
        for (_, entry) in members(answer, index).iter_mut() {
            entry["logprob"] = (entry["logprob"].as_f64().unwrap() * factor).into();
        }
    }
}

#[test]
fn classes_that_are_equally_probable_are_taken_by_their_ids() {
    let expected = Expected { prompts: Vec::new(), json: Value::Null, k: 2, vocab_size: 8 };
    let rows = rows(&expected, Interface::PromptLogprobs, Selection::TopK { k: 2 });
    let entry = |class, probability: f64, rank| Entry { class, log_prob: probability.ln(), rank: Some(rank) };
    // The label, 3, is as probable as the second of the two that the server chose.
    let told =
        AnswerPosition { entries: vec![entry(3, 0.25, 4), entry(6, 0.5, 1), entry(5, 0.25, 2)], label_log_prob: None };
    let (mut out, mut errors) = (SoftRows::new(rows.keep()), RowErrors::new(rows.keep()));
    rows.push(&told, 3, &mut out, &mut errors).unwrap();
    assert_eq!((&out.class_ids[..], &out.gold_ranks[..]), (&[6, 3][..], &[1][..]));
    // With the label behind its equals, the server's rank is all that is known of it.
    let told =
        AnswerPosition { entries: vec![entry(7, 0.25, 3), entry(6, 0.5, 1), entry(5, 0.25, 2)], label_log_prob: None };
    rows.push(&told, 7, &mut out, &mut errors).unwrap();
    assert_eq!((&out.class_ids[2..], out.gold_ranks[1]), (&[6, 5][..], 2));
    assert_eq!(out.check(rows.keep(), &[3, 7], 8), Ok(()));
}
