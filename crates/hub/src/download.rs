//! Requests to a hub, and files that are fetched whole or not at all.

use crate::{HubName, Settings};
use ring::digest::{Context, SHA256};
use serde::Deserialize;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;
use ureq::config::RedirectAuthHeaders;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

/// Further attempts after a connection broke, each of which goes on where the last one ended.
const RETRIES: u32 = 3;
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
    /// The hub answered with this status.
    Status(u16),
    /// Anything else, in words.
    Other(String),
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
            .user_agent(concat!("logitcask/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: config.into(), endpoint: settings.endpoint.clone(), token: settings.token() }
    }

    /// The files of a model at a revision.
    pub fn list(&self, name: &HubName, revision: &str) -> Result<Listing, Failure> {
        let revision = revision.replace('/', "%2F");
        let mut answer = self.get(&format!("api/models/{}/revision/{revision}?blobs=true", name.id()), 0)?;
        let body = answer.body_mut().with_config().limit(LIST_LIMIT).read_to_vec()?;
        let problem = |e| Failure::Other(format!("its list of files cannot be read: {e}"));
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
        let mut attempts = 0;
        while let Err(failure) = self.append(&place, file.size, partial) {
            attempts += 1;
            if matches!(failure, Failure::Status(_)) || attempts > RETRIES {
                return Err(failure);
            }
        }
        if let Err(problem) = check(partial, file) {
            // Going on with it would fail again.
            fs::remove_file(partial)?;
            return Err(Failure::Other(problem));
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        Ok(fs::rename(partial, path)?)
    }

    /// Appends the bytes that `partial` lacks of `size`.
    fn append(&self, place: &str, size: u64, partial: &Path) -> Result<(), Failure> {
        let mut out = OpenOptions::new().create(true).append(true).open(partial)?;
        let mut have = out.metadata()?.len();
        if have > size {
            out.set_len(0)?;
            have = 0;
        }
        if have == size {
            return Ok(());
        }
        let mut answer = self.get(place, have)?;
        if have > 0 && answer.status() != StatusCode::PARTIAL_CONTENT {
            // It sends the whole file.
            out.set_len(0)?;
            have = 0;
        }
        let wanted = size - have;
        let written = io::copy(&mut answer.body_mut().as_reader().take(wanted), &mut out)?;
        out.flush()?;
        out.sync_all()?;
        match written == wanted {
            true => Ok(()),
            false => Err(Failure::Other(format!("the connection ended after {written} of {wanted} bytes"))),
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
        Ok(request.call()?)
    }
}

/// Compares a file with what the hub says of it.
fn check(path: &Path, file: &Listed) -> Result<(), String> {
    let Some(lfs) = &file.lfs else { return Ok(()) };
    let found = sha256(path).map_err(|e| format!("{}: {e}", path.display()))?;
    match found == lfs.sha256.to_lowercase() {
        true => Ok(()),
        false => Err(format!("{} arrived with the hash {found}, expected {}", file.name, lfs.sha256)),
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
        match error {
            ureq::Error::StatusCode(status) => Self::Status(status),
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Other(error.to_string())
    }
}
