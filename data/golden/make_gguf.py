"""Writes gguf/: GGUF files of checkpoints that lie beside it, and blocks with their values, by the package `gguf`.

    python data/golden/make_gguf.py

Needs `gguf`, `numpy` and `safetensors`. It is deterministic: a second run must leave no difference.
"""

import json
import pathlib
import shutil

import gguf
import numpy as np

GOLDEN = pathlib.Path(__file__).parent
OUT = GOLDEN / "gguf"
TYPES = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]
# Bytes that hold a scale or a minimum in half precision, which must be a finite number.
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}
DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}


def blocks():
    """Random blocks of every type that is read, and their values."""
    random = np.random.default_rng(20261127)
    cases = {}
    for name in TYPES:
        kind = gguf.GGMLQuantizationType[name]
        size = gguf.GGML_QUANT_SIZES[kind][1]
        if name in HALVES:
            bytes_ = random.integers(0, 256, (3, size), dtype=np.uint8)
            for at in HALVES[name]:
                bytes_[:, at : at + 2] = random.normal(0, 0.02, (3, 1)).astype(np.float16).view(np.uint8)
        else:
            bytes_ = gguf.quantize(random.normal(0, 1, (3, 8)).astype(np.float32), kind).view(np.uint8)
        values = gguf.dequantize(bytes_.reshape(3, -1), kind).astype(np.float32)
        cases[name] = {"bytes": bytes_.reshape(-1).tolist(), "bits": values.reshape(-1).view(np.uint32).tolist()}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(case, separators=(',', ':'))}" for name, case in cases.items())
    (OUT / "blocks.json").write_text("{" + lines + "}\n")


def tensors(folder):
    """Every tensor of a checkpoint with the name of its dtype; bfloat16 as its bits."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        for name, info in json.loads(data[8 : 8 + length]).items():
            if name != "__metadata__":
                start, end = (8 + length + at for at in info["data_offsets"])
                array = np.frombuffer(data[start:end], DTYPES[info["dtype"]]).reshape(info["shape"])
                found[name] = (info["dtype"], array)
    return found


def permuted(array, heads):
    """The order of rows in llama.cpp's files of the architecture llama: neighbours are rotated together."""
    return array.reshape(heads, 2, array.shape[0] // heads // 2, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)


def writer(path, arch, config):
    out = gguf.GGUFWriter(path, arch)
    heads = config["num_attention_heads"]
    out.add_context_length(config["max_position_embeddings"])
    out.add_embedding_length(config["hidden_size"])
    out.add_block_count(config["num_hidden_layers"])
    out.add_feed_forward_length(config["intermediate_size"])
    out.add_head_count(heads)
    out.add_head_count_kv(config["num_key_value_heads"])
    out.add_layer_norm_rms_eps(config["rms_norm_eps"])
    out.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    head_dim = config.get("head_dim", config["hidden_size"] // heads)
    if head_dim * heads != config["hidden_size"]:
        out.add_key_length(head_dim)
        out.add_value_length(head_dim)
    return out


def close(out):
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def llama3_divisors(theta, head_dim, factor):
    """What llama.cpp's converter writes for the rotary scaling of Llama 3: original length 8192, 1 and 4 turns."""
    divisors = []
    for speed in theta ** (-np.arange(0, head_dim, 2, dtype=np.float32) / head_dim):
        length = 2 * np.pi / speed
        if length < 8192 / 4:
            divisors.append(1)
        elif length > 8192:
            divisors.append(factor)
        else:
            smooth = (8192 / length - 1) / (4 - 1)
            divisors.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(divisors, dtype=np.float32)


def model(name, folder, quantised=False, scaled=None):
    """A checkpoint as GGUF; if quantised, also as a folder with the values that its blocks have; if scaled, with another
    base of the rotary embedding and its scaling by this factor."""
    folder = GOLDEN / folder
    config = json.loads((folder / "config.json").read_text())
    if scaled:
        config["rope_parameters"]["rope_theta"] = 500000.0
    arch = config["model_type"]
    out = writer(OUT / f"{name}.gguf", arch, config)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[arch.upper()], config["num_hidden_layers"])
    kinds = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "F16"]
    dequantised = {}
    for i, (theirs, (dtype, array)) in enumerate(sorted(tensors(folder).items())):
        stem, suffix = theirs.rsplit(".", 1)
        own = f"{names.get_name(stem)}.{suffix}"
        heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}.get(stem.rsplit(".", 1)[-1])
        if arch == "llama" and heads:
            array = permuted(array, config[heads])
        kind = gguf.GGMLQuantizationType[kinds[i % len(kinds)] if quantised and array.ndim > 1 else dtype]
        data = gguf.quantize(array, kind) if quantised else array
        out.add_tensor(own, data, raw_dtype=kind)
        if quantised:
            values = gguf.dequantize(data, kind).reshape(array.shape)
            if heads:
                # The other way round.
                values = values.reshape(config[heads], -1, 2, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)
            dequantised[theirs] = np.ascontiguousarray(values.astype(np.float16 if kind.name == "F16" else np.float32))
    if scaled:
        out.add_tensor("rope_freqs.weight", llama3_divisors(500000.0, config["head_dim"], scaled))
    close(out)
    if quantised:
        from safetensors.numpy import save_file

        (OUT / name).mkdir(exist_ok=True)
        save_file(dequantised, OUT / name / "model.safetensors")
        shutil.copy(folder / "config.json", OUT / name / "config.json")


def tokenizer(name, model, pre, bos, eos):
    """A tokenizer of tokenizers/ as GGUF metadata, with two unused tokens at the end."""
    folder = GOLDEN / "tokenizers" / name
    file = json.loads((folder / "tokenizer.json").read_text())
    added = {token["id"]: token for token in file["added_tokens"]}
    texts = {id_: token for token, id_ in file["model"]["vocab"].items()} | {id_: t["content"] for id_, t in added.items()}
    count = len(texts)
    tokens = [texts[id_] for id_ in range(count)] + [f"[PAD{count + i}]" for i in range(2)]
    kind = gguf.TokenType
    kinds = [
        kind.UNUSED if id_ >= count else kind.BYTE if tokens[id_].startswith("<0x")
        else kind.NORMAL if id_ not in added
        else kind.UNKNOWN if tokens[id_] == "<unk>"
        else kind.CONTROL if added[id_]["special"] else kind.USER_DEFINED
        for id_ in range(len(tokens))
    ]
    out = gguf.GGUFWriter(OUT / f"tokenizer-{name}.gguf", "llama")
    out.add_tokenizer_model(model)
    out.add_tokenizer_pre(pre)
    out.add_token_list(tokens)
    out.add_token_types(kinds)
    merges = file["model"]["merges"]
    if model == "gpt2":
        out.add_token_merges([" ".join(merge) for merge in merges])
    else:
        # The pieces of the first merges have the highest scores.
        ranks = {}
        for rank, merge in enumerate(merges):
            ranks.setdefault("".join(merge), -float(rank))
        out.add_token_scores([ranks.get(token, -1e6) for token in tokens])
    ids = {token: id_ for id_, token in enumerate(tokens)}
    if bos:
        out.add_bos_token_id(ids[bos])
    out.add_eos_token_id(ids[eos])
    template = folder / "chat_template.jinja"
    if template.exists():
        out.add_chat_template(template.read_text())
    close(out)


OUT.mkdir(exist_ok=True)
blocks()
model("llama-bf16", "llama-tied")
model("llama-bias", "families/llama_bias")
model("llama3", "families/llama_bias", scaled=8.0)
model("qwen2", "families/qwen2")
model("qwen3", "families/qwen3")
model("llama-quantised", "llama-gqa", quantised=True)
tokenizer("llama3", "gpt2", "llama-bpe", "<|begin_of_text|>", "<|eot_id|>")
tokenizer("qwen", "gpt2", "qwen2", None, "<|im_end|>")
tokenizer("llama2", "llama", "default", "<s>", "</s>")
