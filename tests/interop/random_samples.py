"""Samples of random tokens, and a tokenizer whose words they are."""
import json

import numpy as np

V, MAX_LENGTH = 64, 24
SPLITS = {"train": 300, "val": 20}


def random_samples(split, is_marked, rng):
    """The tokens of each sample, and its positions: all that have a next token, or some."""
    for _ in range(SPLITS[split]):
        length = int(rng.integers(2, MAX_LENGTH + 1))
        positions = np.arange(length - 1)
        if is_marked:
            positions = np.sort(rng.choice(positions, rng.integers(1, length), replace=False))
        yield rng.integers(0, V, length).tolist(), positions.tolist()


def tokenizer_json():
    vocabulary = {"<unk>": 0, **{f"w{i}": i for i in range(1, V)}}
    return json.dumps({"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
                       "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None,
                       "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"}})
