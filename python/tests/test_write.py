"""Writing, read back and checked by the Rust reader."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import logitcask
import numpy as np
import pytest
from logitcask import _core
from conftest import DATA, VOCAB, fill, logits_of, samples, writer

HERE = Path(__file__).parent


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"layout": "packed"},
        {"layout": "packed", "value_step": 1 / 16},
        {"selection": logitcask.top_p(0.9, 20)},
        {"selection": logitcask.sample(8, seed=3)},
        {"selection": logitcask.dense()},
        {"always_keep": [7, 3]},
        {"vocab_size": VOCAB - 20, "padding": 20},
    ],
    ids=str,
)
def test_what_is_written_is_whole_and_reads_back(options: dict[str, Any], tmp_path: Path, tokenizer: Path) -> None:
    texts = {"train": [[t % 280 for t in text] for text in samples(60)]}
    cache_id = fill(writer(tmp_path / "c", tokenizer, {"train": 60}, **options), texts)
    cache = logitcask.open(tmp_path / "c")
    assert cache.cache_id == cache_id and cache.verify() == []
    for number in (0, 31, 59):
        sample, exact = cache["train"][number], logits_of(texts["train"][number]).astype(np.float64)
        log_z = exact.max(1) + np.log(np.exp(exact - exact.max(1, keepdims=True)).sum(1))
        assert sample.input_ids.tolist() == texts["train"][number]
        assert np.allclose(sample.log_z_at(1.0), log_z, atol=2e-3)
        want = np.take_along_axis(exact, sample.class_ids, 1) - log_z[:, None]
        is_there = sample.log_probs > -5e3
        bound = options.get("value_step", 0.0) / 2 + 8e-3
        assert np.abs(np.where(is_there, sample.log_probs - want, 0)).max() <= bound


def test_the_same_logits_give_the_cache_and_the_orders_of_the_rust_library(tmp_path: Path, tokenizer: Path) -> None:
    """The record is that of the test in crates/select/tests/written_cache.rs."""
    record = json.loads((DATA / "golden" / "written_cache.json").read_text())
    options: dict[str, Any] = {"vocab_size": 500, "max_length": 28_000, "samples_per_unit": 50}
    one = writer(tmp_path / "c", tokenizer, {"train": 120}, **options)
    numbers = np.arange(120 * 5 * 500, dtype=np.uint64) * np.uint64(2_654_435_761) % np.uint64(4_093)
    logits = (numbers.astype(np.float32) / np.float32(256)).reshape(-1, 500)
    for number in range(120):
        tokens = [(number * 61 + i * 7) % 500 for i in range(6)]
        one.add("train", number, tokens, logits[number * 5 : number * 5 + 5])
    assert one.finish() == record["cache_id"]
    core = logitcask.open(tmp_path / "c").core
    for (seed, epoch), order in zip([(0, 0), (0, 1), (7, 0)], record["orders"], strict=True):
        stream = _core.Stream([core], [1.0], "train", seed, 10, (0, 10), 12 * epoch, 1, 2, None, None, False)
        assert [n for _ in range(12) for n in stream.next()["sample_ids"]] == order


def test_a_run_resumes_and_ends_with_the_same_cache(tmp_path: Path, tokenizer: Path) -> None:
    texts = {"train": samples(100), "test": samples(9, 1)}
    counts = {"train": 100, "test": 9}
    whole = fill(writer(tmp_path / "a", tokenizer, counts), texts)
    first = writer(tmp_path / "b", tokenizer, counts)
    for number in range(55):
        completed = first.add("train", number, texts["train"][number], logits_of(texts["train"][number]))
        assert completed == (number == 39)
    with pytest.raises(logitcask.UnfinishedError, match="1 of 4 units"):
        first.finish()
    del first
    again = writer(tmp_path / "b", tokenizer, counts)
    missing = list(again.pending())
    assert missing[0] == ("train", 40) and len(missing) == 69
    for split, number in missing:
        again.add(split, number, texts[split][number], logits_of(texts[split][number]))
    assert again.finish() == whole
    # Samples of committed units cost nothing.
    assert writer(tmp_path / "b", tokenizer, counts).add("train", 3, texts["train"][3], np.zeros((0, 0))) is False


SCRIPT = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from conftest import logits_of, samples, writer
texts = samples(200)
one = writer(Path(sys.argv[1]), Path(sys.argv[2]), {"train": 200}, samples_per_unit=8)
for split, number in one.pending():
    one.add(split, number, texts[number], logits_of(texts[number]))
    time.sleep(0.002)
print(one.finish())
"""


def test_a_killed_run_loses_only_open_units(tmp_path: Path, tokenizer: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "c"), str(tokenizer), str(HERE)]
    started = subprocess.Popen(command)
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "c" / "data").glob("*.parquet"))) < 3:
        assert time.monotonic() < deadline and started.poll() is None, "the run ended or made no progress"
        time.sleep(0.01)
    started.send_signal(signal.SIGKILL)
    started.wait()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    whole = fill(writer(tmp_path / "w", tokenizer, {"train": 200}, samples_per_unit=8), {"train": samples(200)})
    assert done.stdout.strip() == whole
    assert logitcask.open(tmp_path / "c").verify() == []


def work(folder: Path, tokenizer: Path) -> None:
    texts = samples(200)
    one = writer(folder, tokenizer, {"train": 200}, samples_per_unit=8)
    for split, number in one.pending():
        one.add(split, number, texts[number], logits_of(texts[number]))


def test_processes_share_the_units(tmp_path: Path, tokenizer: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=work, args=(tmp_path / "c", tokenizer)) for _ in range(2)]
    for one in workers:
        one.start()
    for one in workers:
        one.join(60)
        assert one.exitcode == 0
    whole = fill(writer(tmp_path / "w", tokenizer, {"train": 200}, samples_per_unit=8), {"train": samples(200)})
    assert writer(tmp_path / "c", tokenizer, {"train": 200}, samples_per_unit=8).finish() == whole


def test_chosen_positions_and_extra_columns(tmp_path: Path, tokenizer: Path) -> None:
    extras = [{"name": "hidden", "from": {"kind": "hidden"}, "size": 4}]
    one = writer(tmp_path / "c", tokenizer, {"train": 6}, chosen_positions=True, extras=extras, samples_per_unit=3)
    texts = samples(6, 2)
    for number, tokens in enumerate(texts):
        places = list(range(0, len(tokens) - 1, 2))
        hidden = np.full((len(places), 4), number + 0.5, dtype=np.float32)
        one.add("train", number, tokens, logits_of(tokens)[places], positions=places, extras={"hidden": hidden})
    one.finish()
    cache = logitcask.open(tmp_path / "c", extras=["hidden"])
    assert cache.verify() == []
    batch = cache["train"].batch([4, 1])
    places = [list(range(0, len(texts[n]) - 1, 2)) for n in (4, 1)]
    assert batch.labels.tolist() == [texts[n][at + 1] for n, of in zip((4, 1), places, strict=True) for at in of]
    assert batch.extras["hidden"][:, 0].tolist() == [4.5] * len(places[0]) + [1.5] * len(places[1])


def test_rows_that_must_not_be_written_are_refused_and_nothing_is_stored(tmp_path: Path, tokenizer: Path) -> None:
    one = writer(tmp_path / "c", tokenizer, {"train": 2}, samples_per_unit=1)
    tokens = [1, 2, 3]
    good = logits_of(tokens)
    bad = good.copy()
    bad[1, 5] = np.nan
    for rows, text, message in [
        (bad, tokens, "train sample 0, position 1.*not a finite number"),
        (good[:1], tokens, "1 rows were given for 2 positions"),
        (good[:, :7], tokens, "rows of 7 logits.*300"),
        (good, [1, 2, 300], "token 300 is outside the vocabulary"),
    ]:
        with pytest.raises(logitcask.RowError, match=message):
            one.add("train", 0, text, rows)
    with pytest.raises(ValueError, match="no sample 2 in the split"):
        one.add("train", 2, tokens, good)
    assert one.add("train", 0, tokens, good)
    with pytest.raises(logitcask.PlanError, match="another plan.*max_length"):
        writer(tmp_path / "c", tokenizer, {"train": 2}, samples_per_unit=1, max_length=13)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "corpus.txt").write_text("text")
    with pytest.raises(logitcask.PlanError, match="corpus.txt"):
        writer(tmp_path / "d", tokenizer, {"train": 2})


def test_the_last_row_of_whole_samples_is_not_used(tmp_path: Path, tokenizer: Path) -> None:
    tokens = [4, 5, 6]
    ids = []
    for name, extra in (("a", 0), ("b", 1)):
        one = writer(tmp_path / name, tokenizer, {"train": 1})
        rows = np.concatenate([logits_of(tokens), np.full((extra, VOCAB), 9.0, np.float32)])
        one.add("train", 0, tokens, rows)
        ids.append(one.finish())
    assert ids[0] == ids[1]


def test_summaries_give_the_rows_that_all_logits_give(tmp_path: Path, tokenizer: Path) -> None:
    torch = pytest.importorskip("torch")
    texts = samples(40)
    for options in ({}, {"always_keep": [7, 3], "vocab_size": VOCAB - 20, "padding": 20}):
        texts = [[t % 280 for t in text] for text in texts]
        cpu = writer(tmp_path / f"a{len(options)}", tokenizer, {"train": 40}, **options)
        device = writer(tmp_path / f"b{len(options)}", tokenizer, {"train": 40}, **options)
        for number, tokens in enumerate(texts):
            rows = torch.from_numpy(np.repeat(logits_of(tokens), 1, axis=0))
            cpu.add("train", number, tokens, rows)
            # What `add` does with logits that are not in memory.
            place = ("train", number, (number, 0), tokens, None)
            device._add_on_device(place, rows, {})
        cpu.finish(), device.finish()
        a, b = (logitcask.open(tmp_path / f"{name}{len(options)}")["train"].batch(range(40)) for name in "ab")
        assert np.array_equal(a.class_ids, b.class_ids) and np.array_equal(a.gold_ranks, b.gold_ranks)
        assert np.allclose(a.log_z, b.log_z, atol=1e-5)
        assert np.allclose(a.log_partition(2.0), b.log_partition(2.0), atol=2e-3)
        assert logitcask.open(tmp_path / f"b{len(options)}").verify() == []


def test_hashes_of_folders_see_names_and_contents(tmp_path: Path) -> None:
    def pin(files: dict[str, str]) -> str:
        folder = tmp_path / str(len(os.listdir(tmp_path)))
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        return logitcask.Pin.of(folder).fingerprint

    first = pin({"a": "1", "b/c": "2"})
    assert first == pin({"b/c": "2", "a": "1"})
    assert len({first, pin({"a": "1", "b/d": "2"}), pin({"a": "1", "b/c": "3"}), pin({"a": "1"})}) == 4
