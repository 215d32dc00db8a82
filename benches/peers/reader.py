"""A cache of the plain layout as pyarrow decodes it to numpy on one thread, without checking anything.

Prints million entries a second for the kept classes alone, and for all columns. Usage: reader.py FOLDER
"""
import glob, sys, time
import pyarrow as pa
import pyarrow.parquet as pq

pa.set_cpu_count(1)
pa.set_io_thread_count(1)
shards = sorted(glob.glob(f"{sys.argv[1]}/data/*.parquet"))


def epoch(columns):
    entries = 0
    for shard in shards:
        table = pq.read_table(shard, columns=columns, use_threads=False, memory_map=True, pre_buffer=False)
        arrays = {}
        for name in table.column_names:
            chunk = table[name].combine_chunks()
            values = chunk.flatten() if pa.types.is_list(chunk.type) else chunk
            arrays[name] = values.to_numpy(zero_copy_only=False)
        entries += len(arrays["topk_log_probs"])
    return entries


for what, columns in [("kept classes alone", ["topk_ids", "topk_log_probs"]), ("all columns", None)]:
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        entries = epoch(columns)
        best = min(best, time.perf_counter() - start)
    print(f"| pyarrow {pa.__version__}, {what} | {entries / best / 1e6:.1f} |")
