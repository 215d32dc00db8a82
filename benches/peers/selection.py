"""What a caching script does with a row of logits: torch.topk(64), sorted, and logsumexp, on 2 threads and on 1.

Prints microseconds a row, the best of some runs. Usage: selection.py
"""
import time
import torch

ROWS = 128
print("| classes | threads | topk | logsumexp | both, us a row |\n|---|---|---|---|---|")
for classes in (32768, 131072):
    logits = 2.2 * torch.randn(ROWS, classes, generator=torch.Generator().manual_seed(0))
    for threads in (1, 2):
        torch.set_num_threads(threads)

        def best(work):
            times = []
            for _ in range(15):
                start = time.perf_counter()
                work()
                times.append(time.perf_counter() - start)
            return 1e6 * min(times) / ROWS

        with torch.inference_mode():
            top, lse = best(lambda: logits.topk(64, dim=-1, sorted=True)), best(lambda: logits.logsumexp(-1))
        print(f"| {classes} | {threads} | {top:.1f} | {lse:.1f} | {top + lse:.1f} |")
