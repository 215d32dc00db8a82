"""`transformers.Trainer`: train a student from a cache without a subclass.

>>> split = logitcask.open("data/caches/demo")["train"]
>>> trainer = Trainer(
...     model=student,
...     args=TrainingArguments(out, remove_unused_columns=False, max_steps=400, per_device_train_batch_size=8),
...     train_dataset=Samples(split),
...     data_collator=Collator(split),
...     compute_loss_func=Loss(temperature=2.0, alpha=0.9),
... )

Order, ranks and resuming are the Trainer's own. The teacher's rows travel inside `labels`, the only place that a Trainer hands
to a loss and not to the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
import torch.utils.data
from torch import Tensor

from .cache import Split
from .torch.batch import TorchBatch, to_torch
from .torch.loss import kd_loss


class Samples(torch.utils.data.Dataset[dict[str, int]]):
    """The samples of a split as a map-style dataset: each is its number, which a `Collator` reads the batch by."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, number: int) -> dict[str, int]:
        return {"number": int(number)}


class Collator:
    """Reads the samples of a batch. The result has what the model needs (`input_ids`, `attention_mask`), and in `labels`
    what the loss needs."""

    def __init__(self, split: Split, *, classes: int | None = None, max_length: int | None = None) -> None:
        """`classes` uses so many of the kept classes and moves the others to the tail, exactly; `max_length` uses the first
        tokens of each sample."""
        self.split, self.classes, self.max_length = split, classes, max_length

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        if any("number" not in example for example in examples):
            raise KeyError(
                "the examples have no numbers of samples: give the Trainer logitcask.hf.Samples, and set "
                "TrainingArguments(remove_unused_columns=False)"
            )
        numbers = [int(example["number"]) for example in examples]
        batch = to_torch(self.split.batch(numbers, classes=self.classes, max_length=self.max_length))
        targets: dict[str, Any] = {}
        for one in fields(TorchBatch):
            value = getattr(batch, one.name)
            if isinstance(value, Tensor):
                targets[one.name] = value
        targets["vocab_size"] = torch.tensor(batch.vocab_size)
        targets["temperatures"] = torch.tensor(batch.temperatures, dtype=torch.float64)
        targets["tail"] = torch.tensor(TAILS.index(batch.tail))
        return {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "labels": targets}


TAILS = ("atoms", "mass", "none")


class Loss:
    """`kd_loss` as a Trainer's `compute_loss_func`, with the same keyword arguments.

    A Trainer that accumulates gradients adds up what this function returns: give it the same `gradient_accumulation_steps`, and
    the result is the mean over the steps.
    """

    def __init__(self, temperature: float = 1.0, *, gradient_accumulation_steps: int = 1, **options: Any) -> None:
        self.temperature, self.steps, self.options = temperature, gradient_accumulation_steps, options

    def __call__(self, outputs: Any, labels: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        known = {name: value for name, value in labels.items() if name not in ("vocab_size", "temperatures", "tail")}
        low, high = labels["temperatures"].tolist()
        batch = TorchBatch(
            **known,
            vocab_size=int(labels["vocab_size"]),
            temperatures=(low, high),
            tail=TAILS[int(labels["tail"])],
        )
        logits = outputs["logits"] if isinstance(outputs, dict) else outputs.logits
        return kd_loss(logits, batch, self.temperature, **self.options) / self.steps
