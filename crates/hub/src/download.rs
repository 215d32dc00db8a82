//! Requests to a hub, and files that are fetched whole or not at all.

use crate::{HubName, Settings};
use ring::digest::{Context, SHA256};
use serde::Deserialize;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;
use tracing::info;
use ureq::config::RedirectAuthHeaders;
use ureq::http::{Response, StatusCode, header};
use ureq::{Agent, Body};

/// Further attempts after a connection broke or the hub was busy, each of which goes on where the last one ended.
const RETRIES: u32 = 3;
/// Longest wait before an attempt, whatever a busy hub asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Longest wait for a connection, and for the next bytes.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Largest list of a model's files.
const LIST_LIMIT: u64 = 64 << 20;
const PART_BYTES: usize = 1 << 20;

/// A commit of a model as the hub lists it.
#[derive(Debug, Deserialize)]
pub(crate) struct Listing {
    /// The commit.
    pub sha: String,
    /// Its files.
    pub siblings: Vec<Listed>,
}

/// A file as the hub lists it.
#[derive(Debug, Deserialize)]
pub(crate) struct Listed {
    /// Its name, with `/` between folders.
    #[serde(rename = "rfilename")]
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// What the hub knows of large files.
    pub lfs: Option<Lfs>,
}

/// A large file as the hub lists it.
#[derive(Debug, Deserialize)]
pub(crate) struct Lfs {
    /// The SHA-256 of its bytes, in hexadecimal digits.
    pub sha256: String,
}

/// Why a request failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The hub answered with this status, perhaps with the time after which to ask again.
    Status(u16, Option<Duration>),
    /// There is no connection, or it broke.
    Connection(String),
    /// What arrived is not what the hub promised.
    Content(String),
    /// A file of this machine cannot be read or written.
    Local {
        /// The file or folder.
        path: PathBuf,
        /// The operation that failed.
        action: &'static str,
        /// The operating system's error.
        reason: io::Error,
    },
}

impl Failure {
    /// A failure of this machine, which no further attempt mends.
    pub(crate) fn local(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |reason| Self::Local { path, action, reason }
    }

    /// Whether the hub may answer if it is asked again.
    fn is_busy(&self) -> bool {
        matches!(self, Self::Status(429 | 500 | 502 | 503 | 504, _))
    }

    fn is_busy_or_broken(&self) -> bool {
        self.is_busy() || matches!(self, Self::Connection(_))
    }

    /// How long to wait before attempt number `attempt`, from 0.
    fn wait(&self, attempt: u32) -> Duration {
        match self {
            Self::Status(_, after) => after.unwrap_or(Duration::from_secs(1 << attempt)).min(LONGEST_WAIT),
            _ => Duration::ZERO,
        }
    }
}

/// Makes up to [`RETRIES`] further attempts after failures that are `passing`.
fn again<T>(passing: fn(&Failure) -> bool, mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    for retry in 0..RETRIES {
        match attempt() {
            Err(failure) if passing(&failure) => {
                let wait = failure.wait(retry);
                info!(?failure, seconds = wait.as_secs_f64(), "the hub is asked again");
                thread::sleep(wait);
            }
            done => return done,
        }
    }
    attempt()
}

/// A connection to a hub.
pub(crate) struct Client {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
}

impl Client {
    pub fn new(settings: &Settings) -> Self {
        let config = Agent::config_builder()
            .timeout_connect(Some(TIMEOUT))
            .timeout_recv_response(Some(TIMEOUT))
            .timeout_per_read(Some(TIMEOUT))
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .http_status_as_error(false)
            .user_agent(concat!("logitcask/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: config.into(), endpoint: settings.endpoint.clone(), token: settings.token() }
    }

    /// The files of a model at a revision.
    pub fn list(&self, name: &HubName, revision: &str) -> Result<Listing, Failure> {
        let revision = revision.replace('/', "%2F");
        let place = format!("api/models/{}/revision/{revision}?blobs=true", name.id());
        let mut answer = again(Failure::is_busy, || self.get(&place, 0))?;
        let body = answer.body_mut().with_config().limit(LIST_LIMIT).read_to_vec()?;
        let problem = |e| Failure::Content(format!("its list of files cannot be read: {e}"));
        serde_json::from_slice(&body).map_err(problem)
    }

    /// Fetches a file of a commit to `path`, by way of `partial`, in which an earlier attempt may have left its
    /// beginning.
    pub fn fetch(
        &self,
        name: &HubName,
        commit: &str,
        file: &Listed,
        (partial, path): (&Path, &Path),
    ) -> Result<(), Failure> {
        let place = format!("{}/resolve/{commit}/{}", name.id(), file.name);
        again(Failure::is_busy_or_broken, || self.append(&place, file.size, partial))?;
        if let Err(problem) = check(partial, file) {
            // Going on with it would fail again.
            fs::remove_file(partial).map_err(Failure::local(partial, "remove it"))?;
            return Err(problem);
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(Failure::local(folder, "create it"))?;
        }
        fs::rename(partial, path).map_err(Failure::local(path, "create it"))
    }

    /// Appends the bytes that `partial` lacks of `size`.
    fn append(&self, place: &str, size: u64, partial: &Path) -> Result<(), Failure> {
        let local = || Failure::local(partial, "write it");
        let mut out = OpenOptions::new().create(true).append(true).open(partial).map_err(local())?;
        let mut have = out.metadata().map_err(local())?.len();
        if have > size {
            out.set_len(0).map_err(local())?;
            have = 0;
        }
        if have == size {
            return Ok(());
        }
        let mut answer = self.get(place, have)?;
        if have > 0 && answer.status() != StatusCode::PARTIAL_CONTENT {
            // It sends the whole file.
            out.set_len(0).map_err(local())?;
            have = 0;
        }
        let wanted = size - have;
        let (mut body, mut part, mut written) = (answer.body_mut().as_reader().take(wanted), vec![0; PART_BYTES], 0);
        // Not `io::copy`, whose errors do not say which of both sides failed.
        loop {
            match body.read(&mut part) {
                Ok(0) => break,
                Ok(n) => out.write_all(&part[..n]).map(|()| written += n as u64).map_err(local())?,
                Err(reason) if reason.kind() == ErrorKind::Interrupted => {}
                Err(reason) => return Err(Failure::Connection(reason.to_string())),
            }
        }
        out.sync_all().map_err(local())?;
        match written == wanted {
            true => Ok(()),
            false => Err(Failure::Connection(format!("the connection ended after {written} of {wanted} bytes"))),
        }
    }

    /// Requests the bytes from `start` on.
    fn get(&self, place: &str, start: u64) -> Result<Response<Body>, Failure> {
        let mut request = self.agent.get(format!("{}/{place}", self.endpoint));
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if start > 0 {
            request = request.header("Range", format!("bytes={start}-"));
        }
        let answer = request.call()?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let after = answer.headers().get(header::RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
        Err(Failure::Status(answer.status().as_u16(), after.map(Duration::from_secs)))
    }
}

/// Compares a file with what the hub says of it.
fn check(path: &Path, file: &Listed) -> Result<(), Failure> {
    let Some(lfs) = &file.lfs else { return Ok(()) };
    let found = sha256(path).map_err(Failure::local(path, "read it"))?;
    match found == lfs.sha256.to_lowercase() {
        true => Ok(()),
        false => Err(Failure::Content(format!("{} arrived with the hash {found}, expected {}", file.name, lfs.sha256))),
    }
}

/// The SHA-256 of a file in hexadecimal digits.
fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let (mut context, mut part) = (Context::new(&SHA256), vec![0; PART_BYTES]);
    loop {
        match file.read(&mut part)? {
            0 => break,
            n => context.update(&part[..n]),
        }
    }
    Ok(context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

impl From<ureq::Error> for Failure {
    fn from(error: ureq::Error) -> Self {
        Self::Connection(error.to_string())
    }
}
