//! A server on this machine whose answers a test chooses.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its number, from 0.
    pub number: usize,
    pub path: String,
    pub head: String,
    pub body: String,
}

/// What is answered.
pub enum Reply {
    /// A status, further lines of the head, and a body.
    Say(u16, String, String),
    /// Only half of the body arrives.
    Cut(String),
    /// The connection ends without an answer.
    HangUp,
    /// The answer is late.
    Late(Duration, Box<Reply>),
}

impl Reply {
    pub fn json(body: impl Into<String>) -> Self {
        Self::Say(200, String::new(), body.into())
    }

    pub fn status(status: u16, message: &str) -> Self {
        Self::Say(status, String::new(), format!("{{\"error\": {{\"message\": \"{message}\"}}}}"))
    }
}

/// A server and the requests that it got.
pub struct StandIn {
    pub url: String,
    pub requests: Arc<Mutex<Vec<Request>>>,
}

impl StandIn {
    pub fn new(reply: impl Fn(&Request) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let Some(mut request) = read(&stream) else { continue };
                request.number = seen.lock().unwrap().len();
                seen.lock().unwrap().push(request.clone());
                write(stream, reply(&request));
            }
        });
        Self { url, requests }
    }

    pub fn asked(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length").then(|| value.parse().unwrap())
    });
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    let path = head.split(' ').nth(1)?.to_owned();
    Some(Request { number: 0, path, head, body: String::from_utf8(body).unwrap() })
}

fn write(mut stream: TcpStream, reply: Reply) {
    // The client may have closed the connection already.
    let mut send = |status: u16, more: &str, length: usize, body: &str| {
        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n{more}\r\n");
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
    };
    match reply {
        Reply::Say(status, more, body) => send(status, &more, body.len(), &body),
        Reply::Cut(body) => send(200, "", body.len(), &body[..body.len() / 2]),
        Reply::HangUp => {}
        Reply::Late(wait, reply) => {
            thread::sleep(wait);
            write(stream, *reply);
        }
    }
}
