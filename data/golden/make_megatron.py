"""Makes imports/megatron/: small folders in the forms in which Megatron-LM saves a teacher's log-probabilities, of random
logits, and what they say (expected.json). Written from descriptions of the forms, not with that program; the payloads are
torch.save's own. Needs torch 2.15, numpy and zstandard.

Usage: python data/golden/make_megatron.py
"""
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import torch
import zstandard

HERE = Path(__file__).parent / "imports/megatron"
rng = np.random.default_rng(20261128)
DTYPES = dict(fp16=torch.float16, bf16=torch.bfloat16, fp32=torch.float32)
NOTHING = 131071  # the id -1 in 17 bits


def log_softmax(z):
    return z - z.max(-1, keepdims=True) - np.log(np.exp(z - z.max(-1, keepdims=True)).sum(-1, keepdims=True))


def teacher(seq, samples, vocab, k, p):
    """Log-probabilities and ids of the k likeliest classes, [seq, samples, k], and which of them top-p keeps."""
    log_probs = log_softmax(rng.normal(0, 3, (seq, samples, vocab)))
    ids = np.argsort(-log_probs, axis=-1, kind="stable")[..., :k]
    values = np.take_along_axis(log_probs, ids, -1)
    probs = np.exp(values)
    kept = np.ones_like(ids, bool) if p is None else np.cumsum(probs, -1) - probs < p
    return values, ids, kept


def microbatch(values, ids, kept, masked):
    """Without the places that no position of the microbatch uses; the unused ones hold `masked` and the id -1."""
    k = kept.sum(-1).max()
    values, ids, kept = (array[..., :k] for array in (values, ids, kept))
    return np.where(kept, values, masked), np.where(kept, ids, NOTHING)


def stack(microbatches, masked):
    """One array of all microbatches, padded to the largest number of places."""
    k = max(values.shape[-1] for values, _ in microbatches)
    pad = lambda array, fill: np.pad(array, [(0, 0), (0, 0), (0, k - array.shape[-1])], constant_values=fill)
    return (np.concatenate([pad(values, masked) for values, _ in microbatches], 1),
            np.concatenate([pad(ids, NOTHING) for _, ids in microbatches], 1))


def saved(payload):
    file = io.BytesIO()
    torch.save(payload, file)
    return zstandard.ZstdCompressor(level=3).compress(file.getvalue())


def write_tar(path, meta, members):
    with tarfile.open(path, "w") as tar:
        for name, data in [("_meta.json", json.dumps(meta, separators=(",", ":")).encode()), *members]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def low(ids):
    return torch.from_numpy((ids & 0xFFFF).astype(np.uint16))


def make(name, version, ranks, size, microbatches, steps, seq, vocab, k, p, dtype, tokens, first=0, packed=True):
    """`size` samples in a microbatch, `microbatches` of them on each of `ranks`, and `steps` iterations from `first` on."""
    folder = HERE / name
    folder.mkdir(parents=True, exist_ok=True)
    batch = ranks * size * microbatches
    saver = dict(k=k, p=p, min_k=1, save_dtype=dtype)
    if version == 2:
        saver.update(format_version=2, mbs_save=size, dp_size_save=ranks, gbs_save=batch)
    meta = dict(hash="0123456789abcdef0123456789abcdef", identifiers=dict(seed=1234, train_samples=64), saver=saver)
    expected = [None] * (batch * steps)
    for rank in range(ranks):
        members = []
        for step in range(steps):
            masked = -1e4 if version == 1 else -1e3
            parts = [microbatch(*teacher(seq, size, vocab, k, p), masked) for _ in range(microbatches)]
            stored = [torch.from_numpy(values).to(DTYPES[dtype]) for values, _ in parts]
            for m, (values, (_, ids)) in enumerate(zip(stored, parts)):
                for row in range(size):
                    x = (m * ranks + rank) * size + row
                    exact = values[:, row].double().numpy()
                    keep = ids[:, row] != NOTHING
                    expected[step * batch + x] = dict(
                        ids=[i[u].tolist() for i, u in zip(ids[:, row], keep)],
                        log_probs=[[float(f"{v:.9g}") for v in v[u]] for v, u in zip(exact, keep)])
            if version == 1:
                payload = dict(values=stored, indices_low=[low(ids) for _, ids in parts],
                               bit_17=[torch.from_numpy(ids >> 16 != 0) for _, ids in parts])
            else:
                values, ids = stack(parts, masked)
                bits = ids >> 16 != 0
                high = np.packbits(bits) if packed else bits
                payload = dict(values=torch.from_numpy(values).to(DTYPES[dtype]), indices_low=low(ids),
                               bit_17=torch.from_numpy(high), format_version=2)
                if packed:
                    payload["cu_seqlens_padded"] = None
            start = first + step * batch
            member = f"{start}-{start + batch}" if version == 2 and packed else f"{first + step}"
            members.append((f"{member}.pt.zst", saved(payload)))
        if version == 1:  # a file for each iteration
            for step, member in enumerate(members):
                write_tar(folder / f"cp0_dp{rank}__{first + step}.tar", meta, [member])
        elif packed:
            write_tar(folder / f"dp{rank}__{first}-{first + steps * batch}.tar", meta, members)
        else:
            write_tar(folder / f"dp{rank}__{first + steps - 1}.tar", meta, members)
    lines = []
    for sample in expected:
        ids = rng.integers(1, vocab, tokens)
        for position in range(min(seq, tokens - 1)):
            if rng.random() < 0.7:  # most labels are likely ones
                ids[position + 1] = sample["ids"][position][0]
        sample.update(input_ids=ids.tolist(), ids=sample["ids"][:tokens - 1], log_probs=sample["log_probs"][:tokens - 1])
        lines.append(json.dumps(dict(input_ids=ids.tolist())) + "\n")
    (folder / "tokens.jsonl").write_text("".join(lines))
    return dict(k=k, p=p, samples=expected)


every = {
    "version-1": make("version-1", 1, ranks=2, size=2, microbatches=2, steps=2, seq=4, vocab=2048, k=8, p=0.3,
                      dtype="bf16", tokens=5, first=9),
    "version-2": make("version-2", 2, ranks=2, size=1, microbatches=2, steps=2, seq=5, vocab=2048, k=8, p=None,
                      dtype="fp16", tokens=5, first=4),
    "wide": make("wide", 2, ranks=1, size=1, microbatches=3, steps=1, seq=3, vocab=131072, k=7, p=0.1, dtype="fp32",
                 tokens=4),
    "bytes": make("bytes", 2, ranks=1, size=1, microbatches=2, steps=1, seq=3, vocab=131072, k=5, p=None, dtype="bf16",
                  tokens=4, packed=False),
}
(HERE / "expected.json").write_text(json.dumps(every, separators=(",", ":")) + "\n")
