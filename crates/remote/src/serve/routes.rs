//! What there is to ask for.

use super::ServedModel;
use super::answer::{self, Answer};
use super::connection::{Refusal, Request};
use super::request::CompletionRequest;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// The body of the answer to one request. The model works only while `turn` is held, and once `stop` is set, it does
/// not begin.
pub(super) fn answer(
    request: &Request,
    model: &dyn ServedModel,
    turn: &Mutex<()>,
    stop: &AtomicBool,
) -> Result<String, Refusal> {
    let Request { method, path, body, .. } = request;
    match (method.as_str(), path.as_str()) {
        ("GET", "/health") => Ok("{}".to_owned()),
        ("GET", "/v1/models") => Ok(answer::models(model)),
        ("POST", "/v1/completions") => {
            let asked = CompletionRequest::read(body, model).map_err(|problem| (400, problem))?;
            let log_probs = {
                let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
                if stop.load(Ordering::Relaxed) {
                    return Err((503, "the server is being stopped".to_owned()));
                }
                model.log_probs(&asked.prompts, asked.likeliest(), asked.generates).map_err(|problem| (500, problem))?
            };
            serde_json::to_string(&Answer::new(&asked, &log_probs, model)).map_err(|e| (500, e.to_string()))
        }
        (_, "/health" | "/v1/models" | "/v1/completions") => Err((405, format!("{path} does not take {method}"))),
        _ => Err((404, format!("there is no {path}; there are /v1/completions, /v1/models and /health"))),
    }
}
