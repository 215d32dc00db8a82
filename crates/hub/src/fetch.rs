//! Fetching of the files of a model that this project reads, into the cache.

use crate::cache::{self, CONFIG, INDEX, TOKENIZER, WEIGHTS};
use crate::download::{Client, Failure, Listed, Listing};
use crate::name::is_commit;
use crate::{Error, HubName, OnFile, Result, Settings, Snapshot};
use logitcask_files::LockFile;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;
use tracing::info;

/// Files beside the weights, as far as a model has them.
const SMALL: [&str; 8] = [
    CONFIG,
    "generation_config.json",
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
];
const TEMPLATES: &str = "additional_chat_templates/";
/// The folder of files that are being fetched, beside the snapshots.
const PARTIAL: &str = ".partial";

/// Fetches what is missing of the model, at `commit` or else at the revision that its name says.
pub(crate) fn fetch(
    name: &HubName,
    commit: Option<&str>,
    settings: &Settings,
    on_file: OnFile<'_>,
) -> Result<Snapshot> {
    let refuse =
        |problem: String| Error::Fetch { name: name.to_string(), endpoint: settings.endpoint.clone(), problem };
    let start = Instant::now();
    let client = Client::new(settings);
    let failed = |failure: Failure| refuse(explain(failure, name));
    let listing = client.list(name, commit.unwrap_or(name.revision())).map_err(failed)?;
    if !is_commit(&listing.sha) {
        return Err(refuse(format!("it answered with the commit `{}`, which is none", listing.sha)));
    }
    check(&listing).map_err(&refuse)?;
    let snapshot = Snapshot {
        name: name.clone(),
        folder: cache::snapshot_folder(name, &listing.sha, settings),
        commit: listing.sha.clone(),
    };
    let model = settings.cache.join(name.folder());
    let partial = model.join(PARTIAL);
    let io = |path: &PathBuf| {
        let path = path.clone();
        move |reason| Error::Io { path, reason }
    };
    for folder in [&snapshot.folder, &partial] {
        fs::create_dir_all(folder).map_err(io(folder))?;
    }
    let Some(_alone) = LockFile::try_hold(&partial.join("lock")).map_err(io(&partial))? else {
        return Err(refuse("another process is fetching it; start again when that has ended".to_owned()));
    };
    let mut fetching = Fetching { client, listing, snapshot, partial, on_file };
    fetching.all().map_err(|stopped| match stopped {
        Stopped::Failure(failure) => failed(failure),
        Stopped::Problem(problem) => refuse(problem),
    })?;
    let Fetching { snapshot, .. } = fetching;
    if !is_commit(name.revision()) {
        // Last: a model whose fetching was stopped has no reference, and is completed at the next attempt.
        let path = cache::reference(name, settings);
        path.parent().map_or(Ok(()), fs::create_dir_all).map_err(io(&path))?;
        logitcask_files::replace(&path, |file| file.write_all(snapshot.commit.as_bytes())).map_err(io(&path))?;
    }
    info!(%name, commit = snapshot.commit, seconds = start.elapsed().as_secs_f64(), "model fetched");
    Ok(snapshot)
}

/// Rejects a model that could not be opened before anything is fetched.
fn check(listing: &Listing) -> std::result::Result<(), String> {
    let has = |name: &str| listing.siblings.iter().any(|file| file.name == name);
    if has("adapter_config.json") {
        return Err("it holds an adapter (adapter_config.json); merge it into its model first (peft's \
                    `merge_and_unload`, then `save_pretrained`)"
            .to_owned());
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
    SMALL.contains(&file) || template.is_some_and(|name| !name.contains(['/', '\\']) && !name.starts_with('.'))
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
    Failure(Failure),
    Problem(String),
}

impl Fetching<'_> {
    /// Fetches all that is needed, the weights last.
    fn all(&mut self) -> std::result::Result<(), Stopped> {
        let names: Vec<String> = self.listing.siblings.iter().map(|file| file.name.clone()).collect();
        for file in names.iter().filter(|file| is_small(file)) {
            self.file(file)?;
        }
        if !names.iter().any(|file| file == INDEX) {
            return self.file(WEIGHTS);
        }
        self.file(INDEX)?;
        let index = fs::read(self.snapshot.folder.join(INDEX)).map_err(|e| Stopped::Failure(e.into()))?;
        let shards = cache::shards(&index);
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
        // A link to nothing, which an incomplete download of another tool left.
        if path.symlink_metadata().is_ok() {
            fs::remove_file(&path).map_err(|e| Stopped::Failure(e.into()))?;
        }
        let partial = partial.join(format!("{}-{}", snapshot.commit, name.replace('/', "-")));
        client.fetch(&snapshot.name, &snapshot.commit, file, (&partial, &path)).map_err(Stopped::Failure)
    }
}

/// The problem in the user's words.
fn explain(failure: Failure, name: &HubName) -> String {
    match failure {
        Failure::Status(401 | 403) => format!(
            "it does not exist, or not for everybody; check the name, accept the conditions on its page if there are \
             any, and set HF_TOKEN to a token of an account that may read {}",
            name.id()
        ),
        Failure::Status(404) => format!("it has no model {} with a revision `{}`", name.id(), name.revision()),
        Failure::Status(status) => format!("it answered with the status {status}; try again later"),
        Failure::Other(problem) => format!("{problem}; if there is no network, fetch it elsewhere and copy the folder"),
    }
}
