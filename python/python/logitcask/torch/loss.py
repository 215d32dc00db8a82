"""The loss of a student that learns from a cache."""

from __future__ import annotations

from typing import Any

import torch
import torch.utils.checkpoint
from torch import Tensor

from ..batch import check_temperature
from .batch import TorchBatch
from .divergences import Compared, Divergence, Terms, find

EMPTY = -1e4
"""Stands for the logarithm of zero; e^-1e4 is 0 in every float, and 0 times -1e4 is still 0."""
NO_MASS = -500.0
"""Log-mass at which nothing is left: every stored tail has more."""
SCALES = ("squared", "none")


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
    reduction: str = "mean",
    weights: Tensor | None = None,
    hidden: Tensor | None = None,
    lm_head: Tensor | None = None,
    bias: Tensor | None = None,
    chunk: int = 1024,
) -> Tensor:
    """alpha * scale * divergence(teacher, student) + (1 - alpha) * cross entropy of the labels, in nats.

    `logits` are the student's, of all tokens in the shape of `batch.input_ids` ([B, L, V]) or of the positions alone
    ([P, V]). Instead, `hidden` ([B, L, d] or [P, d]) and `lm_head` ([V, d], with an optional `bias` [V]) may be given; then
    the logits of at most `chunk` positions exist at once, also in the backward pass.

    `temperature` is a number, or a tensor with one value or one for each position ([P]); gradients flow into it.
    `student_temperature` is the same for the student, if it differs. `scale="squared"` multiplies by the teacher's
    temperature squared, which keeps gradients from fading.

    `tail` says how the classes that were not cached count: "bucket" makes them one class on both sides, with the teacher's
    exact probability at the temperature; "uniform" spreads it evenly; "renorm" leaves them out; "sampled" lets drawn classes
    stand for them, without bias. `weights` [P] multiply the divergence of each position.

    `reduction` is "mean" or "sum" over positions, or "none" for [P]. Raises ValueError for a temperature, tail or divergence
    that the cache cannot serve.
    """
    kind = find(divergence)
    _check(batch, kind, tail, scale, reduction)
    if (logits is None) == (hidden is None or lm_head is None):
        raise ValueError("either logits or hidden and lm_head must be given")
    given = logits if logits is not None else hidden
    assert given is not None
    at_positions = _at_positions(given, batch)
    positions, pieces = len(batch.rows), []
    for start in range(0, positions, chunk):
        end = min(start + chunk, positions)
        part = batch.part(start, end)
        of_part = [_part(value, start, end) for value in (temperature, student_temperature, weights)]

        def piece(rows: Tensor, part: TorchBatch = part, of_part: list[Any] = of_part) -> Tensor:
            if lm_head is not None:
                rows = torch.nn.functional.linear(rows, lm_head.to(rows.dtype), None if bias is None else bias.to(rows.dtype))
            return _rows(rows, part, of_part[0], of_part[1], of_part[2], kind, tail, alpha, scale)

        rows = at_positions[start:end]
        if lm_head is not None and torch.is_grad_enabled():
            # The logits are computed again in the backward pass, piece by piece.
            pieces.append(torch.utils.checkpoint.checkpoint(piece, rows, use_reentrant=False))
        else:
            pieces.append(piece(rows))
    losses = torch.cat(pieces) if pieces else at_positions.new_zeros(0)
    if reduction == "none":
        return losses
    return losses.sum() / max(positions, 1) if reduction == "mean" else losses.sum()


def _check(batch: TorchBatch, kind: Divergence, tail: str, scale: str, reduction: str) -> None:
    if tail not in kind.tails:
        raise ValueError(f"tail = {tail!r} was given, but {kind.name} needs one of {', '.join(kind.tails)}")
    if tail == "sampled" and batch.counts is None:
        raise ValueError('tail = "sampled" was given, but this cache has no drawn classes; use "bucket"')
    if tail != "renorm" and batch.tail == "none":
        raise ValueError(f'tail = {tail!r} was given, but this cache knows nothing of the tail; use "renorm"')
    if batch.tail != "atoms" and (kind.needs_squares or kind.needs_logits):
        raise ValueError(f"{kind.name} needs all classes of the teacher, and the source of this cache did not tell them")
    if kind.needs_logits and batch.log_z is None:
        raise ValueError(f"{kind.name} compares logits, but the source of this cache told log-probabilities only")
    for name, value, accepted in (("scale", scale, SCALES), ("reduction", reduction, ("mean", "sum", "none"))):
        if value not in accepted:
            raise ValueError(f"{name} = {value!r} was given, but it must be one of {', '.join(accepted)}")


def _at_positions(values: Tensor, batch: TorchBatch) -> Tensor:
    if values.dim() == 3:
        expected = tuple(batch.input_ids.shape)
        if tuple(values.shape[:2]) != expected:
            raise ValueError(f"values of {tuple(values.shape[:2])} tokens were given for a batch of {expected}")
        return values.flatten(0, 1)[batch.rows]
    if len(values) != len(batch.rows):
        raise ValueError(f"{len(values)} rows were given for {len(batch.rows)} positions")
    return values


def _part(value: Any, start: int, end: int) -> Any:
    return value[start:end] if isinstance(value, Tensor) and value.numel() > 1 else value


def _column(temperature: float | Tensor, like: Tensor, batch: TorchBatch, tail: str) -> Tensor:
    """The temperature as [n or 1, 1], which must be one that the teacher's rows are accurate at."""
    column = torch.as_tensor(temperature, dtype=like.dtype, device=like.device).reshape(-1, 1)
    if tail != "renorm":
        lowest, highest = float(column.detach().min()), float(column.detach().max())
        check_temperature(lowest, batch.temperatures, batch.tail)
        check_temperature(highest, batch.temperatures, batch.tail)
    return column


def _rows(
    logits: Tensor,
    batch: TorchBatch,
    temperature: float | Tensor,
    student_temperature: float | Tensor | None,
    weights: Tensor | None,
    kind: Divergence,
    tail: str,
    alpha: float,
    scale: str,
) -> Tensor:
    logits = logits if logits.dtype == torch.float64 else logits.float()
    if logits.shape[1] < batch.vocab_size:
        raise ValueError(f"the student has {logits.shape[1]} classes, but the cache has {batch.vocab_size}")
    # Neither part is computed where it has no weight: each is a pass over all logits.
    of_labels = torch.nn.functional.cross_entropy(logits, batch.labels, reduction="none") if alpha < 1.0 else 0.0
    if alpha == 0.0:
        return of_labels
    teacher_t = _column(temperature, logits, batch, tail)
    student_t = teacher_t if student_temperature is None else _column(student_temperature, logits, batch, "renorm")
    losses = kind.rows(compared(logits, batch, teacher_t, student_t, kind, tail))
    if scale == "squared":
        losses = losses * teacher_t.square().squeeze(1)
    if weights is not None:
        losses = losses * weights
    return alpha * losses + (1 - alpha) * of_labels


def compared(
    logits: Tensor, batch: TorchBatch, teacher_t: Tensor, student_t: Tensor, kind: Divergence, tail: str
) -> Compared:
    """Teacher and student at their temperatures ([n, 1] or [1, 1]), with the tail policy applied. logits: [n, V]."""
    dtype = logits.dtype
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
