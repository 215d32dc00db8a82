//! Requests that are made again while the server is busy or out of reach.

use crate::{Error, KEY_VARIABLE, Result, RetryPolicy};
use serde::Serialize;
use std::thread;
use std::time::Duration;
use tracing::warn;
use ureq::http::{Response, header};
use ureq::{Agent, Body};

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Largest error message that is read, in bytes.
const MESSAGE_BYTES: u64 = 64 << 10;
/// Number of characters of an error message that are shown.
const SHOWN: usize = 500;

/// A server's address and how it is asked.
pub(super) struct Connection {
    agent: Agent,
    url: String,
    key: Option<String>,
    retry: RetryPolicy,
}

/// Why an attempt failed.
enum Failure {
    /// The server answered with this status, its words, and perhaps the time after which to ask again.
    Status(u16, String, Option<Duration>),
    /// There is no connection, or it broke, or took too long.
    Connection(String),
    /// The answer is longer than any to this request.
    TooLong(u64),
}

impl Connection {
    pub(super) fn new(url: &str, key: Option<String>, retry: RetryPolicy) -> Self {
        let config = Agent::config_builder()
            .timeout_connect(Some(CONNECT.min(retry.timeout)))
            .timeout_recv_response(Some(retry.timeout))
            .timeout_per_read(Some(retry.timeout))
            // A key must not be sent to another server, and a moved one is for its user to name.
            .max_redirects(0)
            .http_status_as_error(false)
            .user_agent(concat!("logitcask/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: config.into(), url: url.to_owned(), key, retry }
    }

    /// Gets a page, with further attempts only while the server says that it is busy. Returns the page's address too.
    pub(super) fn get(&self, path: &str, most: usize) -> Result<(String, Vec<u8>)> {
        self.ask(
            path,
            |failure| matches!(failure, Failure::Status(..)),
            |url| {
                let request = self.agent.get(url);
                let request = match &self.key {
                    Some(key) => request.header(header::AUTHORIZATION, format!("Bearer {key}")),
                    None => request,
                };
                read(request.call()?, most)
            },
        )
    }

    /// Sends a request, with further attempts while the server is busy or out of reach. Returns its address too.
    pub(super) fn post(&self, path: &str, request: &impl Serialize, most: usize) -> Result<(String, Vec<u8>)> {
        let json = serde_json::to_vec(request)
            .map_err(|e| Error::Malformed { url: self.url.clone(), problem: e.to_string() })?;
        self.ask(
            path,
            |_| true,
            |url| {
                let request = self.agent.post(url).header(header::CONTENT_TYPE, "application/json");
                let request = match &self.key {
                    Some(key) => request.header(header::AUTHORIZATION, format!("Bearer {key}")),
                    None => request,
                };
                read(request.send(&json[..])?, most)
            },
        )
    }

    /// Attempts until one succeeds, or fails with something that does not pass or is not `worth_waiting` for.
    fn ask(
        &self,
        path: &str,
        worth_waiting: impl Fn(&Failure) -> bool,
        attempt: impl Fn(&str) -> std::result::Result<Vec<u8>, Failure>,
    ) -> Result<(String, Vec<u8>)> {
        let url = format!("{}/{path}", self.url);
        let mut attempts = 1;
        loop {
            let failure = match attempt(&url) {
                Ok(body) => return Ok((url, body)),
                Err(failure) => failure,
            };
            let has_more = attempts <= self.retry.retries && failure.passes() && worth_waiting(&failure);
            if !has_more {
                return Err(failure.into_error(url, attempts));
            }
            let wait = self.retry.wait(attempts - 1, failure.asked_wait());
            warn!(url, %failure, seconds = wait.as_secs_f64(), "the server is asked again");
            thread::sleep(wait);
            attempts += 1;
        }
    }
}

/// The body of a successful answer.
fn read(mut answer: Response<Body>, most: usize) -> std::result::Result<Vec<u8>, Failure> {
    if answer.status().is_success() {
        return Ok(answer.body_mut().with_config().limit(most as u64).read_to_vec()?);
    }
    let after = answer.headers().get(header::RETRY_AFTER).and_then(|after| after.to_str().ok()?.trim().parse().ok());
    let body = answer.body_mut().with_config().limit(MESSAGE_BYTES).read_to_vec().unwrap_or_default();
    Err(Failure::Status(answer.status().as_u16(), message(&body), after.map(Duration::from_secs)))
}

/// The words of an error: those of the interface's error object, or else the text as it is.
fn message(body: &[u8]) -> String {
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let said = json.as_ref().and_then(|json| {
        let places = ["/error/message", "/message", "/detail", "/error"];
        places.iter().find_map(|place| json.pointer(place)?.as_str())
    });
    let text = said.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
    let words: Vec<&str> = text.split_whitespace().collect();
    match words.is_empty() {
        true => "no explanation".to_owned(),
        false => words.join(" ").chars().take(SHOWN).collect(),
    }
}

impl Failure {
    /// Whether the same request may succeed later.
    fn passes(&self) -> bool {
        match self {
            Self::Status(status, ..) => is_passing(*status),
            Self::Connection(_) => true,
            Self::TooLong(_) => false,
        }
    }

    /// How long the server asked to wait.
    fn asked_wait(&self) -> Option<Duration> {
        match self {
            Self::Status(_, _, after) => *after,
            Self::Connection(_) | Self::TooLong(_) => None,
        }
    }

    fn into_error(self, url: String, attempts: u32) -> Error {
        match self {
            Self::Status(status, text, _) if !is_passing(status) => {
                let advice = advice(status, &text);
                Error::Refused { url, status, text, advice }
            }
            failure @ Self::TooLong(_) => Error::Malformed { url, problem: failure.to_string() },
            failure => Error::Unreachable { url, attempts, reason: failure.to_string() },
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status, text, _) => write!(f, "HTTP {status}: {text}"),
            Self::Connection(reason) => write!(f, "{reason}"),
            Self::TooLong(limit) => write!(f, "it is longer than {limit} bytes, which no answer to this request is"),
        }
    }
}

impl From<ureq::Error> for Failure {
    fn from(error: ureq::Error) -> Self {
        match error {
            ureq::Error::BodyExceedsLimit(limit) => Self::TooLong(limit),
            other => Self::Connection(other.to_string()),
        }
    }
}

/// Whether a status says that the server may answer later.
fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 429 | 500..)
}

/// Whether the words of a refusal say that a prompt is too long.
fn is_about_length(text: &str) -> bool {
    ["context length", "max_model_len", "maximum length", "maximum allowed length"]
        .iter()
        .any(|words| text.contains(words))
}

/// What to do about a refusal.
fn advice(status: u16, text: &str) -> String {
    let text = text.to_lowercase();
    match status {
        300..=399 => "; name the address that it redirects to".to_owned(),
        401 | 403 => format!("; set {KEY_VARIABLE} to the key that the server asks for"),
        404 | 405 => {
            "; the address of [teacher] server is what comes before /v1 or /generate, and [teacher] interface one that the \
             server offers"
                .to_owned()
        },
        _ if text.contains("logprobs") => {
            "; keep fewer classes with [cache] selection, or let the server give more (vLLM: --max-logprobs)".to_owned()
        }
        _ if is_about_length(&text) => {
            "; lower [cache] max_length, or let the server take longer prompts (vLLM: --max-model-len, SGLang: --context-length)".to_owned()
        }
        _ => String::new(),
    }
}
