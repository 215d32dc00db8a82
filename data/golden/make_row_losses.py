"""Losses that look at a row as a whole, and their gradients, by JAX in f64: row_losses.json.

    pip install jax && python make_row_losses.py

The inputs are those of losses.json: logits of teacher and student and the classes that were kept.
"""
import json
import pathlib

import jax
import jax.numpy as jnp

jax.config.update("jax_enable_x64", True)
HERE = pathlib.Path(__file__).parent


def other(x, kept):
    """log sum exp of the classes outside."""
    is_kept = jnp.zeros(x.shape[0], bool).at[kept].set(True)
    return jax.nn.logsumexp(jnp.where(is_kept, -jnp.inf, x)) if len(kept) < x.shape[0] else None


def mean_squares(t, s, kept, label, tail, centred):
    if centred:
        rest = (t, s, t - t.mean(), s - s.mean())
        t, s = rest[2], rest[3]
    off = [t[kept] - s[kept]]
    if tail == "bucket" and len(kept) < t.shape[0]:
        off.append(jnp.array([other(t, kept) - other(s, kept)]))
    return jnp.mean(jnp.concatenate(off) ** 2)


def decoupled(t, s, kept, label, tail, alpha, beta):
    p, q = jax.nn.log_softmax(t), jax.nn.log_softmax(s)
    cells = [i for i in kept.tolist() if i != label]
    p_cells, q_cells = p[jnp.array(cells)], q[jnp.array(cells)]
    if len(kept) < t.shape[0]:
        p_cells = jnp.append(p_cells, other(p, kept))
        q_cells = jnp.append(q_cells, other(q, kept))
    p_rest, q_rest = jax.nn.logsumexp(p_cells), jax.nn.logsumexp(q_cells)
    target = jnp.exp(p[label]) * (p[label] - q[label]) + jnp.exp(p_rest) * (p_rest - q_rest)
    among = jnp.sum(jax.nn.softmax(p_cells) * (jax.nn.log_softmax(p_cells) - jax.nn.log_softmax(q_cells)))
    return alpha * target + beta * among


def correlation(a, b):
    a, b = a - a.mean(), b - b.mean()
    return jnp.sum(a * b) / jnp.sqrt(jnp.sum(a * a) * jnp.sum(b * b))


def pearson(t, s, kept, label, tail):
    p, q = jax.nn.softmax(t), jax.nn.softmax(s)
    n = t.shape[0]
    known = jnp.zeros(n, bool).at[kept].set(True)
    rest = jnp.where(known, 0.0, p).sum() / max(n - len(kept), 1)
    both = jnp.sum(jnp.where(known, p, rest) * q) - 1 / n
    return 1 - both / jnp.sqrt((jnp.sum(p * p) - 1 / n) * (jnp.sum(q * q) - 1 / n))


def spearman(t, s, kept, label, tail):
    t, s = t[kept], s[kept]
    ranks = jnp.argsort(jnp.argsort(-t)).astype(float)
    soft = jax.nn.sigmoid(s[None, :] - s[:, None]).sum(1)
    return 1 - correlation(ranks, soft)


LOSSES = [
    ("mean_squares", {"centred": False}, ["bucket", "renorm"], mean_squares),
    ("mean_squares", {"centred": True}, ["bucket", "renorm"], mean_squares),
    ("decoupled", {"label": 1.0, "others": 8.0}, ["bucket"], decoupled),
    ("pearson", {}, ["bucket"], pearson),
    ("spearman", {}, ["bucket"], spearman),
]


def main():
    inputs = [c for c in json.load(open(HERE / "losses.json")) if "divergence" not in c and c["group"].startswith("40/")]
    out = []
    for group in inputs:
        rows = list(zip(group["teacher"], group["student"], group["ids"]))
        labels = [ids[2] for ids in group["ids"]]
        out.append({"group": group["group"], "teacher": group["teacher"], "student": group["student"],
                    "ids": group["ids"], "labels": labels})
        for kind, parameters, tails, loss in LOSSES:
            values = list(parameters.values())
            for tail in tails:
                for temperature in [0.75, 1.0, 2.0, 4.0]:
                    def of(student, teacher, kept, label):
                        t, s = jnp.array(teacher) / temperature, student / temperature
                        return loss(t, s, jnp.array(kept), label, tail, *values)
                    both = [jax.value_and_grad(of)(jnp.array(s), t, ids, label)
                            for (t, s, ids), label in zip(rows, labels)]
                    out.append({"group": group["group"], "divergence": {"kind": kind, **parameters}, "tail": tail,
                                "T": temperature, "loss": [float(v) for v, _ in both],
                                "grad": [g.tolist() for _, g in both]})
        if len(group["ids"][0]) == len(group["teacher"][0]):
            teacher, student = jnp.array(group["teacher"]), jnp.array(group["student"])
            for temperature in [1.0, 2.0]:
                def columns(student):
                    p, q = jax.nn.softmax(teacher / temperature), jax.nn.softmax(student / temperature)
                    return jnp.mean(1 - jax.vmap(correlation, (1, 1))(p, q))
                value, grad = jax.value_and_grad(columns)(student)
                out.append({"group": group["group"], "columns": True, "T": temperature, "loss": float(value),
                            "grad": grad.tolist()})
    json.dump(out, open(HERE / "row_losses.json", "w"), indent=None)


main()
