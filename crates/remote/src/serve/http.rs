//! Listens, and gives each connection a thread of its own.

use super::ServedModel;
use super::connection::{Connection, Request};
use super::routes::answer;
use crate::{Error, Result};
use serde_json::{Value, json};
use std::net::{TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tracing::info;

/// Connections that are served at a time; others wait until one of them ends. It bounds threads, files and memory.
const CONNECTIONS: usize = 512;
/// How often the listener looks for connections, and whether to stop.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// An address at which connections are accepted.
pub struct Listener {
    socket: TcpListener,
    url: String,
}

impl Listener {
    /// Connections to `address` (HOST:PORT) wait from now on until they are served.
    ///
    /// # Errors
    /// [`Error::Listen`].
    pub fn bind(address: &str) -> Result<Self> {
        let refused = |e: std::io::Error| Error::Listen { address: address.to_owned(), reason: e.to_string() };
        let socket = TcpListener::bind(address).map_err(refused)?;
        socket.set_nonblocking(true).map_err(refused)?;
        let url = format!("http://{}", socket.local_addr().map_err(refused)?);
        Ok(Self { socket, url })
    }

    /// Its address, `http://HOST:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A connection, if one waits. What fails for a moment, such as too many open files, is tried again later.
    fn accept(&self) -> Option<TcpStream> {
        match self.socket.accept() {
            Ok((stream, _)) => Some(stream),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => None,
            Err(error) => {
                info!(%error, "a connection cannot be accepted");
                None
            }
        }
    }
}

/// Offers `model` until `stop` is set. It works on one request at a time, and after `stop` on no other.
pub fn serve(model: &dyn ServedModel, listener: &Listener, stop: &AtomicBool) {
    let server = Server { model, turn: Mutex::new(()), stop, open: AtomicUsize::new(0) };
    thread::scope(|scope| {
        while !stop.load(Ordering::Relaxed) {
            let has_room = server.open.load(Ordering::Relaxed) < CONNECTIONS;
            let Some(stream) = has_room.then(|| listener.accept()).flatten() else {
                thread::sleep(POLL_INTERVAL);
                continue;
            };
            server.open.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = thread::Builder::new().spawn_scoped(scope, || server.connection(stream)) {
                server.open.fetch_sub(1, Ordering::Relaxed);
                info!(%error, "a connection cannot be served");
            }
        }
    });
}

/// What all connections share.
struct Server<'a> {
    model: &'a dyn ServedModel,
    /// Held while the model works.
    turn: Mutex<()>,
    stop: &'a AtomicBool,
    /// Number of connections.
    open: AtomicUsize,
}

/// The slot of a connection among those that are served, which is free again when it ends in whatever way.
struct ConnectionSlot<'a>(&'a AtomicUsize);

impl Drop for ConnectionSlot<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Server<'_> {
    /// Answers the requests of one connection.
    fn connection(&self, stream: TcpStream) {
        let _slot = ConnectionSlot(&self.open);
        if let Err(error) = self.requests(stream) {
            info!(%error, "a connection ended early");
        }
    }

    fn requests(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut connection = Connection::new(stream, self.stop)?;
        while let Some(request) = connection.next()? {
            match request {
                Ok(request) => {
                    let (status, body) = self.response(&request);
                    connection.respond(&request, status, &body)?;
                    if !request.keeps_alive {
                        break;
                    }
                }
                // Where the next request would begin is unknown.
                Err((status, message)) => return connection.refuse(status, &refusal(status, &message)),
            }
        }
        Ok(())
    }

    /// Status and body of the answer to one request.
    fn response(&self, request: &Request) -> (u16, String) {
        let start = Instant::now();
        // A device that fails panics; the server goes on, and says so.
        let answered = catch_unwind(AssertUnwindSafe(|| answer(request, self.model, &self.turn, self.stop)));
        let (status, body) = match answered {
            Ok(Ok(body)) => (200, body),
            Ok(Err((status, message))) => (status, refusal(status, &message)),
            Err(_) => (500, refusal(500, "the model failed; the server's standard error says why")),
        };
        let Request { method, path, .. } = request;
        info!(method, path, status, seconds = start.elapsed().as_secs_f64(), "answered");
        (status, body)
    }
}

/// An error in the interface's form.
fn refusal(status: u16, message: &str) -> String {
    let kind = if status < 500 { "BadRequestError" } else { "InternalServerError" };
    json!({"error": {"message": message, "type": kind, "param": Value::Null, "code": status}}).to_string()
}
