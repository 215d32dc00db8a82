//! Requests and answers on one connection, in HTTP/1.1 or 1.0.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Largest head of a request, in bytes.
const HEAD_BYTES: usize = 16 << 10;
/// Most lines in the head of a request.
const HEADERS: usize = 64;
/// Largest body of a request, in bytes.
const BODY_BYTES: u64 = 64 << 20;
/// How long a client may keep silent, before a request and within one.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a request may take to arrive.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(600);
/// How long a client that is refused may go on to send, so that it comes to read why.
const REFUSED_CLIENT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a reader looks whether to stop.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// A status and what is wrong.
pub(super) type Refusal = (u16, String);

/// A request as it arrived.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    /// Without what follows a question mark.
    pub(super) path: String,
    pub(super) body: Vec<u8>,
    /// Whether another request may follow on the same connection.
    pub(super) keeps_alive: bool,
}

/// What the head of a request says.
struct Head {
    method: String,
    path: String,
    /// Number of bytes of the head itself.
    length: usize,
    body_length: u64,
    keeps_alive: bool,
    /// Whether the client waits before it sends the body.
    expects_continue: bool,
}

/// A client's connection.
pub(super) struct Connection<'a> {
    stream: TcpStream,
    stop: &'a AtomicBool,
    /// What was received and belongs to no earlier request.
    received: Vec<u8>,
}

impl<'a> Connection<'a> {
    /// Serves `stream` until `stop` is set.
    pub(super) fn new(stream: TcpStream, stop: &'a AtomicBool) -> io::Result<Self> {
        // On some systems, it has this from the listener.
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(POLL_INTERVAL))?;
        stream.set_write_timeout(Some(IDLE_TIMEOUT))?;
        Ok(Self { stream, stop, received: Vec::new() })
    }

    /// The next request, or why it is none; `None` if the client has no other, or the server stops.
    pub(super) fn next(&mut self) -> io::Result<Option<Result<Request, Refusal>>> {
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        let head = loop {
            match head(&self.received) {
                Ok(Some(head)) => break head,
                Ok(None) if self.received.len() > HEAD_BYTES => {
                    return Ok(Some(Err((431, format!("the head of the request is longer than {HEAD_BYTES} bytes")))));
                }
                Ok(None) if self.receive(deadline)? => {}
                Ok(None) => return Ok(None),
                Err(refusal) => return Ok(Some(Err(refusal))),
            }
        };
        if head.expects_continue {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        // At most BODY_BYTES.
        let end = head.length + head.body_length as usize;
        while self.received.len() < end {
            if !self.receive(deadline)? {
                return Ok(None);
            }
        }
        let next = self.received.split_off(end);
        let mut body = std::mem::replace(&mut self.received, next);
        body.drain(..head.length);
        Ok(Some(Ok(Request { method: head.method, path: head.path, body, keeps_alive: head.keeps_alive })))
    }

    /// Receives some bytes; `false` if there are none until `deadline` or for [`IDLE_TIMEOUT`], or the server stops.
    fn receive(&mut self, deadline: Instant) -> io::Result<bool> {
        let mut bytes = [0; 16 << 10];
        let deadline = deadline.min(Instant::now() + IDLE_TIMEOUT);
        while !self.stop.load(Ordering::Relaxed) && Instant::now() < deadline {
            match self.stream.read(&mut bytes) {
                Ok(count) => {
                    self.received.extend(&bytes[..count]);
                    return Ok(count > 0);
                }
                Err(error) if !is_passing(&error) => return Err(error),
                Err(_) => {}
            }
        }
        Ok(false)
    }

    /// Answers a request, with the length of the body, by which a client notices that its end is missing.
    pub(super) fn respond(&mut self, request: &Request, status: u16, body: &str) -> io::Result<()> {
        let body = if request.method == "HEAD" { "" } else { body };
        self.write(status, body, request.keeps_alive)
    }

    /// Answers what is no request, and ends the connection.
    pub(super) fn refuse(&mut self, status: u16, body: &str) -> io::Result<()> {
        self.write(status, body, false)?;
        self.stream.shutdown(Shutdown::Write)?;
        // An answer is lost if the connection ends while the client is still sending.
        let deadline = Instant::now() + REFUSED_CLIENT_TIMEOUT;
        while self.receive(deadline)? {
            self.received.clear();
        }
        Ok(())
    }

    fn write(&mut self, status: u16, body: &str, keeps_alive: bool) -> io::Result<()> {
        let (length, connection) = (body.len(), if keeps_alive { "keep-alive" } else { "close" });
        let head = format!(
            "HTTP/1.1 {status} {}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
             Connection: {connection}\r\n\r\n",
            reason(status)
        );
        self.stream.write_all(&[head.as_bytes(), body.as_bytes()].concat())
    }
}

/// Whether there may be something to read later.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// Reads the head of a request; `None` if its end is not there yet.
fn head(received: &[u8]) -> Result<Option<Head>, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let status = parsed.parse(received).map_err(|e| (400, format!("this is no HTTP request: {e}")))?;
    let httparse::Status::Complete(length) = status else { return Ok(None) };
    let value = |name: &str| {
        let header = parsed.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        header.map(|header| String::from_utf8_lossy(header.value).trim().to_ascii_lowercase())
    };
    if value("transfer-encoding").is_some() {
        return Err((411, "a body in chunks is not read here; send its length (Content-Length)".to_owned()));
    }
    let body_length = match value("content-length") {
        None => 0,
        Some(text) => text.parse().map_err(|_| (400, format!("Content-Length: {text:?} is no number of bytes")))?,
    };
    if body_length > BODY_BYTES {
        return Err((413, format!("the request is longer than {BODY_BYTES} bytes; send fewer prompts at once")));
    }
    let connection = value("connection").unwrap_or_default();
    Ok(Some(Head {
        method: parsed.method.unwrap_or_default().to_owned(),
        path: parsed.path.unwrap_or_default().split('?').next().unwrap_or_default().to_owned(),
        length,
        body_length,
        keeps_alive: match parsed.version {
            Some(0) => connection.contains("keep-alive"),
            _ => !connection.contains("close"),
        },
        expects_continue: value("expect").is_some_and(|value| value == "100-continue"),
    }))
}

/// The words of a status.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        411 => "Length Required",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}
