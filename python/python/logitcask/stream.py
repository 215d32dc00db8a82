"""Endless streams of training batches in the order of the Rust trainer, as NumPy arrays."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from . import _core
from .batch import Batch, made
from .cache import AHEAD, Cache


class Run:
    """What determines the batches of a run, and the place in it: base of `TrainingStream` and of the datasets for
    PyTorch.

    Each step has `batch_size` samples over all ranks; rank r of W gets the r-th W-th part of them. The order depends on
    `seed` alone: it is that of `logitcask train`, and ranks do not change which samples a step has. Epochs follow each
    other without a gap, and a step may span two.

    Several caches are mixed by `weights`: each sample is from the cache that is furthest below its share.
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
        """`steps` is the number of the step at which the stream ends; None means never. `classes` uses so many of the
        kept classes and moves the others to the tail, exactly. `max_length` uses the first tokens of each sample.
        `packed` puts the samples of a batch into one row. Without `rank` and `world_size`, there is one process, or for
        PyTorch those of `torch.distributed`.

        Raises ValueError for a batch size that the ranks do not divide, and for caches whose tokens differ.
        """
        self.caches = [caches] if isinstance(caches, Cache) else list(caches)
        self.weights = [1.0] * len(self.caches) if weights is None else [float(weight) for weight in weights]
        self.split, self.seed, self.steps = split, seed, steps
        self.classes, self.max_length, self.packed = classes, max_length, packed
        own, processes = self._process_group()
        self.batch_size = batch_size
        self.rank, self.world_size = own if rank is None else rank, world_size or processes
        self.step = 0
        """Number of the next step."""
        self._check()

    def _process_group(self) -> tuple[int, int]:
        """Rank and number of processes, unless they are given."""
        return 0, 1

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

    def _open(self, first: int, stride: int) -> _core.Stream:
        """The batches of every `stride`-th step from `first` on."""
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

    def _next(self, stream: _core.Stream) -> Batch:
        arrays = stream.next()
        assert arrays is not None, "the stream of a run has no end"
        return made(arrays, self.caches[0].plan)

    def _place(self) -> dict[str, Any]:
        """The number of the next step, and what it belongs to."""
        return {
            "caches": [cache.cache_id for cache in self.caches],
            "weights": self.weights,
            "split": self.split,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "step": self.step,
        }

    def _go_to(self, place: Mapping[str, Any]) -> None:
        for key, mine in self._place().items():
            if key != "step" and place[key] != mine:
                raise ValueError(f"the state is that of another run: {key} was {place[key]!r} and is {mine!r}")
        self.step = int(place["step"])


class TrainingStream(Run):
    """An endless iterator of training batches as NumPy arrays, in the order of `logitcask train`; threads read ahead.

    >>> stream = TrainingStream(logitcask.open("data/caches/demo"), batch_size=8, steps=400)
    >>> for batch in stream:
    ...     state = stream.get_state()

    `get_state`, `set_state` and `start_prefetch` are those of Grain's iterators, so that its checkpoints hold the
    place. The state is the number of the next step: any number of ranks may load it. `logitcask.torch.Loader` is the
    same for PyTorch.
    """

    _stream: _core.Stream | None = None
    # The step and the process that the open stream is for.
    _at = (-1, -1)

    def __iter__(self) -> TrainingStream:
        return self

    def __next__(self) -> Batch:
        if self.steps is not None and self.step >= self.steps:
            raise StopIteration
        stream = self.start_prefetch()
        # An interruption may lose the batch that is read, and an error ends the stream: either way, it is opened again.
        self._at = (-1, -1)
        batch = self._next(stream)
        self.step += 1
        self._at = (self.step, os.getpid())
        return batch

    def start_prefetch(self) -> _core.Stream:
        """Begins to read the batches from the place on, unless that has begun."""
        if self._stream is None or self._at != (self.step, os.getpid()):
            self._stream, self._at = self._open(self.step, 1), (self.step, os.getpid())
        return self._stream

    def get_state(self) -> bytes:
        """The place in the run, as JSON."""
        return json.dumps(self._place()).encode()

    def set_state(self, state: bytes) -> None:
        """Goes on at a place that `get_state` returned. Raises ValueError if it is that of another run."""
        self._go_to(json.loads(state))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_stream", "_at")}


def _identity(value: Any) -> Any:
    return value["fingerprint"] if isinstance(value, Mapping) else value
