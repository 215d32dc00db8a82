//! A hub on this machine, which serves one model.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What a hub does; shared with the thread that serves.
#[derive(Default)]
pub struct State {
    /// The files of the model, by name.
    pub files: BTreeMap<String, Vec<u8>>,
    /// The path of every request.
    pub asked: Vec<String>,
    /// The token without which nothing is served.
    pub token: Option<String>,
    /// The hash that is said of model.safetensors.
    pub hash: Option<String>,
    /// The `Range` of every request that had one.
    pub ranges: Vec<String>,
    /// A file of which only half is sent, once.
    pub cut_off: Option<String>,
    /// The status and the number of the next answers to requests whose path ends so, with `Retry-After: 0`.
    pub busy: Option<(String, u16, usize)>,
    /// A file that is listed but not served.
    pub gone: Option<String>,
}

pub struct Hub {
    pub address: String,
    pub state: Arc<Mutex<State>>,
}

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

impl Hub {
    /// Serves `org/model`, whose branch main is at [`COMMIT`].
    pub fn serve(files: &[(&str, &[u8])]) -> Self {
        let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
        let state = Arc::new(Mutex::new(State { files, ..State::default() }));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                answer(stream.unwrap(), &shared);
            }
        });
        Self { address, state }
    }

    pub fn asked(&self) -> usize {
        self.state.lock().unwrap().asked.len()
    }
}

/// Answers one request and closes the connection.
fn answer(mut stream: TcpStream, state: &Mutex<State>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
    let Some(first) = lines.next() else { return };
    let path = first.split(' ').nth(1).unwrap().to_owned();
    let headers: HashMap<String, String> = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned())))
        .collect();
    let mut state = state.lock().unwrap();
    state.asked.push(path.clone());
    state.ranges.extend(headers.get("range").cloned());
    let wanted = state.token.as_ref().map(|token| format!("Bearer {token}"));
    let busy = state.busy.as_mut().filter(|(end, _, left)| path.ends_with(end.as_str()) && *left > 0);
    let busy = busy.map(|(_, status, left)| (*left -= 1, *status).1);
    let (status, more, body) = if let Some(status) = busy {
        let status = if status == 429 { "429 Too Many Requests" } else { "503 Service Unavailable" };
        (status, "Retry-After: 0\r\n".to_owned(), Vec::new())
    } else if wanted.is_some() && headers.get("authorization") != wanted.as_ref() {
        ("401 Unauthorized", String::new(), Vec::new())
    } else if ["main", COMMIT].iter().any(|at| path == format!("/api/models/org/model/revision/{at}?blobs=true")) {
        let lfs = |name: &str| match state.hash.as_ref().filter(|_| name == "model.safetensors") {
            Some(hash) => format!("{{\"sha256\": \"{hash}\"}}"),
            None => "null".to_owned(),
        };
        let listed = |(name, file): (&String, &Vec<u8>)| {
            format!("{{\"rfilename\": \"{name}\", \"size\": {}, \"lfs\": {}}}", file.len(), lfs(name))
        };
        let names: Vec<String> = state.files.iter().map(listed).collect();
        let body = format!("{{\"sha\": \"{COMMIT}\", \"siblings\": [{}]}}", names.join(","));
        ("200 OK", String::new(), body.into_bytes())
    } else {
        let name = path.strip_prefix(&format!("/org/model/resolve/{COMMIT}/")).unwrap_or_default();
        match state.files.get(name).filter(|_| state.gone.as_deref() != Some(name)) {
            Some(file) => part(file, headers.get("range")),
            None => ("404 Not Found", String::new(), Vec::new()),
        }
    };
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{more}\r\n", body.len()).unwrap();
    let is_cut = body.len() > 1 && state.cut_off.as_ref().is_some_and(|name| path.ends_with(name.as_str()));
    let sent = if is_cut { body.len() / 2 } else { body.len() };
    if is_cut {
        state.cut_off = None;
    }
    // The client may have closed the connection already.
    let _ = stream.write_all(&body[..sent]);
}

/// The part of a file that a request asks for.
fn part(file: &[u8], range: Option<&String>) -> (&'static str, String, Vec<u8>) {
    let Some(range) = range else { return ("200 OK", String::new(), file.to_vec()) };
    let start: usize = range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap();
    let more = format!("Content-Range: bytes {start}-{}/{}\r\n", file.len() - 1, file.len());
    ("206 Partial Content", more, file[start..].to_vec())
}
