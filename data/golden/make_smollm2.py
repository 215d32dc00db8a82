"""Writes gguf/smollm2.json: what SmolLM2-135M-Instruct says, from its GGUF file, by numpy in float64.

    make fetch-smollm2
    python data/golden/make_smollm2.py

Needs `gguf`, `numpy` and `regex`. The values of blocks are those of the package `gguf`; the tokenizer and the forward pass
are written out here, with the order of rows and the rotation that llama.cpp uses. It takes a few minutes.
"""

import json
import pathlib

import gguf
import numpy as np
import regex

GOLDEN = pathlib.Path(__file__).parent
FILE = GOLDEN.parent / "models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
TEXTS = [
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a wife.",
    "In 1998 it cost $12,345.67 (don't ask): naïve\n\n  def f(x):\n    return x + 1  # ﬁ 你好",
]
PROMPTS = ["The capital of France is", "def fibonacci(n):", "Once upon a time"]
NEW = 12

reader = gguf.GGUFReader(FILE)
field = {name: value.contents() for name, value in reader.fields.items()}
tensors = {t.name: gguf.dequantize(t.data, t.tensor_type).astype(np.float64) for t in reader.tensors}
tokens = field["tokenizer.ggml.tokens"]
ids_of = {token: id_ for id_, token in enumerate(tokens)}
ranks = {tuple(merge.split(" ")): rank for rank, merge in enumerate(field["tokenizer.ggml.merges"])}

# GPT-2's characters for bytes.
itself = [*range(33, 127), *range(161, 173), *range(174, 256)]
others = [byte for byte in range(256) if byte not in itself]
character = {byte: chr(byte) for byte in itself} | {byte: chr(256 + i) for i, byte in enumerate(others)}
byte_of = {c: byte for byte, c in character.items()}
WORDS = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")


def encode(text):
    ids = []
    for part in regex.findall(r"\p{N}|\P{N}+", text):
        for word in WORDS.findall(part):
            pieces = [character[byte] for byte in word.encode()]
            while True:
                pairs = [(ranks.get(pair, len(ranks)), i) for i, pair in enumerate(zip(pieces, pieces[1:]))]
                if not pairs or min(pairs)[0] == len(ranks):
                    break
                at = min(pairs)[1]
                pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
            ids += [ids_of[piece] for piece in pieces]
    return ids


def decode(ids):
    return bytes(byte_of[c] for id_ in ids for c in tokens[id_]).decode()


def rotated(x, base):
    """x: [positions, heads, width]; neighbours turn together."""
    width = x.shape[-1]
    angles = np.arange(x.shape[0])[:, None] * base ** (-np.arange(0, width, 2) / width)
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    even, odd = x[..., 0::2], x[..., 1::2]
    return np.stack([even * cos - odd * sin, even * sin + odd * cos], -1).reshape(x.shape)


def norm(x, weight):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * weight


def logits(ids):
    heads, of_keys = field["llama.attention.head_count"], field["llama.attention.head_count_kv"]
    n, base = len(ids), field["llama.rope.freq_base"]
    mask = np.triu(np.full((n, n), -np.inf), 1)
    x = tensors["token_embd.weight"][ids]
    for layer in range(field["llama.block_count"]):
        w = lambda name: tensors[f"blk.{layer}.{name}.weight"]
        h = norm(x, w("attn_norm"))
        q = rotated((h @ w("attn_q").T).reshape(n, heads, -1), base)
        k = rotated((h @ w("attn_k").T).reshape(n, of_keys, -1), base).repeat(heads // of_keys, 1)
        v = (h @ w("attn_v").T).reshape(n, of_keys, -1).repeat(heads // of_keys, 1)
        scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(q.shape[-1]) + mask
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        x = x + np.einsum("hij,jhd->ihd", scores, v).reshape(n, -1) @ w("attn_output").T
        h = norm(x, w("ffn_norm"))
        gate = h @ w("ffn_gate").T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ w("ffn_up").T)) @ w("ffn_down").T
    return norm(x, tensors["output_norm.weight"]) @ tensors["token_embd.weight"].T


def log_z(z):
    return np.log(np.exp(z - z.max(-1, keepdims=True)).sum(-1)) + z.max(-1)


sequences, continuations = [], []
for text in TEXTS:
    ids = encode(text)
    z = logits(ids)
    top = np.argsort(-z, -1, kind="stable")[:, :8]
    nll = log_z(z)[:-1] - np.take_along_axis(z, np.array(ids[1:] + [0])[:, None], -1)[:-1, 0]
    sequences.append({
        "text": text, "ids": ids, "log_z": log_z(z).round(6).tolist(), "top_ids": top.tolist(),
        "top_logits": np.take_along_axis(z, top, -1).round(6).tolist(), "nll": nll.round(6).tolist(),
    })
    print(text, nll.mean())
for prompt in PROMPTS:
    ids = encode(prompt)
    start = len(ids)
    while len(ids) < start + NEW:
        z = logits(ids)[-1]
        if int(z.argmax()) == field["tokenizer.ggml.eos_token_id"]:
            break
        ids.append(int(z.argmax()))
    continuations.append({"prompt": prompt, "tokens": len(ids), "continuation": decode(ids[start:])})
    print(continuations[-1])
out = {"sequences": sequences, "continuations": continuations}
(GOLDEN / "gguf/smollm2.json").write_text(json.dumps(out, ensure_ascii=False, separators=(",", ":")) + "\n")
