"""The compiled part; the package's own classes wrap it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CODEC_VERSION",
    "FORMAT_VERSION",
    "SELECTION_VERSION",
    "Cache",
    "CacheError",
    "DamagedError",
    "NotACacheError",
    "PlanError",
    "RowError",
    "Stream",
    "UnfinishedError",
    "VersionError",
    "Writer",
    "hash_bytes",
    "hash_files",
]

FORMAT_VERSION: int
CODEC_VERSION: int
SELECTION_VERSION: int

class CacheError(Exception): ...
class NotACacheError(CacheError): ...
class UnfinishedError(CacheError): ...
class DamagedError(CacheError): ...
class VersionError(CacheError): ...
class PlanError(CacheError): ...
class RowError(CacheError): ...

def hash_bytes(content: bytes) -> str: ...
def hash_files(paths: Sequence[Path]) -> str: ...

@final
class Cache:
    def __new__(cls, folder: Path, extras: list[str] = ..., mapped: bool = ...) -> Cache: ...
    @property
    def cache_id(self) -> str: ...
    @property
    def plan(self) -> str: ...
    @property
    def totals(self) -> str: ...
    @property
    def splits(self) -> list[tuple[str, int]]: ...
    @property
    def tokenizer_path(self) -> Path: ...
    def companions(self) -> dict[str, bytes]: ...
    def batch(
        self,
        split: str,
        ids: list[int],
        classes: int | None = ...,
        max_length: int | None = ...,
        packed: bool = ...,
    ) -> dict[str, Any]: ...
    def statistics(self, split: str, id: int, temperature: float) -> list[tuple[float, float, float]]: ...
    def arrow_stream(self, split: str, rows: int) -> object: ...
    def verify(self) -> list[str]: ...

@final
class Stream:
    def __new__(
        cls,
        caches: list[Cache],
        weights: list[float],
        split: str,
        seed: int,
        batch_size: int,
        share: tuple[int, int],
        first: int,
        stride: int,
        ahead: int,
        classes: int | None,
        max_length: int | None,
        packed: bool,
    ) -> Stream: ...
    @staticmethod
    def in_order(
        cache: Cache,
        split: str,
        batch_size: int,
        first: int,
        stride: int,
        ahead: int,
        classes: int | None,
        max_length: int | None,
        packed: bool,
    ) -> Stream: ...
    def next(self) -> dict[str, Any] | None: ...

@final
class Writer:
    def __new__(
        cls, folder: Path, plan: str, tokenizer: bytes, companions: list[tuple[str, bytes]], threads: int
    ) -> Writer: ...
    @property
    def plan(self) -> str: ...
    def pending(self) -> list[tuple[int, str, int, int]]: ...
    def claim(self, unit: int) -> bool: ...
    def summary(self, width: int) -> tuple[int, float, float, int] | None: ...
    def add_logits(
        self,
        split: str,
        sample_id: int,
        origin: tuple[int, int],
        input_ids: list[int],
        positions: list[int] | None,
        logits: NDArray[np.float32],
        extras: Mapping[str, NDArray[np.float32]],
    ) -> bool: ...
    def add_summaries(
        self,
        split: str,
        sample_id: int,
        origin: tuple[int, int],
        input_ids: list[int],
        positions: list[int] | None,
        width: int,
        summaries: Mapping[str, Any],
        row: Callable[[int], NDArray[np.float32]],
        extras: Mapping[str, NDArray[np.float32]],
    ) -> bool: ...
    def finish(self) -> str: ...
