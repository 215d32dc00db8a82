//! Our own server, asked by our own client and by hand.

use crate::{Client, Interface, Listener, PositionLogProbs, PromptLogProbs, RetryPolicy, ServedModel, serve};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};

/// A model that gives class c at token t the weight 1 / (1 + (c + t) mod 5).
pub(super) struct Small;

impl Small {
    const CLASSES: u32 = 5;

    fn log_prob(token: u32, class: u32) -> f32 {
        let weight = |class: u32| 1.0 / f64::from(1 + (class + token) % Self::CLASSES);
        (weight(class) / (0..Self::CLASSES).map(weight).sum::<f64>()).ln() as f32
    }

    fn says(token: u32, label: u32, k: u32) -> PositionLogProbs {
        let mut likeliest: Vec<(u32, f32)> =
            (0..Self::CLASSES).map(|class| (class, Self::log_prob(token, class))).collect();
        likeliest.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        likeliest.truncate(k as usize);
        let label_log_prob = Self::log_prob(token, label);
        let before = (0..Self::CLASSES).filter(|&class| Self::log_prob(token, class) >= label_log_prob);
        PositionLogProbs { likeliest, label_log_prob, label_rank: before.count() as u64 }
    }
}

impl ServedModel for Small {
    fn name(&self) -> &str {
        "small"
    }

    fn fingerprint(&self) -> String {
        "0f".to_owned()
    }

    fn vocab_size(&self) -> u32 {
        Self::CLASSES
    }

    fn max_length(&self) -> usize {
        6
    }

    fn encode(&self, text: &str, with_start: bool) -> Result<Vec<u32>, String> {
        let letter = |c: char| c.to_digit(Self::CLASSES).ok_or_else(|| format!("no token for {c}"));
        let tokens: Result<Vec<u32>, String> = text.chars().map(letter).collect();
        Ok(with_start.then_some(0).into_iter().chain(tokens?).collect())
    }

    fn decode(&self, tokens: &[u32]) -> String {
        tokens.iter().map(u32::to_string).collect()
    }

    fn log_probs(&self, prompts: &[Vec<u32>], k: u32, generates: bool) -> Result<Vec<PromptLogProbs>, String> {
        if prompts[0][0] == 4 {
            return Err("the device is lost".to_owned());
        }
        let says = |prompt: &Vec<u32>| {
            let labels = prompt.iter().skip(1).copied().chain(generates.then_some(0));
            prompt.iter().zip(labels).map(|(&token, label)| Self::says(token, label, k)).collect()
        };
        Ok(prompts.iter().map(says).collect())
    }
}

/// Runs a test against a server of the small model, which ends with it.
pub(super) fn with_server(test: impl FnOnce(&str)) {
    with_server_of(&Small, &AtomicBool::new(false), test);
}

/// Runs a test against a server of a model, which ends with it, or as soon as the test sets `stop`.
pub(super) fn with_server_of(model: &dyn ServedModel, stop: &AtomicBool, test: impl FnOnce(&str)) {
    let listener = Listener::bind("127.0.0.1:0").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| serve(model, &listener, stop));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(listener.url())));
        stop.store(true, Ordering::Relaxed);
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// Sends a request by hand; returns status and body.
pub(super) fn send(url: &str, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all((head + body).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap())
}

#[test]
fn a_client_is_told_what_the_model_says() {
    with_server(|url| {
        for (interface, k) in [(Interface::PromptLogprobs, 2), (Interface::Echo, 3)] {
            let client = Client::new(url, "small", interface, None, RetryPolicy::default()).unwrap();
            let model = client.model().unwrap();
            assert_eq!((model.root.as_deref(), model.max_model_len), (Some("0f"), Some(6)));
            let prompts: [&[u32]; 3] = [&[0, 3, 1], &[2, 2], &[1, 0, 4, 3, 2]];
            let told = client.log_probs(&prompts, k).unwrap();
            for (prompt, told) in prompts.iter().zip(&told) {
                assert_eq!(told.len(), prompt.len() - 1);
                for (pair, told) in prompt.windows(2).zip(told) {
                    let said = Small::says(pair[0], pair[1], k);
                    let first = told.entries[0];
                    assert_eq!((first.class, first.log_prob as f32), (pair[1], said.label_log_prob));
                    let mut rest = told.entries.clone();
                    rest.sort_by(|a, b| b.log_prob.total_cmp(&a.log_prob));
                    let likeliest: Vec<_> = rest.iter().map(|entry| (entry.class, entry.log_prob as f32)).collect();
                    assert_eq!(likeliest[..k as usize], said.likeliest);
                    let is_ranked = interface == Interface::PromptLogprobs;
                    assert_eq!(first.rank, is_ranked.then_some(said.label_rank));
                    assert_eq!(told.label_log_prob.map(|lp| lp as f32), (!is_ranked).then_some(said.label_log_prob));
                }
            }
        }
    });
}

#[test]
fn texts_are_prompts_and_a_token_may_follow() {
    with_server(|url| {
        let body = json!({"prompt": ["12", "3"], "max_tokens": 1, "logprobs": 1, "echo": true}).to_string();
        let (status, answer) = send(url, "POST", "/v1/completions", &body);
        assert_eq!(status, 200, "{answer}");
        // The start token is 0, and the class that follows token t is 5 - t.
        let choice = &answer["choices"][0];
        assert_eq!((&choice["text"], &choice["logprobs"]["tokens"]), (&json!("0123"), &json!(["0", "1", "2", "3"])));
        assert_eq!(choice["logprobs"]["text_offset"], json!([0, 1, 2, 3]));
        assert_eq!(answer["choices"][1]["text"], json!("032"));
        assert_eq!(answer["usage"], json!({"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}));
        let body = json!({"prompt": [4, 1], "max_tokens": 0}).to_string();
        assert_eq!(send(url, "POST", "/v1/completions", &body).0, 500, "the model failed");
        let body = json!({"prompt": [3], "max_tokens": 1, "add_special_tokens": false}).to_string();
        let (_, answer) = send(url, "POST", "/v1/completions", &body);
        assert_eq!((&answer["choices"][0]["text"], &answer["choices"][0]["logprobs"]), (&json!("2"), &Value::Null));
    });
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    with_server(|url| {
        for (change, words) in [
            (json!({"best_of": 4}), "unknown field `best_of`"),
            (json!({"max_tokens": 2}), "max_tokens = 2"),
            (json!({"max_tokens": null}), "max_tokens = 16"),
            (json!({"temperature": 0.7}), "temperature"),
            (json!({"top_p": 0.9}), "top_p"),
            (json!({"n": 2}), "n: there is one answer"),
            (json!({"stream": true}), "stream"),
            (json!({"model": "large"}), "there is only \"small\""),
            (json!({"prompt_logprobs": 6}), "prompt_logprobs = 6: the vocabulary has 5 tokens"),
            (json!({"prompt_logprobs": 1, "echo": true}), "leave one of them out"),
            (json!({"prompt": []}), "prompt 0 has no token"),
            (json!({"prompt": [[]]}), "prompt 0 has no token"),
            (json!({"prompt": [1, 5]}), "token 5 is outside the vocabulary"),
            (json!({"prompt": [1, 1, 1, 1, 1, 1, 1]}), "maximum context length is 6"),
            (json!({"prompt": {"text": "a"}}), "a list of token ids"),
            (json!({"prompt": "9"}), "no token for 9"),
        ] {
            let mut body = json!({"prompt": [1, 2], "max_tokens": 0});
            body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            let (status, answer) = send(url, "POST", "/v1/completions", &body.to_string());
            let message = answer["error"]["message"].as_str().unwrap();
            assert!(status == 400 && message.contains(words), "{change}: {status} {message}");
        }
        assert_eq!(send(url, "POST", "/v1/completions", "{").0, 400);
        assert_eq!(send(url, "GET", "/v1/completions", "").0, 405);
        assert_eq!(send(url, "POST", "/v1/chat/completions", "{}").0, 404);
        assert_eq!(send(url, "GET", "/health", ""), (200, json!({})));
        let taken = Listener::bind(&url["http://".len()..]).err().unwrap();
        assert!(taken.to_string().contains("cannot listen there"), "{taken}");
    });
}
