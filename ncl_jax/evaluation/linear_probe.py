"""A linear classifier on a frozen encoder: solved on stored features, or trained on augmented images."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from ncl_jax import parallel
from ncl_jax.errors import UserError
from ncl_jax.evaluation import lbfgs
from ncl_jax.evaluation.knn import check_labels

_PENALTIES = tuple(float(p) for p in np.logspace(-6, 0, 7))  # L2 on the weights, relative to the mean loss
_STEPS = 200  # L-BFGS iterations at most
_TOLERANCE = 1e-5  # of the gradient's largest entry
_CHUNK = 65536  # examples whose scores exist at once
_SHARED = 2**28  # numbers, 1 GB: features of more are shared by the devices of this process


@dataclasses.dataclass(frozen=True)
class Probe:
    """Class scores `(x - mean) / scale @ kernel + bias` of features x."""

    kernel: Float[np.ndarray, "d c"]
    bias: Float[np.ndarray, " c"]
    mean: Float[np.ndarray, " d"]
    scale: Float[np.ndarray, " d"]
    penalty: float | None = None  # the one that was chosen

    def predict(self, features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n c"]:
        """Class probabilities."""
        scores = (features - self.mean) / self.scale @ self.kernel + self.bias
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        return scores / scores.sum(axis=1, keepdims=True)

    def accuracy(self, features: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"]) -> float:
        """Top-1 in [0, 1]."""
        return float(np.mean(np.argmax(self.predict(features), axis=1) == labels))


def fit(
    features: Float[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    *,
    num_classes: int,
    penalties: tuple[float, ...] = _PENALTIES,
    seed: int = 0,
) -> Probe:
    """Multinomial logistic regression by L-BFGS on standardised features.

    The L2 penalty is the one of `penalties` that does best on a fifth of the examples held out by `seed`; the probe is
    then solved again on all of them. All penalties are solved together in one program.

    Raises:
      UserError: fewer than two classes among the labels, or labels that are no classes.
    """
    check_labels(labels, num_classes)
    if len(np.unique(labels)) < 2:
        raise UserError("linear probe: all training images have the same label; it takes at least two classes")
    mean, scale = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-6)
    count, width = features.shape
    devices = jax.local_devices() if features.size > _SHARED else jax.local_devices()[:1]
    chunks = -(-count // _CHUNK)  # scores of all of ImageNet at once would not fit
    length = -(-count // chunks // len(devices)) * len(devices)
    split = NamedSharding(parallel.data_mesh(devices), PartitionSpec(None, parallel.DATA_AXIS))

    def place(rows: np.ndarray) -> jax.Array:
        """`[n ...]` as `[chunks length ...]`, filled up with zeros, a part of each chunk on each device."""
        filled = np.zeros((chunks * length, *rows.shape[1:]), rows.dtype)
        filled[:count] = rows
        return jax.device_put(filled.reshape(chunks, length, *rows.shape[1:]), split)

    x = place(((features - mean) / scale).astype(np.float32, copy=False))
    y = place(np.asarray(labels, np.int32))
    penalties = tuple(sorted(penalties, reverse=True))
    start = jnp.zeros((width + 1, num_classes))
    best = 0
    if len(penalties) > 1:
        order = np.random.default_rng(seed).permutation(len(labels))
        held, kept = np.split(order, [max(1, len(order) // 5)])
        # Weights of zero leave the held-out examples out: the shapes stay those of the training set.
        weights = np.zeros(count, np.float32)
        weights[kept] = 1.0
        solutions = _solve(x, y, place(weights), jnp.asarray(penalties), start, num_classes)
        held_x, held_y = (features[held] - mean) / scale, labels[held]
        right = [np.mean(np.argmax(held_x @ p[:-1] + p[-1], axis=1) == held_y) for p in np.asarray(solutions)]
        best = int(np.argmax(right))  # among equals the strongest penalty: it leans least on single examples
        start = solutions[best]
    ones = place(np.ones(count, np.float32))
    solution = np.asarray(_solve(x, y, ones, jnp.asarray([penalties[best]]), start, num_classes)[0])
    return Probe(solution[:-1], solution[-1], mean, scale, penalties[best])


@partial(jax.jit, static_argnames="num_classes")
def _solve(x, y, weights, penalties, start, num_classes):
    """Parameters `[p d+1 c]` (kernel, then bias), one problem for each of the falling penalties; of examples in chunks
    `[n m d]`, `[n m]`, `[n m]`."""
    weights = weights / jnp.sum(weights)

    def solve_next(flat, penalty):
        def value_and_grad(flat):
            params = flat.reshape(-1, num_classes)
            kernel, bias = params[:-1], params[-1]

            def add(carry, part):
                x, y, weights = part
                scores = jnp.matmul(x, kernel, precision="highest") + bias[None, :]
                shares = jax.nn.log_softmax(scores)
                truth = jax.nn.one_hot(y, num_classes)
                error = weights[:, None] * (jnp.exp(shares) - truth)
                value, to_kernel, to_bias = carry
                value -= jnp.sum(weights[:, None] * truth * shares)
                return (value, to_kernel + jnp.matmul(x.T, error, precision="highest"), to_bias + error.sum(0)), None

            zero = jnp.zeros(()), 0 * kernel, 0 * bias
            (value, to_kernel, to_bias), _ = jax.lax.scan(add, zero, (x, y, weights))
            value += 0.5 * penalty * jnp.sum(jnp.square(kernel))
            return value, jnp.concatenate([to_kernel + penalty * kernel, to_bias[None]]).ravel()

        flat = lbfgs.minimise(value_and_grad, flat, steps=_STEPS, tolerance=_TOLERANCE)
        return flat, flat.reshape(-1, num_classes)

    # One after another, each from the solution of the stronger penalty: near by, so it takes few steps.
    return jax.lax.scan(solve_next, start.ravel(), penalties)[1]


def fit_augmented(
    encode: Callable[[Any], Float[Array, "b d"]],
    batches: Iterator[Mapping[str, Any]],
    *,
    num_classes: int,
    epochs: int,
    steps_per_epoch: int,
    learning_rate: float,
    drops: Sequence[float],
    seed: int = 0,
) -> Probe:
    """The paper's probe: SGD with momentum 0.9 on random crops of frozen features, no weight decay.

    The rate falls tenfold after each of `drops`, shares of the epochs (30, 40 and 50 of 60). `batches` yields `query`
    (random resized crops, uint8) and `label` on the devices; `encode` flips them at random and returns features.
    """
    total = epochs * steps_per_epoch
    falls = jnp.array([int(total * share + 1e-6) for share in drops])  # a third of 60 is 20, not 19
    optimizer = optax.sgd(lambda step: learning_rate * 0.1 ** jnp.sum(step >= falls), momentum=0.9)

    @jax.jit
    def step(params, state, features, labels):
        def loss(params):
            scores = features @ params["kernel"] + params["bias"][None, :]
            return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(scores, labels))

        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    params = state = None
    for _ in range(total):
        batch = next(batches)
        features = encode(batch["query"])
        if params is None:
            kernel = 0.01 * jax.random.normal(jax.random.key(seed), (features.shape[1], num_classes))
            params = {"kernel": kernel, "bias": jnp.zeros(num_classes)}
            state = optimizer.init(params)
        params, state = step(params, state, features, batch["label"])
    assert params is not None
    kernel, bias = np.asarray(params["kernel"]), np.asarray(params["bias"])
    return Probe(kernel, bias, np.zeros(len(kernel), np.float32), np.ones(len(kernel), np.float32))
