//! Servers that are busy, slow, or not there, and what a client sends and keeps to itself.

use super::stand_in::{Reply, StandIn};
use crate::{Client, Error, Interface, RetryPolicy};
use serde_json::json;
use std::time::{Duration, Instant};

/// Few and short waits.
const HURRIED: RetryPolicy =
    RetryPolicy { retries: 2, first_wait: Duration::from_millis(1), timeout: Duration::from_millis(150) };

fn client(server: &StandIn) -> Client {
    Client::new(&server.url, "m", Interface::PromptLogprobs, None, HURRIED).unwrap()
}

/// An answer to the prompt \[1, 2\] with the likeliest class 2 of two.
fn good() -> Reply {
    let listed = json!([null, {"2": {"logprob": -0.25, "rank": 1}}]);
    Reply::json(json!({"choices": [{"index": 0, "prompt_token_ids": [1, 2], "prompt_logprobs": listed}]}).to_string())
}

fn ask(client: &Client) -> crate::Result<()> {
    let told = client.log_probs(&[&[1, 2]], 1)?;
    assert_eq!(told[0][0].entries[0].log_prob, -0.25);
    Ok(())
}

#[test]
fn what_passes_is_asked_again() {
    let busy = |status: u16| Reply::Say(status, "Retry-After: 0\r\n".to_owned(), "wait".to_owned());
    type First = fn() -> Reply;
    let first: [First; 7] = [
        || Reply::status(503, "loading"),
        || Reply::status(500, "out of memory"),
        || Reply::status(429, "too many requests"),
        || Reply::status(408, "too slow"),
        || Reply::HangUp,
        || Reply::Cut("{\"choices\": []}".to_owned()),
        || Reply::Late(Duration::from_millis(400), Box::new(Reply::HangUp)),
    ];
    for (index, first) in first.into_iter().enumerate() {
        let server = StandIn::new(move |request| if request.number == 0 { first() } else { good() });
        // The one that is late lets the next request wait too.
        let retry = RetryPolicy { timeout: Duration::from_millis(if index == 6 { 300 } else { 5000 }), ..HURRIED };
        let client = Client::new(&server.url, "m", Interface::PromptLogprobs, None, retry).unwrap();
        ask(&client).unwrap_or_else(|e| panic!("{index}: {e}"));
        assert_eq!(server.asked(), 2, "{index}");
    }
    let server = StandIn::new(move |request| if request.number < 2 { busy(503) } else { good() });
    ask(&client(&server)).unwrap();
    assert_eq!(server.asked(), 3);
}

#[test]
fn a_server_may_say_when_to_come_back() {
    let retry = RetryPolicy { first_wait: Duration::from_secs(60), timeout: Duration::from_secs(5), ..HURRIED };
    let after = |request: &super::stand_in::Request| match request.number {
        0 => Reply::Say(429, "Retry-After: 1\r\n".to_owned(), String::new()),
        _ => good(),
    };
    let server = StandIn::new(after);
    let start = Instant::now();
    ask(&Client::new(&server.url, "m", Interface::PromptLogprobs, None, retry).unwrap()).unwrap();
    assert!((1.0..30.0).contains(&start.elapsed().as_secs_f64()), "{:?}", start.elapsed());
}

#[test]
fn after_the_last_attempt_the_last_failure_is_named() {
    let server = StandIn::new(|_| Reply::status(503, "the model is loading"));
    let error = ask(&client(&server)).unwrap_err().to_string();
    assert!(error.contains("no answer in 3 attempts: HTTP 503: the model is loading"), "{error}");
    assert_eq!(server.asked(), 3);
    let server = StandIn::new(|_| Reply::Late(Duration::from_millis(250), Box::new(good())));
    let error = ask(&client(&server)).unwrap_err().to_string();
    assert!(error.contains("in 3 attempts: timeout"), "{error}");
}

#[test]
fn what_does_not_pass_is_asked_once() {
    for (status, message, words) in [
        (400, "This model's maximum context length is 16 tokens", "[cache] max_length"),
        (401, "no key", "LOGITCASK_API_KEY"),
        (404, "no such page", "before /v1"),
        (302, "moved", "redirects"),
        (422, "prompt: a list was not expected", "(HTTP 422): prompt: a list was not expected"),
    ] {
        let server = StandIn::new(move |_| {
            let Reply::Say(status, _, body) = Reply::status(status, message) else { unreachable!() };
            Reply::Say(status, "Location: http://127.0.0.1:1/\r\n".to_owned(), body)
        });
        let error = ask(&client(&server)).unwrap_err();
        assert!(matches!(error, Error::Refused { status: got, .. } if got == status), "{error}");
        assert!(error.to_string().contains(words) && error.to_string().contains(message), "{error}");
        assert_eq!(server.asked(), 1, "{error}");
    }
}

#[test]
fn what_is_no_answer_or_too_long_for_one_is_not_used() {
    for (body, words) in [
        ("<html>".to_owned(), "the answer is not of this interface"),
        ("{\"choices\": 3}".to_owned(), "the answer is not of this interface"),
        ("{\"choices\": [".to_owned(), "the answer is not of this interface"),
        (" ".repeat(2 << 20), "it is longer than"),
        ("[".repeat(100_000), "the answer is not of this interface"),
    ] {
        let server = StandIn::new(move |_| Reply::json(body.clone()));
        let retry = RetryPolicy { timeout: Duration::from_secs(5), ..HURRIED };
        let client = Client::new(&server.url, "m", Interface::PromptLogprobs, None, retry).unwrap();
        let error = ask(&client).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        assert_eq!(server.asked(), 1, "{error}");
    }
}

#[test]
fn a_model_is_found_by_its_name_and_told_from_others_of_that_name() {
    let listed = |root: &'static str| {
        move |_: &super::stand_in::Request| {
            let other = json!({"id": "other", "object": "model"});
            let model =
                json!({"id": "m", "root": root, "created": 7, "max_model_len": 64, "permission": [{"id": "x"}]});
            Reply::json(json!({"object": "list", "data": [other, model]}).to_string())
        }
    };
    let (here, there) = (StandIn::new(listed("org/m")), StandIn::new(listed("org/n")));
    let (m, n) = (client(&here).model().unwrap(), client(&there).model().unwrap());
    assert_eq!((m.id.as_str(), m.max_model_len), ("m", Some(64)));
    assert_eq!(m.fingerprint(), client(&here).model().unwrap().fingerprint());
    assert_ne!(m.fingerprint(), n.fingerprint());
    assert_eq!(here.requests.lock().unwrap()[0].path, "/v1/models");
    let unknown = Client::new(&here.url, "k", Interface::Echo, None, HURRIED).unwrap().model().unwrap_err();
    assert!(unknown.to_string().contains("no model `k`; it has `other`, `m`"), "{unknown}");
    // Nobody waits minutes for a server that was never there.
    let retry = RetryPolicy::default();
    let gone = Client::new("http://127.0.0.1:1", "m", Interface::Echo, None, retry).unwrap();
    assert!(gone.model().unwrap_err().to_string().contains("no answer in 1 attempts"));
}

#[test]
fn a_key_is_sent_and_never_shown() {
    let server = StandIn::new(|_| Reply::status(403, "wrong key"));
    let key = "secret-key";
    let client = Client::new(&server.url, "m", Interface::Echo, Some(key.to_owned()), HURRIED).unwrap();
    let error = format!("{0} {0:?}", client.log_probs(&[&[1, 2]], 1).unwrap_err());
    assert!(!error.contains(key) && error.contains("LOGITCASK_API_KEY"), "{error}");
    let head = server.requests.lock().unwrap()[0].head.to_lowercase();
    assert!(head.contains("authorization: bearer secret-key"), "{head}");
}

#[test]
fn an_address_may_end_with_the_version_of_the_interface() {
    for (url, is_address) in [
        ("http://h:1", true),
        ("https://h/v1/", true),
        ("h:1", false),
        ("", false),
        ("http://", false),
        ("ftp://h", false),
    ] {
        let client = Client::new(url, "m", Interface::Echo, None, HURRIED);
        assert_eq!(client.is_ok(), is_address, "{url}");
    }
    let server = StandIn::new(|_| Reply::status(400, "no"));
    let client = Client::new(&format!("{}/v1/", server.url), "m", Interface::Echo, None, HURRIED).unwrap();
    client.log_probs(&[&[1, 2]], 1).unwrap_err();
    assert_eq!(server.requests.lock().unwrap()[0].path, "/v1/completions");
}
