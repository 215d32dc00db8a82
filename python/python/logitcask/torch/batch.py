"""Batches as tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from ..batch import Batch


@dataclass
class TorchBatch:
    """A `logitcask.Batch` as tensors; the fields and their shapes are the same."""

    input_ids: Tensor
    position_ids: Tensor
    attention_mask: Tensor
    lengths: Tensor
    sample_ids: Tensor
    sources: Tensor
    rows: Tensor
    labels: Tensor
    class_ids: Tensor
    log_probs: Tensor
    tail_logits: Tensor
    tail_log_weights: Tensor
    log_z: Tensor | None = None
    gold_log_probs: Tensor | None = None
    gold_ranks: Tensor | None = None
    counts: Tensor | None = None
    is_drawn: Tensor | None = None
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    vocab_size: int = 0
    temperatures: tuple[float, float] = (1.0, 1.0)
    tail: str = "atoms"

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.lengths)

    def to(self, device: torch.device | str, non_blocking: bool = True) -> TorchBatch:
        """The batch on a device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> TorchBatch:
        """The batch in page-locked memory, from which copies to a GPU can overlap with work; a DataLoader calls it."""
        return self._each(lambda tensor: tensor.pin_memory())

    def part(self, start: int, end: int) -> TorchBatch:
        """The batch with its positions `start` to `end` only, for a loss in pieces."""
        names = (
            "rows labels class_ids log_probs tail_logits tail_log_weights log_z gold_log_probs gold_ranks counts is_drawn"
        ).split()
        there = {name: getattr(self, name) for name in names}
        return replace(self, **{name: value[start:end] for name, value in there.items() if value is not None})

    def _each(self, change: Callable[[Tensor], Tensor]) -> TorchBatch:
        changed: dict[str, Any] = {}
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, Tensor):
                changed[one.name] = change(value)
        return replace(self, **changed, extras={name: change(value) for name, value in self.extras.items()})


def to_torch(batch: Batch) -> TorchBatch:
    """The batch as tensors, which share the memory of its arrays."""
    taken: dict[str, Any] = {"attention_mask": torch.from_numpy(batch.attention_mask)}
    for one in fields(Batch):
        value = getattr(batch, one.name)
        if one.name == "extras":
            taken["extras"] = {name: torch.from_numpy(column) for name, column in value.items()}
        else:
            taken[one.name] = torch.from_numpy(value) if hasattr(value, "dtype") else value
    return TorchBatch(**taken)
