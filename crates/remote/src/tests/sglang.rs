//! SGLang's form of the answers that another program made, and lies in that form.

use super::reference::{assert_rows, expected, json, problem, told};
use super::stand_in::{Reply, StandIn};
use crate::{Client, Error, Interface, RetryPolicy};
use serde_json::{Value, json};

fn class(name: &str) -> Value {
    name.strip_prefix("token_id:").unwrap().parse::<u32>().unwrap().into()
}

/// What SGLang answers where another server answers with this echo: the `k` likeliest classes of each position, and
/// the prompt's own tokens apart from them.
fn of_choice(choice: &Value, k: usize) -> Value {
    let log_probs = &choice["logprobs"];
    let own = log_probs["tokens"].as_array().unwrap().iter().zip(log_probs["token_logprobs"].as_array().unwrap());
    let own: Vec<Value> = own.map(|(name, lp)| json!([lp, class(name.as_str().unwrap()), null])).collect();
    let listed = |members: &Value| {
        let Some(members) = members.as_object() else { return Value::Null };
        let mut all: Vec<Value> = members.iter().map(|(name, lp)| json!([lp, class(name), null])).collect();
        all.sort_by(|a, b| b[0].as_f64().unwrap().total_cmp(&a[0].as_f64().unwrap()));
        all.truncate(k);
        Value::Array(all)
    };
    let top: Vec<Value> = log_probs["top_logprobs"].as_array().unwrap().iter().map(listed).collect();
    let ids: Vec<Value> = own.iter().map(|told| told[1].clone()).collect();
    let meta_info = json!({
        "id": "8f0c", "finish_reason": {"type": "length", "length": 1}, "prompt_tokens": own.len(),
        "weight_version": "default", "completion_tokens": 1, "cached_tokens": 0,
        "input_token_logprobs": own, "input_top_logprobs": top,
        "output_token_logprobs": [[-0.5, 3, null]], "output_top_logprobs": [[[-0.5, 3, null]]],
    });
    json!({"text": " the", "output_ids": [3], "meta_info": meta_info, "prompt_token_ids": ids})
}

/// The answers to all prompts.
fn good() -> Value {
    let k = expected().k as usize;
    let echo = json("echo_token_ids.response.json");
    echo["choices"].as_array().unwrap().iter().map(|choice| of_choice(choice, k)).collect()
}

#[test]
fn a_request_asks_for_every_token_of_the_prompts_at_temperature_1() {
    let server = StandIn::new(|_| Reply::status(400, "no"));
    let client = Client::new(&server.url, "m", Interface::Sglang, None, RetryPolicy::default()).unwrap();
    client.log_probs(&[&[5, 6, 7], &[8, 9]], 4).unwrap_err();
    let request = server.requests.lock().unwrap()[0].clone();
    assert_eq!(request.path, "/generate");
    let sent: Value = serde_json::from_str(&request.body).unwrap();
    let sampling = json!({"max_new_tokens": 1, "temperature": 1.0, "top_p": 1.0, "top_k": -1, "min_p": 0.0});
    let wanted = json!({
        "input_ids": [[5, 6, 7], [8, 9]], "sampling_params": sampling, "return_logprob": true,
        "logprob_start_len": 0, "top_logprobs_num": 4, "return_prompt_token_ids": true,
    });
    assert_eq!(sent, wanted);
}

#[test]
fn rows_are_what_the_model_said() {
    let mut answers = good();
    assert_rows(Interface::Sglang, &answers.to_string());
    // Older versions do not name the tokens of the prompt a second time.
    for answer in answers.as_array_mut().unwrap() {
        answer.as_object_mut().unwrap().remove("prompt_token_ids");
    }
    assert_rows(Interface::Sglang, &answers.to_string());
}

#[test]
fn the_last_class_of_a_head_may_be_named_0_beside_its_log_probability() {
    let mut answers = good();
    answers[0]["meta_info"]["input_token_logprobs"][6][1] = 0.into();
    assert_rows(Interface::Sglang, &answers.to_string());
}

#[test]
fn answers_that_lie_are_refused_by_name() {
    type Change = fn(&mut Value);
    let lies: [(Change, usize, &str); 15] = [
        (|a| *own(a) = Value::Null, 0, "no `input_token_logprobs`"),
        (|a| *top(a) = Value::Null, 0, "no `input_top_logprobs`"),
        (|a| a[0]["prompt_token_ids"][3] = 7.into(), 2, "token 3 of it is 7"),
        (|a| a[0]["prompt_token_ids"].as_array_mut().unwrap().truncate(9), 8, "token 9 of it is missing"),
        (|a| _ = a[0]["prompt_token_ids"].take(), 5, "token 6 of it is 7"),
        (|a| drop(own(a).as_array_mut().unwrap().pop()), 16, "for 17 tokens, 18"),
        (|a| drop(top(a).as_array_mut().unwrap().pop()), 16, "for 17 tokens, 18"),
        (|a| top(a)[6] = Value::Null, 5, "has no log-probabilities here"),
        (|a| top(a)[6][1][0] = Value::Null, 5, "is no finite number"),
        (|a| own(a)[6][0] = Value::Null, 5, "is no finite number"),
        (|a| top(a)[6][3][0] = (-3.402_823_466_385_288_6e38).into(), 5, "with which servers mask classes"),
        (|a| top(a)[6][1][0] = (-0.01).into(), 5, "1 at most belongs there"),
        (|a| drop(top(a)[6].as_array_mut().unwrap().pop()), 5, "3 classes are listed where the 4 likeliest"),
        (|a| own(a)[6][0] = (-0.001).into(), 5, "does not fit the other classes"),
        (shifted, 0, "does not fit the other classes"),
    ];
    for (change, position, message) in lies {
        let mut answers = good();
        // The change that leaves the second list of tokens out needs another token in the first.
        answers[0]["meta_info"]["input_token_logprobs"][6][1] = 7.into();
        change(&mut answers);
        let (prompt, at, problem) = problem(&expected(), Interface::Sglang, &answers.to_string());
        assert!(problem.to_string().contains(message), "{message}: {prompt}, {at}: {problem}");
        assert_eq!((prompt, at), (0, position), "{problem}");
    }
}

fn own(answers: &mut Value) -> &mut Value {
    &mut answers[0]["meta_info"]["input_token_logprobs"]
}

fn top(answers: &mut Value) -> &mut Value {
    &mut answers[0]["meta_info"]["input_top_logprobs"]
}

/// The classes of every position stand where those of the one before belong.
fn shifted(answers: &mut Value) {
    let lists = top(answers).as_array_mut().unwrap();
    lists.remove(0);
    lists.push(lists[0].clone());
}

#[test]
fn what_is_no_list_of_answers_is_refused() {
    let swapped = || {
        let mut answers = good();
        answers.as_array_mut().unwrap().swap(0, 1);
        answers
    };
    let one = || good().as_array_mut().unwrap().drain(..1).collect::<Value>();
    for (answers, message) in [
        (good()[0].clone(), "the answer is not of this interface"),
        (json!({"error": {"message": "no"}}), "the answer is not of this interface"),
        (one(), "there are 1 answers to "),
        (swapped(), "the answer is for another prompt"),
    ] {
        let error = told(&expected(), Interface::Sglang, &answers.to_string()).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[test]
fn an_adapter_is_not_taken_for_its_model() {
    let listed = json!({"data": [{"id": "base", "root": "base"}, {"id": "m", "root": "folder", "parent": "base"}]});
    let server = StandIn::new(move |_| Reply::json(listed.to_string()));
    let model =
        |name, interface| Client::new(&server.url, name, interface, None, RetryPolicy::default()).unwrap().model();
    let error = model("m", Interface::Sglang).unwrap_err();
    assert!(matches!(error, Error::Adapter { .. }) && error.to_string().contains("an adapter of `base`"), "{error}");
    assert_eq!(model("base", Interface::Sglang).unwrap().id, "base");
    assert_eq!(model("m", Interface::PromptLogprobs).unwrap().id, "m");
}
