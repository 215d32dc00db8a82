"""The bare teacher in transformers, as stage 1 runs it: stories15M (or another exported folder) over windows of real tokens.

Prints positions per second of forward with all logits, for a few batch sizes, and of what a caching script adds: torch.topk(64)
and logsumexp of the same logits. Two threads, f32. Usage: forward.py FOLDER CACHE.parquet
"""
import sys, time
import pyarrow.parquet as pq
import torch
from transformers import AutoModelForCausalLM

folder, shard = sys.argv[1:3]
torch.set_num_threads(2)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
windows = [row.as_py() for row in pq.read_table(shard, columns=["input_ids"])["input_ids"]]
windows = sorted((w for w in windows if len(w) > 1), key=len)[-160:]
print("| batch, windows | forward, positions/s | with topk and logsumexp |\n|---|---|---|")
for batch in (2, 4, 8, 16):
    rates = []
    for select in (False, True):
        best = float("inf")
        for _ in range(3):
            positions, start = 0, time.perf_counter()
            for i in range(0, len(windows), batch):
                part = windows[i : i + batch]
                width = max(map(len, part))
                tokens = torch.tensor([w + [0] * (width - len(w)) for w in part])
                with torch.inference_mode():
                    logits = model(tokens, use_cache=False).logits
                    if select:
                        values, ids = logits.topk(64, dim=-1)
                        values - logits.logsumexp(-1, keepdim=True)
                positions += sum(len(w) - 1 for w in part)
            best = min(best, time.perf_counter() - start)
        rates.append(positions / best)
    print(f"| {batch} | {rates[0]:.0f} | {rates[1]:.0f} |")
