"""A student in JAX, with batches by Grain:  python jax_grain.py data/caches/demo

The student predicts a token from the last four: small enough for one page, and it learns from the teacher like any
other.
"""

import sys

import grain
import jax
import jax.numpy as jnp
import logitcask
import numpy as np

STEPS, BATCH, TEMPERATURE, CONTEXT, SIZE = 300, 8, 2.0, 4, 64
cache = logitcask.open(sys.argv[1])
split, vocab = cache["train"], cache.vocab_size
positions = BATCH * (cache.plan["max_length"] - 1)


def arrays(numbers):
    """A batch of the same shape at every step, so that it is compiled once; places without a position have weight 0."""
    batch = split.batch(numbers)
    tokens = np.pad(batch.input_ids, ((0, 0), (CONTEXT - 1, 0))).ravel()
    row, column = np.divmod(batch.rows, batch.input_ids.shape[1])
    start = row * (batch.input_ids.shape[1] + CONTEXT - 1) + column
    inside = batch.log_probs / TEMPERATURE - batch.log_partition(TEMPERATURE)[:, None]
    whole = {"context": tokens[start[:, None] + np.arange(CONTEXT)], "ids": batch.class_ids,
             "log_p": inside.astype(np.float32), "weight": np.ones(len(batch.rows), np.float32)}  # fmt: skip
    return {
        name: np.concatenate([a, np.zeros((positions - len(a), *a.shape[1:]), a.dtype)]) for name, a in whole.items()
    }


def loss(student, batch):
    """T² KL(teacher | student) at T, with the classes that were not kept as one."""
    hidden = jax.nn.gelu(student["embed"][batch["context"]].reshape(positions, -1) @ student["mix"])
    log_q = jax.nn.log_softmax(hidden @ student["embed"].T / TEMPERATURE)
    kept = jnp.take_along_axis(log_q, batch["ids"], 1)
    log_p, p = batch["log_p"], jnp.exp(batch["log_p"])
    rest_p, rest_q = (jnp.clip(1 - jnp.exp(x).sum(1), 1e-6, 1.0) for x in (log_p, kept))
    rows = (p * (log_p - kept)).sum(1) + rest_p * jnp.log(rest_p / rest_q)
    return TEMPERATURE**2 * (rows * batch["weight"]).sum() / batch["weight"].sum()


@jax.jit
def step(student, momentum, batch):
    value, gradient = jax.value_and_grad(loss)(student, batch)
    momentum = jax.tree.map(lambda m, g: 0.9 * m + g, momentum, gradient)
    return jax.tree.map(lambda x, m: x - 0.1 * m, student, momentum), momentum, value


keys = jax.random.split(jax.random.key(0))
student = {
    "embed": jax.random.normal(keys[0], (vocab, SIZE)) / 8,
    "mix": jax.random.normal(keys[1], (CONTEXT * SIZE, SIZE)) / 8,
}
momentum = jax.tree.map(jnp.zeros_like, student)
batches = grain.MapDataset.range(len(split)).shuffle(seed=0).repeat().batch(BATCH).map(arrays).to_iter_dataset()
for number, batch in zip(range(STEPS), batches):
    student, momentum, value = step(student, momentum, batch)
    if number % 50 == 0 or number == STEPS - 1:
        print(f"step {number}: loss {value:.4f}")
