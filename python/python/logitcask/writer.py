"""Writing caches from any teacher."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _core


@dataclass(frozen=True)
class Pin:
    """What must not change between two runs: its name for messages, and a hash of its content."""

    name: str
    fingerprint: str
    """64 hex digits."""

    @staticmethod
    def of(*paths: str | os.PathLike[str], name: str | None = None) -> Pin:
        """Pins files, or all files in folders, by the hash of their contents in the order of their names."""
        return Pin(name or Path(paths[0]).name, _core.hash_files([Path(path) for path in paths]))

    @staticmethod
    def of_bytes(name: str, content: bytes) -> Pin:
        """Pins a content by its hash."""
        return Pin(name, _core.hash_bytes(content))


def top_k(k: int) -> dict[str, Any]:
    """Keeps the k likeliest classes."""
    return {"kind": "top_k", "k": k}


def top_p(p: float, k: int) -> dict[str, Any]:
    """Keeps the likeliest classes that together have the probability p, at most k of them."""
    return {"kind": "top_p", "p": p, "k": k}


def sample(n: int, seed: int = 0) -> dict[str, Any]:
    """Keeps n classes, drawn without bias; the likeliest with certainty."""
    return {"kind": "sample", "n": n, "seed": seed}


def dense() -> dict[str, Any]:
    """Keeps every class."""
    return {"kind": "dense"}


Place = tuple[str, int, tuple[int, int], list[int], list[int] | None]
"""Split, number and origin of a sample, its tokens and its chosen positions."""


class CacheWriter:
    """Writes a cache, or goes on with one that the same arguments began.

    Samples are numbered from 0 within their split. They are written in units of `samples_per_unit`; a run that is killed
    loses at most the units it was working on. Any number of processes may write one cache: each takes its units from
    `pending()`.

    >>> writer = CacheWriter(folder, splits={"train": 1000}, vocab_size=32000, max_length=512, tokenizer="tokenizer.json",
    ...                      teacher=Pin.of("models/teacher"), dataset=Pin.of("corpus.jsonl"))
    >>> for split, number in writer.pending():
    ...     writer.add(split, number, input_ids[number], teacher_logits(input_ids[number]))
    >>> writer.finish()
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        splits: Mapping[str, int],
        vocab_size: int,
        max_length: int,
        tokenizer: str | os.PathLike[str],
        teacher: Pin,
        dataset: Pin,
        selection: Mapping[str, Any] | None = None,
        temperatures: tuple[float, float] = (0.75, 10.0),
        atoms: int = 4,
        value_step: float | None = None,
        layout: str = "plain",
        padding: int = 0,
        always_keep: Sequence[int] = (),
        chosen_positions: bool = False,
        extras: Sequence[Mapping[str, Any]] = (),
        bos: int | None = None,
        end: int | None = None,
        precision: str = "f32",
        samples_per_unit: int = 1024,
        companions: Mapping[str, bytes] | None = None,
        threads: int | None = None,
    ) -> None:
        """Begins or resumes the cache in `folder`.

        `vocab_size` is the number of classes that may be kept, the tokenizer's highest id + 1; the teacher's head may have
        `padding` more. `tokenizer` is the path of a `tokenizer.json` or of a folder that has one. `dataset` must pin how
        the texts were cut into samples too, for the numbers of the samples mean nothing else. `selection` is top_k(64)
        unless given. `temperatures` is the range in which `atoms` numbers of the tail make log Z right. `value_step` rounds
        log-probabilities to that many nats (1/32 to 1/2) instead of f16. `chosen_positions` says that `add` is given the
        positions. `companions` are files of the teacher for its students, by name.

        Raises `PlanError` if the folder holds something else, or a cache that other arguments began.
        """
        selection = dict(selection or top_k(64))
        keep: dict[str, Any] = {"selection": selection, "values": {"kind": "f16"}, "always_keep": [], "tail": None}
        if value_step is not None:
            keep["values"] = {"kind": "quantised", "step": value_step}
        if always_keep:
            keep["always_keep"] = sorted(set(map(int, always_keep)))
        if selection["kind"] != "dense":
            low, high = temperatures
            keep["tail"] = {"lowest_temperature": low, "highest_temperature": high, "atoms": atoms}
        if padding:
            keep["padding"] = padding
        tokenizer_path = Path(tokenizer)
        if tokenizer_path.is_dir():
            tokenizer_path = tokenizer_path / "tokenizer.json"
        tokenizer_json = tokenizer_path.read_bytes()
        plan: dict[str, Any] = {
            "format_version": _core.FORMAT_VERSION,
            "versions": {"tokenisation": 1, "selection": _core.SELECTION_VERSION, "codec": _core.CODEC_VERSION},
            "layout": layout,
            "vocab_size": int(vocab_size),
            "max_length": int(max_length),
            "precision": precision,
            "batch_tokens": int(max_length),
            "keep": keep,
            "teacher": vars(teacher),
            "tokenizer": {"name": "tokenizer.json", "fingerprint": _core.hash_bytes(tokenizer_json)},
            "bos": bos,
            "end": end,
            "dataset": vars(dataset),
            "splits": [{"name": name, "samples": int(samples)} for name, samples in splits.items()],
            "samples_per_unit": samples_per_unit,
        }
        if chosen_positions:
            plan["positions"] = {"kind": "marked"}
        if extras:
            plan["extras"] = [dict(extra) for extra in extras]
        files = sorted((companions or {}).items())
        self.core = _core.Writer(Path(folder), json.dumps(plan), tokenizer_json, files, threads or os.cpu_count() or 1)
        self.folder = Path(folder)
        self.plan: dict[str, Any] = json.loads(self.core.plan)
        """The plan of the cache, as it was begun."""

    def __repr__(self) -> str:
        return f"logitcask.CacheWriter({str(self.folder)!r})"

    def pending(self) -> Iterator[tuple[str, int]]:
        """Split and number of every sample that is not written, unit by unit. Units that another process makes at this
        time are left to it; if it dies, the next run finds them."""
        for unit, split, start, end in self.core.pending():
            if self.core.claim(unit):
                yield from ((split, number) for number in range(start, end))

    def add(
        self,
        split: str,
        number: int,
        input_ids: Sequence[int] | NDArray[np.integer[Any]],
        logits: Any,
        *,
        positions: Sequence[int] | NDArray[np.integer[Any]] | None = None,
        origin: tuple[int, int] | None = None,
        extras: Mapping[str, NDArray[np.floating[Any]]] | None = None,
    ) -> bool:
        """Adds sample `number` of a split. Returns whether this completed its unit, which is then on disk.

        `logits` is an array or a tensor of raw logits: [L, V] (the last row is not used), [L - 1, V], or [P, V] for the P
        `positions`. Row i belongs to the token at position i and predicts the next one. Logits on a GPU are reduced there;
        only some hundred numbers a row leave it. `origin` is where the sample was cut from: the number of its document,
        and the token in it. `extras` has the numbers of the plan's extra columns.

        Raises `RowError` for a row that must not be written: one that is not finite, has another width, or a label outside
        of the vocabulary.
        """
        tokens = [int(token) for token in input_ids]
        places = None if positions is None else [int(position) for position in positions]
        columns = {
            name: np.ascontiguousarray(values, dtype=np.float32).reshape(-1) for name, values in (extras or {}).items()
        }
        rows = logits[: len(tokens) - 1] if positions is None and len(logits) == len(tokens) else logits
        place: Place = (split, int(number), origin or (int(number), 0), tokens, places)
        if hasattr(rows, "detach"):
            rows = rows.detach()
            if rows.device.type != "cpu":
                return self._add_on_device(place, rows, columns)
            rows = rows.float().numpy()
        return self.core.add_logits(*place, np.ascontiguousarray(rows, dtype=np.float32), columns)

    def _add_on_device(self, place: Place, rows: Any, columns: Mapping[str, Any]) -> bool:
        from .torch.summaries import summarise

        width = rows.shape[1]
        spec = self.core.summary(width)
        _, _, _, tokens, places = place
        if spec is None:
            return self.core.add_logits(*place, rows.float().cpu().numpy(), columns)
        labels = tokens[1:] if places is None else [tokens[position + 1] for position in places]
        keep = self.plan["keep"]
        summaries = summarise(rows, labels, spec, keep.get("always_keep", []), keep.get("padding", 0))

        def row(i: int) -> NDArray[np.float32]:
            return np.asarray(rows[i].float().cpu().numpy())

        return self.core.add_summaries(*place, width, summaries, row, columns)

    def finish(self) -> str:
        """Completes the cache and returns its id. Raises `UnfinishedError` while units are missing."""
        return self.core.finish()
