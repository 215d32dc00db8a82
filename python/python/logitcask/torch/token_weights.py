"""How much each position of a step counts in the soft part of the loss, as the recipes of `logitcask train` name it.

`latf` stays there, because its share follows the losses of earlier steps; with a share of one's own it is
`Top("distance", share)`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .statistics import Statistics


class TokenWeight:
    """Base of all rules. A step is the batch that one call of the loss gets."""

    name: ClassVar[str]

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the statistics that `weights` reads."""
        return ()

    def weights(self, seen: Statistics, vocab_size: int) -> Tensor:
        """The weight of each position, where 1 is the ordinary one, [P]."""
        raise NotImplementedError


@dataclass(frozen=True)
class Entropy(TokenWeight):
    """The entropy of "teacher" or "student" at T = 1 over its maximum, H / log(classes) (Dynamic KD, 2109.11295)."""

    of: str
    name: ClassVar[str] = "entropy"

    def __post_init__(self) -> None:
        if self.of not in ("teacher", "student"):
            raise ValueError(f"of = {self.of!r} was given, but it must be teacher or student")

    @property
    def needs(self) -> tuple[str, ...]:
        return (f"{self.of}_entropy",)

    def weights(self, seen: Statistics, vocab_size: int) -> Tensor:
        return (seen[f"{self.of}_entropy"] / math.log(vocab_size)).clamp(0.0, 1.0)


CRITERIA = {
    "distance": ("distance", 1),
    "entropy": ("student_entropy", 1),
    "margin": ("student_margin", -1),
    "least_confidence": ("student_confidence", -1),
}
"""The statistic by which positions are ranked, and its sign."""


@dataclass(frozen=True)
class Top(TokenWeight):
    """The `share` of the positions that comes first by a criterion counts, with equal weights and a mean of 1 (Dynamic
    KD, 2109.11295; AdaKD, 2510.11615).

    `by` is "distance" (Hellinger, teacher and student), "entropy" (the student's), "margin" (a small one between the
    student's first and second choice) or "least_confidence" (of the student in its first choice). At least one position
    counts."""

    by: str
    share: float
    name: ClassVar[str] = "top"

    def __post_init__(self) -> None:
        if self.by not in CRITERIA:
            raise ValueError(f"by = {self.by!r} was given, but it must be one of {', '.join(CRITERIA)}")
        if not 0 < self.share <= 1:
            raise ValueError(f"share = {self.share} was given, but it must be more than 0, and 1 at most")

    @property
    def needs(self) -> tuple[str, ...]:
        return (CRITERIA[self.by][0],)

    def weights(self, seen: Statistics, vocab_size: int) -> Tensor:
        name, sign = CRITERIA[self.by]
        values = sign * seen[name]
        count = len(values)
        chosen = min(max(math.floor(self.share * count + 0.5), 1), count)
        # Ties go to the first.
        order = torch.sort(values, descending=True, stable=True).indices[:chosen]
        return torch.zeros_like(values).index_fill(0, order, count / max(chosen, 1))


@dataclass(frozen=True)
class Gate(TokenWeight):
    """One weight where the label is among the teacher's first `rank` choices, another where it is not (2412.09874)."""

    rank: int = 1
    right: float = 1.0
    wrong: float = 0.0
    name: ClassVar[str] = "gate"

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank = {self.rank} was given, but it must be at least 1")
        if min(self.right, self.wrong) < 0:
            raise ValueError(f"weights of {self.right} and {self.wrong} were given, but they must not be negative")

    @property
    def needs(self) -> tuple[str, ...]:
        return ("gold_ranks",)

    def weights(self, seen: Statistics, vocab_size: int) -> Tensor:
        ranks = seen["gold_ranks"]
        return torch.where(ranks < self.rank, torch.full_like(ranks, self.right), torch.full_like(ranks, self.wrong))


ALL: dict[str, type[TokenWeight]] = {kind.name: kind for kind in (Entropy, Top, Gate)}
"""Every rule by its name in recipes."""
