"""Opens a plain cache with the readers people use, and demands the same values, types and list lengths from each.

Usage: open_cache.py CACHE    (needs pyarrow, pandas, polars, duckdb, datasets, numpy)
"""
import glob
import json
import math
import sys

import numpy as np

LISTS = {  # column: (numpy kind, items of a sample with L tokens)
    "input_ids": ("u4", lambda L, plan: L),
    "log_z": ("f4", lambda L, plan: L - 1),
    "gold_log_probs": ("f4", lambda L, plan: L - 1),
    "gold_ranks": ("u4", lambda L, plan: L - 1),
    "tail_logits": ("i2", lambda L, plan: (L - 1) * plan["keep"]["tail"]["atoms"]),
    "tail_log_weights": ("i2", lambda L, plan: (L - 1) * plan["keep"]["tail"]["atoms"]),
    "topk_ids": ("u4", lambda L, plan: (L - 1) * plan["keep"]["selection"]["k"]),
    "topk_log_probs": ("f4", lambda L, plan: (L - 1) * plan["keep"]["selection"]["k"]),
}
SCALARS = ["sample_id", "document", "document_offset", "input_hash_low", "input_hash_high"]


def by_pyarrow(files):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.concat_tables(pq.read_table(f) for f in files)
    for name, (kind, _) in LISTS.items():
        assert table.schema.field(name).type == pa.list_(pa.field("element", pa.from_numpy_dtype(kind), False)), (
            name, table.schema.field(name).type)
    return {n: [v.values.to_numpy() if n in LISTS else v.as_py() for v in table[n]] for n in SCALARS + list(LISTS)}


def by_pandas(files):
    import pandas as pd

    frame = pd.concat(pd.read_parquet(f) for f in files)
    for name, (kind, _) in LISTS.items():
        assert frame[name].iloc[0].dtype == np.dtype(kind), (name, frame[name].iloc[0].dtype)
    return {n: list(frame[n]) for n in SCALARS + list(LISTS)}


def by_polars(files):
    import polars as pl

    frame = pl.concat(pl.read_parquet(f) for f in files)
    return {n: [v.to_numpy() if n in LISTS else v for v in frame[n]] for n in SCALARS + list(LISTS)}


def by_duckdb(files):
    import duckdb

    columns = SCALARS + list(LISTS)
    names = ", ".join(f"'{f}'" for f in files)
    rows = duckdb.sql(f"select {', '.join(columns)} from read_parquet([{names}]) order by sample_id").fetchall()
    return {n: [row[i] for row in rows] for i, n in enumerate(columns)}


def by_datasets(cache, split):
    import datasets

    rows = datasets.load_dataset(cache, split=split).with_format("numpy")
    return {n: [row[n] for row in rows] for n in SCALARS + list(LISTS)}


def same(one, other, reader):
    for name in SCALARS + list(LISTS):
        assert len(one[name]) == len(other[name]), (reader, name)
        for i, (a, b) in enumerate(zip(one[name], other[name])):
            # Not every 64-bit integer is a float64.
            kind = np.uint64 if name in SCALARS else np.float64
            assert np.array_equal(np.asarray(a, kind), np.asarray(b, kind)), (reader, name, i)


def main(cache):
    plan = json.load(open(f"{cache}/plan.json"))
    assert plan["layout"] == "plain" and plan["keep"]["selection"]["kind"] == "top_k", "give a plain top_k cache"
    split = plan["splits"][-1]["name"]
    files = sorted(glob.glob(f"{cache}/data/{split}-*.parquet"))
    rows = by_pyarrow(files)
    for i, tokens in enumerate(rows["input_ids"]):
        for name, (_, length) in LISTS.items():
            assert len(rows[name][i]) == length(len(tokens), plan), (name, i)
    for reader in (by_pandas, by_polars, by_duckdb):
        same(rows, reader(files), reader.__name__)
    same(rows, by_datasets(cache, split), "by_datasets")

    # What the numbers mean, by the format's text alone: kept classes and tail are a whole distribution at T = 1, and
    # log Z grows convexly in the inverse temperature.
    tail, k = plan["keep"]["tail"], plan["keep"]["selection"]["k"]
    reference = 1 / math.sqrt(tail["lowest_temperature"] * tail["highest_temperature"])
    x, w, lp = (np.concatenate([rows[n][i] for i in range(len(rows["log_z"]))]).astype(np.float64)
                for n in ("tail_logits", "tail_log_weights", "topk_log_probs"))
    x, w, lp = x.reshape(-1, tail["atoms"]) / 512, w.reshape(-1, tail["atoms"]) / 512, lp.reshape(-1, k)

    def log_z(b):
        return np.log(np.exp(b * lp).sum(1) + np.exp(w + (b - reference) * x).sum(1))

    assert np.abs(log_z(1.0)).max() < 0.02, np.abs(log_z(1.0)).max()
    assert (log_z(0.3) + log_z(0.9) - 2 * log_z(0.6) > -1e-9).all()
    print(f"{len(rows['log_z'])} samples of {split}: pyarrow, pandas, polars, duckdb and datasets read the same; "
          f"|log Z at T = 1| <= {np.abs(log_z(1.0)).max():.1e} nat")


main(*sys.argv[1:])
