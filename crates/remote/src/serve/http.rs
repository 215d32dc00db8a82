//! Listens and hands requests to the model, one at a time.

use super::ServedModel;
use super::answer::{self, Answer};
use super::request::CompletionRequest;
use crate::{Error, Result};
use serde_json::{Value, json};
use std::io::Read;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tiny_http::{Header, Method, Request, Response, Server};
use tracing::info;

/// Threads that read requests and write answers, so that a slow client keeps only itself waiting. The model works on
/// one request at a time.
const HANDLERS: usize = 8;
/// How often the handlers look whether to stop.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Largest request, in bytes.
const REQUEST_BYTES: u64 = 64 << 20;

/// A status and what is wrong.
type Refusal = (u16, String);

/// Offers `model` at `address` (HOST:PORT) until `stop` is set. `on_listening` is called with the URL once connections
/// are accepted.
///
/// # Errors
/// [`Error::Listen`].
pub fn serve(model: &dyn ServedModel, address: &str, stop: &AtomicBool, on_listening: &dyn Fn(&str)) -> Result<()> {
    let refused = |reason: String| Error::Listen { address: address.to_owned(), reason };
    let listener = TcpListener::bind(address).map_err(|e| refused(e.to_string()))?;
    let local = listener.local_addr().map_err(|e| refused(e.to_string()))?;
    let server = Server::from_listener(listener, None).map_err(|e| refused(e.to_string()))?;
    on_listening(&format!("http://{local}"));
    let turn = Mutex::new(());
    let handle = || {
        while !stop.load(Ordering::Relaxed) {
            match server.recv_timeout(POLL_INTERVAL) {
                Ok(Some(request)) => respond(request, model, &turn),
                Ok(None) => {}
                Err(error) => info!(%error, "a connection failed"),
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..HANDLERS {
            scope.spawn(handle);
        }
    });
    Ok(())
}

/// Answers one request.
fn respond(mut request: Request, model: &dyn ServedModel, turn: &Mutex<()>) {
    let start = Instant::now();
    let (status, body) = match answer(&mut request, model, turn) {
        Ok(body) => (200, body),
        Err((status, message)) => (status, refusal(status, &message)),
    };
    info!(method = %request.method(), url = request.url(), status, seconds = start.elapsed().as_secs_f64(), "answered");
    // With its length, by which a client notices that the end is missing.
    let mut response = Response::from_string(body).with_status_code(status).with_chunked_threshold(usize::MAX);
    if let Ok(kind) = Header::from_bytes("Content-Type", "application/json") {
        response.add_header(kind);
    }
    if let Err(error) = request.respond(response) {
        info!(%error, "the client did not wait for the answer");
    }
}

/// An error in the interface's form.
fn refusal(status: u16, message: &str) -> String {
    let kind = if status < 500 { "BadRequestError" } else { "InternalServerError" };
    json!({"error": {"message": message, "type": kind, "param": Value::Null, "code": status}}).to_string()
}

/// The body of the answer to one request.
fn answer(request: &mut Request, model: &dyn ServedModel, turn: &Mutex<()>) -> std::result::Result<String, Refusal> {
    let path = request.url().split('?').next().unwrap_or_default().to_owned();
    match (request.method(), path.as_str()) {
        (Method::Get, "/health") => Ok("{}".to_owned()),
        (Method::Get, "/v1/models") => Ok(answer::models(model)),
        (Method::Post, "/v1/completions") => {
            let asked = CompletionRequest::read(&body(request)?, model).map_err(|problem| (400, problem))?;
            let log_probs = {
                let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
                model.log_probs(&asked.prompts, asked.likeliest(), asked.generates).map_err(|problem| (500, problem))?
            };
            serde_json::to_string(&Answer::new(&asked, &log_probs, model)).map_err(|e| (500, e.to_string()))
        }
        (_, "/health" | "/v1/models" | "/v1/completions") => {
            Err((405, format!("{path} does not take {}", request.method())))
        }
        _ => Err((404, format!("there is no {path}; there are /v1/completions, /v1/models and /health"))),
    }
}

/// The bytes of a request.
fn body(request: &mut Request) -> std::result::Result<Vec<u8>, Refusal> {
    let mut body = Vec::new();
    let read = request.as_reader().take(REQUEST_BYTES + 1).read_to_end(&mut body);
    read.map_err(|e| (400, format!("the request cannot be read: {e}")))?;
    match body.len() as u64 > REQUEST_BYTES {
        true => Err((413, format!("the request is longer than {REQUEST_BYTES} bytes; send fewer prompts at once"))),
        false => Ok(body),
    }
}
