"""Numbers of the comparison of a model with a teacher (crates/train/src/eval/), in comparison.json: random rows of logits, with
KL divergences by SciPy, quantiles by NumPy and errors that are clustered by sample by statsmodels, all in f64.

    pip install numpy scipy statsmodels && python data/golden/make_comparison.py

Four of twelve classes are kept and the others are one class. Overlaps are given with it and without it.
"""
import json
import pathlib

import numpy as np
import statsmodels.api as sm
from scipy.special import log_softmax, softmax
from scipy.stats import entropy

LENGTHS, CLASSES, KEPT = [5, 3, 7, 1, 4], 12, 4
random = np.random.default_rng(0)
count = sum(LENGTHS)
teacher = np.round(random.normal(0, 2, (count, CLASSES)), 3).astype(np.float32)
model = np.round(teacher + random.normal(0, 0.7, (count, CLASSES)), 3).astype(np.float32)
labels = random.integers(0, CLASSES, count)
samples = np.repeat(np.arange(len(LENGTHS)), LENGTHS)
kept = np.argsort(-teacher, axis=1)[:, :KEPT]


def bucket(logits):
    p = softmax(logits.astype(np.float64), axis=1)
    of_kept = np.take_along_axis(p, kept, 1)
    return np.hstack([of_kept, 1 - of_kept.sum(1, keepdims=True)])


def estimate(values):
    fit = sm.OLS(values, np.ones(count)).fit(cov_type="cluster", cov_kwds={"groups": samples})
    return [float(fit.params[0]), float(fit.bse[0])]


p, q = bucket(teacher), bucket(model)
kl = entropy(p, q, axis=1)
of_labels = lambda logits: log_softmax(logits.astype(np.float64), axis=1)[np.arange(count), labels]
label_p, label_q = of_labels(teacher), of_labels(model)
numbers = {
    "lengths": LENGTHS,
    "teacher": teacher.tolist(),
    "model": model.tolist(),
    "labels": labels.tolist(),
    "kept": kept.tolist(),
    "cross_entropy": estimate(-label_q),
    "teacher_cross_entropy": float(-label_p.mean()),
    "excess": estimate(label_p - label_q),
    "square_difference": estimate((np.exp(label_q) - np.exp(label_p)) ** 2),
    "kl": estimate(kl),
    "kl_quantiles": [float(np.quantile(kl, x)) for x in (0.5, 0.99, 1.0)],
    "least_overlap": estimate(np.minimum(p, q)[:, :KEPT].sum(1)),
    "most_overlap": estimate(np.minimum(p, q).sum(1)),
    "agreement": estimate((teacher.argmax(1) == model.argmax(1)).astype(float)),
}
folder = pathlib.Path(__file__).parent
(folder / "comparison.json").write_text(json.dumps(numbers) + "\n")
