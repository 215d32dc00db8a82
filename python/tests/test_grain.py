"""Grain: splits as data sources, and streams whose place is in its checkpoints."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import logitcask
import numpy as np
import pytest

grain = pytest.importorskip("grain")

from absl import flags  # noqa: E402
from grain.checkpoint import CheckpointHandler  # noqa: E402

# Grain's worker processes ask for flags, which a program that `absl` runs has parsed.
flags.FLAGS.mark_as_parsed()


def texts(samples: Any) -> list[list[int]]:
    return [sample.input_ids.tolist() for sample in samples]


def test_a_split_is_a_data_source(cache: logitcask.Cache) -> None:
    split = cache["train"]
    assert isinstance(split, grain.sources.RandomAccessDataSource)
    order = grain.MapDataset.range(len(split)).shuffle(seed=1)
    shuffled = grain.MapDataset.source(split).shuffle(seed=1)
    assert texts(shuffled) == texts(split[int(i)] for i in order)
    assert sorted(int(i) for i in order) == list(range(len(split)))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_a_split_resume(cache: logitcask.Cache, workers: int) -> None:
    split = cache["train"]

    def iterator() -> Any:
        numbers = grain.MapDataset.range(len(split)).shuffle(seed=3).repeat(2).batch(8)
        batches = numbers.map(split.batch).to_iter_dataset()
        return iter(batches.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers)) if workers else batches)

    first = iterator()
    whole = [batch.sample_ids.tolist() for batch in first]
    assert all(len(step) == 8 for step in whole[:-1])
    assert sorted(sum(whole, [])) == sorted(2 * list(range(len(split))))
    second = iterator()
    for _ in range(7):
        next(second)
    state = second.get_state()
    third = iterator()
    next(third)
    third.set_state(state)
    assert [batch.sample_ids.tolist() for batch in third] == whole[7:]


def test_a_data_loader_with_processes_reads_samples(cache: logitcask.Cache) -> None:
    split = cache["train"]
    sampler = grain.samplers.IndexSampler(num_records=len(split), num_epochs=1, shuffle=True, seed=2)
    loader = grain.DataLoader(data_source=split, sampler=sampler, worker_count=2)
    iterator = iter(loader)
    first = [next(iterator) for _ in range(5)]
    state = iterator.get_state()
    rest = list(iterator)
    again = iter(loader)
    again.set_state(state)
    assert texts(again) == texts(rest)
    assert sorted(sample.number for sample in first + rest) == list(range(len(split)))
    # The samples of a worker share one open cache.
    assert len({id(sample.split.cache) for sample in first + rest}) == 1


def test_a_checkpoint_holds_the_place_of_a_stream(cache: logitcask.Cache, tmp_path: Path) -> None:
    epath = pytest.importorskip("etils.epath")
    whole = [batch.sample_ids.tolist() for batch in logitcask.TrainingStream(cache, 12, steps=20)]
    stream = logitcask.TrainingStream(cache, 12, steps=20)
    assert [next(stream).sample_ids.tolist() for _ in range(7)] == whole[:7]
    CheckpointHandler().save(epath.Path(tmp_path), stream)
    again = logitcask.TrainingStream(cache, 12)
    next(again)
    CheckpointHandler().restore(epath.Path(tmp_path), again)
    assert [next(again).sample_ids.tolist() for _ in range(13)] == whole[7:]
    copy = pickle.loads(pickle.dumps(stream))
    assert np.array_equal(next(copy).class_ids, next(stream).class_ids)
