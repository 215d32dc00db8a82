//! Fetching of the files of a model that this project reads, into the cache.

use crate::cache::{self, CONFIG, INDEX, SMALL, WEIGHTS};
use crate::download::{Client, Failure, Listed, Listing};
use crate::name::is_commit;
use crate::{Check, Error, HubName, OnFile, Result, Settings, Snapshot};
use logitcask_files::LockFile;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tracing::info;

const TEMPLATES: &str = "additional_chat_templates/";
/// The folder of files that are being fetched, beside the snapshots.
const PARTIAL: &str = ".partial";

/// Fetches what is missing of the model, at `commit` or else at the revision that its name says.
pub(crate) fn fetch(
    name: &HubName,
    commit: Option<&str>,
    settings: &Settings,
    on_file: OnFile<'_>,
    is_fit: Check<'_>,
) -> Result<Snapshot> {
    let start = Instant::now();
    let refuse = |problem| Stopped::Problem(problem).explained(name, settings);
    let client = Client::new(settings);
    let listing = client.list(name, commit.unwrap_or(name.revision()));
    let listing = listing.map_err(|failure| Stopped::Failure(failure, None).explained(name, settings))?;
    if !is_commit(&listing.sha) {
        return Err(refuse(format!("it answered with the commit `{}`, which is none", listing.sha)));
    }
    check(&listing).map_err(refuse)?;
    let snapshot = Snapshot {
        name: name.clone(),
        folder: cache::snapshot_folder(name, &listing.sha, settings),
        commit: listing.sha.clone(),
        doubt: None,
    };
    let partial = settings.cache.join(name.folder()).join(PARTIAL);
    for folder in [&snapshot.folder, &partial] {
        fs::create_dir_all(folder).map_err(cannot("create it", folder))?;
    }
    let Some(_alone) = LockFile::try_hold(&partial.join("lock")).map_err(cannot("lock it", &partial))? else {
        return Err(refuse("another process is fetching it; start again when that has ended".to_owned()));
    };
    let absent = cache::absent_folder(name, &listing.sha, settings);
    let mut fetching = Fetching { client, listing, snapshot, partial, on_file };
    let all = fetching.small(&absent).and_then(|()| match is_fit(&fetching.snapshot.folder) {
        Ok(()) => fetching.weights(),
        Err(reason) => Err(Stopped::Refused(reason)),
    });
    all.map_err(|stopped| stopped.explained(name, settings))?;
    let Fetching { snapshot, .. } = fetching;
    if commit.is_none() && !is_commit(name.revision()) {
        // Last: a model whose fetching was stopped has no reference, and is completed at the next attempt.
        let path = cache::reference(name, settings);
        path.parent().map_or(Ok(()), fs::create_dir_all).map_err(cannot("create it", &path))?;
        let written = logitcask_files::replace(&path, |file| file.write_all(snapshot.commit.as_bytes()));
        written.map_err(cannot("write it", &path))?;
    }
    info!(%name, commit = snapshot.commit, seconds = start.elapsed().as_secs_f64(), "model fetched");
    Ok(snapshot)
}

fn cannot(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |reason| Error::Io { path, action, reason }
}

/// Rejects a model that could not be opened before anything is fetched.
fn check(listing: &Listing) -> std::result::Result<(), String> {
    let has = |name: &str| listing.siblings.iter().any(|file| file.name == name);
    if has("adapter_config.json") {
        return Err("it holds an adapter (adapter_config.json); merge it into its model first (peft's \
                    `merge_and_unload`, then `save_pretrained`)"
            .to_owned());
    }
    if let Some(quantised) = ["quantize_config.json", "hf_quant_config.json"].into_iter().find(|name| has(name)) {
        return Err(format!(
            "its weights are quantised ({quantised}), and in safetensors this build reads f32, f16 and bf16; take the model \
             that it was made from, or a GGUF file"
        ));
    }
    if !has(CONFIG) {
        return Err(format!("it has no {CONFIG}; name a model for `transformers`"));
    }
    if has(INDEX) || has(WEIGHTS) {
        return Ok(());
    }
    let is_pickle = |name: &&str| name.starts_with("pytorch_model") && name.ends_with(".bin");
    match listing.siblings.iter().map(|file| file.name.as_str()).find(is_pickle) {
        Some(pickle) => Err(format!(
            "its weights are in {pickle}, a pickle, which this build does not read; in Python, \
             `AutoModelForCausalLM.from_pretrained(NAME).save_pretrained(FOLDER)` writes them as safetensors"
        )),
        None => Err(format!("it has neither {WEIGHTS} nor {INDEX}")),
    }
}

fn is_small(file: &str) -> bool {
    let template = file.strip_prefix(TEMPLATES).filter(|name| name.ends_with(".jinja"));
    file == CONFIG
        || SMALL.contains(&file)
        || template.is_some_and(|name| !name.contains(['/', '\\']) && !name.starts_with('.'))
}

/// A model that is being fetched.
struct Fetching<'a> {
    client: Client,
    listing: Listing,
    snapshot: Snapshot,
    partial: PathBuf,
    on_file: OnFile<'a>,
}

/// Why fetching ended early.
enum Stopped {
    /// A request, or the file of this name, failed.
    Failure(Failure, Option<String>),
    /// The model cannot be opened, in words.
    Problem(String),
    /// The check refused it.
    Refused(Box<dyn std::error::Error + Send + Sync>),
}

impl Fetching<'_> {
    /// Fetches all but the weights, and records in `absent` which files the model does not have.
    fn small(&mut self, absent: &Path) -> std::result::Result<(), Stopped> {
        let names: Vec<String> = self.listing.siblings.iter().map(|file| file.name.clone()).collect();
        for file in names.iter().filter(|file| is_small(file)) {
            self.file(file)?;
        }
        let local = |failed: Failure| Stopped::Failure(failed, None);
        fs::create_dir_all(absent).map_err(Failure::local(absent, "create it")).map_err(local)?;
        for file in SMALL.into_iter().filter(|file| !names.iter().any(|name| name == file)) {
            let path = absent.join(file);
            fs::write(&path, b"").map_err(Failure::local(&path, "write it")).map_err(local)?;
        }
        Ok(())
    }

    fn weights(&mut self) -> std::result::Result<(), Stopped> {
        if !self.listing.siblings.iter().any(|file| file.name == INDEX) {
            return self.file(WEIGHTS);
        }
        self.file(INDEX)?;
        let path = self.snapshot.folder.join(INDEX);
        let index = fs::read(&path).map_err(Failure::local(&path, "read it"));
        let shards = cache::shards(&index.map_err(|failed| Stopped::Failure(failed, None))?);
        let shards = shards.ok_or_else(|| Stopped::Problem(format!("its {INDEX} is not an index of weights")))?;
        shards.iter().try_for_each(|shard| self.file(shard))
    }

    /// Fetches a file unless it is there. All files are of one commit, even if another one is pushed meanwhile.
    fn file(&mut self, name: &str) -> std::result::Result<(), Stopped> {
        let Self { client, listing, snapshot, partial, on_file } = self;
        if cache::has(&snapshot.folder, name) {
            return Ok(());
        }
        let listed: Option<&Listed> = listing.siblings.iter().find(|file| file.name == name);
        let file =
            listed.ok_or_else(|| Stopped::Problem(format!("its {INDEX} names {name}, which it does not have")))?;
        on_file(name, file.size);
        let path = snapshot.folder.join(name);
        let failed = |failure| Stopped::Failure(failure, Some(name.to_owned()));
        // A link to nothing, which an incomplete download of another tool left.
        if path.symlink_metadata().is_ok() {
            fs::remove_file(&path).map_err(Failure::local(&path, "remove it")).map_err(failed)?;
        }
        let partial = partial.join(format!("{}-{}", snapshot.commit, name.replace('/', "-")));
        client.fetch(&snapshot.name, &snapshot.commit, file, (&partial, &path)).map_err(failed)
    }
}

impl Stopped {
    fn explained(self, name: &HubName, settings: &Settings) -> Error {
        let problem = match self {
            Self::Failure(failure, file) => match explain(failure, file.as_deref(), name) {
                Ok(problem) => problem,
                Err(error) => return error,
            },
            Self::Problem(problem) => problem,
            Self::Refused(reason) => return Error::Refused { name: name.to_string(), reason },
        };
        Error::Fetch { name: name.to_string(), endpoint: settings.endpoint.clone(), problem }
    }
}

/// The problem in the user's words, or the error of this machine. `file` is the one that was requested; `None` is the
/// list of files.
fn explain(failure: Failure, file: Option<&str>, name: &HubName) -> Result<String> {
    Ok(match (failure, file) {
        (Failure::Local { path, action, reason }, _) => return Err(Error::Io { path, action, reason }),
        (Failure::Status(401 | 403, _), _) => format!(
            "it does not exist, or not for everybody; check the name, accept the conditions on its page if there are \
             any, and set HF_TOKEN to a token of an account that may read {}",
            name.id()
        ),
        (Failure::Status(404, _), None) => {
            format!("it has no model {} with a revision `{}`", name.id(), name.revision())
        }
        (Failure::Status(404, _), Some(file)) => {
            format!(
                "it lists {file}, but answers that there is no such file; try again later, or name another revision"
            )
        }
        (Failure::Status(status, _), _) => format!("it answered with the status {status}; try again later"),
        (Failure::Connection(problem), _) => {
            format!("{problem}; if there is no network, fetch it elsewhere and copy the folder")
        }
        (Failure::Content(problem), _) => format!("{problem}; try again later"),
    })
}
