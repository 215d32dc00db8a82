"""Batches as NumPy arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
UNKNOWN_RANK = 2**32 - 1
"""Stands for the rank of a label that the source of a cache did not tell."""


@dataclass
class Batch:
    """B samples with P positions in all: the rows of all positions stand one after the other, without padding between.

    At inverse temperature b = 1 / T, the teacher's partition function, relative to that at T = 1, is the sum of
    exp(b * log_probs) over the kept classes that were not drawn, and of exp(tail_log_weights + b * tail_logits).
    """

    input_ids: Ints
    """[B, L], padded on the right with 0; packed: [1, sum of the lengths]."""
    position_ids: Ints
    """Index of each token within its sample, in the shape of `input_ids`."""
    lengths: Ints
    """[B], number of tokens of each sample."""
    sample_ids: Ints
    """[B], numbers of the samples in their split."""
    sources: Ints
    """[B], which of several caches each sample is from."""
    rows: Ints
    """[P], the positions as indices into the flattened `input_ids`: `logits.flatten(0, 1)[rows]` are the student's."""
    labels: Ints
    """[P], the token that follows each position."""
    class_ids: Ints
    """[P, k], the kept classes; 0 in empty places."""
    log_probs: Floats
    """[P, k], their log-probabilities at T = 1; -1e4 in empty places."""
    tail_logits: Floats
    """[P, a], logits of the tail's atoms, relative to log_z; classes left out by `classes` are among them."""
    tail_log_weights: Floats
    """[P, a], their log-weights at b = 0; -1e4 in empty places."""
    log_z: Floats | None = None
    """[P], log-partition of the raw logits; None if the source of the cache did not tell it."""
    gold_log_probs: Floats | None = None
    """[P], log-probability of the label; None if the source did not tell it of every label."""
    gold_ranks: Ints | None = None
    """[P], number of classes that the teacher ranks before the label; None if the source told it of no label, and
    `UNKNOWN_RANK` at a label of which it did not."""
    counts: Floats | None = None
    """[P, k], number of classes that each stands for; None unless classes were drawn."""
    is_drawn: NDArray[np.bool_] | None = None
    """[P, k], whether a class was drawn, and is therefore part of the tail; None unless classes were drawn."""
    extras: Mapping[str, Floats] = field(default_factory=dict)
    """The extra columns that were asked for: [P, size], or [B, size] for one vector a sample."""
    vocab_size: int = 0
    """Number of classes."""
    temperatures: tuple[float, float] = (1.0, 1.0)
    """The temperatures at which the tail is accurate."""
    tail: str = "atoms"
    """What is known of the tail: "atoms", "mass" (its probability at T = 1) or "none"."""

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.lengths)

    @property
    def attention_mask(self) -> Ints:
        """1 for a token and 0 for padding, in the shape of `input_ids`. A packed batch has no padding; its samples are
        told apart by `position_ids`."""
        if len(self.input_ids) != len(self.lengths):
            return np.ones_like(self.input_ids)
        return (np.arange(self.input_ids.shape[1]) < self.lengths[:, None]).astype(np.int64)

    def log_z_at(self, temperature: float) -> NDArray[np.float64]:
        """log of the sum of exp(logit / T) over all classes at every position, in nats, [P].

        Raises ValueError outside of `temperatures`, or if log_z is not known.
        """
        if self.log_z is None:
            raise ValueError("log_z is not known: the source of this cache gave log-probabilities only")
        if temperature == 1.0:
            return self.log_z.astype(np.float64)
        return self.log_partition(temperature) + self.log_z.astype(np.float64) / temperature

    def log_partition(self, temperature: float) -> NDArray[np.float64]:
        """`log_z_at(temperature)` less log_z / T: what the stored numbers alone determine, [P]."""
        check_temperature(temperature, self.temperatures, self.tail)
        inside = self.log_probs.astype(np.float64) / temperature
        if self.is_drawn is not None:
            inside = np.where(self.is_drawn, -1e4, inside)
        outside = self.tail_log_weights + self.tail_logits.astype(np.float64) / temperature
        terms = np.concatenate([inside, outside], axis=1)
        largest = terms.max(axis=1)
        return np.asarray(largest + np.log(np.exp(terms - largest[:, None]).sum(axis=1)))


def check_temperature(temperature: float, temperatures: tuple[float, float], tail: str) -> None:
    """Refuses a temperature at which the tail is not known."""
    low, high = temperatures
    if low <= temperature <= high:
        return
    why = {
        "atoms": "the tail was fitted for that range",
        "mass": "the source of this cache told the tail's probability at T = 1 only",
        "none": "the source of this cache told nothing of the tail",
    }[tail]
    raise ValueError(f"temperature = {temperature} was given, but the cache has {low} to {high}: {why}")


def made(arrays: Mapping[str, Any], plan: Mapping[str, Any]) -> Batch:
    """The batch of the arrays that the compiled part returns."""
    return Batch(
        **arrays, vocab_size=plan["vocab_size"], temperatures=temperatures_of(plan), tail=tail_of(plan)
    )


def tail_of(plan: Mapping[str, Any]) -> str:
    """What the source of a cache told of the tail."""
    return str(plan["keep"].get("source", {}).get("tail", "atoms"))


def temperatures_of(plan: Mapping[str, Any]) -> tuple[float, float]:
    """The temperatures at which the rows of a plan are accurate."""
    keep = plan["keep"]
    if tail_of(plan) != "atoms":
        return (1.0, 1.0)
    rule = keep.get("tail")
    if rule is None:
        return (0.0, float("inf"))
    return (rule["lowest_temperature"], rule["highest_temperature"])
