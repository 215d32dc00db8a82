"""Reading, compared with what other readers of Parquet see."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import logitcask
import numpy as np
import pytest
from conftest import DATA, VECTORS

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.mark.parametrize("folder", VECTORS, ids=lambda path: path.name)
def test_arrow_columns_are_those_of_the_files(folder: Path) -> None:
    cache = logitcask.open(folder)
    assert cache.verify() == []
    twin = folder.parent / folder.name.replace("packed", "plain")
    for split in cache:
        table = cache[split].to_arrow()
        assert table.num_rows == len(cache[split])
        if folder.name.startswith("plain"):
            files = sorted((folder / "data").glob(f"{split}-*.parquet"))
            stored = pa.concat_tables([pq.read_table(file) for file in files])
        elif twin.exists():
            stored = logitcask.open(twin)[split].to_arrow()
        else:
            continue
        for name in table.column_names:
            assert table[name].to_pylist() == stored[name].to_pylist(), name


@pytest.mark.parametrize("folder", VECTORS, ids=lambda path: path.name)
def test_a_batch_holds_the_rows_of_its_samples(folder: Path) -> None:
    cache = logitcask.open(folder)
    keep = cache.plan["keep"]
    for split in cache:
        whole = cache[split].batch(range(len(cache[split])))
        rows = cache[split].to_arrow().to_pylist()
        positions = [row.get("positions", list(range(len(row["input_ids"]) - 1))) for row in rows]
        labels = [row["input_ids"][at + 1] for row, places in zip(rows, positions, strict=True) for at in places]
        assert whole.labels.tolist() == labels
        length = whole.input_ids.shape[1]
        assert whole.rows.tolist() == [i * length + at for i, places in enumerate(positions) for at in places]
        lp = [lp for row in rows for lp in row["topk_log_probs"]]
        assert whole.log_probs[whole.log_probs > -5e3].tolist() == lp
        if keep["selection"]["kind"] != "dense":
            ids = [i for row in rows for i in row["topk_ids"]]
            assert whole.class_ids[whole.log_probs > -5e3].tolist() == ids
        if whole.log_z is not None:
            assert whole.log_z.tolist() == [z for row in rows for z in row["log_z"]]
        for number in range(len(cache[split])):
            one = cache[split][number]
            assert one.input_ids.tolist() == rows[number]["input_ids"]
            assert one.labels.tolist() == [rows[number]["input_ids"][at + 1] for at in positions[number]]


def test_log_z_at_a_temperature_is_within_the_stated_error(cache: logitcask.Cache) -> None:
    from conftest import logits_of

    worst = {}
    for sample in cache["train"][:40]:
        exact = logits_of(sample.input_ids.tolist()).astype(np.float64)
        for temperature in (0.75, 1.0, 2.0, 4.0, 10.0):
            scaled = exact / temperature
            want = scaled.max(1) + np.log(np.exp(scaled - scaled.max(1, keepdims=True)).sum(1))
            got = sample.log_z_at(temperature)
            assert np.allclose(got, sample.batch.log_z_at(temperature), atol=1e-6)
            worst[temperature] = max(worst.get(temperature, 0.0), float(abs(got - want).max()))
    for temperature, error in worst.items():
        assert error <= cache.error(temperature) + 1e-4, f"{error} nat at T = {temperature}"
    assert worst[2.0] > 0


def test_entropy_and_tail_mass_are_those_of_the_teacher(cache: logitcask.Cache) -> None:
    from conftest import logits_of

    sample = cache["train"][3]
    scaled = logits_of(sample.input_ids.tolist()).astype(np.float64) / 2.0
    p = np.exp(scaled - scaled.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    assert np.allclose(sample.entropy(2.0), -(p * np.log(p)).sum(1), atol=5e-3)
    kept = np.take_along_axis(p, sample.class_ids, 1).sum(1)
    assert np.allclose(sample.tail_mass(2.0), 1 - kept, atol=2e-3)


def test_fewer_classes_and_tokens_keep_the_partition_function(cache: logitcask.Cache) -> None:
    numbers = [5, 0, 9]
    whole, few = cache["train"].batch(numbers), cache["train"].batch(numbers, classes=4)
    assert few.class_ids.shape[1] == 4 and np.array_equal(few.class_ids, whole.class_ids[:, :4])
    assert np.allclose(few.log_partition(2.0), whole.log_partition(2.0), atol=1e-6)
    short = cache["train"].batch(numbers, max_length=5)
    assert short.input_ids.shape[1] <= 5 and len(short.rows) == sum(min(n, 5) - 1 for n in whole.lengths)
    packed = cache["train"].batch(numbers, packed=True)
    assert packed.input_ids.shape == (1, sum(whole.lengths))
    assert np.array_equal(packed.log_probs, whole.log_probs)
    assert np.array_equal(packed.input_ids.reshape(-1)[packed.rows + 1], packed.labels)
    assert packed.attention_mask.sum() == whole.attention_mask.sum()


def test_batches_cover_a_split_once_over_all_ranks(cache: logitcask.Cache) -> None:
    for ranks in (1, 2, 3):
        numbers = [
            n
            for rank in range(ranks)
            for b in cache["train"].batches(16, rank=rank, world_size=ranks)
            for n in b.sample_ids
        ]
        assert sorted(numbers) == list(range(150))


def test_a_pickled_cache_is_opened_again_and_must_be_the_same(cache: logitcask.Cache, tmp_path: Path) -> None:
    assert pickle.loads(pickle.dumps(cache)).cache_id == cache.cache_id
    assert pickle.loads(pickle.dumps(cache["train"]))[2].labels.tolist() == cache["train"][2].labels.tolist()
    shutil.copytree(VECTORS[0], tmp_path / "a")
    first = pickle.dumps(logitcask.open(tmp_path / "a"))
    shutil.rmtree(tmp_path / "a")
    shutil.copytree(VECTORS[1], tmp_path / "a")
    with pytest.raises(logitcask.CacheError, match="was pickled"):
        pickle.loads(first)


def test_what_is_wrong_is_named(cache: logitcask.Cache, tmp_path: Path) -> None:
    with pytest.raises(logitcask.NotACacheError, match=str(tmp_path)):
        logitcask.open(tmp_path)
    with pytest.raises(KeyError, match="'valid'.*train, test"):
        cache["valid"]
    with pytest.raises(IndexError, match="sample 150 of 150"):
        cache["train"][150]
    with pytest.raises(ValueError, match="temperature = 20.*0.75 to 10.0"):
        cache["train"][0].log_z_at(20.0)
    with pytest.raises(ValueError, match="classes = 0"):
        cache["train"].batch([0], classes=0)
    with pytest.raises(KeyError, match="no extra column|hidden"):
        logitcask.open(cache.folder, extras=["hidden"])


def test_damage_is_found_when_the_rows_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(DATA / "vectors" / "v2" / "plain-top_k", folder)
    shard = next((folder / "data").glob("*.parquet"))
    content = bytearray(shard.read_bytes())
    content[60] ^= 1
    shard.unlink()
    shard.write_bytes(content)
    cache = logitcask.open(folder)
    assert any(shard.name in problem for problem in cache.verify())
    with pytest.raises(logitcask.DamagedError, match=shard.name):
        for split in cache:
            cache[split].batch(range(len(cache[split])))


def test_a_stream_has_the_steps_of_its_ranks_and_resumes(cache: logitcask.Cache) -> None:
    def steps(stream: Any) -> list[list[int]]:
        return [batch.sample_ids.tolist() for batch in stream]

    whole = steps(logitcask.TrainingStream(cache, 12, steps=20, seed=4))
    assert sorted(sum(whole, [])[:150]) == list(range(150))
    first = logitcask.TrainingStream(cache, 12, steps=20, seed=4)
    for _ in range(6):
        next(first)
    shares = []
    for rank in range(3):
        share = logitcask.TrainingStream(cache, 12, steps=20, seed=4, rank=rank, world_size=3)
        share.set_state(first.get_state())
        shares.append(steps(share))
    assert [sum(step, []) for step in zip(*shares, strict=True)] == whole[6:]
    with pytest.raises(ValueError, match="seed was 4 and is 0"):
        logitcask.TrainingStream(cache, 12).set_state(first.get_state())
