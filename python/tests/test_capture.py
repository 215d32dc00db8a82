"""The demo's teacher in `transformers`, beside the cache that `logitcask cache` makes of it."""

from __future__ import annotations

from pathlib import Path

import logitcask
import numpy as np
import pytest
from conftest import TEACHER, Program

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", minversion="4.50")

from logitcask import capture  # noqa: E402


def test_both_have_the_same_rows(program: Program, tmp_path: Path) -> None:
    expected = logitcask.open(program.cache)
    samples = {split: [sample.input_ids.tolist() for sample in expected[split][:]] for split in expected}
    assert set(samples) == {"train", "test"} and sum(map(len, samples.values())) > 12
    model = transformers.AutoModelForCausalLM.from_pretrained(TEACHER).float().eval()
    capture.from_transformers(
        model,
        samples,
        tmp_path / "by-python",
        tokenizer=TEACHER,
        teacher=logitcask.Pin.of(TEACHER),
        selection=logitcask.top_k(16),
        max_length=64,
    )
    captured = logitcask.open(tmp_path / "by-python")
    assert captured.verify() == [] and captured.temperatures == expected.temperatures
    for split in samples:
        ours, theirs = (cache[split].batch(range(len(samples[split]))) for cache in (captured, expected))
        assert np.array_equal(ours.input_ids, theirs.input_ids) and np.array_equal(ours.labels, theirs.labels)
        # Two classes whose logits are the same up to the rounding of f32 may change places.
        differs = ours.class_ids != theirs.class_ids
        assert differs.mean() < 1e-3 and (ours.gold_ranks != theirs.gold_ranks).mean() < 2e-3
        # A log-probability down to -16 is stored as an f16 with 2^-7 between neighbours.
        assert np.abs(ours.log_probs - theirs.log_probs).max() <= 2**-7
        assert np.allclose(ours.log_z, theirs.log_z, atol=3e-5)
        assert np.allclose(ours.gold_log_probs, theirs.gold_log_probs, atol=2**-9)
        for temperature in (1.0, 2.0, 8.0):
            assert np.allclose(ours.log_z_at(temperature), theirs.log_z_at(temperature), atol=2e-3)
