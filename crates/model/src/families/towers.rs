//! Files of models with several modalities, whose language model is what is read.

/// What names of the language model's tensors begin with, in place of `model.`.
const OF_TEXT: [&str; 2] = ["language_model.model.", "model.language_model."];
/// What names of tensors for images and sounds begin with, with or without `model.` before it.
const OF_OTHERS: [&str; 6] =
    ["vision_tower.", "visual.", "multi_modal_projector.", "embed_vision.", "audio_tower.", "embed_audio."];

/// The name of a tensor in files of the language model alone; `None` for one of another modality.
pub(super) fn name_in_text_model(name: &str) -> Option<String> {
    let of_others = name.strip_prefix("model.").unwrap_or(name);
    match OF_TEXT.iter().find_map(|prefix| name.strip_prefix(prefix)) {
        Some(part) => Some(format!("model.{part}")),
        None if OF_OTHERS.iter().any(|prefix| of_others.starts_with(prefix)) => None,
        None => Some(name.strip_prefix("language_model.").unwrap_or(name).to_owned()),
    }
}
