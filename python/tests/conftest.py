"""What the tests share: the repository's caches, and a small cache of random logits."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import logitcask
import numpy as np
import pytest

DATA = Path(__file__).parents[2] / "data"
VECTORS = sorted(path.parent for path in (DATA / "vectors").glob("*/*/plan.json"))
VOCAB = 300
TEACHER = DATA / "demo" / "teacher"


def samples(count: int, seed: int = 0, longest: int = 12) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [random.integers(0, VOCAB, random.integers(2, longest + 1)).tolist() for _ in range(count)]


def logits_of(tokens: list[int], spread: float = 3.0) -> np.ndarray:
    """Raw logits that depend on the tokens alone, one row for each position."""
    rows = [np.random.default_rng(tokens[: i + 1]).normal(0, spread, VOCAB) for i in range(len(tokens) - 1)]
    return np.asarray(rows, dtype=np.float32)


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_text("{}")
    return path


def writer(folder: Path, tokenizer: Path, counts: dict[str, int], **options: Any) -> logitcask.CacheWriter:
    given: dict[str, Any] = {
        "vocab_size": VOCAB,
        "max_length": 12,
        "teacher": logitcask.Pin.of_bytes("random", b"weights"),
        "dataset": logitcask.Pin.of_bytes("random", b"samples"),
        "selection": logitcask.top_k(16),
        "samples_per_unit": 40,
    }
    return logitcask.CacheWriter(folder, splits=counts, tokenizer=tokenizer, **{**given, **options})


def fill(one: logitcask.CacheWriter, texts: dict[str, list[list[int]]]) -> str:
    for split, number in one.pending():
        tokens = texts[split][number]
        one.add(split, number, tokens, logits_of(tokens))
    return one.finish()


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory, tokenizer: Path) -> logitcask.Cache:
    """150 training samples in four units, and 9 for tests."""
    folder = tmp_path_factory.mktemp("cache") / "small"
    fill(writer(folder, tokenizer, {"train": 150, "test": 9}), {"train": samples(150), "test": samples(9, 1)})
    return logitcask.open(folder)


RECIPE = """
[dataset]
path = "texts.jsonl"
text_column = "text"
held_out = 0.25
[teacher]
model = {teacher}
[cache]
path = "cache"
max_length = 64
selection = {selection}
"""


class Program:
    """The program `logitcask`, in a folder with a cache that it made of a few texts of the demo."""

    path = DATA.parent / "target" / "release" / "logitcask"

    def __init__(self, folder: Path, selection: str) -> None:
        if not self.path.exists():
            pytest.skip(f"{self.path} was not built")
        parquet = pytest.importorskip("pyarrow.parquet")
        texts = parquet.read_table(DATA / "demo" / "corpus.parquet")["text"].slice(0, 12).to_pylist()
        self.folder, self.cache = folder, folder / "cache"
        self.head = RECIPE.format(teacher=json.dumps(str(TEACHER)), selection=selection)
        (folder / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        self.run("cache", "")

    def run(self, command: str, more: str, *arguments: str) -> None:
        """Runs a command for the recipe with `more` at its end."""
        (self.folder / "recipe.toml").write_text(self.head + more)
        words = [str(self.path), command, "recipe.toml", "--device", "cpu", *arguments]
        done = subprocess.run(words, cwd=self.folder, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return Program(tmp_path_factory.mktemp("program"), '{ kind = "top_k", k = 16 }')


@pytest.fixture(scope="session")
def drawing_program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """With classes drawn at random."""
    return Program(tmp_path_factory.mktemp("drawing-program"), '{ kind = "sample", n = 12 }')


@pytest.fixture(scope="session")
def dense_program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """With all classes."""
    return Program(tmp_path_factory.mktemp("dense-program"), '{ kind = "dense" }')
