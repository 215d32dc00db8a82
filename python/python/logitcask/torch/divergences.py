"""Divergences between a teacher's and a student's probabilities, in nats, as the recipes of `logitcask train` name
them.

Every divergence is a formula over `Compared`: the kept classes and what the tail policy makes of the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .terms import Compared


class Divergence:
    """Base of all divergences. Its parameters are those of the recipes."""

    name: ClassVar[str]
    tails: ClassVar[tuple[str, ...]] = ("bucket", "renorm", "uniform", "sampled")
    """The tail policies with which the formula is a divergence."""
    sums_over_classes: ClassVar[bool] = True
    needs_logits: ClassVar[bool] = False
    needs_squares: ClassVar[bool] = False
    needs_label: ClassVar[bool] = False
    """Whether the label is a term of its own, also where it was not kept."""

    @property
    def compares_positions(self) -> bool:
        """Whether it compares the positions that are computed together with each other, class by class."""
        return False

    @property
    def needs_mean_logit(self) -> bool:
        """Whether the mean over all classes is subtracted from the logits that it compares."""
        return False

    def rows(self, compared: Compared) -> Tensor:
        """The divergence at each position, [n]."""
        total = compared.kept.sum(self.term)
        if compared.outside is not None:
            total = total + compared.outside.sum(self.term)
        return self.of_sum(total)

    def term(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """The summand of one class."""
        raise NotImplementedError

    def of_sum(self, total: Tensor) -> Tensor:
        """The divergence as a function of the sum of its terms."""
        return total


WITHOUT_RENORM = ("bucket", "uniform", "sampled")
"""For formulas that weigh classes by the student, who could lower them by giving the kept classes less."""


@dataclass(frozen=True)
class ForwardKL(Divergence):
    """Sum of p log(p / q)."""

    name: ClassVar[str] = "forward_kl"

    def term(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return log_p.exp() * (log_p - log_q)


@dataclass(frozen=True)
class ReverseKL(Divergence):
    """Sum of q log(q / p)."""

    name: ClassVar[str] = "reverse_kl"
    tails: ClassVar[tuple[str, ...]] = WITHOUT_RENORM

    def term(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return log_q.exp() * (log_q - log_p)


@dataclass(frozen=True)
class JensenShannon(Divergence):
    """beta KL(p | m) + (1 - beta) KL(q | m) with m = beta p + (1 - beta) q (2306.13649)."""

    beta: float = 0.5
    name: ClassVar[str] = "jensen_shannon"
    tails: ClassVar[tuple[str, ...]] = WITHOUT_RENORM

    def term(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        log_m = log_mix(self.beta, log_p, log_q)
        return self.beta * log_p.exp() * (log_p - log_m) + (1 - self.beta) * log_q.exp() * (log_q - log_m)


@dataclass(frozen=True)
class SkewForwardKL(Divergence):
    """KL(p | lambda p + (1 - lambda) q) (2402.03898)."""

    skew: float = 0.1
    name: ClassVar[str] = "skew_forward_kl"

    def term(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return log_p.exp() * (log_p - log_mix(self.skew, log_p, log_q))


@dataclass(frozen=True)
class SkewReverseKL(Divergence):
    """KL(q | lambda q + (1 - lambda) p) (2402.03898)."""

    skew: float = 0.1
    name: ClassVar[str] = "skew_reverse_kl"
    tails: ClassVar[tuple[str, ...]] = WITHOUT_RENORM

    def term(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return log_q.exp() * (log_q - log_mix(self.skew, log_q, log_p))


@dataclass(frozen=True)
class TotalVariation(Divergence):
    """Half the sum of |p - q|."""

    name: ClassVar[str] = "total_variation"

    def term(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return 0.5 * (log_p.exp() - log_q.exp()).abs()


@dataclass(frozen=True)
class Hellinger(Divergence):
    """Half the sum of (sqrt(p) - sqrt(q))^2."""

    name: ClassVar[str] = "hellinger"

    def term(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return 0.5 * ((0.5 * log_p).exp() - (0.5 * log_q).exp()).square()


@dataclass(frozen=True)
class AlphaBeta(Divergence):
    """Powers of p and q; forward KL at (1, 0), reverse KL at (0, 1) (2505.04560)."""

    alpha: float = 0.2
    beta: float = 0.7
    name: ClassVar[str] = "alpha_beta"

    def term(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        a, b = self.alpha, self.beta
        each = ((a + b) * log_p).exp() / (b * (a + b)) + ((a + b) * log_q).exp() / (a * (a + b))
        return each - (a * log_p + b * log_q).exp() / (a * b)


@dataclass(frozen=True)
class Renyi(Divergence):
    """log of the sum of p^alpha q^(1 - alpha), over alpha - 1."""

    alpha: float = 0.5
    name: ClassVar[str] = "renyi"
    tails: ClassVar[tuple[str, ...]] = ("bucket", "uniform")

    def term(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return (self.alpha * log_p + (1 - self.alpha) * log_q).exp()

    def of_sum(self, total: Tensor) -> Tensor:
        return total.log() / (self.alpha - 1)


@dataclass(frozen=True)
class MeanSquares(Divergence):
    """Mean over the terms of the squared difference of logits over T; the other classes are one term with the
    log-sum-exp as its logit (1312.6184). With `centred`, the mean over all classes is subtracted on either side."""

    centred: bool = False
    name: ClassVar[str] = "mean_squares"
    tails: ClassVar[tuple[str, ...]] = ("bucket", "renorm", "sampled")
    sums_over_classes: ClassVar[bool] = False
    needs_logits: ClassVar[bool] = True

    @property
    def needs_mean_logit(self) -> bool:
        return self.centred

    def rows(self, compared: Compared) -> Tensor:
        assert compared.log_z is not None
        teacher, student = compared.log_z
        if compared.mean_logit is not None:
            teacher, student = teacher - compared.mean_logit[0], student - compared.mean_logit[1]
        offset = (student - teacher)[:, None]

        def square(log_p: Tensor, log_q: Tensor) -> Tensor:
            return (log_q - log_p + offset).square()

        total, count = compared.kept.sum(square), compared.kept.counts.sum(1)
        if compared.outside is not None:
            total, count = total + compared.outside.sum(square), count + compared.outside.counts.sum(1)
        return total / count.clamp_min(1.0)


@dataclass(frozen=True)
class Decoupled(Divergence):
    """The label against all other classes, and KL among the others, each with its own weight (DKD, 2203.08679)."""

    label: float = 1.0
    others: float = 8.0
    name: ClassVar[str] = "decoupled"
    tails: ClassVar[tuple[str, ...]] = ("bucket",)
    sums_over_classes: ClassVar[bool] = False
    needs_label: ClassVar[bool] = True

    def rows(self, compared: Compared) -> Tensor:
        kept = compared.kept
        log_p, log_q, is_there = kept.log_p, kept.log_q, kept.counts > 0
        is_label = compared.is_label & is_there
        if compared.outside is not None:
            outside = compared.outside
            log_p, log_q = torch.cat([log_p, outside.log_p], 1), torch.cat([log_q, outside.log_q], 1)
            is_there = torch.cat([is_there, outside.counts > 0], 1)
            is_label = torch.cat([is_label, torch.zeros_like(outside.counts, dtype=torch.bool)], 1)
        is_other = is_there & ~is_label
        has_label = is_label.any(1)

        def parts(x: Tensor) -> tuple[Tensor, Tensor]:
            label = torch.where(is_label, x, torch.zeros_like(x)).sum(1)
            return label, torch.where(is_other, x, torch.full_like(x, -1e30)).logsumexp(1)

        (label_p, others_p), (label_q, others_q) = parts(log_p), parts(log_q)
        share = torch.where(is_other, (log_p - others_p[:, None]).exp(), torch.zeros_like(log_p))
        off = (log_p - others_p[:, None]) - (log_q - others_q[:, None])
        among = (share * torch.where(is_other, off, torch.zeros_like(off))).sum(1)
        against = label_p.exp() * (label_p - label_q) * has_label + others_p.exp() * (others_p - others_q)
        return self.label * against + self.others * among


SMALLEST = 1e-12
"""Spreads below this count as none: there is nothing to correlate."""


@dataclass(frozen=True)
class Pearson(Divergence):
    """1 - correlation of p and q over all classes, those outside taken as equally probable in the sum of p q, plus
    `columns` times the mean over classes of the same over the positions that are computed together (DIST, 2205.10536).
    The second part needs every class of the teacher."""

    columns: float = 0.0
    name: ClassVar[str] = "pearson"
    tails: ClassVar[tuple[str, ...]] = ("bucket", "uniform")
    sums_over_classes: ClassVar[bool] = False
    needs_squares: ClassVar[bool] = True

    @property
    def compares_positions(self) -> bool:
        return self.columns > 0

    def rows(self, compared: Compared) -> Tensor:
        assert compared.squares is not None
        both = compared.kept.sum(lambda log_p, log_q: (log_p + log_q).exp())
        if compared.outside is not None:
            classes = (compared.vocab_size - (compared.kept.counts > 0).sum(1)).clamp_min(1)
            both = both + compared.outside.sum(lambda log_p, log_q: (log_p + log_q).exp()) / classes
        inverse = 1.0 / compared.vocab_size
        theirs, ours = ((squares - inverse).clamp_min(SMALLEST) for squares in compared.squares)
        of_rows = 1 - (both - inverse) / (theirs * ours).sqrt()
        return of_rows + self.columns * self._of_columns(compared) if self.columns > 0 else of_rows

    def _of_columns(self, compared: Compared) -> Tensor:
        p, q = compared.kept.log_p.exp(), compared.kept.log_q.exp()
        p, q = p - p.mean(0), q - q.mean(0)
        scale = (p.square().mean(0) * q.square().mean(0)).clamp_min(SMALLEST**2).sqrt()
        return (1 - (p * q).mean(0) / scale).mean()


@dataclass(frozen=True)
class Spearman(Divergence):
    """1 - correlation of the ranks of the kept classes; the student's ranks are sums of sigmoids (CMKD, 2410.06561)."""

    name: ClassVar[str] = "spearman"
    tails: ClassVar[tuple[str, ...]] = ("bucket", "renorm", "uniform")
    sums_over_classes: ClassVar[bool] = False

    def rows(self, compared: Compared) -> Tensor:
        kept = compared.kept
        is_there = (kept.counts > 0).to(kept.log_q.dtype)
        classes = is_there.sum(1, keepdim=True).clamp_min(1.0)

        def centred(before: Tensor) -> Tensor:
            ranks = (before * is_there[:, None, :]).sum(2) * is_there
            return (ranks - ranks.sum(1, keepdim=True) / classes) * is_there

        def behind(x: Tensor) -> Tensor:
            return x[:, None, :] - x[:, :, None]

        theirs = centred((behind(kept.log_p).sign() + 1) / 2)
        ours = centred(behind(kept.log_q).sigmoid())
        spread = theirs.square().sum(1)
        scale = (spread * ours.square().sum(1)).clamp_min(SMALLEST).sqrt()
        return (1 - (theirs * ours).sum(1) / scale) * (spread > 0)


def log_mix(share: float, a: Tensor, b: Tensor) -> Tensor:
    """log(share e^a + (1 - share) e^b)."""
    return torch.logaddexp(a + math.log(share), b + math.log1p(-share))


ALL: dict[str, type[Divergence]] = {
    kind.name: kind
    for kind in (
        ForwardKL,
        ReverseKL,
        JensenShannon,
        SkewForwardKL,
        SkewReverseKL,
        TotalVariation,
        Hellinger,
        AlphaBeta,
        Renyi,
        MeanSquares,
        Decoupled,
        Pearson,
        Spearman,
    )
}
"""Every divergence by its name in recipes."""


def find(divergence: str | Divergence) -> Divergence:
    """The divergence of this name with its default parameters, or the divergence itself."""
    if isinstance(divergence, Divergence):
        return divergence
    if divergence not in ALL:
        raise ValueError(f"divergence = {divergence!r} was given, but it must be one of {', '.join(ALL)}")
    return ALL[divergence]()
