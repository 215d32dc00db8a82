"""Read and write Logitcask caches: what a teacher said about a dataset, for students in any framework.

>>> import logitcask
>>> cache = logitcask.open("data/caches/demo")
>>> sample = cache["train"][17]
>>> sample.log_z_at(2.0)  # log-partition of every position at T = 2, in nats

`TrainingStream` has batches in the order of `logitcask train`, for Grain and JAX among others. `logitcask.torch` has a
loader and the losses for PyTorch, `logitcask.hf` what `transformers.Trainer` and TRL need, and `logitcask.capture`
writes a cache from a teacher in `transformers`. No file of a cache may be changed or cut while it is open: replace a
cache by another folder, never in place.
"""

from ._core import (
    FORMAT_VERSION,
    CacheError,
    DamagedError,
    NotACacheError,
    PlanError,
    RowError,
    UnfinishedError,
    VersionError,
)
from .batch import Batch
from .cache import Cache, Sample, Split, open
from .stream import TrainingStream
from .writer import CacheWriter, Pin, dense, sample, top_k, top_p

__all__ = [
    "FORMAT_VERSION",
    "Batch",
    "Cache",
    "CacheError",
    "CacheWriter",
    "DamagedError",
    "NotACacheError",
    "Pin",
    "PlanError",
    "RowError",
    "Sample",
    "Split",
    "TrainingStream",
    "UnfinishedError",
    "VersionError",
    "dense",
    "open",
    "sample",
    "top_k",
    "top_p",
]
