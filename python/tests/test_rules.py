"""Temperature rules and token weights, against the record of the Rust ones (crates/core/tests/step_rules.rs)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import logitcask
import numpy as np
import pytest
from conftest import DATA, fill, samples, writer

torch = pytest.importorskip("torch")

from logitcask.torch import TorchBatch, kd_loss, temperature_rules, to_torch, token_weights  # noqa: E402
from logitcask.torch.statistics import collect  # noqa: E402

RECORD: list[dict[str, Any]] = json.loads((DATA / "golden" / "step_rules.json").read_text())
ROWS = [entry for entry in RECORD if "student" in entry and "class_ids" in entry]
RULES = [entry for entry in RECORD if "temperature_rule" in entry]
WEIGHTS = [entry for entry in RECORD if "token_weight" in entry]
KEPT = 6


def column(name: str, dtype: Any = None) -> Any:
    return torch.tensor([row[name] for row in ROWS], dtype=dtype)


def recorded() -> tuple[TorchBatch, Any]:
    """The rows of the record, and the student's logits. All classes that were not kept are atoms of the tail."""
    log_probs = column("log_probs", torch.float64)
    count = len(ROWS)
    whole = torch.zeros(1, count, dtype=torch.long)
    batch = TorchBatch(
        input_ids=whole,
        position_ids=whole,
        attention_mask=whole + 1,
        lengths=torch.tensor([count]),
        sample_ids=torch.zeros(1, dtype=torch.long),
        sources=torch.zeros(1, dtype=torch.long),
        rows=torch.arange(count),
        labels=column("label"),
        class_ids=column("class_ids")[:, :KEPT],
        log_probs=log_probs[:, :KEPT],
        tail_logits=log_probs[:, KEPT:],
        tail_log_weights=torch.zeros_like(log_probs[:, KEPT:]),
        log_z=column("log_z", torch.float64),
        gold_ranks=column("gold_rank"),
        vocab_size=log_probs.shape[1],
        temperatures=(0.75, 10.0),
    )
    return batch, column("student", torch.float64)


def made(module: Any, entry: dict[str, Any]) -> Any:
    return module.ALL[entry["kind"]](**{name: value for name, value in entry.items() if name != "kind"})


def test_every_rule_is_on_record() -> None:
    assert {entry["temperature_rule"]["kind"] for entry in RULES} == set(temperature_rules.ALL)
    assert {entry["token_weight"]["kind"] for entry in WEIGHTS} == set(token_weights.ALL)
    assert {entry["token_weight"].get("by") for entry in WEIGHTS} == {None, *token_weights.CRITERIA}


@pytest.mark.parametrize("entry", RULES, ids=lambda entry: str(entry["temperature_rule"]))
@pytest.mark.parametrize("chunk", [3, 1024])
def test_temperatures_and_losses_are_those_on_record(entry: dict[str, Any], chunk: int) -> None:
    batch, student = recorded()
    rule = made(temperature_rules, entry["temperature_rule"])
    if isinstance(rule, temperature_rules.LogitStd):
        teacher, ours = rule.of_rows(student, torch.tensor([entry["temperature"]]), batch)
    else:
        seen = collect(rule.needs, lambda start, end: student[start:end], batch, chunk)
        teacher, ours = rule.temperatures(seen, torch.tensor([entry["temperature"]], dtype=torch.float64), batch)
        teacher = temperature_rules.within(teacher, batch)
    assert np.allclose(teacher, entry["teacher"], rtol=2e-6, atol=0)
    assert np.allclose(ours, entry["student"], rtol=2e-6, atol=0)
    for divergence in ("forward_kl", "reverse_kl"):
        losses = kd_loss(
            student,
            batch,
            entry["temperature"],
            divergence=divergence,
            temperature_rule=rule,
            reduction="none",
            chunk=chunk,
        )
        assert np.allclose(losses, entry[divergence], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("entry", WEIGHTS, ids=lambda entry: str(entry["token_weight"]))
def test_weights_are_those_on_record(entry: dict[str, Any]) -> None:
    batch, student = recorded()
    rule = made(token_weights, entry["token_weight"])
    seen = collect(rule.needs, lambda start, end: student[start:end], batch, 4)
    assert np.allclose(rule.weights(seen, batch.vocab_size), entry["weights"], rtol=1e-6, atol=1e-6)
    soft = kd_loss(student, batch, 2.0, reduction="none", alpha=0.75)
    hard = kd_loss(student, batch, alpha=0.0, reduction="none")
    weighted = kd_loss(student, batch, 2.0, reduction="none", alpha=0.75, weights=rule)
    expected = (soft - 0.25 * hard) * torch.tensor(entry["weights"]) + 0.25 * hard
    assert torch.allclose(weighted, expected, atol=1e-5)


def test_the_gradient_follows_the_spread_of_the_students_logits() -> None:
    batch, student = recorded()
    student.requires_grad_()

    def loss(logits: Any) -> Any:
        return kd_loss(logits, batch, 2.0, temperature_rule="logit_std", reduction="sum")

    assert torch.autograd.gradcheck(loss, student, atol=1e-5)
    # A rule that only looks at the student is a constant to the gradient.
    fixed = kd_loss(student, batch, 2.0, temperature_rule="idts", reduction="sum")
    rule = temperature_rules.Idts()
    seen = collect(rule.needs, lambda start, end: student[start:end], batch, 4)
    theirs, ours = rule.temperatures(seen, torch.tensor([2.0], dtype=torch.float64), batch)
    theirs = temperature_rules.within(theirs, batch)
    same = kd_loss(student, batch, theirs, student_temperature=ours, reduction="sum")
    assert torch.allclose(torch.autograd.grad(fixed, student)[0], torch.autograd.grad(same, student)[0])


@pytest.mark.parametrize("rule", ["dtkd", "difficulty", "idts", "logit_std", temperature_rules.Entropy(1.0)], ids=str)
def test_the_head_form_gives_the_same_with_rules(cache: logitcask.Cache, rule: Any) -> None:
    batch = to_torch(cache["train"].batch(range(9)))
    hidden = torch.randn(*batch.input_ids.shape, 8, requires_grad=True, generator=torch.manual_seed(5))
    head = torch.randn(batch.vocab_size, 8, requires_grad=True)
    options: dict[str, Any] = {
        "temperature_rule": rule,
        "weights": token_weights.Top("distance", 0.5),
        "scale": "product",
        "alpha": 0.8,
    }
    whole = torch.autograd.grad(kd_loss(hidden @ head.T, batch, 2.0, **options), [hidden, head])
    pieces = torch.autograd.grad(
        kd_loss(None, batch, 2.0, hidden=hidden, lm_head=head, chunk=7, **options), [hidden, head]
    )
    for a, b in zip(whole, pieces, strict=True):
        assert bool(a.abs().sum() > 0) and torch.allclose(a, b, atol=1e-5)


def test_a_scale_is_the_product_of_the_temperatures() -> None:
    batch, student = recorded()
    plain = kd_loss(student, batch, 4.0, student_temperature=2.0, scale="none")
    assert torch.allclose(kd_loss(student, batch, 4.0, student_temperature=2.0, scale="product"), 8 * plain)
    assert torch.allclose(kd_loss(student, batch, 4.0, student_temperature=2.0), 16 * plain)


def test_the_ends_of_a_range_are_within_it_in_f32(tmp_path: Path, tokenizer: Path) -> None:
    fill(writer(tmp_path / "c", tokenizer, {"train": 9}, temperatures=(0.7, 10.1)), {"train": samples(9)})
    batch = to_torch(logitcask.open(tmp_path / "c")["train"].batch(range(9)))
    student = torch.randn(len(batch.rows), batch.vocab_size, generator=torch.manual_seed(0))
    for options in (
        {"temperature": 0.7},
        {"temperature": 10.1},
        {"temperature": 0.7, "temperature_rule": "idts"},
        {"temperature": 10.1, "temperature_rule": "logit_std"},
    ):
        assert bool(torch.isfinite(kd_loss(student, batch, **options)))
    for outside in (0.69, 10.2, float("nan")):
        with pytest.raises(ValueError, match="0.7 to 10.1"):
            kd_loss(student, batch, outside)


def test_rules_that_a_cache_cannot_serve_are_refused(cache: logitcask.Cache) -> None:
    batch = to_torch(cache["train"].batch([0]))
    student = torch.zeros(len(batch.rows), batch.vocab_size)
    for options, message in [
        ({"temperature_rule": "dts"}, "temperature_rule = 'dts'.*dtkd, difficulty"),
        ({"temperature_rule": "entropy"}, "without its number of nats"),
        ({"temperature_rule": "idts", "student_temperature": 2.0}, "student_temperature was given beside"),
    ]:
        with pytest.raises(ValueError, match=message):
            kd_loss(student, batch, **options)
    for wrong in (
        lambda: temperature_rules.Idts(0.0),
        lambda: temperature_rules.Difficulty("rank"),
        lambda: temperature_rules.Entropy(-1.0),
        lambda: token_weights.Top("distance", 0.0),
        lambda: token_weights.Top("rank", 0.5),
        lambda: token_weights.Entropy("label"),
        lambda: token_weights.Gate(0),
        lambda: token_weights.Gate(1, -1.0),
    ):
        with pytest.raises(ValueError, match="was given|were given"):
            wrong()

    def refused(name: str, message: str, **options: Any) -> None:
        split = logitcask.open(DATA / "vectors" / "v2" / name)["train"]
        rows = to_torch(split.batch([0]))
        with pytest.raises(ValueError, match=message):
            kd_loss(torch.zeros(len(rows.rows), rows.vocab_size), rows, **options)

    refused("plain-sample", "classes that were drawn", temperature_rule="dtkd")
    refused("plain-log_probs", "no shape of the tail", temperature_rule="idts")
    refused("plain-log_probs", "rank of every label", weights=token_weights.Gate())
    refused("plain-log_probs", "shape of the tail", weights=token_weights.Entropy("teacher"))
    refused("plain-empty_atom", "only from temperatures up to 10", temperature_rule="logit_std")
