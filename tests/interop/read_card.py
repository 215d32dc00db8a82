"""Runs the program in the card of a plain cache, and has `datasets` read the cache with the types that the card states.

Usage: read_card.py CACHE    (needs pyarrow, datasets, numpy)
"""
import json
import os
import re
import sys

import numpy as np
import pyarrow.parquet as pq
from datasets import Features, load_dataset


def run_program(card):
    """The card's function log_z at three temperatures against its formula in NumPy, over all positions of a shard."""
    program, keep = re.search(r"```python\n(.*?)```", card, re.S)[1], json.load(open("plan.json"))["keep"]
    lines = [line for line in program.splitlines() if line]
    assert len(lines) <= 10, f"{len(lines)} lines"
    names = {}
    exec(program, names)
    rows = pq.read_table(re.search(r'read_table\("(.*?)"\)', program)[1]).to_pylist()
    k, tail, worst = keep["selection"]["k"], keep["tail"], 0
    b_r = (tail["lowest_temperature"] * tail["highest_temperature"]) ** -0.5
    for row in rows[:20]:
        log_probs, x, w = (np.array(row[name]).reshape(-1, width) for name, width in
                           [("topk_log_probs", k), ("tail_logits", tail["atoms"]), ("tail_log_weights", tail["atoms"])])
        for T in (1.0, tail["lowest_temperature"], tail["highest_temperature"]):
            got = np.array([names["log_z"](row, i, T) for i in range(len(row["log_z"]))])
            atoms = np.where(x == -32768, 0, np.exp(w / 512 + (1 / T - b_r) * x / 512))
            expected = np.array(row["log_z"]) / T + np.log(np.exp(log_probs / T).sum(1) + atoms.sum(1))
            assert np.allclose(got, expected, rtol=0, atol=1e-9), (T, got - expected)
            # At T = 1 the cache states it.
            worst = max(worst, abs(got - row["log_z"]).max() if T == 1 else 0)
    assert worst < 0.02, worst
    return worst


def main(cache):
    cache = os.path.abspath(cache)
    os.chdir(cache)
    worst = run_program(open("README.md").read())
    splits, plan = load_dataset(cache), json.load(open("plan.json"))
    for split in plan["splits"]:
        read, count = splits[split["name"].replace("-", "_")], split["samples"]
        shard = f"data/{split['name']}-00000-of-"
        shard = next(f"data/{name}" for name in sorted(os.listdir("data")) if f"data/{name}".startswith(shard))
        assert read.features == Features.from_arrow_schema(pq.read_schema(shard)), read.features
        stated = read.info.splits[read.split._name]
        assert len(read) == stated.num_examples == count, (split, stated)
    print(f"the card's program computes log Z within {worst:.1e} nat of `log_z` at T = 1, and datasets reads its types")


main(*sys.argv[1:])
