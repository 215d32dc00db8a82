"""Caches of teachers in `transformers`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from .writer import CacheWriter, Pin

Tokens = Sequence[int]


def from_transformers(
    model: Any,
    samples: Mapping[str, Sequence[Tokens | Mapping[str, Any]]],
    folder: str | os.PathLike[str],
    *,
    tokenizer: str | os.PathLike[str],
    teacher: Pin,
    dataset: Pin | None = None,
    batch_size: int = 8,
    vocab_size: int | None = None,
    **options: Any,
) -> str:
    """Runs a causal language model over `samples` and writes what it says; returns the id of the cache. The same call again
    goes on where it stopped, and several processes may make the same call at once.

    `samples` has the samples of each split: lists of token ids, or mappings with `input_ids` and a `mask` of the same length,
    where a position is cached if the token after it is marked. `dataset` pins them: it is the hash of their tokens unless
    given. `vocab_size` is the number of classes that may be kept, all that the model has unless given; the rest of the head
    counts in the tail. `options` are those of `CacheWriter`, such as `selection` and `temperatures`.
    """
    taken = {split: [_sample(one) for one in of_split] for split, of_split in samples.items()}
    every = [tokens for of_split in taken.values() for tokens, _ in of_split]
    if dataset is None:
        content = b"".join(np.asarray([len(tokens), *tokens], dtype="<u4").tobytes() for tokens in every)
        dataset = Pin.of_bytes("samples", content)
    head = int(model.get_output_embeddings().weight.shape[0])
    classes = head if vocab_size is None else vocab_size
    is_chosen = any(positions is not None for of_split in taken.values() for _, positions in of_split)
    options.setdefault("max_length", max(map(len, every)))
    writer = CacheWriter(
        folder,
        splits={split: len(of_split) for split, of_split in taken.items()},
        vocab_size=classes,
        padding=head - classes,
        tokenizer=tokenizer,
        teacher=teacher,
        dataset=dataset,
        chosen_positions=is_chosen,
        **options,
    )
    batch: list[tuple[str, int]] = []
    for place in writer.pending():
        batch.append(place)
        if len(batch) == batch_size:
            _add(model, writer, taken, batch)
            batch = []
    if batch:
        _add(model, writer, taken, batch)
    return writer.finish()


@torch.no_grad()
def _add(model: Any, writer: CacheWriter, taken: Mapping[str, Any], batch: Sequence[tuple[str, int]]) -> None:
    samples = [taken[split][number] for split, number in batch]
    longest = max(len(tokens) for tokens, _ in samples)
    input_ids = torch.zeros(len(samples), longest, dtype=torch.long)
    mask = torch.zeros_like(input_ids)
    for i, (tokens, _) in enumerate(samples):
        input_ids[i, : len(tokens)], mask[i, : len(tokens)] = torch.tensor(tokens), 1
    logits = model(input_ids=input_ids.to(model.device), attention_mask=mask.to(model.device)).logits
    for (split, number), (tokens, positions), rows in zip(batch, samples, logits, strict=True):
        chosen = range(len(tokens) - 1) if positions is None else positions
        writer.add(split, number, tokens, rows[list(chosen)], positions=positions)


def _sample(one: Tokens | Mapping[str, Any]) -> tuple[list[int], list[int] | None]:
    """Tokens, and the positions before marked ones."""
    if not isinstance(one, Mapping):
        return [int(token) for token in one], None
    tokens, mask = [int(token) for token in one["input_ids"]], list(one["mask"])
    if len(mask) != len(tokens):
        raise ValueError(f"a mask of {len(mask)} was given for {len(tokens)} tokens")
    return tokens, [i for i in range(len(tokens) - 1) if mask[i + 1]]
