"""The examples, on a small cache."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import logitcask
import pytest
from conftest import DATA, fill, samples, writer

PYTHON = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed cache with a real tokenizer."""
    folder = tmp_path_factory.mktemp("examples") / "cache"
    texts = {"train": samples(60), "test": samples(9, 1)}
    one = writer(folder, DATA / "demo" / "teacher", {"train": 60, "test": 9}, layout="packed")
    fill(one, texts)
    return folder


def run(name: str, *arguments: Path) -> str:
    # On small students, threads wait for each other more than they compute.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if "PYTHONPATH" in environment:
        environment["PYTHONPATH"] = os.pathsep.join([str(PYTHON / "python"), environment["PYTHONPATH"]])
    command = [sys.executable, str(PYTHON / "examples" / f"{name}.py"), *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=environment, cwd=arguments[0].parent
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def losses(output: str) -> list[float]:
    return [float(loss) for loss in re.findall(r"'?loss'?:? '?([0-9.]+)", output)]


def test_every_example_is_run() -> None:
    tested = {name.removeprefix("test_").removesuffix("_runs") for name in globals() if name.endswith("_runs")}
    assert {path.stem for path in (PYTHON / "examples").glob("*.py")} == tested


def test_student_torch_runs(folder: Path) -> None:
    pytest.importorskip("transformers", minversion="4.50")
    output = run("student_torch", folder)
    assert losses(output)[-1] < losses(output)[0] and "perplexity" in output


def test_student_trainer_runs(folder: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", minversion="4.50")
    output = run("student_trainer", folder, tmp_path / "student")
    assert losses(output)[-1] < losses(output)[0]
    student = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "student")
    assert student.config.vocab_size == logitcask.open(folder).vocab_size
    assert (tmp_path / "student" / "tokenizer.json").exists()


def test_jax_grain_runs(folder: Path) -> None:
    pytest.importorskip("jax")
    pytest.importorskip("grain")
    output = run("jax_grain", folder)
    assert losses(output)[-1] < losses(output)[0]


def test_packed_in_polars_runs(folder: Path) -> None:
    pytest.importorskip("polars")
    output = run("packed_in_polars", folder)
    positions = sum(len(text) - 1 for text in samples(60))
    assert re.search(rf"\b{positions}\b", output) and "worth a look" in output
