"""Computes the hashes that a cache of all positions states of itself, by FORMAT.md alone, from its files and rows.

Usage: check_pins.py CACHE    (needs pyarrow, blake3, numpy)
"""
import glob
import json
import sys

import pyarrow.parquet as pq
from blake3 import blake3

from canonical_json import hash_of
from write_cache import dataset_fingerprint

COLUMNS = ["document", "document_offset", "input_hash_low", "input_hash_high"]


def main(cache):
    plan, root = (json.load(open(f"{cache}/{name}")) for name in ("plan.json", "manifest.json"))
    nameless = {pin: {"fingerprint": plan[pin]["fingerprint"]} for pin in ("teacher", "tokenizer", "dataset")}
    identity = {key: value for key, value in {**plan, **nameless}.items() if key not in ("code_version", "companions")}
    assert hash_of(identity) == root["plan_id"], "plan id"
    for number, part in enumerate(root["parts"]):
        assert hash_of(json.load(open(f"{cache}/_manifest/{number:05}.json"))) == part["blake3"], f"part {number}"
    tokenizer = open(f"{cache}/tokenizer.json", "rb").read()
    assert blake3(tokenizer).hexdigest() == plan["tokenizer"]["fingerprint"], "tokenizer"
    samples = {}
    for split in (split["name"] for split in plan["splits"]):
        shards = sorted(glob.glob(f"{cache}/data/{split}-[0-9]*-of-*.parquet"))
        samples[split] = [row for shard in shards for row in pq.read_table(shard, columns=COLUMNS).to_pylist()]
    fingerprint = dataset_fingerprint(samples, False, plan["max_length"])
    assert fingerprint == plan["dataset"]["fingerprint"], "dataset"
    print(f"{cache} {hash_of(root)}")


main(*sys.argv[1:])
