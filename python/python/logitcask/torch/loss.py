"""The loss of a student that learns from a cache."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.utils.checkpoint
from torch import Tensor

from ..batch import check_temperature
from . import temperature_rules
from .batch import TorchBatch
from .compared import compared
from .divergences import Divergence, find
from .statistics import collect
from .temperature_rules import LogitStd, TemperatureRule, within
from .token_weights import TokenWeight

SCALES = ("squared", "product", "none")


def kd_loss(
    logits: Tensor | None,
    batch: TorchBatch,
    temperature: float | Tensor = 1.0,
    *,
    divergence: str | Divergence = "forward_kl",
    tail: str = "bucket",
    alpha: float = 1.0,
    scale: str = "squared",
    student_temperature: float | Tensor | None = None,
    temperature_rule: str | TemperatureRule | None = None,
    reduction: str = "mean",
    weights: Tensor | TokenWeight | None = None,
    hidden: Tensor | None = None,
    lm_head: Tensor | None = None,
    bias: Tensor | None = None,
    chunk: int = 1024,
) -> Tensor:
    """alpha * weight * scale * divergence(teacher, student) + (1 - alpha) * cross entropy of the labels, in nats.

    `logits` are the student's, of all tokens in the shape of `batch.input_ids` ([B, L, V]) or of the positions alone
    ([P, V]). Instead, `hidden` ([B, L, d] or [P, d]) and `lm_head` ([V, d], with an optional `bias` [V]) may be given;
    then the logits of at most `chunk` positions exist at once, also in the backward pass.

    `temperature` is a number, or a tensor with one value or one for each position ([P]); gradients flow into it.
    `student_temperature` is the same for the student, if it differs. A `temperature_rule` (a name, or one of
    `logitcask.torch.temperature_rules`) chooses both for each position, from `temperature` and the rows of the whole
    batch; with `hidden`, one that looks at the student computes the head's product a second time. `scale="squared"`
    multiplies by the teacher's temperature squared and `"product"` by the teacher's times the student's, which keeps
    gradients from fading; `"none"` does not.

    `tail` says how the classes that were not cached count: "bucket" makes them one class on both sides, with the
    teacher's exact probability at the temperature; "uniform" spreads it evenly; "renorm" leaves them out; "sampled"
    lets drawn classes stand for them, without bias. `weights` multiply the divergence of each position: a tensor [P],
    or one of `logitcask.torch.token_weights`.

    `reduction` is "mean" or "sum" over positions, or "none" for [P]. Raises ValueError for a temperature, tail,
    divergence or rule that the cache cannot serve.
    """
    rule = None if temperature_rule is None else temperature_rules.find(temperature_rule)
    if rule is not None and student_temperature is not None:
        raise ValueError(
            "student_temperature was given beside temperature_rule, which decides the student's temperature too"
        )
    term = _Term(find(divergence), tail, alpha, scale, temperature, student_temperature, rule, None)
    term.check(batch, reduction)
    if (logits is None) == (hidden is None or lm_head is None):
        raise ValueError("either logits or hidden and lm_head must be given")
    given = logits if logits is not None else hidden
    assert given is not None
    student = _Student(_at_positions(given, batch), lm_head, bias)
    positions, pieces = len(batch.rows), []
    if alpha > 0.0 and positions > 0:
        term = term.decided(student, batch, weights, chunk)
    for start in range(0, positions, chunk):
        end = min(start + chunk, positions)
        pieces.append(student.apply(start, end, batch.part(start, end), term.part(start, end)))
    losses = torch.cat(pieces) if pieces else student.rows.flatten()[:0]
    if reduction == "none":
        return losses
    return losses.sum() / max(positions, 1) if reduction == "mean" else losses.sum()


@dataclass(frozen=True)
class _Term:
    """What is computed at each position. Temperatures and weights are numbers, or tensors of one value or one a
    position."""

    kind: Divergence
    tail: str
    alpha: float
    scale: str
    temperature: float | Tensor
    student_temperature: float | Tensor | None
    rule: TemperatureRule | None
    weights: Tensor | None

    def check(self, batch: TorchBatch, reduction: str) -> None:
        kind, tail = self.kind, self.tail
        if tail not in kind.tails:
            raise ValueError(f"tail = {tail!r} was given, but {kind.name} needs one of {', '.join(kind.tails)}")
        if tail == "sampled" and batch.counts is None:
            raise ValueError('tail = "sampled" was given, but this cache has no drawn classes; use "bucket"')
        if tail != "renorm" and batch.tail == "none":
            raise ValueError(f'tail = {tail!r} was given, but this cache knows nothing of the tail; use "renorm"')
        if batch.tail != "atoms" and (kind.needs_squares or kind.needs_logits):
            raise ValueError(
                f"{kind.name} needs all classes of the teacher, and the source of this cache did not tell them"
            )
        if kind.needs_logits and batch.log_z is None:
            raise ValueError(f"{kind.name} compares logits, but the source of this cache told log-probabilities only")
        if kind.needs_label and (batch.gold_log_probs is None or batch.is_drawn is not None):
            why = (
                "their probabilities are not known" if batch.gold_log_probs is None else "classes were drawn at random"
            )
            raise ValueError(f"{kind.name} takes labels out of the other classes, but in this cache {why}")
        if kind.compares_positions and batch.class_ids.shape[1] < batch.vocab_size:
            raise ValueError(f"{kind} compares each class over positions, and this cache does not have every class")
        if self.rule is not None:
            self.rule.check(batch)
        for name, value, accepted in (("scale", self.scale, SCALES), ("reduction", reduction, ("mean", "sum", "none"))):
            if value not in accepted:
                raise ValueError(f"{name} = {value!r} was given, but it must be one of {', '.join(accepted)}")

    def decided(self, student: _Student, batch: TorchBatch, weights: Tensor | TokenWeight | None, chunk: int) -> _Term:
        """With the temperatures and weights that rules choose for the whole batch."""
        needs = [] if self.rule is None else list(self.rule.needs)
        if isinstance(weights, TokenWeight):
            needs += weights.needs
        seen = collect(needs, student.logits, batch, chunk)
        if isinstance(weights, TokenWeight):
            weights = weights.weights(seen, batch.vocab_size)
        term = replace(self, weights=weights)
        if self.rule is None or isinstance(self.rule, LogitStd):
            return term
        base = torch.as_tensor(self.temperature, dtype=torch.float64, device=student.rows.device).reshape(-1)
        theirs, ours = self.rule.temperatures(seen, base, batch)
        return replace(term, rule=None, temperature=within(theirs, batch), student_temperature=ours)

    def part(self, start: int, end: int) -> _Term:
        """For some of the positions."""

        def of(value: Any) -> Any:
            return value[start:end] if isinstance(value, Tensor) and value.numel() > 1 else value

        return replace(
            self,
            temperature=of(self.temperature),
            student_temperature=of(self.student_temperature),
            weights=of(self.weights),
        )

    def temperatures(self, logits: Tensor, batch: TorchBatch) -> tuple[Tensor, Tensor]:
        """The teacher's and the student's, [n or 1, 1]. Raises ValueError for one that the rows are not accurate at."""
        theirs = _column(self.temperature, logits)
        if isinstance(self.rule, LogitStd):
            theirs, ours = (t[:, None] for t in self.rule.of_rows(logits, theirs[:, 0], batch))
        else:
            ours = theirs if self.student_temperature is None else _column(self.student_temperature, logits)
        if self.tail != "renorm":
            _check_range(theirs.detach(), batch)
        return theirs, ours

    def rows(self, logits: Tensor, batch: TorchBatch) -> Tensor:
        """The loss at each position, [n]. logits: [n, V]."""
        logits = logits if logits.dtype == torch.float64 else logits.float()
        if logits.shape[1] < batch.vocab_size:
            raise ValueError(f"the student has {logits.shape[1]} classes, but the cache has {batch.vocab_size}")
        # Neither part is computed where it has no weight: each is a pass over all logits.
        of_labels: Tensor | float = 0.0
        if self.alpha < 1.0:
            of_labels = torch.nn.functional.cross_entropy(logits, batch.labels, reduction="none")
            if self.alpha == 0.0:
                return of_labels
        theirs, ours = self.temperatures(logits, batch)
        losses = self.kind.rows(compared(logits, batch, theirs, ours, self.kind, self.tail))
        if self.scale != "none":
            losses = losses * (theirs * (theirs if self.scale == "squared" else ours)).squeeze(1)
        if self.weights is not None:
            losses = losses * self.weights.to(losses.dtype)
        return self.alpha * losses + (1 - self.alpha) * of_labels


@dataclass(frozen=True)
class _Student:
    """The student's logits at the positions [P, V], or its hidden states [P, d] and what makes logits of them."""

    rows: Tensor
    lm_head: Tensor | None
    bias: Tensor | None

    def logits(self, start: int, end: int) -> Tensor:
        """The logits of some positions, [n, V]."""
        return self._of(self.rows[start:end])

    def _of(self, rows: Tensor) -> Tensor:
        if self.lm_head is None:
            return rows
        bias = None if self.bias is None else self.bias.to(rows.dtype)
        return torch.nn.functional.linear(rows, self.lm_head.to(rows.dtype), bias)

    def apply(self, start: int, end: int, batch: TorchBatch, term: _Term) -> Tensor:
        """The loss at some positions, [n]."""
        rows = self.rows[start:end]
        if self.lm_head is None or not torch.is_grad_enabled():
            return term.rows(self._of(rows), batch)
        # The logits are computed again in the backward pass, piece by piece.
        computed: Tensor = torch.utils.checkpoint.checkpoint(
            lambda rows: term.rows(self._of(rows), batch), rows, use_reentrant=False
        )
        return computed


def _at_positions(values: Tensor, batch: TorchBatch) -> Tensor:
    if values.dim() == 3:
        expected = tuple(batch.input_ids.shape)
        if tuple(values.shape[:2]) != expected:
            raise ValueError(f"values of {tuple(values.shape[:2])} tokens were given for a batch of {expected}")
        return values.flatten(0, 1)[batch.rows]
    if len(values) != len(batch.rows):
        raise ValueError(f"{len(values)} rows were given for {len(batch.rows)} positions")
    return values


def _check_range(temperature: Tensor, batch: TorchBatch) -> None:
    low, high = batch.temperatures
    for value in (float(temperature.min()), float(temperature.max())):
        # An end of the range may have been rounded to f32.
        if not low * (1 - 1e-6) <= value <= high * (1 + 1e-6):
            check_temperature(value, batch.temperatures, batch.tail)


def _column(value: float | Tensor, like: Tensor) -> Tensor:
    """One value, or one a position, as [n or 1, 1]."""
    return torch.as_tensor(value, dtype=like.dtype, device=like.device).reshape(-1, 1)
