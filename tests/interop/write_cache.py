"""Writes whole caches by FORMAT.md alone, in the plain layout and from logits that it draws itself.

Usage: write_cache.py FOLDER    (needs pyarrow, blake3, numpy; makes FOLDER/all, FOLDER/marked and FOLDER/log_probs, and
prints their ids)
"""
import json
import math
import os
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from blake3 import blake3

from canonical_json import hash_of
from random_samples import MAX_LENGTH, SPLITS, V, random_samples, tokenizer_json

SAMPLES_PER_UNIT, BLOCK = 150, 128
TAIL = {"lowest_temperature": 0.75, "highest_temperature": 10.0, "atoms": 4}
KEEP = {"selection": {"kind": "top_k", "k": 8}, "always_keep": [], "values": {"kind": "f16"}, "tail": TAIL}
# As if a server had told the likeliest log-probabilities and nothing else.
KEEP_LOG_PROBS = {**KEEP, "tail": None, "source": {"log_z": False, "gold": "kept", "tail": "mass"}}


# Figures and files.

def rounded(x, decimals=9):
    return math.floor(x * 10**decimals + 0.5) / 10**decimals


def write_json(path, value):
    with open(path, "x", encoding="utf-8") as file:
        json.dump(value, file, indent=1)


# One position: from raw logits to what is stored.

def log_sum_exp(x):
    return x.max() + math.log(np.exp(x - x.max()).sum())


def half(x):
    """To the nearest f32 and then to the nearest f16; never -0."""
    return np.asarray(x, np.float32).astype(np.float16).astype(np.float32) + np.float32(0)


def gauss(points, weights, m):
    """Points and weights of the Gauss rule of a measure: by Lanczos, and the eigenvectors of its tridiagonal matrix."""
    basis, diagonal, beside = [np.sqrt(weights / weights.sum())], [], []
    while True:
        rest = points * basis[-1]
        diagonal.append(rest @ basis[-1])
        for earlier in basis + basis:  # twice, because rounding leaves some of it
            rest = rest - (rest @ earlier) * earlier
        length = math.sqrt(rest @ rest)
        if len(diagonal) == m or length <= 1e-12 * points.max():
            break
        beside.append(length)
        basis.append(rest / length)
    values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
    return values, vectors[0] ** 2 * weights.sum()


class Tail:
    """The tail's numbers in FORMAT.md: the reference b_r, b_0 and d, and where errors are measured."""

    def __init__(self, lowest_temperature, highest_temperature, atoms):
        self.atoms, self.b_r = atoms, 1 / math.sqrt(lowest_temperature * highest_temperature)
        self.b_0, self.d = 1 / highest_temperature, (1 / lowest_temperature - 1 / highest_temperature) / (2 * atoms - 1)
        self.grid = [self.b_0 + j * self.d / 2 for j in range(4 * atoms - 1)]

    def atoms_of(self, z):
        """Pairs (x, w) in units of 1/512 nat, of classes with logits z less log_z."""
        units = lambda x: int(np.clip(math.copysign(math.floor(abs(512 * x) + 0.5), x), -32767, 32767))
        u, weights = gauss(np.exp(self.d * (z - z.max())), np.exp(self.b_0 * (z - z.max())), self.atoms)
        x = z.max() + np.log(u) / self.d
        w = np.log(weights) + self.b_0 * z.max() + (self.b_r - self.b_0) * x
        pairs = sorted(((units(x), units(w)) for x, w in zip(x, w)), reverse=True)
        return pairs + [(-32768, -32768)] * (self.atoms - len(pairs))

    def log_z(self, b, log_probs, atoms):
        """log Z(b) - b log_z, as a reader computes it."""
        of_atoms = [(w + (b - self.b_r) * x) / 512 for x, w in atoms if x != -32768]
        return log_sum_exp(np.append(b * np.asarray(log_probs, np.float64), of_atoms))


def position_of(logits, label, k, tail):
    """What is stored of a position, by column, and what its errors are."""
    raw = logits.astype(np.float64)
    log_z = log_sum_exp(raw)
    exact = raw - log_z
    ranked = np.lexsort((np.arange(len(raw)), -raw))
    kept = np.sort(ranked[:k])
    kept = kept[np.argsort(-half(exact[kept]), kind="stable")]
    stored = half(exact[kept])
    entries = {"topk_ids": kept.tolist(), "topk_log_probs": stored.tolist()}
    errors = {"mass": np.exp(stored.astype(np.float64)).sum(), "log_z": [], "values": abs(stored - exact[kept])}
    if tail is None:
        place = np.flatnonzero(kept == label)
        return {"gold_ranks": [int(place[0]) if len(place) else 2**32 - 1], **entries}, errors
    atoms = tail.atoms_of(exact[ranked[k:]])
    errors["log_z"] = [abs(tail.log_z(b, stored, atoms) - log_sum_exp(b * exact)) for b in tail.grid]
    return {
        "log_z": [np.float32(log_z)],
        "gold_log_probs": [half(exact[label])],
        "gold_ranks": [int(np.flatnonzero(ranked == label)[0])],
        "tail_logits": [x for x, _ in atoms],
        "tail_log_weights": [w for _, w in atoms],
        **entries,
    }, errors


# Samples, shards and the cache.

def samples_of(split, is_marked, rng):
    for sample_id, (tokens, positions) in enumerate(random_samples(split, is_marked, rng)):
        digest = blake3(np.array(tokens, "<u4").tobytes(), derive_key_context="logitcask input v1").digest()
        low, high = (int.from_bytes(digest[i:i + 8], "little") for i in (0, 8))
        yield {"sample_id": sample_id, "document": sample_id + 1000 * (split == "val"), "document_offset": 0,
               "input_hash_low": low, "input_hash_high": high, "input_ids": tokens, "positions": positions}


def dataset_fingerprint(samples, is_marked, max_length):
    first = ["train", "validation", "test"]
    u32, u64 = (lambda n, size=size: int(n).to_bytes(size, "little") for size in (4, 8))
    hasher = blake3(u64(max_length), derive_key_context="logitcask dataset v2")
    for split in sorted(samples, key=lambda name: (first.index(name) if name in first else len(first), name)):
        hasher.update(u64(len(split)) + split.encode() + u64(len(samples[split])))
        for sample in samples[split]:
            hasher.update(u64(sample["document"]) + u32(sample["document_offset"]))
            hasher.update(u64(sample["input_hash_low"]) + u64(sample["input_hash_high"]))
            if is_marked:
                hasher.update(b"".join(map(u32, [len(sample["positions"]), *sample["positions"]])))
    return hasher.hexdigest()


COLUMNS = {
    "sample_id": pa.uint64(), "document": pa.uint64(), "document_offset": pa.uint32(), "input_hash_low": pa.uint64(),
    "input_hash_high": pa.uint64(), "input_ids": [pa.uint32()], "positions": [pa.uint32()], "log_z": [pa.float32()],
    "gold_log_probs": [pa.float32()], "gold_ranks": [pa.uint32()], "tail_logits": [pa.int16()],
    "tail_log_weights": [pa.int16()], "topk_ids": [pa.uint32()], "topk_log_probs": [pa.float32()],
}


def schema_of(names):
    kind = lambda of: pa.list_(pa.field("element", of[0], nullable=False)) if isinstance(of, list) else of
    return pa.schema([pa.field(name, kind(of), nullable=False) for name, of in COLUMNS.items() if name in names])


def ranges_of(path):
    """Length and hash of every row group's bytes, and of the rest."""
    footer, content, start, ranges = pq.read_metadata(path), open(path, "rb").read(), 0, []
    columns = lambda group: (footer.row_group(group).column(i) for i in range(footer.num_columns))
    end = lambda c: (c.dictionary_page_offset or c.data_page_offset) + c.total_compressed_size
    for end in [*(max(map(end, columns(group))) for group in range(footer.num_row_groups)), len(content)]:
        ranges.append({"bytes": end - start, "blake3": blake3(content[start:end]).hexdigest()})
        start = end
    return ranges


def write_unit(folder, plan, plan_id, place, samples, rng):
    """Writes a shard; returns its commit."""
    keep, is_marked, measured = plan["keep"], "positions" in plan, []
    k, tail = keep["selection"]["k"], Tail(**keep["tail"]) if keep["tail"] else None
    for sample in samples:
        for position in sample["positions"]:
            logits, label = rng.normal(0, 3, V).astype(np.float32), sample["input_ids"][position + 1]
            stored, errors = position_of(logits, label, k, tail)
            measured.append(errors)
            for column, values in stored.items():
                sample.setdefault(column, []).extend(values)
    constants = {"format_version": 2, "plan_id": plan_id, "unit": place["unit"], "layout": "plain", "vocab_size": V,
                 "selection": "top_k", "k": k, **({"positions": "marked"} if is_marked else {}),
                 **({"tail_atoms": tail.atoms, "tail_reference": tail.b_r, "tail_step": 1 / 512} if tail else {}),
                 **{field: json.dumps(told).strip('"') for field, told in keep.get("source", {}).items()}}
    schema = schema_of(set(samples[0]) - (set() if is_marked else {"positions"}))
    path = f"{folder}/{place['shard']}"
    with pq.ParquetWriter(path, schema, store_schema=False, compression="zstd", use_dictionary=["topk_ids"]) as shard:
        shard.add_key_value_metadata({f"logitcask.{key}": str(value) for key, value in constants.items()})
        shard.write_table(pa.Table.from_pylist(samples, schema), row_group_size=BLOCK)
    error = lambda errors: {"worst": rounded(np.max(errors)), "mean": rounded(np.mean(errors))}
    return {**place, "rows": len(samples), "positions": len(measured), "entries": k * len(measured),
            "bytes": os.path.getsize(path), "ranges": ranges_of(path),
            "kept_mass": rounded(np.mean([errors["mass"] for errors in measured])),
            "log_z_error": [{"temperature": rounded(1 / b, 6), **error([errors["log_z"][j] for errors in measured])}
                            for j, b in enumerate(tail.grid if tail else [])],
            "codec_error": error(np.concatenate([errors["values"] for errors in measured]))}


def manifest_of(plan_id, commits):
    size = min(4096, 65536 // math.ceil(SAMPLES_PER_UNIT / BLOCK))
    parts = [commits[i:i + size] for i in range(0, len(commits), size)]
    sums = lambda of, *names: {name: sum(commit[name] for commit in of) for name in names}
    counted = ("positions", "entries", "bytes")
    totals = sums(commits, "rows", *counted)
    mean = lambda of, weight: rounded(sum(of(commit) * commit[weight] for commit in commits) / totals[weight])
    error = lambda of, weight: {"worst": max(of(commit)["worst"] for commit in commits),
                                "mean": mean(lambda commit: of(commit)["mean"], weight)}
    totals |= {"kept_mass": mean(lambda commit: commit["kept_mass"], "positions"),
               "log_z_error": [{**at, **error(lambda commit: commit["log_z_error"][j], "positions")}
                               for j, at in enumerate(commits[0]["log_z_error"])],
               "codec_error": error(lambda commit: commit["codec_error"], "entries")}
    return parts, {"format_version": 2, "plan_id": plan_id, "totals": totals,
                   "parts": [{"blake3": hash_of(part), **sums(part, *counted)} for part in parts]}


def write_cache(folder, keep, is_marked):
    rng, tokenizer = np.random.default_rng(7), tokenizer_json()
    samples = {split: list(samples_of(split, is_marked, rng)) for split in SPLITS}
    plan = {  # a field that has its default value must not be hashed, so it is left out here
        "format_version": 2, "layout": "plain", "vocab_size": V, "max_length": MAX_LENGTH, "precision": "f32",
        "batch_tokens": 4096, **({"positions": {"kind": "marked"}} if is_marked else {}), "keep": keep,
        "teacher": {"fingerprint": blake3(b"normal logits").hexdigest()},
        "tokenizer": {"fingerprint": blake3(tokenizer.encode()).hexdigest()}, "bos": None, "end": None,
        "dataset": {"fingerprint": dataset_fingerprint(samples, is_marked, MAX_LENGTH)},
        "splits": [{"name": name, "samples": count} for name, count in SPLITS.items()],
        "samples_per_unit": SAMPLES_PER_UNIT,
    }
    for name in ("data", "_commits", "_manifest"):
        os.makedirs(f"{folder}/{name}")
    write_json(f"{folder}/plan.json", plan)
    with open(f"{folder}/tokenizer.json", "xb") as file:
        file.write(tokenizer.encode())
    commits, plan_id = [], hash_of(plan)
    for split, count in SPLITS.items():
        units = math.ceil(count / SAMPLES_PER_UNIT)
        for number in range(units):
            start, end = number * SAMPLES_PER_UNIT, min((number + 1) * SAMPLES_PER_UNIT, count)
            place = {"unit": len(commits), "split": split, "start": start, "end": end,
                     "shard": f"data/{split}-{number:05}-of-{units:05}.parquet"}
            commits.append(write_unit(folder, plan, plan_id, place, samples[split][start:end], rng))
            write_json(f"{folder}/_commits/{place['unit']:05}.json", commits[-1])
    parts, root = manifest_of(plan_id, commits)
    for number, part in enumerate(parts):
        write_json(f"{folder}/_manifest/{number:05}.json", part)
    write_json(f"{folder}/manifest.json", root)
    print(f"{folder} {hash_of(root)}")


if __name__ == "__main__":
    write_cache(f"{sys.argv[1]}/all", KEEP, is_marked=False)
    write_cache(f"{sys.argv[1]}/marked", KEEP, is_marked=True)
    write_cache(f"{sys.argv[1]}/log_probs", KEEP_LOG_PROBS, is_marked=False)
