"""Numbers of single positions by which temperature rules and token weights decide."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from ..batch import UNKNOWN_RANK
from .batch import TorchBatch
from .compared import EMPTY, compared
from .divergences import Hellinger

Statistics = dict[str, Tensor]
"""Statistics by name, [P] each, in f64 and without a graph."""
Logits = Callable[[int, int], Tensor]
"""The student's logits of the positions from one number to another, [n, V]."""

NO_SHAPE = "the shape of the tail, and the source of this cache did not tell it"
NO_LOG_Z = "the teacher's raw logits, and the source of this cache told log-probabilities only"
DRAWN = "the teacher's most probable classes, and classes that were drawn need not have them among them"
NO_RANKS = "the rank of every label, and the source of this cache did not tell it"
NO_TAIL = "the probability of the tail, and the source of this cache did not tell it"


def collect(names: Iterable[str], logits: Logits, batch: TorchBatch, chunk: int) -> Statistics:
    """The statistics of these names at all positions of `batch`. The student's logits are computed only if one of them
    needs them, at most `chunk` positions at once. Raises ValueError for a statistic that the cache cannot serve."""
    wanted = set(names)
    for name in sorted(wanted):
        why = missing(name, batch)
        if why is not None:
            raise ValueError(f"{name} was asked for, but it needs {why}")
    with torch.no_grad():
        seen = {name: OF_TEACHER[name](batch).double() for name in wanted & OF_TEACHER.keys()}
        of_student = wanted - OF_TEACHER.keys()
        pieces: dict[str, list[Tensor]] = {name: [] for name in of_student}
        for start in range(0, len(batch.rows) if of_student else 0, chunk):
            end = min(start + chunk, len(batch.rows))
            rows, part = logits(start, end), batch.part(start, end)
            rows = rows if rows.dtype == torch.float64 else rows.float()
            for name in of_student:
                pieces[name].append(OF_STUDENT[name](rows, part).double())
    return {**seen, **{name: torch.cat(values) for name, values in pieces.items()}}


def missing(name: str, batch: TorchBatch) -> str | None:
    """What the batch lacks for this statistic."""
    if name in ("teacher_largest", "cosine"):
        return NO_LOG_Z if batch.log_z is None else DRAWN if batch.is_drawn is not None else None
    if name == "gold_ranks":
        return NO_RANKS if batch.gold_ranks is None or bool((batch.gold_ranks == UNKNOWN_RANK).any()) else None
    if name == "teacher_entropy":
        return NO_SHAPE if batch.tail != "atoms" else None
    return NO_TAIL if name == "distance" and batch.tail == "none" else None


def measure(batch: TorchBatch) -> tuple[Tensor, Tensor]:
    """The teacher's rows as weighted logits: log-weights and logits relative to log_z, [P, k + a] each, in f64. At
    inverse temperature b, the sum of exp(log-weight + b * logit) is the partition function."""
    log_probs = batch.log_probs.double()
    is_certain = log_probs > EMPTY / 2
    if batch.is_drawn is not None:
        is_certain = is_certain & ~batch.is_drawn
    zeros = torch.zeros_like(log_probs)
    kept = torch.where(is_certain, zeros, zeros + EMPTY)
    log_weights = torch.cat([kept, batch.tail_log_weights.double()], 1)
    return log_weights, torch.cat([torch.where(is_certain, log_probs, zeros), batch.tail_logits.double()], 1)


def moments(batch: TorchBatch, inverse: Tensor | float) -> tuple[Tensor, Tensor, Tensor]:
    """log of the partition function, and mean and variance of the logits relative to log_z, at an inverse temperature
    ([P, 1] or a number): [P] each. 0 weights all classes equally; there the tail is extrapolated."""
    log_weights, logits = measure(batch)
    terms = log_weights + inverse * logits
    shares = terms.softmax(1)
    mean = (shares * logits).sum(1)
    variance = (shares * (logits - mean[:, None]).square()).sum(1)
    return terms.logsumexp(1), mean, variance


def entropy(batch: TorchBatch, temperature: Tensor | float) -> tuple[Tensor, Tensor]:
    """The teacher's entropy in nats at a temperature ([P, 1] or a number), and its slope along the temperature: [P]
    each."""
    log_partition, mean, variance = moments(batch, 1.0 / temperature)
    at = temperature[:, 0] if isinstance(temperature, Tensor) else temperature
    return log_partition - mean / at, variance / at**3


def _teacher_largest(batch: TorchBatch) -> Tensor:
    assert batch.log_z is not None
    return batch.log_probs.double().max(1).values + batch.log_z.double()


def _gold_ranks(batch: TorchBatch) -> Tensor:
    assert batch.gold_ranks is not None
    return batch.gold_ranks


def _student_entropy(logits: Tensor, batch: TorchBatch) -> Tensor:
    log_q = logits.log_softmax(1)
    return -(log_q.exp() * log_q).sum(1)


def _student_margin(logits: Tensor, batch: TorchBatch) -> Tensor:
    first, second = (logits.topk(2, dim=1).values - logits.logsumexp(1, keepdim=True)).exp().unbind(1)
    return first - second


def _distance(logits: Tensor, batch: TorchBatch) -> Tensor:
    one = logits.new_ones(1, 1)
    kind = Hellinger()
    return kind.rows(compared(logits, batch, one, one, kind, "bucket")).clamp(0.0, 1.0).sqrt()


def _cosine(logits: Tensor, batch: TorchBatch) -> Tensor:
    assert batch.log_z is not None
    is_there = (batch.log_probs > EMPTY / 2).to(logits.dtype)
    theirs = (batch.log_probs + batch.log_z[:, None]).to(logits.dtype) * is_there
    ours = logits.gather(1, batch.class_ids) * is_there
    squares = theirs.square().sum(1) * ours.square().sum(1)
    return (theirs * ours).sum(1) / squares.clamp_min(1e-12).sqrt()


OF_TEACHER: dict[str, Callable[[TorchBatch], Tensor]] = {
    "teacher_largest": _teacher_largest,
    "teacher_entropy": lambda batch: entropy(batch, 1.0)[0],
    "gold_ranks": _gold_ranks,
}
"""Largest raw logit, entropy at T = 1, and number of classes before the label."""

OF_STUDENT: dict[str, Callable[[Tensor, TorchBatch], Tensor]] = {
    "student_largest": lambda logits, batch: logits.max(1).values,
    "student_confidence": lambda logits, batch: (logits.max(1).values - logits.logsumexp(1)).exp(),
    "student_margin": _student_margin,
    "student_entropy": _student_entropy,
    "distance": _distance,
    "cosine": _cosine,
}
"""Largest raw logit, probability of the first choice, its distance to the second, and entropy at T = 1; Hellinger
distance to the teacher at T = 1 with one bucket, within 0..1, and cosine of the two vectors of raw logits of the kept
classes."""
