"""Finished caches."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from . import _core
from .batch import Batch, made, temperatures_of


AHEAD = 4
"""Number of batches that are read in advance."""


def open(folder: str | os.PathLike[str], *, extras: Sequence[str] = (), mapped: bool = True) -> Cache:
    """Opens the finished cache in `folder`; its plan, manifest and tokenizer are checked, and every row when it is read.

    `extras` names the extra columns that batches have. `mapped=False` reads shards into memory instead of mapping them.
    Raises `NotACacheError`, `UnfinishedError`, `VersionError` or `DamagedError`, each with the file and what to do.
    """
    return Cache(folder, extras=extras, mapped=mapped)


class Cache:
    """A finished cache. It can be pickled, and used after a fork: each process opens it anew."""

    def __init__(self, folder: str | os.PathLike[str], *, extras: Sequence[str] = (), mapped: bool = True) -> None:
        self.folder = Path(folder)
        self.extras = tuple(extras)
        self.mapped = mapped
        self._opened = (os.getpid(), _core.Cache(self.folder, list(self.extras), mapped))
        self.cache_id: str = self.core.cache_id
        """Hash of plan and rows, as 64 hex digits: equal ids mean equal rows."""
        self.plan: dict[str, Any] = json.loads(self.core.plan)
        """Everything that determined the rows, as FORMAT.md describes it."""
        self.totals: dict[str, Any] = json.loads(self.core.totals)
        """Numbers of rows, positions, entries and bytes, and the measured errors."""
        self.splits: dict[str, int] = dict(self.core.splits)
        """Number of samples of each split."""

    @property
    def core(self) -> _core.Cache:
        """The compiled reader of this process: one that was opened before a fork is never touched, for its locks may be
        held by a thread that does not exist here."""
        pid, core = self._opened
        if pid != os.getpid():
            core = _core.Cache(self.folder, list(self.extras), self.mapped)
            self._opened = (os.getpid(), core)
        return core

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.folder, self.extras, self.mapped, self.cache_id)

    def __repr__(self) -> str:
        splits = ", ".join(f"{name}: {samples}" for name, samples in self.splits.items())
        return f"logitcask.Cache({str(self.folder)!r}, id {self.cache_id[:8]}, {splits})"

    def __getitem__(self, split: str) -> Split:
        """A split. Raises KeyError, which names the splits that are there."""
        if split not in self.splits:
            raise KeyError(f"{self.folder} has no split {split!r}; its splits are {', '.join(self.splits)}")
        return Split(self, split)

    def __contains__(self, split: str) -> bool:
        return split in self.splits

    def __iter__(self) -> Iterator[str]:
        return iter(self.splits)

    def __len__(self) -> int:
        return len(self.splits)

    @property
    def vocab_size(self) -> int:
        """Number of classes."""
        return int(self.plan["vocab_size"])

    @property
    def temperatures(self) -> tuple[float, float]:
        """The lowest and highest temperature at which the rows are accurate."""
        return temperatures_of(self.plan)

    def error(self, temperature: float) -> float:
        """The largest measured error of log Z over all positions, in nats, at the two measured temperatures around
        `temperature`: the errors between them are smaller than at the worse of the two. Raises ValueError outside of
        `temperatures`.
        """
        measured = self.totals["log_z_error"]
        low, high = self.temperatures
        if not low <= temperature <= high:
            raise ValueError(f"temperature = {temperature} was given, but the cache has {low} to {high}")
        if not measured:
            return 0.0
        below = max((m for m in measured if m["temperature"] <= temperature), key=_temperature, default=measured[-1])
        above = min((m for m in measured if m["temperature"] >= temperature), key=_temperature, default=measured[0])
        return float(max(below["worst"], above["worst"]))

    def tokenizer(self) -> Any:
        """The teacher's tokenizer as a `PreTrainedTokenizerFast`; needs `transformers`."""
        from transformers import PreTrainedTokenizerFast

        template = self.companions().get("chat_template.jinja")
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(self.core.tokenizer_path))
        for name, key in (("bos_token", "bos"), ("eos_token", "end")):
            if self.plan.get(key) is not None:
                setattr(tokenizer, name, tokenizer.convert_ids_to_tokens(self.plan[key]))
        if template is not None:
            tokenizer.chat_template = template.decode()
        return tokenizer

    def companions(self) -> dict[str, bytes]:
        """Files of the teacher that students inherit, by name."""
        return self.core.companions()

    def verify(self) -> list[str]:
        """Checks every hash and every row, and returns the problems as sentences: an empty list for a whole cache."""
        return self.core.verify()


class Split:
    """The samples of a split."""

    def __init__(self, cache: Cache, name: str) -> None:
        self.cache = cache
        self.name = name

    def __len__(self) -> int:
        return self.cache.splits[self.name]

    def __repr__(self) -> str:
        return f"{self.cache!r}[{self.name!r}]"

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        """A sample by its number, counted from 0, or several by a slice."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number = int(index)
        if not -len(self) <= number < len(self):
            raise IndexError(f"sample {number} of {len(self)} in the split {self.name!r} of {self.cache.folder}")
        number %= len(self)
        return Sample(self, number, self.batch([number]))

    def batch(
        self,
        ids: Sequence[int] | NDArray[np.integer[Any]],
        *,
        classes: int | None = None,
        max_length: int | None = None,
        packed: bool = False,
    ) -> Batch:
        """The samples with these numbers, in this order.

        `classes` uses so many of the kept classes and moves the others to the tail, exactly. `max_length` uses the first
        tokens of each sample. `packed` puts all samples into one row, one after the other.
        """
        arrays = self.cache.core.batch(self.name, [int(i) for i in ids], classes, max_length, packed)
        return made(arrays, self.cache.plan)

    def batches(
        self,
        batch_size: int,
        *,
        classes: int | None = None,
        max_length: int | None = None,
        packed: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> Iterator[Batch]:
        """Every sample once, by ascending number, for an evaluation: process `rank` of `world_size` gets every
        `world_size`-th batch. The last batch may be smaller."""
        if batch_size < 1:
            raise ValueError(f"batch_size = {batch_size} was given, but it must be at least 1")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank = {rank} was given for {world_size} ranks")
        stream = _core.Stream.in_order(
            self.cache.core, self.name, batch_size, rank, world_size, AHEAD, classes, max_length, packed
        )
        while (arrays := stream.next()) is not None:
            yield made(arrays, self.cache.plan)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The Arrow C stream interface: pyarrow, polars, DuckDB and others read the split from it, packed caches too."""
        return self.cache.core.arrow_stream(self.name, 128)

    def to_arrow(self) -> Any:
        """All samples as a `pyarrow.Table`; `pyarrow.RecordBatchReader.from_stream(split)` reads them piece by piece."""
        import pyarrow

        return pyarrow.RecordBatchReader.from_stream(self).read_all()


class Sample:
    """A sample with the teacher's rows at its P positions."""

    def __init__(self, split: Split, number: int, batch: Batch) -> None:
        self.split = split
        self.number = number
        self.batch = batch
        """The arrays, as a batch of one sample."""

    def __repr__(self) -> str:
        return f"{self.split!r}[{self.number}]"

    @property
    def input_ids(self) -> NDArray[np.int64]:
        """[L], the tokens."""
        return self.batch.input_ids[0]

    @property
    def positions(self) -> NDArray[np.int64]:
        """[P], the places in `input_ids` after which the teacher was asked for the next token."""
        return self.batch.rows

    @property
    def labels(self) -> NDArray[np.int64]:
        """[P], the next token at each position."""
        return self.batch.labels

    @property
    def class_ids(self) -> NDArray[np.int64]:
        """[P, k], the kept classes."""
        return self.batch.class_ids

    @property
    def log_probs(self) -> NDArray[np.float32]:
        """[P, k], their log-probabilities at T = 1."""
        return self.batch.log_probs

    def log_z_at(self, temperature: float = 1.0) -> NDArray[np.float64]:
        """[P], log of the sum of exp(logit / T) over all classes, in nats."""
        return self._statistics(temperature)[:, 0]

    def entropy(self, temperature: float = 1.0) -> NDArray[np.float64]:
        """[P], entropy of the teacher's distribution at the temperature, in nats."""
        return self._statistics(temperature)[:, 1]

    def tail_mass(self, temperature: float = 1.0) -> NDArray[np.float64]:
        """[P], total probability of the classes that were not kept."""
        return self._statistics(temperature)[:, 2]

    def _statistics(self, temperature: float) -> NDArray[np.float64]:
        low, high = self.split.cache.temperatures
        if not low <= temperature <= high:
            raise ValueError(f"temperature = {temperature} was given, but the cache has {low} to {high}")
        core = self.split.cache.core
        return np.array(core.statistics(self.split.name, self.number, float(temperature)), dtype=np.float64)


def _temperature(measured: Mapping[str, float]) -> float:
    return measured["temperature"]


@functools.lru_cache(maxsize=8)
def _reopen(folder: Path, extras: tuple[str, ...], mapped: bool, cache_id: str) -> Cache:
    """Opens a pickled cache, which must still be the same. Samples that a worker sends bring their cache along, each for
    itself: it is opened once."""
    cache = Cache(folder, extras=extras, mapped=mapped)
    if cache.cache_id != cache_id:
        raise _core.CacheError(f"{folder}: the cache has the id {cache.cache_id[:8]}, but {cache_id[:8]} was pickled")
    return cache
