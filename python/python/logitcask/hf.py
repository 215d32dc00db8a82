"""`transformers.Trainer` and TRL's `SFTTrainer`: train a student from a cache without a subclass.

>>> split = logitcask.open("data/caches/demo")["train"]
>>> trainer = Trainer(
...     model=student,
...     args=TrainingArguments(out, remove_unused_columns=False, max_steps=400, per_device_train_batch_size=8),
...     train_dataset=Samples(split),
...     data_collator=Collator(split),
...     compute_loss_func=Loss(temperature=2.0, alpha=0.9),
... )

Order, ranks and resuming are the trainer's own. `labels` are what they are everywhere in `transformers`, so that
trainers can count them and measure accuracy; the teacher's rows travel with them, because nothing else reaches a loss
and not the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.utils.data
from torch import Tensor

from .cache import Split
from .torch.batch import TorchBatch, to_torch
from .torch.loss import kd_loss

IGNORED = -100
"""Label of a token that no position predicts."""


class Samples(torch.utils.data.Dataset[dict[str, int]]):
    """The samples of a split as a map-style dataset: each is its number, which a `Collator` reads the batch by."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, number: int) -> dict[str, int]:
        return {"number": int(number)}

    def to_datasets(self) -> Any:
        """The same as a `datasets.Dataset`, which `SFTTrainer` insists on."""
        import datasets

        return datasets.Dataset.from_dict({"number": range(len(self))})


class Labels(Tensor):
    """The label of each token, [B, L], and the batch that they are of. Operations on it give plain tensors, but a copy
    on another device or in page-locked memory, or in another process, has its batch there."""

    batch: TorchBatch
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def of(batch: TorchBatch) -> Labels:
        """The labels of a batch, `IGNORED` at tokens that no position predicts."""
        labels = torch.full_like(batch.input_ids, IGNORED)
        labels.view(-1)[batch.rows + 1] = batch.labels
        return _labels(labels, batch)

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        """The labels and their batch on a device."""
        moved = self.as_subclass(Tensor).to(*args, **kwargs)
        return _labels(moved, self.batch.to(moved.device, non_blocking=bool(kwargs.get("non_blocking", False))))

    def pin_memory(self, *args: Any) -> Tensor:
        """The labels and their batch in page-locked memory."""
        return _labels(self.as_subclass(Tensor).pin_memory(), self.batch.pin_memory())

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _labels, (self.as_subclass(Tensor), self.batch)


def _labels(labels: Tensor, batch: TorchBatch) -> Labels:
    made = labels.as_subclass(Labels)
    made.batch = batch
    return made


class Collator:
    """Reads the samples of a batch: `input_ids` and `attention_mask` for the model, and `Labels` for the loss."""

    def __init__(self, split: Split, *, classes: int | None = None, max_length: int | None = None) -> None:
        """`classes` uses so many of the kept classes and moves the others to the tail, exactly; `max_length` uses the
        first tokens of each sample."""
        self.split, self.classes, self.max_length = split, classes, max_length

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        if any("number" not in example for example in examples):
            raise KeyError(
                "the examples have no numbers of samples: give the trainer logitcask.hf.Samples, and set "
                "remove_unused_columns=False in its arguments"
            )
        numbers = [int(example["number"]) for example in examples]
        batch = to_torch(self.split.batch(numbers, classes=self.classes, max_length=self.max_length))
        return {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "labels": Labels.of(batch)}


class Loss:
    """`kd_loss` as a trainer's `compute_loss_func`, with the same keyword arguments: the mean over all positions of a
    step, however many batches gradients are accumulated over."""

    def __init__(self, temperature: float = 1.0, **options: Any) -> None:
        self.temperature, self.options = temperature, options

    def __call__(self, outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        if not isinstance(labels, Labels):
            raise TypeError(f"labels of logitcask.hf.Collator are needed, but {type(labels).__name__} was given")
        logits = outputs["logits"] if isinstance(outputs, dict) else outputs.logits
        losses = kd_loss(logits, labels.batch, self.temperature, reduction="none", **self.options)
        positions = len(losses) if num_items_in_batch is None else num_items_in_batch
        # A batch has none if all its positions are behind `max_length`.
        return losses.sum() / (positions.clamp(min=1) if isinstance(positions, Tensor) else max(positions, 1))
