"""What divergences are formulas over: pairs of log-probabilities at a temperature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Terms:
    """Pairs of log-probabilities at n positions, with the temperature applied."""

    log_p: Tensor
    """[n, terms], the teacher's; [n, 1] if all terms have the same."""
    log_q: Tensor
    """[n, terms], the student's."""
    counts: Tensor
    """[n, terms], number of classes that each term stands for: 0 for an empty place."""

    def sum(self, term: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Sum of the terms, [n]."""
        # Empty places must not meet an exponential: its slope could be infinite, and infinity times 0 is NaN.
        is_there = self.counts > 0
        log_q = torch.where(is_there, self.log_q, torch.zeros_like(self.log_q))
        log_p = torch.where(is_there, self.log_p.expand_as(log_q), torch.zeros_like(log_q))
        return (torch.where(is_there, term(log_p, log_q), torch.zeros_like(log_q)) * self.counts).sum(1)


@dataclass
class Compared:
    """The inputs of a divergence at n positions."""

    kept: Terms
    outside: Terms | None
    """The other classes as one term, or one term each for a sum over classes with `tail="uniform"`; None if they do not
    count."""
    is_label: Tensor
    """[n, kept], whether a kept class is the label."""
    log_z: tuple[Tensor, Tensor] | None
    """[n] each: what makes logits over the temperature of the teacher's and the student's log-probabilities; None
    unless the divergence needs it."""
    mean_logit: tuple[Tensor, Tensor] | None
    """[n] each: mean over all classes of these logits; None unless the divergence needs it."""
    squares: tuple[Tensor, Tensor] | None
    """[n] each: sum of the squared probabilities over all classes; None unless the divergence needs it."""
    vocab_size: int
