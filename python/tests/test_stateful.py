"""`torchdata.stateful_dataloader`: the state of a loader, with the same and with another number of workers."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import logitcask
import pytest

torch = pytest.importorskip("torch")
stateful = pytest.importorskip("torchdata.stateful_dataloader")

from logitcask.torch import Dataset, Loader  # noqa: E402

STEPS = 20
"""More than an epoch, which has 12.5."""


def made(cache: logitcask.Cache, workers: int, place: Any = None, every: int = 1) -> Any:
    dataset = Dataset(cache, 12, steps=STEPS)
    if place is not None:
        dataset.load_state_dict(place)
    return stateful.StatefulDataLoader(dataset, batch_size=None, num_workers=workers, snapshot_every_n_steps=every)


def numbers(batches: Any, count: int | None = None) -> list[list[int]]:
    return [batch.sample_ids.tolist() for batch in itertools.islice(batches, count)]


@pytest.fixture(scope="module")
def whole(cache: logitcask.Cache) -> list[list[int]]:
    return numbers(Loader(cache, 12, steps=STEPS))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("taken", [0, 1, 7])
def test_a_loader_resumes_exactly_and_again(cache: logitcask.Cache, whole: Any, workers: int, taken: int) -> None:
    first = made(cache, workers)
    assert numbers(first, taken) == whole[:taken]
    second = made(cache, workers)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert numbers(second, 4) == whole[taken : taken + 4]
    # The second resume within an epoch, into a loader that was iterated already.
    third = made(cache, workers)
    numbers(third, 3)
    third.load_state_dict(copy.deepcopy(second.state_dict()))
    assert numbers(third) == whole[taken + 4 :]


@pytest.mark.parametrize("before, after", [(0, 2), (2, 0), (2, 1), (2, 3), (1, 2), (3, 2)])
@pytest.mark.parametrize("taken", [0, 1, 7])
def test_the_dataset_goes_on_with_another_number_of_workers(
    cache: logitcask.Cache, whole: Any, before: int, after: int, taken: int
) -> None:
    first = made(cache, before)
    numbers(first, taken)
    second = made(cache, after, copy.deepcopy(first.state_dict()))
    assert numbers(second, 3) == whole[taken : taken + 3]
    third = made(cache, before, copy.deepcopy(second.state_dict()))
    assert numbers(third) == whole[taken + 3 :]


@pytest.mark.parametrize("taken", range(1, 9))
def test_a_state_between_snapshots_counts_the_steps_since(cache: logitcask.Cache, whole: Any, taken: int) -> None:
    first = made(cache, 2, every=3)
    numbers(first, taken)
    state = copy.deepcopy(first.state_dict())
    assert numbers(made(cache, 1, state)) == whole[taken:]
    again = made(cache, 2, every=3)
    again.load_state_dict(state)
    assert numbers(again) == whole[taken:]


def test_the_state_of_another_run_is_refused(cache: logitcask.Cache) -> None:
    first = made(cache, 2)
    numbers(first, 3)
    with pytest.raises(ValueError, match="seed was 0 and is 1"):
        Dataset(cache, 12, seed=1).load_state_dict(first.state_dict())
