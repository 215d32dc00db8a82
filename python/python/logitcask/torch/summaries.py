"""Summaries of rows of logits, computed where the logits are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

ROWS = 64
"""Rows whose exponentials exist at once, in f64."""


def summarise(
    logits: Tensor,
    labels: Sequence[int],
    spec: tuple[int, float, float, int],
    always_keep: Sequence[int],
    padding: int,
) -> dict[str, Any]:
    """What determines the selection from rows of logits [P, V + padding]: the largest classes, the label's logit and
    rank, and sums of exponentials of all others at a few inverse temperatures. Some hundred numbers a row go to the
    CPU.

    `spec` is (number of largest classes, lowest inverse temperature, step, number of sums), from `Writer.summary`.
    """
    count, lowest, step, powers = spec
    device = logits.device
    inverse = torch.tensor([lowest + i * step for i in range(powers)] + [1.0], dtype=torch.float64, device=device)
    always = torch.tensor(list(always_keep), dtype=torch.long, device=device)
    gold_ids = torch.tensor(list(labels), dtype=torch.long, device=device)
    parts = [
        _of_rows(rows.float(), gold, count, inverse, always, padding)
        for rows, gold in zip(logits.split(ROWS), gold_ids.split(ROWS), strict=True)
    ]
    return {name: torch.cat([part[name] for part in parts]).cpu().numpy() for name in parts[0]}


def _of_rows(
    rows: Tensor, gold_ids: Tensor, count: int, inverse: Tensor, always: Tensor, padding: int
) -> dict[str, Tensor]:
    classes = rows[:, : rows.shape[1] - padding]
    logits, ids = classes.topk(count, dim=1)
    gold = classes.gather(1, gold_ids[:, None])
    # Ties go to the lower id.
    before = (classes > gold) | (
        (classes == gold) & (torch.arange(classes.shape[1], device=rows.device) < gold_ids[:, None])
    )
    always_kept = classes[:, always]
    rest = rows.scatter(1, ids, -torch.inf)
    rest[:, always] = -torch.inf
    bounds = rest.amax(1)
    distance = (rest - bounds[:, None]).double()
    # One pass per inverse temperature: their product with all rows at once would need as many copies of the rows.
    sums = torch.stack([(distance * b).exp().sum(1) for b in inverse], dim=1)
    return {
        "ids": ids,
        "logits": logits,
        "always_kept": always_kept,
        "gold": gold[:, 0],
        "ranks": before.sum(1),
        "bounds": bounds,
        "sums": sums,
    }
