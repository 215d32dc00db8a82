"""The loader: its order over ranks and workers, resuming, and mixtures."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import logitcask
import pytest
from conftest import fill, samples, writer

torch = pytest.importorskip("torch")

from logitcask.torch import Dataset, Loader  # noqa: E402

HERE = Path(__file__).parent


def numbers(batches: Any) -> list[list[int]]:
    return [batch.sample_ids.tolist() for batch in batches]


def steps(cache: logitcask.Cache, count: int, **options: Any) -> list[list[int]]:
    return numbers(Loader(cache, 12, steps=count, **options))


def test_an_epoch_has_every_sample_once_and_epochs_follow_without_a_gap(cache: logitcask.Cache) -> None:
    order = [number for step in steps(cache, 25) for number in step]
    assert sorted(order[:150]) == list(range(150)) and sorted(order[150:300]) == list(range(150))
    assert order[:150] != order[150:300] != list(range(150))
    assert order != [number for step in steps(cache, 25, seed=1) for number in step]


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_ranks_and_workers_do_not_change_what_a_step_has(cache: logitcask.Cache, ranks: int, workers: int) -> None:
    whole = steps(cache, 14)
    shares = []
    for rank in range(ranks):
        dataset = Dataset(cache, 12, steps=14, rank=rank, world_size=ranks)
        loader = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=workers)
        shares.append(numbers(loader))
    assert [list(itertools.chain(*step)) for step in zip(*shares, strict=True)] == whole


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_resumes_at_its_next_step_with_any_number_of_ranks(cache: logitcask.Cache, workers: int) -> None:
    whole = steps(cache, 20)
    loader = Loader(cache, 12, steps=20)
    taken = numbers(itertools.islice(loader, 7))
    state = loader.state_dict()
    assert taken == whole[:7] and state["step"] == 7
    shares = []
    for rank in range(2):
        again = Dataset(cache, 12, steps=20, rank=rank, world_size=2)
        again.load_state_dict(state)
        shares.append(numbers(torch.utils.data.DataLoader(again, batch_size=None, num_workers=workers)))
    assert [a + b for a, b in zip(*shares, strict=True)] == whole[7:]


def test_a_state_may_be_loaded_while_a_run_goes_on(cache: logitcask.Cache) -> None:
    whole = steps(cache, 20)
    loader = Loader(cache, 12, steps=20)
    batches = iter(loader)
    first = numbers(itertools.islice(batches, 3))
    state = loader.state_dict()
    numbers(itertools.islice(batches, 4))
    loader.load_state_dict(state)
    assert first + numbers(batches) == whole
    # A second resume within an epoch is exact, too.
    loader.load_state_dict({**state, "step": 5})
    assert numbers(itertools.islice(iter(loader), 2)) == whole[5:7]


def test_the_state_of_another_run_is_refused(cache: logitcask.Cache) -> None:
    state = Loader(cache, 12).state_dict()
    with pytest.raises(ValueError, match="seed was 0 and is 1"):
        Loader(cache, 12, seed=1).load_state_dict(state)
    with pytest.raises(ValueError, match="batch_size was 12 and is 24"):
        Loader(cache, 24).load_state_dict(state)
    with pytest.raises(ValueError, match="multiple"):
        Loader(cache, 12, rank=0, world_size=5)
    with pytest.raises(TypeError, match="steps="):
        len(Loader(cache, 12))


def test_a_mixture_is_by_weight_and_resumes(cache: logitcask.Cache, tmp_path: Path, tokenizer: Path) -> None:
    options: dict[str, Any] = {"selection": logitcask.top_k(4), "layout": "packed"}
    fill(writer(tmp_path / "other", tokenizer, {"train": 30}, **options), {"train": samples(30, 5)})
    both = [cache, logitcask.open(tmp_path / "other")]
    loader = Loader(both, 12, weights=[2.0, 1.0], steps=20)
    batches = list(loader)
    sources = [source for batch in batches for source in batch.sources.tolist()]
    assert sources.count(1) == 80 and all(7 <= batch.sources.tolist().count(0) <= 9 for batch in batches)
    assert batches[0].class_ids.shape[1] == 16
    again = Loader(both, 12, weights=[2.0, 1.0], steps=20)
    again.load_state_dict({**loader.state_dict(), "step": 11})
    assert numbers(again) == numbers(batches[11:])
    with pytest.raises(ValueError, match="2 weights were given for 1 caches"):
        Loader(cache, 12, weights=[1.0, 2.0])


def test_an_error_in_the_cache_reaches_the_loop(tmp_path: Path, tokenizer: Path) -> None:
    fill(writer(tmp_path / "c", tokenizer, {"train": 150}), {"train": samples(150)})
    for shard in (tmp_path / "c" / "data").glob("*.parquet"):
        content = bytearray(shard.read_bytes())
        content[50] ^= 1
        shard.unlink()
        shard.write_bytes(content)
    with pytest.raises(logitcask.DamagedError, match="parquet"):
        list(Loader(logitcask.open(tmp_path / "c"), 12, steps=2))


SCRIPT = """
import multiprocessing, os, sys, threading
import logitcask, torch
from logitcask.torch import Dataset, Loader

def read(cache):
    return [batch.sample_ids.tolist() for batch in Loader(cache, 12, steps=3)]

def child(queue, cache):
    queue.put(read(cache))

if __name__ == "__main__":
    method, folder = sys.argv[1:]
    cache = logitcask.open(folder)
    whole = read(cache)
    # A thread that is reading when the process forks: what it holds must not stop the child.
    stop = threading.Event()
    def busy():
        while not stop.is_set():
            cache["train"].batch(range(100))
    thread = threading.Thread(target=busy)
    thread.start()
    context = multiprocessing.get_context(method)
    for _ in range(3):
        queue = context.Queue()
        process = context.Process(target=child, args=(queue, cache))
        process.start()
        assert queue.get(timeout=60) == whole
        process.join(60)
        assert process.exitcode == 0
    dataset = Dataset(cache, 12, steps=3)
    loader = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context=method)
    assert [batch.sample_ids.tolist() for batch in loader] == whole
    stop.set()
    thread.join()
    print("read the same")
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_every_way_to_start_a_process(cache: logitcask.Cache, method: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    path = os.pathsep.join([str(HERE.parent / "python"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path} if "PYTHONPATH" in os.environ else dict(os.environ)
    done = subprocess.run(
        [sys.executable, str(script), method, str(cache.folder)],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )
    assert done.stdout.strip() == "read the same", done.stderr


def rank_of_a_group(rank: int, folder: Path, meeting: Path, queue: Any) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    loader = Loader(logitcask.open(folder), 12, steps=14)
    taken = numbers(itertools.islice(loader, 5))
    # The state of one rank is that of all.
    states: list[Any] = [loader.state_dict()]
    torch.distributed.broadcast_object_list(states, 0)
    again = Loader(logitcask.open(folder), 12, steps=14)
    again.load_state_dict(states[0])
    queue.put((rank, taken + numbers(again)))
    torch.distributed.destroy_process_group()


def test_ranks_are_those_of_the_process_group(cache: logitcask.Cache, tmp_path: Path) -> None:
    context = torch.multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    arguments = (cache.folder, tmp_path / "meeting", queue)
    group = [context.Process(target=rank_of_a_group, args=(rank, *arguments), daemon=True) for rank in range(2)]
    for process in group:
        process.start()
    for process in group:
        process.join(120)
        assert process.exitcode == 0
    shares = dict(queue.get() for _ in group)
    assert [a + b for a, b in zip(shares[0], shares[1], strict=True)] == steps(cache, 14)
