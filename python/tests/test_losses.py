"""Losses and gradients, against numbers of PyTorch and JAX in f64 that the Rust losses are tested against too."""

from __future__ import annotations

import json
from typing import Any

import logitcask
import numpy as np
import pytest
from conftest import DATA, logits_of

torch = pytest.importorskip("torch")

from logitcask.torch import TorchBatch, divergences, kd_loss, to_torch  # noqa: E402

NAMES = {"jsd": "jensen_shannon", "hellinger2": "hellinger"}
TOLERANCE = 2e-6
"""The rows go through f32."""


def golden() -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    cases = []
    for file in ("losses.json", "row_losses.json"):
        entries = json.loads((DATA / "golden" / file).read_text())
        inputs = {entry["group"]: entry for entry in entries if "divergence" not in entry and "teacher" in entry}
        cases += [(file, entry, inputs[entry["group"]]) for entry in entries if "divergence" in entry]
    return cases


def divergence_of(entry: dict[str, Any]) -> Any:
    given = entry["divergence"]
    if isinstance(given, str):
        return divergences.find(NAMES.get(given, given))
    parameters = {name: value for name, value in given.items() if name != "kind"}
    return divergences.ALL[given["kind"]](**parameters)


def batch_of(case: dict[str, Any], temperature: float) -> TorchBatch:
    """The rows as a cache would have them, with the tail exact at one temperature: one atom for all other classes."""
    teacher = torch.tensor(case["teacher"], dtype=torch.float64)
    ids = torch.tensor(case["ids"])
    labels = torch.tensor(case.get("labels", [row[0] for row in case["ids"]]))
    log_z = teacher.logsumexp(1)
    log_p = teacher - log_z[:, None]
    outside = log_p.scatter(1, ids, -torch.inf)
    count = teacher.shape[1] - ids.shape[1]
    # Every other class is an atom of its own, which is exact at any temperature.
    order = outside.sort(1, descending=True).values[:, :count]
    return TorchBatch(
        input_ids=torch.zeros(1, len(ids), dtype=torch.long),
        position_ids=torch.zeros(1, len(ids), dtype=torch.long),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        lengths=torch.tensor([len(ids)]),
        sample_ids=torch.zeros(1, dtype=torch.long),
        sources=torch.zeros(1, dtype=torch.long),
        rows=torch.arange(len(ids)),
        labels=labels,
        class_ids=ids,
        log_probs=log_p.gather(1, ids),
        tail_logits=order,
        tail_log_weights=torch.zeros_like(order),
        log_z=log_z,
        gold_log_probs=log_p.gather(1, labels[:, None])[:, 0],
        vocab_size=teacher.shape[1],
        temperatures=(0.0, float("inf")),
    )


@pytest.mark.parametrize("file, entry, case", golden(), ids=lambda value: None)
def test_losses_and_gradients_are_those_of_the_golden_files(
    file: str, entry: dict[str, Any], case: dict[str, Any]
) -> None:
    student = torch.tensor(case["student"], dtype=torch.float64, requires_grad=True)
    batch = batch_of(case, entry["T"])
    kind = divergence_of(entry)
    if entry["tail"] not in kind.tails:
        pytest.skip(f"{kind.name} is no divergence with tail {entry['tail']}, which is refused")
    losses = kd_loss(student, batch, entry["T"], divergence=kind, tail=entry["tail"], scale="none", reduction="none")
    assert np.allclose(losses.detach(), entry["loss"], rtol=0, atol=TOLERANCE), entry["divergence"]
    losses.sum().backward()
    assert np.allclose(student.grad, entry["grad"], rtol=0, atol=TOLERANCE), entry["divergence"]


def test_every_divergence_has_a_golden_case() -> None:
    tested = {divergence_of(entry).name for _, entry, _ in golden()}
    others = set(divergences.ALL) - tested
    # These have closed relations to tested ones, below.
    assert others <= {"skew_reverse_kl", "alpha_beta", "renyi"}, others


def test_divergences_meet_where_their_formulas_do(cache: logitcask.Cache) -> None:
    batch = to_torch(cache["train"].batch(range(6)))
    student = torch.randn(len(batch.rows), batch.vocab_size, dtype=torch.float64, generator=torch.manual_seed(0)) * 2

    def loss(divergence: Any) -> torch.Tensor:
        return kd_loss(student, batch, 2.0, divergence=divergence, scale="none", reduction="none")

    hellinger = loss("hellinger")
    assert torch.allclose(loss(divergences.AlphaBeta(0.5, 0.5)), 4 * hellinger, atol=1e-9)
    assert torch.allclose(loss(divergences.Renyi(0.5)), -2 * (1 - hellinger).log(), atol=1e-9)
    near = loss(divergences.SkewReverseKL(1e-7))
    assert torch.allclose(near, loss("reverse_kl"), atol=1e-4)


def exact_kl(cache: logitcask.Cache, number: int, student: Any, temperature: float) -> Any:
    """The KL with one bucket from the teacher's own logits, in f64."""
    sample = cache["train"][number]
    teacher = torch.tensor(logits_of(sample.input_ids.tolist()), dtype=torch.float64) / temperature
    p, q = teacher.log_softmax(1), (student / temperature).log_softmax(1)
    ids = torch.from_numpy(sample.class_ids)
    kept = (p.gather(1, ids).exp() * (p.gather(1, ids) - q.gather(1, ids))).sum(1)
    rest_p, rest_q = (x.scatter(1, ids, -torch.inf).logsumexp(1) for x in (p, q))
    return kept + rest_p.exp() * (rest_p - rest_q)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("classes", [None, 5])
def test_decoupled_has_the_label_as_a_term_where_it_was_not_kept(
    cache: logitcask.Cache, temperature: float, classes: int | None
) -> None:
    generator = torch.manual_seed(6)
    outside = 0
    for number in range(8):
        batch = to_torch(cache["train"].batch([number], classes=classes))
        logits = torch.tensor(logits_of(batch.input_ids[0].tolist()), dtype=torch.float64)
        student = torch.randn(logits.shape, dtype=torch.float64, generator=generator)
        got = kd_loss(student, batch, temperature, divergence="decoupled", scale="none", reduction="none")
        for row, loss in enumerate(got):
            label, kept = int(batch.labels[row]), batch.class_ids[row].tolist()
            outside += label not in kept
            others = [i for i in kept if i != label]
            rest = [i for i in range(300) if i != label and i not in kept]
            p, q = ((x[row] / temperature).softmax(0) for x in (logits, student))
            against = sum(a * (a / b).log() for a, b in [(p[label], q[label]), (1 - p[label], 1 - q[label])])
            p, q = (torch.cat([x[others], x[rest].sum()[None]]) / (1 - x[label]) for x in (p, q))
            want = against + 8 * (p * (p / q).log()).sum()
            assert abs(loss - want) < 2e-2 * want + 1e-2, (number, row, loss, want)
    assert outside > 20


@pytest.mark.parametrize("temperature", [0.75, 1.0, 2.0, 4.0, 10.0])
def test_the_bucket_is_exact_at_every_temperature(cache: logitcask.Cache, temperature: float) -> None:
    generator = torch.manual_seed(1)
    for number in range(8):
        batch = to_torch(cache["train"].batch([number]))
        student = torch.randn(len(batch.rows), batch.vocab_size, dtype=torch.float64, generator=generator)
        got = kd_loss(student, batch, temperature, scale="none", reduction="none")
        want = exact_kl(cache, number, student, temperature)
        assert torch.allclose(got, want, atol=2e-2 * float(want.max()) + 5e-3), (got, want)


def test_chunks_and_the_head_form_give_the_same(cache: logitcask.Cache) -> None:
    batch = to_torch(cache["train"].batch(range(9)))
    head = torch.randn(batch.vocab_size, 8, requires_grad=True, generator=torch.manual_seed(2))
    hidden = torch.randn(*batch.input_ids.shape, 8, requires_grad=True)
    bias = torch.randn(batch.vocab_size, requires_grad=True)
    weights = torch.rand(len(batch.rows))

    def gradients(loss: torch.Tensor) -> list[torch.Tensor]:
        return [loss.detach(), *torch.autograd.grad(loss, [hidden, head, bias])]

    logits = hidden @ head.T + bias
    whole = gradients(kd_loss(logits, batch, 2.0, alpha=0.7, weights=weights))
    pieces = gradients(
        kd_loss(None, batch, 2.0, alpha=0.7, weights=weights, hidden=hidden, lm_head=head, bias=bias, chunk=7)
    )
    for a, b in zip(whole, pieces, strict=True):
        assert torch.allclose(a, b, atol=1e-5)
    flat = kd_loss(logits.flatten(0, 1)[batch.rows], batch, 2.0, alpha=0.7, weights=weights)
    assert torch.allclose(flat, whole[0], atol=1e-6)


def test_a_temperature_is_learned_by_its_gradient(cache: logitcask.Cache) -> None:
    batch = to_torch(cache["train"].batch(range(4)))
    student = torch.randn(len(batch.rows), batch.vocab_size, dtype=torch.float64, generator=torch.manual_seed(3))
    each = torch.full((len(batch.rows),), 2.0, dtype=torch.float64, requires_grad=True)
    one = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    kd_loss(student, batch, each, reduction="sum", chunk=5).backward()
    kd_loss(student, batch, one, reduction="sum").backward()
    assert torch.allclose(each.grad.sum(), one.grad)
    step = 1e-5
    high, low = (kd_loss(student, batch, 2.0 + d, reduction="sum") for d in (step, -step))
    assert torch.allclose((high - low) / (2 * step), one.grad, rtol=1e-4)


def test_drawn_classes_are_unbiased_under_the_sampled_policy() -> None:
    cache = logitcask.open(DATA / "vectors" / "v2" / "plain-sample")
    batch = to_torch(cache["train"].batch(range(len(cache["train"]))))
    assert batch.counts is not None and bool((batch.counts > 1).any())
    student = torch.zeros(len(batch.rows), batch.vocab_size)
    sampled = kd_loss(student, batch, tail="sampled", reduction="none")
    bucket = kd_loss(student, batch, tail="bucket", reduction="none")
    assert bool(torch.isfinite(sampled).all()) and bool(torch.isfinite(bucket).all())
    # Drawn classes stand for the tail: their weighted probabilities add up to its mass.
    drawn = (batch.log_probs.double().exp() * batch.counts * batch.is_drawn).sum(1)
    certain = (batch.log_probs.double().exp() * ~batch.is_drawn * (batch.counts > 0)).sum(1)
    assert torch.allclose(drawn, 1 - certain, atol=5e-3)


def test_what_a_cache_cannot_serve_is_refused(cache: logitcask.Cache) -> None:
    batch = to_torch(cache["train"].batch([0]))
    student = torch.zeros(len(batch.rows), batch.vocab_size)
    for options, message in [
        ({"temperature": 11.0}, "temperature = 11.*0.75 to 10"),
        ({"divergence": "kl"}, "divergence = 'kl'.*forward_kl"),
        ({"divergence": "reverse_kl", "tail": "renorm"}, "reverse_kl needs one of bucket"),
        ({"tail": "sampled"}, "no drawn classes"),
        ({"divergence": divergences.Pearson(1.0)}, "does not have every class"),
        ({"scale": "double"}, "scale = 'double'"),
    ]:
        with pytest.raises(ValueError, match=message):
            kd_loss(student, batch, **options)
    with pytest.raises(ValueError, match="either logits or hidden"):
        kd_loss(None, batch)
    with pytest.raises(ValueError, match="has 7 classes"):
        kd_loss(student[:, :7], batch)
    log_probs = logitcask.open(DATA / "vectors" / "v2" / "plain-log_probs")
    partial = to_torch(log_probs["train"].batch([0]))
    rows = torch.zeros(len(partial.rows), partial.vocab_size)
    assert bool(torch.isfinite(kd_loss(rows, partial)))
    with pytest.raises(ValueError, match="T = 1 only"):
        kd_loss(rows, partial, 2.0)
    with pytest.raises(ValueError, match="decoupled takes labels out .* not known"):
        kd_loss(rows, partial, divergence="decoupled")
    with pytest.raises(ValueError, match="log-probabilities only|all classes"):
        kd_loss(rows, partial, divergence="mean_squares")
