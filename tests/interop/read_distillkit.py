"""Reads what the program wrote for DistillKit by a description of that format alone, and compares it with the plain cache.

Usage: read_distillkit.py CACHE FOLDER    (needs pyarrow)
"""
import glob
import math
import re
import struct
import sys

import pyarrow.parquet as pq


def rows(paths):
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def numbers(data, bits, count):
    """Numbers of `bits` bits each, the most significant one first."""
    whole = int.from_bytes(bytes(data), "big") >> (8 * len(data) - bits * count)
    return [whole >> bits * (count - 1 - i) & (1 << bits) - 1 for i in range(count)]


def by_number(path):
    return int(re.search(r"(\d+)\.parquet$", path)[1])


cache, folder = sys.argv[1:]
compared = 0
for settings in sorted(glob.glob(f"{folder}/*/compression_config.yaml")):
    of_split, split = settings.rsplit("/", 1)[0], settings.split("/")[-2]
    pairs = dict(line.split(": ") for line in open(settings, encoding="utf-8").read().splitlines())
    k, bits = int(pairs["k"]), math.ceil(math.log2(int(pairs["d"])))
    assert (pairs["exact_k"], pairs["exact_dtype"], pairs["delta_encoding"]) == (pairs["k"], "float16", "false"), pairs
    theirs = rows(sorted(glob.glob(f"{of_split}/data_*.parquet"), key=by_number))
    ours = rows(sorted(glob.glob(f"{cache}/data/{split}-*.parquet")))
    assert len(theirs) == len(ours) > 0, (split, len(theirs), len(ours))
    for a, b in zip(theirs, ours):
        assert a["input_ids"] == b["input_ids"], split
        assert [i for data in a["bytepacked_indices"] for i in numbers(data, bits, k)] == b["topk_ids"], split
        assert [x for data in a["compressed_logprobs"] for x in struct.unpack(f"<{k}e", bytes(data))] == b["topk_log_probs"], split
        compared += len(b["topk_ids"])
print(f"{folder}: {compared} kept classes are those of {cache}")
