"""Losses of whole steps beside those that `logitcask train` writes into its metrics, for the same student and the same
cache."""

from __future__ import annotations

import json
from typing import Any

import logitcask
import pytest
from conftest import TEACHER, Program

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", minversion="4.50")

from logitcask.torch import Loader, divergences, kd_loss, temperature_rules, token_weights  # noqa: E402

STEPS = 2
# The student does not move: what is written at the end is what it began with, some layers of the teacher.
RUN = """
[student]
from = {teacher}
layers = [0, 2, 4]
[train]
steps = 2
batch_size = 8
learning_rate = 1e-30
[loss]
"""

CASES: list[tuple[str, dict[str, Any]]] = [
    *(
        (
            f'alpha = 0.7\ntemperature = 2.0\ndivergence = {{ kind = "{name}" }}\ntail = "{tail}"',
            {"divergence": name, "tail": tail},
        )
        for name, kind in divergences.ALL.items()
        for tail in kind.tails
        if tail != "sampled"
    ),
    (
        'alpha = 0.7\ntemperature = 2.0\ndivergence = { kind = "alpha_beta", alpha = 0.6, beta = 0.3 }',
        {"divergence": divergences.AlphaBeta(0.6, 0.3)},
    ),
    (
        'alpha = 0.7\ntemperature = 2.0\ndivergence = { kind = "mean_squares", centred = true }',
        {"divergence": divergences.MeanSquares(True)},
    ),
    *(
        (
            f'alpha = 0.7\ntemperature = 2.0\ntemperature_rule = {{ kind = "{name}"{given} }}\nscale = "{scale}"',
            {
                "temperature_rule": rule,
                "scale": scale,
            },
        )
        for name, given, rule in [
            ("dtkd", "", "dtkd"),
            ("difficulty", ', measure = "cosine"', temperature_rules.Difficulty("cosine")),
            ("difficulty", ", beta = 0.001", temperature_rules.Difficulty(beta=0.001)),
            ("idts", ", strength = 0.8", temperature_rules.Idts(0.8)),
            ("logit_std", "", "logit_std"),
            ("entropy", ", nats = 3.0", temperature_rules.Entropy(3.0)),
        ]
        for scale in ("squared", "product", "none")
    ),
    *(
        (f"alpha = 0.7\ntemperature = 2.0\ntoken_weight = {{ {given} }}", {"weights": rule})
        for given, rule in [
            ('kind = "entropy", of = "teacher"', token_weights.Entropy("teacher")),
            ('kind = "entropy", of = "student"', token_weights.Entropy("student")),
            ('kind = "top", by = "distance", share = 0.3', token_weights.Top("distance", 0.3)),
            ('kind = "top", by = "entropy", share = 0.3', token_weights.Top("entropy", 0.3)),
            ('kind = "top", by = "margin", share = 0.3', token_weights.Top("margin", 0.3)),
            ('kind = "top", by = "least_confidence", share = 0.3', token_weights.Top("least_confidence", 0.3)),
            ('kind = "gate", rank = 3, wrong = 0.25', token_weights.Gate(3, wrong=0.25)),
        ]
    ),
]


DRAWN: list[tuple[str, dict[str, Any]]] = [
    (
        f'alpha = 0.7\ntemperature = 2.0\ndivergence = {{ kind = "{name}" }}\ntail = "{tail}"',
        {"divergence": name, "tail": tail},
    )
    for name, kind in divergences.ALL.items()
    for tail in kind.tails
    if not (kind.needs_label or kind.needs_squares)
]


@pytest.mark.parametrize("loss, options", CASES, ids=lambda value: None)
def test_the_steps_of_a_run_have_the_losses_of_the_program(
    loss: str, options: dict[str, Any], program: Program
) -> None:
    check(loss, options, program)


@pytest.mark.parametrize("loss, options", DRAWN, ids=lambda value: None)
def test_with_drawn_classes_too(loss: str, options: dict[str, Any], drawing_program: Program) -> None:
    check(loss, options, drawing_program)


def test_positions_are_compared_over_a_batch(dense_program: Program) -> None:
    loss = 'alpha = 0.7\ntemperature = 2.0\ndivergence = { kind = "pearson", columns = 1.5 }'
    check(loss, {"divergence": divergences.Pearson(1.5)}, dense_program, chunks=(4096,))


def check(loss: str, options: dict[str, Any], program: Program, chunks: tuple[int, ...] = (100, 4096)) -> None:
    program.run("train", RUN.format(teacher=json.dumps(str(TEACHER))) + loss, "--replace")
    run = program.folder / "data" / "runs" / "recipe" / "student"
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    student = transformers.AutoModelForCausalLM.from_pretrained(run / "model").float().eval()
    with torch.no_grad():
        for batch, expected in zip(Loader(logitcask.open(program.cache), 8, steps=STEPS), metrics, strict=True):
            assert len(batch.rows) == expected["positions"]
            logits = student(batch.input_ids, batch.attention_mask).logits
            for chunk in chunks:
                got = float(kd_loss(logits, batch, 2.0, alpha=0.7, chunk=chunk, **options))
                assert got == pytest.approx(expected["loss"], rel=2e-5), (loss, got, expected)
