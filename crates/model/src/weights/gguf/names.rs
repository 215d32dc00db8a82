//! The names of tensors.

/// Names of a layer's parts in GGUF and in Hugging Face's files.
const OF_A_LAYER: [(&str, &str); 11] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// Hugging Face's name of the tensor with this name in GGUF. A name that is not known stays as it is, so that it is
/// reported as one that the model has no place for.
pub(super) fn in_hugging_face(name: &str) -> String {
    let outside = match name {
        "token_embd.weight" => "model.embed_tokens.weight",
        "output_norm.weight" => "model.norm.weight",
        "output.weight" => "lm_head.weight",
        other => return in_layer(other).unwrap_or_else(|| other.to_owned()),
    };
    outside.to_owned()
}

/// The name of `blk.LAYER.PART.weight` or `.bias`.
fn in_layer(name: &str) -> Option<String> {
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    let (part, kind) = rest.split_once('.').filter(|(_, kind)| ["weight", "bias"].contains(kind))?;
    let (_, theirs) = OF_A_LAYER.iter().find(|(own, _)| *own == part)?;
    Some(format!("model.layers.{}.{theirs}.{kind}", layer.parse::<usize>().ok()?))
}
