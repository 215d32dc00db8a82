"""Questions to a cache in polars, which reads packed ones too:  python packed_in_polars.py data/caches/demo"""

import sys

import logitcask
import polars as pl

cache = logitcask.open(sys.argv[1])
samples = pl.DataFrame(cache["train"])
# One row for each position: the label is the token after it.
positions = samples.select(
    "sample_id",
    "gold_log_probs",
    "gold_ranks",
    label=pl.col("input_ids").list.slice(1),
).explode("label", "gold_log_probs", "gold_ranks")

right, perplexity = (pl.col("gold_ranks") == 0).mean(), (-pl.col("gold_log_probs").mean()).exp()
print(positions.select(positions=pl.len(), right=right, perplexity=perplexity))
print("The labels that the teacher expects least:")
labels = positions.group_by("label").agg(pl.len(), right=right, perplexity=perplexity)
print(labels.filter(pl.col("len") >= 5).sort("perplexity", descending=True).head(5))
print("The samples that it expects least, which are worth a look:")
print(positions.group_by("sample_id").agg(perplexity=perplexity).sort("perplexity", descending=True).head(5))
