//! Where a recipe's teacher is: its files, or the server that runs it.

use crate::models;
use crate::recipe::TeacherConfig;
use crate::server_teacher::ServerTeacher;
use crate::tokenizers;
use anyhow::Result;
use logitcask_cache::{ArtifactRef, CODEC_VERSION, Versions};
use logitcask_data::TOKENISATION_VERSION;
use logitcask_data::tokenizer::TextTokenizer;
use logitcask_model::{Companions, PretrainedModel};
use logitcask_select::SELECTION_VERSION;
use logitcask_teach::FORWARD_VERSION;

/// Versions of the steps that turn texts into the bytes of a cache.
pub const VERSIONS: Versions = Versions {
    tokenisation: TOKENISATION_VERSION,
    forward: FORWARD_VERSION,
    selection: SELECTION_VERSION,
    codec: CODEC_VERSION,
};

/// What the plan says of the number format of a teacher on a server.
const OF_SERVER: &str = "server";

/// Where a recipe's teacher is.
pub enum TeacherSource {
    /// A model that runs here.
    Files(Box<PretrainedModel>),
    /// A model on a server.
    Server(Box<ServerTeacher>),
}

impl TeacherSource {
    /// Opens everything but the weights, for texts of up to `max_length` tokens.
    pub fn open(config: &TeacherConfig, max_length: usize) -> Result<Self> {
        match ServerTeacher::open(config)? {
            Some(server) => Ok(Self::Server(Box::new(server))),
            None => Ok(Self::Files(Box::new(models::open(&config.model)?.for_texts_of(max_length)))),
        }
    }

    /// The model's files, if it runs here.
    pub fn files(&self) -> Option<&PretrainedModel> {
        match self {
            Self::Files(files) => Some(files),
            Self::Server(_) => None,
        }
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> Result<TextTokenizer> {
        match self {
            Self::Files(files) => tokenizers::of_model(files),
            Self::Server(server) => server.tokenizer(),
        }
    }

    /// The other files that students inherit.
    pub fn companions(&self) -> Result<Companions> {
        match self {
            Self::Files(files) => Ok(files.companions()?),
            Self::Server(server) => server.companions(),
        }
    }

    /// Name and hash for the plan. Of a model on a server, the hash is that of what the server says about it.
    pub fn pin(&self) -> Result<ArtifactRef> {
        match self {
            Self::Files(files) => Ok(ArtifactRef { name: files.name(), fingerprint: files.fingerprint()? }),
            Self::Server(server) => {
                Ok(ArtifactRef { name: server.model.id.clone(), fingerprint: server.model.fingerprint() })
            }
        }
    }

    /// The versions for the plan.
    pub fn versions(&self) -> Versions {
        match self {
            Self::Files(_) => VERSIONS,
            // Another program computes the logits.
            Self::Server(_) => Versions { forward: 1, ..VERSIONS },
        }
    }

    /// The number format for the plan.
    pub fn precision(&self, config: &TeacherConfig) -> String {
        match self {
            Self::Files(_) => config.precision.to_string(),
            Self::Server(_) => OF_SERVER.to_owned(),
        }
    }

    /// Largest length of a window, if it is known.
    pub fn longest_window(&self) -> Option<usize> {
        match self {
            Self::Files(files) => Some(files.config().max_position_embeddings()),
            Self::Server(server) => server.longest_window(),
        }
    }

    /// Number of classes beyond the `tokens` of the tokenizer, as far as it is known.
    pub fn padding(&self, tokens: u32) -> u32 {
        self.files().map_or(0, |files| (files.config().vocab_size() as u32).saturating_sub(tokens))
    }

    /// Length of the hidden states; 0 if none are given.
    pub fn hidden_size(&self) -> usize {
        self.files().map_or(0, |files| files.config().hidden_size())
    }
}
