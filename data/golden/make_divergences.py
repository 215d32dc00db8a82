"""The numbers that stand in each divergence's own file, crates/core/src/divergence/*.rs: loss and gradient of its default
parameters on one row, by JAX in f64. Prints them in Rust.

    pip install jax && python data/golden/make_divergences.py

Three of six classes are kept and the others are one class, T = 2, the label is class 1: the row of tests.rs there.
"""
import jax
import jax.numpy as jnp

jax.config.update("jax_enable_x64", True)
TEACHER = jnp.array([0.5, 2.0, -1.0, 0.25, 3.0, -2.0])
STUDENT = jnp.array([1.0, 0.5, 0.0, -0.5, 2.0, 1.5])
KEPT, OTHERS, LABEL, T = jnp.array([4, 1, 0]), jnp.array([2, 3, 5]), 1, 2.0


def bucket(logits):
    """Probabilities of the kept classes and of all others together."""
    p = jax.nn.softmax(logits)
    return jnp.append(p[KEPT], p[OTHERS].sum())


def over_terms(term):
    return lambda t, s: jnp.sum(term(bucket(t), bucket(s)))


def jensen_shannon(p, q, beta=0.5):
    m = beta * p + (1 - beta) * q
    return beta * p * jnp.log(p / m) + (1 - beta) * q * jnp.log(q / m)


def alpha_beta(p, q, a=0.2, b=0.7):
    return (a * p ** (a + b) + b * q ** (a + b)) / (a * b * (a + b)) - p**a * q**b / (a * b)


def mean_squares(t, s):
    other = jax.nn.logsumexp
    t, s = jnp.append(t[KEPT], other(t[OTHERS])), jnp.append(s[KEPT], other(s[OTHERS]))
    return jnp.mean((t - s) ** 2)


def decoupled(t, s, label=1.0, others=8.0):
    p, q = bucket(t), bucket(s)
    is_label = jnp.append(KEPT == LABEL, False)
    (P, Q), (p, q) = (p[is_label][0], q[is_label][0]), (p[~is_label], q[~is_label])
    against = P * jnp.log(P / Q) + (1 - P) * jnp.log((1 - P) / (1 - Q))
    p, q = p / p.sum(), q / q.sum()
    return label * against + others * jnp.sum(p * jnp.log(p / q))


def correlation(a, b):
    a, b = a - a.mean(), b - b.mean()
    return jnp.sum(a * b) / jnp.sqrt(jnp.sum(a * a) * jnp.sum(b * b))


def pearson(t, s):
    # The classes outside are equally probable beside the student's, and themselves in the sum of squares.
    p, q = jax.nn.softmax(t), jax.nn.softmax(s)
    alike = p.at[OTHERS].set(p[OTHERS].mean())
    both = jnp.sum((alike - alike.mean()) * (q - q.mean()))
    spread = lambda x: jnp.sum((x - x.mean()) ** 2)
    return 1 - both / jnp.sqrt(spread(p) * spread(q))


def spearman(t, s):
    t, s = t[KEPT], s[KEPT]
    ranks = jnp.argsort(jnp.argsort(-t)).astype(float)
    return 1 - correlation(ranks, jax.nn.sigmoid(s[None, :] - s[:, None]).sum(1))


DIVERGENCES = {
    "forward_kl": over_terms(lambda p, q: p * jnp.log(p / q)),
    "reverse_kl": over_terms(lambda p, q: q * jnp.log(q / p)),
    "jensen_shannon": over_terms(jensen_shannon),
    "skew_forward_kl": over_terms(lambda p, q: p * jnp.log(p / (0.1 * p + 0.9 * q))),
    "skew_reverse_kl": over_terms(lambda p, q: q * jnp.log(q / (0.1 * q + 0.9 * p))),
    "total_variation": over_terms(lambda p, q: jnp.abs(p - q) / 2),
    "hellinger": over_terms(lambda p, q: (jnp.sqrt(p) - jnp.sqrt(q)) ** 2 / 2),
    "alpha_beta": over_terms(alpha_beta),
    "mean_squares": mean_squares,
    "decoupled": decoupled,
    "pearson": pearson,
    "spearman": spearman,
    "renyi": lambda t, s: jnp.log(jnp.sum(bucket(t) ** 0.5 * bucket(s) ** 0.5)) / (0.5 - 1),
}

for name, divergence in DIVERGENCES.items():
    loss, gradient = jax.value_and_grad(lambda s: divergence(TEACHER / T, s / T))(STUDENT)
    numbers = ", ".join(repr(float(x)) for x in gradient)
    print(f"{name}:\n    const GOLDEN: super::tests::Golden = Golden {{\n        loss: {float(loss)!r},\n        gradient: [{numbers}],\n    }};")
