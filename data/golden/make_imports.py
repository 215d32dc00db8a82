"""Makes imports/: small files in the forms in which NeMo-Aligner and llama.cpp store a teacher's outputs, of random logits,
and what they say (expected.json). Written from descriptions of the forms, not with these programs. Needs numpy.

Usage: python data/golden/make_imports.py
"""
import json
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent / "imports"
V, K = 2048, 8
rng = np.random.default_rng(20261128)


def log_sum_exp(z):
    return z.max() + np.log(np.exp(z - z.max()).sum())


def rounded(values):
    return [float(f"{value:.9g}") for value in values]


def nemo():
    """Four sequences: learned everywhere, learned in parts and padded, learned nowhere, learned at one position."""
    masks = [[1] * 6, [0, 0, 1, 1, 0, 1, 0, 0], [0, 0, 0], [0, 1]]
    lines, expected = [], []
    for number, mask in enumerate(masks):
        n = len(mask)
        tokens = rng.integers(1, V, n + 1)
        labels = [int(token) if learned else -100 for token, learned in zip(tokens[1:], mask)]
        logits = rng.normal(3, 4, (n, V)).astype(np.float32).astype(np.float64)
        order = np.argsort(-logits, axis=1, kind="stable")[:, :K]
        top = np.take_along_axis(logits, order, 1)
        log_z = np.array([log_sum_exp(z) for z in logits])
        if number == 0:  # a label among the kept classes
            labels[2] = int(order[2, 1])
            tokens[3] = labels[2]
        lines.append(dict(tokens=tokens[:n].tolist(), labels=labels, loss_mask=[float(m) for m in mask],
                          topk_logits=top.tolist(), topk_token_ids=order.tolist(), log_sum_exp_logits=log_z.tolist(),
                          index=number))
        learned = [i for i, m in enumerate(mask) if m]
        if learned:
            expected.append(dict(document=number, input_ids=tokens[:learned[-1] + 2].tolist(), positions=learned,
                                 ids=order[learned].tolist(), log_z=rounded(log_z[learned]),
                                 log_probs=[rounded(top[i] - log_z[i]) for i in learned]))
    (HERE / "nemo.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return dict(k=K, samples=expected)


def llama_cpp():
    """Two windows of eight tokens. Logits are spread so far that the k-th class of some positions is below the clip."""
    window, windows, k, start_token = 8, 2, 24, 0
    tokens = rng.integers(1, V, (windows, window)).astype("<i4")
    body, expected = b"", []
    for index in range(windows):
        first = window // 2
        rows = []
        for position in range(first, window - 1):
            spread = [1.0, 14.0, 6.0][position - first]
            z = rng.normal(0, spread, V).astype(np.float32)
            if index == 1 and position == first:
                z[:] = 1.5  # all classes alike: a scale of 0
            low = max(z.min(), z.max() - np.float32(16))
            scale = np.float32((z.max() - low) / np.float32(65535))
            minimum = np.float32(float(low) - log_sum_exp(z.astype(np.float64)))
            codes = np.where(z > low, np.rint((z - low) / scale) if scale else 0, 0).astype("<u2")
            body += np.array([scale, minimum], "<f4").tobytes() + codes.tobytes()
            known = np.flatnonzero(codes > 0) if float(scale) * 65535 > 15.99 else np.arange(V)
            ids = known[np.argsort(-codes[known].astype(np.int64), kind="stable")][:k]
            log_probs = float(minimum) + float(scale) * codes[ids].astype(np.float64)
            rows.append(dict(ids=ids.tolist(), log_probs=rounded(log_probs)))
        expected.append(dict(input_ids=[start_token] + tokens[index, 1:].tolist(),
                             positions=list(range(first, window - 1)), rows=rows))
    header = b"_logits_" + np.array([window, V, windows], "<i4").tobytes() + tokens.tobytes()
    (HERE / "llama_cpp.bin").write_bytes(header + body)
    return dict(k=k, start_token=start_token, samples=expected)


HERE.mkdir(exist_ok=True)
(HERE / "expected.json").write_text(json.dumps(dict(nemo=nemo(), llama_cpp=llama_cpp()), separators=(",", ":")) + "\n")
