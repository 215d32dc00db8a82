"""PyTorch: batches in the order of the Rust trainer, and the losses of a student that learns from them.

>>> loader = Loader(logitcask.open("data/caches/demo"), batch_size=8, steps=400, device="cuda")
>>> for batch in loader:
...     loss = kd_loss(model(batch.input_ids).logits, batch, temperature=2.0, alpha=0.9)
...     loss.backward()
"""

from . import temperature_rules, token_weights
from .batch import TorchBatch, to_torch
from .divergences import (
    AlphaBeta,
    Decoupled,
    Divergence,
    ForwardKL,
    Hellinger,
    JensenShannon,
    MeanSquares,
    Pearson,
    Renyi,
    ReverseKL,
    SkewForwardKL,
    SkewReverseKL,
    Spearman,
    TotalVariation,
)
from .loader import Dataset, Loader
from .loss import kd_loss
from .summaries import summarise

__all__ = [
    "AlphaBeta",
    "Dataset",
    "Decoupled",
    "Divergence",
    "ForwardKL",
    "Hellinger",
    "JensenShannon",
    "Loader",
    "MeanSquares",
    "Pearson",
    "Renyi",
    "ReverseKL",
    "SkewForwardKL",
    "SkewReverseKL",
    "Spearman",
    "TorchBatch",
    "TotalVariation",
    "kd_loss",
    "summarise",
    "temperature_rules",
    "to_torch",
    "token_weights",
]
