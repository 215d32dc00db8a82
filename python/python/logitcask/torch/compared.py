"""The two sides of a divergence at the positions of a batch."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from .batch import TorchBatch
from .divergences import Divergence
from .terms import Compared, Terms

EMPTY = -1e4
"""Stands for the logarithm of zero; e^-1e4 is 0 in every float, and 0 times -1e4 is still 0."""
NO_MASS = -500.0
"""Log-mass at which nothing is left: every stored tail has more."""
LEAST_LEFT = 1e-4
"""Least share of a tail that is left without the label: the atoms' rounding could otherwise make it negative."""


def compared(
    logits: Tensor, batch: TorchBatch, teacher_t: Tensor, student_t: Tensor, kind: Divergence, tail: str
) -> Compared:
    """Teacher and student at their temperatures ([n, 1] or [1, 1]), with the tail policy applied. logits: [n, V]."""
    dtype = logits.dtype
    without = None
    if kind.needs_label:
        batch, without = _with_labels(batch)
    if kind.compares_positions:
        # The same class in the same column.
        order = batch.class_ids.argsort(1)
        batch = replace(batch, class_ids=batch.class_ids.gather(1, order), log_probs=batch.log_probs.gather(1, order))
    log_probs = batch.log_probs.to(dtype)
    is_there = batch.log_probs > EMPTY / 2
    is_certain = is_there if batch.is_drawn is None else is_there & ~batch.is_drawn
    shown = is_there if tail == "sampled" else is_certain
    counts = shown.to(dtype) if batch.counts is None or tail != "sampled" else batch.counts.to(dtype) * shown

    nothing = torch.full_like(log_probs, EMPTY)
    inside = torch.where(is_certain, log_probs / teacher_t, nothing)
    atoms = batch.tail_log_weights.to(dtype) + batch.tail_logits.to(dtype) / teacher_t
    has_tail = atoms.shape[1] > 0
    log_tail = atoms.logsumexp(1, keepdim=True) if has_tail else nothing[:, :1]
    if without is not None:
        share = torch.where(without > EMPTY / 2, without.to(dtype) / teacher_t - log_tail, nothing[:, :1]).exp()
        log_tail = log_tail + (1 - share).clamp_min(LEAST_LEFT).log()
    log_total = torch.cat([inside, log_tail], 1).logsumexp(1, keepdim=True)
    if tail == "renorm":
        log_total = inside.logsumexp(1, keepdim=True)
    log_p = log_probs / teacher_t - log_total

    scaled = logits / student_t
    log_z = scaled.logsumexp(1, keepdim=True)
    # An empty place repeats the first class, so that it never hides one that was not kept.
    ids = torch.where(shown, batch.class_ids, batch.class_ids[:, :1])
    log_q = scaled.gather(1, ids) - log_z
    kept = Terms(log_p, log_q, counts)
    squares = None
    if kind.needs_squares:
        doubled = [torch.where(is_certain, 2 * log_probs / teacher_t, nothing)]
        doubled.append(atoms + batch.tail_logits.to(dtype) / teacher_t)
        theirs = (torch.cat(doubled, 1).logsumexp(1) - 2 * log_total[:, 0]).exp()
        squares = (theirs, (2 * scaled.log_softmax(1)).exp().sum(1))
    to_logits = None
    if kind.needs_logits:
        assert batch.log_z is not None
        to_logits = (batch.log_z.to(dtype) / teacher_t[:, 0] + log_total[:, 0], log_z[:, 0])
    means = None
    if kind.needs_mean_logit:
        assert batch.log_z is not None
        weights = torch.cat([is_certain.to(dtype), batch.tail_log_weights.to(dtype).exp()], 1)
        at = torch.cat([torch.where(is_certain, log_probs, nothing * 0), batch.tail_logits.to(dtype)], 1)
        mean = (weights * at).sum(1) / weights.sum(1) + batch.log_z.to(dtype)
        means = (mean / teacher_t[:, 0], scaled.mean(1))
    return Compared(
        kept=kept,
        outside=_outside(scaled, log_z, ids, log_tail - log_total, shown, kind, tail) if has_tail else None,
        is_label=batch.class_ids == batch.labels[:, None],
        log_z=to_logits,
        mean_logit=means,
        squares=squares,
        vocab_size=logits.shape[1],
    )


def _with_labels(batch: TorchBatch) -> tuple[TorchBatch, Tensor]:
    """The batch with a column for the labels that were not kept, and their log-probabilities, which leave the tail, [n,
    1]."""
    assert batch.gold_log_probs is not None
    is_kept = ((batch.class_ids == batch.labels[:, None]) & (batch.log_probs > EMPTY / 2)).any(1, keepdim=True)
    without = batch.gold_log_probs[:, None].masked_fill(is_kept, EMPTY)
    ids = torch.where(is_kept, batch.class_ids[:, :1], batch.labels[:, None])
    class_ids, log_probs = torch.cat([batch.class_ids, ids], 1), torch.cat([batch.log_probs, without], 1)
    return replace(batch, class_ids=class_ids, log_probs=log_probs), without


def _outside(
    scaled: Tensor, log_z: Tensor, ids: Tensor, log_mass: Tensor, shown: Tensor, kind: Divergence, tail: str
) -> Terms | None:
    """The classes that were not kept: one term, or each its own."""
    if tail not in ("bucket", "uniform"):
        return None
    # A row that holds every class has no term for others, whatever probability the student gives them.
    is_there = (log_mass > NO_MASS).to(scaled.dtype)
    is_kept = torch.zeros_like(scaled, dtype=torch.bool).scatter(1, ids, True)
    # Without any class shown, nothing is kept.
    is_kept = is_kept & shown.any(1, keepdim=True)
    if tail == "uniform" and kind.sums_over_classes:
        each = (~is_kept).to(scaled.dtype)
        classes = each.sum(1, keepdim=True).clamp_min(1.0)
        return Terms(log_mass - classes.log(), scaled - log_z, each * is_there)
    log_other = scaled.masked_fill(is_kept, -1e30).logsumexp(1, keepdim=True) - log_z
    return Terms(log_mass, log_other, is_there)
