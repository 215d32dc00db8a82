//! `logitcask serve`.

use crate::args::ServeArgs;
use crate::devices;
use crate::models;
use crate::output::{note, say};
use crate::recipe::TeacherConfig;
use crate::stop;
use crate::tokenizers;
use anyhow::Result;
use logitcask_core::Fingerprint;
use logitcask_data::TextTokenizer;
use logitcask_remote::{Listener, PromptLogProbs, ServedModel, serve};
use logitcask_teach::LocalTeacher;
use logitcask_teach::prompt_log_probs::prompt_log_probs;

/// Offers a model until the program is stopped.
pub fn run(args: &ServeArgs) -> Result<()> {
    // Before the model is loaded, which may take long.
    let listener = Listener::bind(&args.listen)?;
    let files = models::open(&args.model)?;
    let (tokenizer, fingerprint) = (tokenizers::of_model(&files)?, files.fingerprint()?);
    let (name, max_length) = (files.name(), files.config().max_position_embeddings());
    let (device, device_name) = devices::open(args.device)?;
    let teacher = LocalTeacher::new(files.for_texts_of(max_length).load(&device, args.precision)?);
    let batch_tokens = TeacherConfig::of(args.model.clone()).batch_tokens;
    let offered = Offered { name, fingerprint, tokenizer, teacher, max_length, batch_tokens };
    let stop = stop::flag("stopping once the request that is computed is answered");
    note!("{} in {} on {device_name}; Ctrl-C ends it", offered.name, args.precision);
    say!("{}", listener.url());
    serve(&offered, &listener, stop);
    Ok(())
}

/// A model that is offered.
struct Offered {
    name: String,
    fingerprint: Fingerprint,
    tokenizer: TextTokenizer,
    teacher: LocalTeacher,
    max_length: usize,
    batch_tokens: usize,
}

impl ServedModel for Offered {
    fn name(&self) -> &str {
        &self.name
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.to_string()
    }

    fn vocab_size(&self) -> u32 {
        self.tokenizer.vocab_size()
    }

    fn max_length(&self) -> usize {
        self.max_length
    }

    fn encode(&self, text: &str, with_start: bool) -> Result<Vec<u32>, String> {
        let start = self.tokenizer.bos().filter(|_| with_start);
        let tokens = self.tokenizer.encode(text).map_err(|e| e.to_string())?;
        Ok(start.into_iter().chain(tokens).collect())
    }

    fn decode(&self, tokens: &[u32]) -> String {
        self.tokenizer.decode_verbatim(tokens).unwrap_or_default()
    }

    fn log_probs(&self, prompts: &[Vec<u32>], k: u32, generates: bool) -> Result<Vec<PromptLogProbs>, String> {
        let classes = self.vocab_size() as usize;
        // The last token of a prompt has a position of its own only before another token, whichever that is.
        let next = if generates { &[0][..] } else { &[] };
        let lists: Vec<Vec<u32>> = prompts.iter().map(|prompt| [prompt, next].concat()).collect();
        prompt_log_probs(&self.teacher, &lists, k, classes, self.batch_tokens).map_err(|e| e.to_string())
    }
}
