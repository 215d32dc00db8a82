"""Endless streams of training batches in the order of the Rust trainer, as tensors."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.utils.data

from .. import _core
from ..stream import Run
from .batch import TorchBatch, to_torch


class Dataset(Run, torch.utils.data.IterableDataset[TorchBatch]):
    """An endless stream of batches for a `torch.utils.data.DataLoader` with `batch_size=None`.

    Each step has `batch_size` samples over all ranks; rank r of W gets the r-th W-th part of them. The order depends on
    `seed` alone: it is that of `logitcask train`, and neither ranks nor workers change which samples a step has. Epochs
    follow each other without a gap, and a step may span two.

    Several caches are mixed by `weights`: each sample is from the cache that is furthest below its share.

    The state is the number of the next step: it may be loaded by any number of ranks and workers, before or after
    iteration began. In a worker process it is that worker's own, which `torchdata`'s StatefulDataLoader keeps; a plain
    DataLoader forgets it. The state of a StatefulDataLoader may be loaded into the dataset itself, which then goes on
    with any number of workers.
    """

    # Number of workers of which `step` is the step of one; None if it is that of all.
    _workers: int | None = None

    def _process_group(self) -> tuple[int, int]:
        if not torch.distributed.is_available() or not torch.distributed.is_initialized():
            return super()._process_group()
        return torch.distributed.get_rank(), torch.distributed.get_world_size()

    def __len__(self) -> int:
        if self.steps is None:
            raise TypeError("this stream has no end: give it steps=")
        return self.steps

    def __iter__(self) -> Iterator[TorchBatch]:
        worker = torch.utils.data.get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        # A DataLoader takes turns among its workers, which puts their steps in order again.
        if self._workers is None:
            self.step, self._workers = self.step + number, workers
        elif self._workers != workers:
            raise ValueError(
                f"the state is that of one of {self._workers} workers, but there are {workers}: load the state of the "
                "whole loader into the dataset instead, with load_state_dict"
            )
        stream: _core.Stream | None = None
        place = (-1, -1)
        while self.steps is None or self.step < self.steps:
            if stream is None or place != (self.step, os.getpid()):
                stream = self._open(self.step, workers)
            batch = to_torch(self._next(stream))
            self.step += workers
            place = (self.step, os.getpid())
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """The place in the run: the number of the next step, and what it belongs to."""
        return {**self._place(), "workers": self._workers if torch.utils.data.get_worker_info() else None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on at the place of a `state_dict`, which may be from another number of ranks or workers, or that of a
        StatefulDataLoader. Raises ValueError if it is that of another run."""
        if "dataset_state" in state or "_snapshot" in state:
            state = _of_loader(state)
        self._go_to(state)
        self._workers = state["workers"]


class Loader(Dataset):
    """A `Dataset` that is iterated without a DataLoader: threads of Rust read ahead, which is faster than any number
    of worker processes. `device` is where the batches go."""

    def __init__(self, *args: Any, device: torch.device | str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.device = device

    def __iter__(self) -> Iterator[TorchBatch]:
        for batch in super().__iter__():
            yield batch if self.device is None else batch.to(self.device)


def _of_loader(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """The place of the dataset in the state of a StatefulDataLoader: the least next step of its workers is that of
    all."""
    if "_snapshot" not in state:
        own: Mapping[str, Any] = state["dataset_state"]
        return own
    of_workers = state["_snapshot"]["_worker_snapshots"]
    states = [of_workers[f"worker_{number}"]["dataset_state"] for number in range(len(of_workers))]
    # The state of a worker that has not begun has the next step of all.
    steps = [state["step"] + (number if state["workers"] is None else 0) for number, state in enumerate(states)]
    return {**states[0], "step": min(steps) + state["_steps_since_snapshot"], "workers": None}
