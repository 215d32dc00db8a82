//! Our own server under many clients, and clients that are slow, wrong, or gone.

use super::serving::{Small, send, with_server, with_server_of};
use crate::{PromptLogProbs, ServedModel};
use serde_json::json;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

fn connect(url: &str) -> TcpStream {
    let stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// What is answered to these bytes until the server ends the connection.
fn raw(url: &str, bytes: &[u8]) -> String {
    let mut stream = connect(url);
    stream.write_all(bytes).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A good request.
fn post(head: &str) -> String {
    let body = json!({"prompt": [1, 2], "max_tokens": 0, "prompt_logprobs": 1}).to_string();
    format!("POST /v1/completions HTTP/1.1\r\n{head}Content-Length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn requests_follow_each_other_on_one_connection() {
    with_server(|url| {
        let health = "GET /health?x=1 HTTP/1.1\r\nHost: h\r\n\r\n";
        let last = post("connection: Close\r\n");
        let answer = raw(url, format!("{health}{}{health}{last}", post("")).as_bytes());
        assert_eq!(answer.matches("HTTP/1.1 200 OK\r\n").count(), 4, "{answer}");
        assert_eq!(answer.matches("Connection: keep-alive\r\n").count(), 3, "{answer}");
        assert_eq!(answer.matches("\"prompt_logprobs\":[null,{\"2\":").count(), 2, "{answer}");
        // The older version ends a connection unless it is asked not to.
        let answer = raw(url, b"GET /health HTTP/1.0\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("Connection: close"), "{answer}");
        let kept = "GET /health HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\nGET /health HTTP/1.0\r\n\r\n";
        assert_eq!(raw(url, kept.as_bytes()).matches("HTTP/1.1 200").count(), 2);
        // The head of the answer without its body.
        let answer = raw(url, b"HEAD /health HTTP/1.1\r\nConnection: close\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 405") && answer.ends_with("\r\n\r\n"), "{answer}");
        // A client that asks whether to send the body.
        let mut stream = connect(url);
        let (head, body) = post("Expect: 100-continue\r\nConnection: close\r\n").split_once("{").map(own).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        let mut told = [0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
        stream.read_exact(&mut told).unwrap();
        assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(format!("{{{body}").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    });
}

fn own((a, b): (&str, &str)) -> (String, String) {
    (a.to_owned(), b.to_owned())
}

#[test]
fn what_is_no_request_is_refused() {
    let with_length = |length: &str| format!("POST /v1/completions HTTP/1.1\r\nContent-Length: {length}\r\n\r\n");
    let long = format!("GET /health HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    let mut not_text = with_length("4").replacen("\r\n", "\r\nConnection: close\r\n", 1).into_bytes();
    not_text.extend([0xff, 0xfe, 0xff, 0x00]);
    with_server(|url| {
        for (request, status, words) in [
            (with_length("1000000000000000000").into_bytes(), 413, "longer than 67108864 bytes"),
            (with_length("-1").into_bytes(), 400, "no number of bytes"),
            (with_length("99999999999999999999999").into_bytes(), 400, "no number of bytes"),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(), 411, "Content-Length"),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), 400, "no HTTP request"),
            (b"GET /health HTTP/2.0\r\n\r\n".to_vec(), 400, "no HTTP request"),
            (long.clone().into_bytes(), 431, "the head of the request"),
            (not_text.clone(), 400, "the request is not understood"),
        ] {
            let answer = raw(url, &request);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(words), "{words}: {answer}");
            assert!(answer.contains("Connection: close"), "{answer}");
        }
        // Who sends all of a request that is too long learns why it is refused.
        let mut stream = connect(url);
        stream.write_all(with_length("100000000").as_bytes()).unwrap();
        let sent = (0..100).try_for_each(|_| stream.write_all(&[b' '; 1_000_000]));
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(sent.is_ok() && answer.starts_with("HTTP/1.1 413 Content Too Large"), "{sent:?}: {answer}");
        assert_eq!(send(url, "GET", "/health", "").0, 200);
    });
}

#[test]
fn clients_that_are_slow_or_gone_keep_nobody_waiting() {
    let stop = AtomicBool::new(false);
    let mut slow = Vec::new();
    let start = Mutex::new(None);
    with_server_of(&Small, &stop, |url| {
        for count in 0..60 {
            let mut stream = connect(url);
            let request = post("");
            // A part of the head, of the body, or nothing.
            stream.write_all(&request.as_bytes()[..[0, 20, request.len() - 3][count % 3]]).unwrap();
            slow.push(stream);
        }
        for _ in 0..30 {
            // Gone in the middle of the request, before the answer, or without a farewell while it is written.
            let request = post("");
            connect(url).write_all(&request.as_bytes()[..request.len() - 3]).unwrap();
            connect(url).write_all(request.as_bytes()).unwrap();
            let mut stream = connect(url);
            stream.write_all(post("").repeat(50).as_bytes()).unwrap();
            stream.shutdown(Shutdown::Read).unwrap();
        }
        assert_eq!(send(url, "GET", "/health", "").0, 200);
        assert_eq!(raw(url, post("Connection: close\r\n").as_bytes()).matches("HTTP/1.1 200").count(), 1);
        *start.lock().unwrap() = Some(Instant::now());
    });
    // The server ended although they are still there.
    let waited = start.into_inner().unwrap().unwrap().elapsed();
    assert!(waited < Duration::from_secs(5), "{waited:?}");
    for mut stream in slow {
        let end = stream.read(&mut [0; 8]);
        assert!(
            matches!(&end, Ok(0)) || end.as_ref().is_err_and(|e| e.kind() == ErrorKind::ConnectionReset),
            "{end:?}"
        );
    }
}

#[test]
fn many_clients_are_answered_at_once() {
    with_server(|url| {
        let answered = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..200 {
                scope.spawn(|| {
                    let answer = raw(url, (post("").repeat(4) + &post("Connection: close\r\n")).as_bytes());
                    answered.fetch_add(answer.matches("\"prompt_logprobs\":[null,{\"2\":").count(), Ordering::Relaxed);
                });
            }
        });
        assert_eq!(answered.into_inner(), 1000);
    });
}

/// The small model, which works until it may go on.
struct Slow {
    begun: Mutex<Sender<()>>,
    go_on: Mutex<Receiver<()>>,
}

impl ServedModel for Slow {
    fn name(&self) -> &str {
        Small.name()
    }

    fn fingerprint(&self) -> String {
        Small.fingerprint()
    }

    fn vocab_size(&self) -> u32 {
        Small.vocab_size()
    }

    fn max_length(&self) -> usize {
        Small.max_length()
    }

    fn encode(&self, text: &str, with_start: bool) -> Result<Vec<u32>, String> {
        Small.encode(text, with_start)
    }

    fn decode(&self, tokens: &[u32]) -> String {
        Small.decode(tokens)
    }

    fn log_probs(&self, prompts: &[Vec<u32>], k: u32, generates: bool) -> Result<Vec<PromptLogProbs>, String> {
        self.begun.lock().unwrap().send(()).unwrap();
        self.go_on.lock().unwrap().recv().unwrap();
        Small.log_probs(prompts, k, generates)
    }
}

#[test]
fn a_model_that_fails_is_said_to_have_failed_and_the_server_goes_on() {
    let (begun, _has_begun) = channel();
    // Nobody lets it go on, so that it panics.
    let (_, go_on) = channel();
    let model = Slow { begun: Mutex::new(begun), go_on: Mutex::new(go_on) };
    with_server_of(&model, &AtomicBool::new(false), |url| {
        for _ in 0..3 {
            let answer = raw(url, post("Connection: close\r\n").as_bytes());
            assert!(answer.starts_with("HTTP/1.1 500") && answer.contains("the model failed"), "{answer}");
        }
        assert!(raw(url, b"GET /health HTTP/1.0\r\n\r\n").starts_with("HTTP/1.1 200"));
    });
}

#[test]
fn a_request_that_is_under_way_is_answered_before_the_server_ends() {
    let (begun, has_begun) = channel();
    let (may_go_on, go_on) = channel();
    let model = Slow { begun: Mutex::new(begun), go_on: Mutex::new(go_on) };
    let stop = AtomicBool::new(false);
    with_server_of(&model, &stop, |url| {
        thread::scope(|scope| {
            let first = scope.spawn(|| raw(url, post("").as_bytes()));
            has_begun.recv().unwrap();
            let others: Vec<_> = (0..3).map(|_| scope.spawn(|| raw(url, post("").as_bytes()))).collect();
            // They are accepted, and wait for their turn.
            thread::sleep(Duration::from_millis(300));
            stop.store(true, Ordering::Relaxed);
            may_go_on.send(()).unwrap();
            assert!(first.join().unwrap().starts_with("HTTP/1.1 200 OK"));
            for other in others {
                let answer = other.join().unwrap();
                assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("is being stopped"), "{answer}");
            }
        });
    });
}
