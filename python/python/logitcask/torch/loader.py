"""Endless streams of training batches in the order of the Rust trainer."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.utils.data

from .. import _core
from ..batch import made
from ..cache import AHEAD, Cache
from .batch import TorchBatch, to_torch


class Dataset(torch.utils.data.IterableDataset[TorchBatch]):
    """An endless stream of batches for a `torch.utils.data.DataLoader` with `batch_size=None`.

    Each step has `batch_size` samples over all ranks; rank r of W gets the r-th W-th part of them. The order depends on
    `seed` alone: it is that of `logitcask train`, and neither ranks nor workers change which samples a step has. Epochs
    follow each other without a gap, and a step may span two.

    Several caches are mixed by `weights`: each sample is from the cache that is furthest below its share.

    The state is the number of the next step: it may be loaded by any number of ranks and workers, before or after iteration
    began. In a worker process it is that worker's own, which `torchdata`'s StatefulDataLoader keeps; a plain DataLoader
    forgets it.
    """

    def __init__(
        self,
        caches: Cache | Sequence[Cache],
        batch_size: int,
        *,
        weights: Sequence[float] | None = None,
        split: str = "train",
        seed: int = 0,
        steps: int | None = None,
        classes: int | None = None,
        max_length: int | None = None,
        packed: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        """`steps` is the number of the step at which the stream ends; None means never. `classes` uses so many of the kept
        classes and moves the others to the tail, exactly. `max_length` uses the first tokens of each sample. `packed` puts
        the samples of a batch into one row. `rank` and `world_size` are those of `torch.distributed` unless given.

        Raises ValueError for a batch size that the ranks do not divide, and for caches whose tokens differ.
        """
        super().__init__()
        self.caches = [caches] if isinstance(caches, Cache) else list(caches)
        self.weights = [1.0] * len(self.caches) if weights is None else [float(weight) for weight in weights]
        self.split, self.seed, self.steps = split, seed, steps
        self.classes, self.max_length, self.packed = classes, max_length, packed
        self.batch_size = batch_size
        is_distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        self.rank = rank if rank is not None else (torch.distributed.get_rank() if is_distributed else 0)
        self.world_size = world_size or (torch.distributed.get_world_size() if is_distributed else 1)
        self.step = 0
        # Number of workers of which `step` is the step of one; None if it is that of all.
        self._workers: int | None = None
        self._check()

    def _check(self) -> None:
        if not self.caches or len(self.weights) != len(self.caches):
            raise ValueError(f"{len(self.weights)} weights were given for {len(self.caches)} caches")
        if any(not 0 < weight < float("inf") for weight in self.weights):
            raise ValueError(f"weights = {self.weights} was given, but each must be a number above 0")
        if self.batch_size < 1 or self.batch_size % self.world_size:
            raise ValueError(
                f"batch_size = {self.batch_size} was given, but it is the number of samples of a step over all "
                f"{self.world_size} ranks, and must be a multiple of their number"
            )
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank = {self.rank} was given for {self.world_size} ranks")
        first = self.caches[0]
        for cache in self.caches:
            cache[self.split]
            for what in ("vocab_size", "tokenizer"):
                same = [_identity(one.plan[what]) for one in (first, cache)]
                if same[0] != same[1]:
                    raise ValueError(f"{first.folder} and {cache.folder} cannot be mixed: their {what} differs")
            if (cache.temperatures, cache.extras) != (first.temperatures, first.extras):
                raise ValueError(
                    f"{first.folder} and {cache.folder} cannot be mixed: their temperatures or extra columns differ"
                )

    def __len__(self) -> int:
        if self.steps is None:
            raise TypeError("this stream has no end: give it steps=")
        return self.steps

    def _stream(self, first: int, stride: int) -> _core.Stream:
        share = self.batch_size // self.world_size
        return _core.Stream(
            [cache.core for cache in self.caches],
            self.weights,
            self.split,
            self.seed,
            self.batch_size,
            (self.rank * share, (self.rank + 1) * share),
            first,
            stride,
            AHEAD,
            self.classes,
            self.max_length,
            self.packed,
        )

    def __iter__(self) -> Iterator[TorchBatch]:
        worker = torch.utils.data.get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        # A DataLoader takes turns among its workers, which puts their steps in order again.
        if self._workers is None:
            self.step, self._workers = self.step + number, workers
        elif self._workers != workers:
            raise ValueError(f"the state is that of one of {self._workers} workers, but there are {workers}")
        stream: _core.Stream | None = None
        place = (-1, -1)
        while self.steps is None or self.step < self.steps:
            if stream is None or place != (self.step, os.getpid()):
                stream = self._stream(self.step, workers)
            arrays = stream.next()
            if arrays is None:
                raise RuntimeError("an error ended this stream before")
            batch = to_torch(made(arrays, self.caches[0].plan))
            self.step += workers
            place = (self.step, os.getpid())
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """The place in the run: the number of the next step, and what it belongs to."""
        return {
            "caches": [cache.cache_id for cache in self.caches],
            "weights": self.weights,
            "split": self.split,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "step": self.step,
            "workers": self._workers if torch.utils.data.get_worker_info() else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on at the place of a `state_dict`, which may be from another number of ranks or workers. Raises ValueError if
        it is that of another run."""
        for key, mine in self.state_dict().items():
            if key not in ("step", "workers") and state[key] != mine:
                raise ValueError(f"the state is that of another run: {key} was {state[key]!r} and is {mine!r}")
        self.step, self._workers = int(state["step"]), state["workers"]


class Loader(Dataset):
    """A `Dataset` that is iterated without a DataLoader: a thread of Rust reads ahead, which is faster than any number of
    worker processes. `device` is where the batches go."""

    def __init__(self, *args: Any, device: torch.device | str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.device = device

    def __iter__(self) -> Iterator[TorchBatch]:
        for batch in super().__iter__():
            yield batch if self.device is None else batch.to(self.device)


def _identity(value: Any) -> Any:
    return value["fingerprint"] if isinstance(value, Mapping) else value
