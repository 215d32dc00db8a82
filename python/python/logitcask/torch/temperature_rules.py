"""Temperatures that depend on the teacher's and the student's rows of one step, as the recipes of `logitcask train`
name them.

Rules that keep a state from step to step stay there: `dts`, `curriculum` and `agent`. A curriculum is also a
temperature tensor with a gradient, which an optimizer with `maximize=True` follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .batch import TorchBatch
from .statistics import Statistics, entropy, moments

LOWEST, HIGHEST = 0.05, 1000.0
"""Beyond these temperatures a row is reduced to its first choice, or says nothing."""
FOR_MOMENTS = 10.0
"""Highest temperature that a cache must serve for mean and deviation of all logits to follow from it."""


class TemperatureRule:
    """Base of all rules. A rule starts from the temperature of the loss and gives each position one for the teacher and
    one for the student; the teacher's stays within the cache's temperatures. A step is the batch that one call of the
    loss gets."""

    name: ClassVar[str]

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the statistics that `temperatures` reads."""
        return ()

    def temperatures(self, seen: Statistics, temperature: Tensor, batch: TorchBatch) -> tuple[Tensor, Tensor]:
        """The teacher's and the student's temperatures, [P] each. `temperature` is that of the loss, [P] or [1], in
        f64."""
        raise NotImplementedError

    def check(self, batch: TorchBatch) -> None:
        """Raises ValueError for rows that the rule is not defined for."""
        if batch.tail != "atoms":
            raise ValueError(
                f"temperature_rule = {self.name!r} was given, but it moves the temperature, and the source of this "
                "cache told no shape of the tail: it is for T = 1"
            )


@dataclass(frozen=True)
class Dtkd(TemperatureRule):
    """2 x T / (x + y) for the teacher and 2 y T / (x + y) for the student, with x and y their largest raw logits, and
    at least T / 4; T where one of them is not positive (DTKD, 2404.12711)."""

    name: ClassVar[str] = "dtkd"

    @property
    def needs(self) -> tuple[str, ...]:
        return ("teacher_largest", "student_largest")

    def temperatures(self, seen: Statistics, temperature: Tensor, batch: TorchBatch) -> tuple[Tensor, Tensor]:
        x, y = seen["teacher_largest"], seen["student_largest"]
        is_positive = (x > 0) & (y > 0)

        def share(mine: Tensor) -> Tensor:
            scaled = torch.maximum(2 * mine * temperature / (x + y), 0.25 * temperature)
            return torch.where(is_positive, scaled, temperature.expand_as(scaled))

        return share(x), share(y)


@dataclass(frozen=True)
class Difficulty(TemperatureRule):
    """T + beta (mean of w - w), at least T / 10, where w is larger at harder positions (KA + DTD, 1911.07471).

    `measure="confidence"`: w = 1 / the student's largest probability. `measure="cosine"`: w = (1 - cosine of the two
    vectors of raw logits of the kept classes)^gamma."""

    measure: str = "confidence"
    beta: float = 1.0
    gamma: float = 2.0
    name: ClassVar[str] = "difficulty"

    def __post_init__(self) -> None:
        if self.measure not in ("confidence", "cosine"):
            raise ValueError(f"measure = {self.measure!r} was given, but it must be confidence or cosine")
        _check_positive(self.name, "beta", self.beta)
        _check_positive(self.name, "gamma", self.gamma)

    @property
    def needs(self) -> tuple[str, ...]:
        return ("cosine",) if self.measure == "cosine" else ("student_confidence",)

    def temperatures(self, seen: Statistics, temperature: Tensor, batch: TorchBatch) -> tuple[Tensor, Tensor]:
        if self.measure == "cosine":
            weights = (1 - seen["cosine"]).clamp_min(0.0) ** self.gamma
        else:
            weights = 1 / seen["student_confidence"]
        chosen = torch.maximum(temperature + self.beta * (weights.mean() - weights), 0.1 * temperature)
        return chosen, chosen


@dataclass(frozen=True)
class Idts(TemperatureRule):
    """T exp(-strength tanh(log(d / median of d))), with d the Hellinger distance of teacher and student (AdaKD,
    2510.11615). `inverted` reverses the sign."""

    strength: float = 0.5
    inverted: bool = False
    name: ClassVar[str] = "idts"

    def __post_init__(self) -> None:
        _check_positive(self.name, "strength", self.strength)

    @property
    def needs(self) -> tuple[str, ...]:
        return ("distance",)

    def temperatures(self, seen: Statistics, temperature: Tensor, batch: TorchBatch) -> tuple[Tensor, Tensor]:
        distance = seen["distance"].clamp_min(1e-6)
        ordered = distance.sort().values
        middle = len(ordered) // 2
        median = ordered[middle] if len(ordered) % 2 else 0.5 * (ordered[middle - 1] + ordered[middle])
        exponent = self.strength * (distance / median).log().tanh()
        chosen = temperature * (exponent if self.inverted else -exponent).exp()
        return chosen, chosen


@dataclass(frozen=True)
class LogitStd(TemperatureRule):
    """T times the standard deviation of the logits over all classes, for teacher and student separately; the gradient
    flows through the student's (NormKD, 2308.00520; logit standardisation, 2403.01427)."""

    name: ClassVar[str] = "logit_std"

    def check(self, batch: TorchBatch) -> None:
        super().check(batch)
        if batch.temperatures[1] < FOR_MOMENTS:
            raise ValueError(
                f"temperature_rule = {self.name!r} was given, but the deviation of all logits follows only from "
                f"temperatures up to {FOR_MOMENTS:g} on, and the cache has {batch.temperatures[0]} to "
                f"{batch.temperatures[1]}"
            )

    def of_rows(self, logits: Tensor, temperature: Tensor, batch: TorchBatch) -> tuple[Tensor, Tensor]:
        """The temperatures at n positions with the student's logits [n, V], in their graph: [n] each."""
        with torch.no_grad():
            theirs = moments(batch, 0.0)[2].sqrt()
        ours = (logits - logits.mean(1, keepdim=True)).square().mean(1).clamp_min(1e-12).sqrt()
        return within(temperature * theirs, batch), temperature * ours


@dataclass(frozen=True)
class Entropy(TemperatureRule):
    """The temperature within the cache's at which the teacher's entropy is nearest to `nats`; T has no effect on it
    (2605.20357)."""

    nats: float
    name: ClassVar[str] = "entropy"

    def __post_init__(self) -> None:
        _check_positive(self.name, "nats", self.nats)

    def temperatures(self, seen: Statistics, temperature: Tensor, batch: TorchBatch) -> tuple[Tensor, Tensor]:
        chosen = temperature_of_entropy(batch, self.nats)
        return chosen, chosen


STEPS = 40
"""Maximum number of Newton steps; four are nearly always enough."""
MET = 1e-6
"""Tolerance in nats."""


@torch.no_grad()
def temperature_of_entropy(batch: TorchBatch, nats: float) -> Tensor:
    """The temperature at each position at which the teacher's entropy is nearest to `nats`, [P], by Newton's method on
    a bracket: entropy grows with the temperature."""
    lowest, highest = bounds(batch)
    at = batch.log_probs.new_ones(len(batch.rows), dtype=torch.float64).clamp(lowest, highest)
    low, high = torch.full_like(at, lowest), torch.full_like(at, highest)
    for _ in range(STEPS):
        value, slope = entropy(batch, at[:, None])
        off = value - nats
        is_met = (off.abs() < MET) | (high - low < 1e-9)
        if bool(is_met.all()):
            break
        high, low = torch.where(off > 0, at, high), torch.where(off > 0, low, at)
        newton = at - off / slope
        inside = (newton > low) & (newton < high)
        at = torch.where(is_met, at, torch.where(inside, newton, 0.5 * (low + high)))
    return at


def bounds(batch: TorchBatch) -> tuple[float, float]:
    """The temperatures that a rule may give a teacher."""
    lowest, highest = batch.temperatures
    return max(lowest, LOWEST), min(highest, HIGHEST)


def within(temperature: Tensor, batch: TorchBatch) -> Tensor:
    """The temperature, or the nearest that a rule may give."""
    return temperature.clamp(*bounds(batch))


def _check_positive(rule: str, name: str, value: float) -> None:
    if not 0 < value < float("inf"):
        raise ValueError(f"{rule}: {name} = {value} was given, but it must be a number above 0")


ALL: dict[str, type[TemperatureRule]] = {kind.name: kind for kind in (Dtkd, Difficulty, Idts, LogitStd, Entropy)}
"""Every rule by its name in recipes."""


def find(rule: str | TemperatureRule) -> TemperatureRule:
    """The rule of this name with its default parameters, or the rule itself."""
    if isinstance(rule, TemperatureRule):
        return rule
    if rule == Entropy.name:
        raise ValueError(
            'temperature_rule = "entropy" was given without its number of nats: use temperature_rules.Entropy(nats)'
        )
    if rule not in ALL:
        raise ValueError(f"temperature_rule = {rule!r} was given, but it must be one of {', '.join(ALL)}")
    return ALL[rule]()
