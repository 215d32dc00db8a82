"""Reading a cache from Python, in million entries (kept classes) a second, by turns in one run:

    python benches/python/read.py data/caches/demo
    python benches/python/read.py --windows 10

The second command first writes a cache of ten times the window within which a training run shuffles, of random logits, and
removes it afterwards.

- pyarrow: Parquet to NumPy, every column, on one thread and on all, no check.
- by hand: a Dataset over pyarrow with all row groups in memory, collated to padded tensors, shuffled (46 lines in all that a
  user would write; no hash, no tail).
- logitcask: every hash and row checked, in order and shuffled, to NumPy and to tensors; and the first batch after a resume.
"""

import re
import sys
import tempfile
import time
from pathlib import Path

import logitcask
import numpy as np
import pyarrow.parquet as pq

try:
    import torch
    from logitcask.torch import Loader
except ImportError:
    torch = None

ROUNDS, BATCH = 5, 8


def of_pyarrow(cache, use_threads=False):
    entries = 0
    for file in sorted((cache.folder / "data").glob("train-*.parquet")):
        table = pq.read_table(file, use_threads=use_threads)
        for name in table.column_names:
            column = table[name].combine_chunks()
            values = column.flatten() if hasattr(column, "flatten") else column
            array = values.to_numpy(zero_copy_only=False)
            entries += len(array) if name == "topk_ids" else 0
    return entries


class ByHand:
    """What one writes without the package: plain top_k caches only."""

    def __init__(self, cache):
        self.k = cache.plan["keep"]["selection"]["k"]
        self.rows = []
        for file in sorted((cache.folder / "data").glob("train-*.parquet")):
            table = pq.read_table(file, columns=["input_ids", "topk_ids", "topk_log_probs", "log_z"], use_threads=False)
            columns = [table[name].combine_chunks() for name in table.column_names]
            offsets = [column.offsets.to_numpy() for column in columns]
            values = [column.flatten().to_numpy() for column in columns]
            for i in range(len(table)):
                self.rows.append([v[o[i] : o[i + 1]] for v, o in zip(values, offsets)])

    def batches(self, seed):
        order = np.random.default_rng(seed).permutation(len(self.rows))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            rows = [self.rows[i] for i in order[start : start + BATCH]]
            longest = max(len(row[0]) for row in rows)
            ids = torch.zeros(BATCH, longest - 1, self.k, dtype=torch.int64)
            log_probs = torch.full((BATCH, longest - 1, self.k), -1e4)
            for b, (tokens, kept, lp, _) in enumerate(rows):
                n = len(tokens) - 1
                ids[b, :n] = torch.from_numpy(kept.reshape(n, self.k).astype(np.int64))
                log_probs[b, :n] = torch.from_numpy(lp.reshape(n, self.k))
            yield ids, log_probs, sum(len(row[1]) for row in rows)


def of_hand(cache):
    return sum(entries for _, _, entries in ByHand(cache).batches(0))


def in_order(cache):
    return sum(batch.class_ids.size for batch in cache["train"].batches(BATCH))


def shuffled(cache):
    steps = len(cache["train"]) // BATCH
    return sum(batch.class_ids.numel() for batch in Loader(cache, BATCH, steps=steps))


def first_batch_after_resume(folder):
    start = time.perf_counter()
    loader = Loader(logitcask.open(folder), BATCH)
    loader.load_state_dict({**loader.state_dict(), "step": 1_000_003})
    next(iter(loader))
    return time.perf_counter() - start


def write_windows(folder, windows):
    """A cache of so many windows of 2,048 samples with 127 positions each, of random tokens and logits."""
    random, vocab_size, length = np.random.default_rng(0), 2048, 128
    logits = 3 * random.standard_normal((16, length - 1, vocab_size), np.float32)
    samples = random.integers(0, vocab_size, (16, length)).tolist()
    tokenizer = Path(__file__).parents[2] / "data" / "demo" / "teacher" / "tokenizer.json"
    pin = logitcask.Pin.of_bytes("random numbers", b"0")
    writer = logitcask.CacheWriter(
        folder,
        splits={"train": 2048 * windows},
        vocab_size=vocab_size,
        max_length=length,
        tokenizer=tokenizer,
        teacher=pin,
        dataset=pin,
    )
    for split, number in writer.pending():
        writer.add(split, number, samples[number % 16], logits[number % 16])
    writer.finish()
    return folder


def own_memory():
    """Memory of this process that is not mapped from files, in MiB."""
    return int(re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def measure(folder):
    one, every = "pyarrow, one thread, no checks", "pyarrow, all threads, no checks"
    ways = {one: of_pyarrow, every: lambda cache: of_pyarrow(cache, use_threads=True), "logitcask, in order": in_order}
    if torch is not None:
        torch.set_num_threads(1)
        ways |= {"logitcask, shuffled": shuffled, "by hand, shuffled (with loading)": of_hand}
    best = dict.fromkeys(ways, 0.0)
    for _ in range(ROUNDS):
        for name, way in ways.items():
            cache = logitcask.open(folder)
            start = time.perf_counter()
            entries = way(cache)
            best[name] = max(best[name], entries / (time.perf_counter() - start) / 1e6)
    for name, rate in best.items():
        print(f"| {name} | {rate:.1f} | {rate / best[one]:.2f} | {rate / best[every]:.2f} |")
    if torch is not None:
        resume = min(first_batch_after_resume(folder) for _ in range(ROUNDS))
        print(f"first batch after a resume in epoch {1_000_003 * BATCH // len(logitcask.open(folder)['train'])}: {resume:.3f} s")


def main():
    if sys.argv[1] != "--windows":
        return measure(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        folder = write_windows(Path(folder) / "windows", int(sys.argv[2]))
        if torch is not None:
            cache = logitcask.open(folder)
            steps = len(cache["train"]) // BATCH
            memory = [own_memory() for step, _ in enumerate(Loader(cache, BATCH, steps=steps)) if step % (steps // 8) == 0]
            print("own memory during a shuffled epoch, MiB:", *(f"{used:.0f}" for used in memory))
        measure(folder)


main()
