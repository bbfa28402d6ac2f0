"""Weighted k-nearest-neighbour classification on frozen features, exact (Wu et al. 2018, section 3.4)."""

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int

from ncl_jax import parallel
from ncl_jax.errors import UserError
from ncl_jax.evaluation.features import normalize_rows

_SCORES = 2**26  # similarities held at once: 256 MB


def check_k(k: int, num_examples: int) -> None:
    """UserError where `k` neighbours cannot be had; to be called before the features are made."""
    if k > num_examples:
        raise UserError(f"config.evaluation.knn_k = {k}: there are only {num_examples} training examples; lower it")


def predict(
    features: Float[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    queries: Float[np.ndarray, "q d"],
    *,
    num_classes: int,
    k: int = 200,
    temperature: float = 0.1,
    mesh: Mesh | None = None,
) -> Float[np.ndarray, "q c"]:
    """Shares of the votes of the `k` nearest of `features` by cosine, each vote weighing exp(similarity / temperature).

    Rows sum to 1. The result does not depend on how the work is cut up. `mesh`: devices of this process, each of which
    holds a part of `features` (10 GB for ImageNet and a ResNet-50); all of them by default. Raises UserError for
    k > n and for labels outside [0, num_classes).
    """
    check_k(k, len(features))
    check_labels(labels, num_classes)
    mesh = mesh or parallel.data_mesh(jax.local_devices())
    chunk = int(np.clip(_SCORES // len(features), 1, 1024))
    padded = np.pad(np.asarray(queries, np.float32), ((0, -len(queries) % chunk), (0, 0)))  # one shape, one program
    fill, split = -len(features) % mesh.size, parallel.batch_sharding(mesh)
    bank = jax.device_put(np.pad(np.asarray(features, np.float32), ((0, fill), (0, 0))), split)
    bank = jax.jit(normalize_rows, donate_argnums=0)(bank)
    bank_labels = jax.device_put(np.pad(np.asarray(labels, np.int32), (0, fill), constant_values=-1), split)
    parts = [padded[start : start + chunk] for start in range(0, len(padded), chunk)]
    votes = [_nearest_votes(part, bank, bank_labels, k, temperature, num_classes, mesh) for part in parts]
    return np.concatenate([np.asarray(v) for v in votes])[: len(queries)]


def accuracy(
    train: Mapping[str, np.ndarray], test: Mapping[str, np.ndarray], *, num_classes: int, k: int, temperature: float
) -> float:
    """Top-1 accuracy in [0, 1] on the features of `test` from those of `train` (dicts of `features.extract`).

    UserError where an image of either has no label.
    """
    check_labels(test["label"], num_classes)
    votes = predict(
        train["features"], train["label"], test["features"], num_classes=num_classes, k=k, temperature=temperature
    )
    return float(np.mean(np.argmax(votes, axis=1) == test["label"]))


def check_labels(labels: Int[np.ndarray, " n"], num_classes: int) -> None:
    """UserError for labels outside [0, num_classes); -1 stands for images without a label."""
    if len(labels) and not (labels.min() >= 0 and labels.max() < num_classes):
        raise UserError(
            f"labels from {labels.min()} to {labels.max()}: expected 0 to {num_classes - 1}; is the dataset labelled?"
        )


@partial(jax.jit, static_argnames=("k", "num_classes", "mesh"))
def _nearest_votes(
    queries: Float[Array, "q d"],
    bank: Float[Array, "n d"],
    labels: Int[Array, " n"],
    k: int,
    temperature: float,
    num_classes: int,
    mesh: Mesh,
) -> Float[Array, "q c"]:
    def nearest(queries, bank, labels):
        """Of one device's part of the bank: similarities and labels, the nearest first."""
        # top_k takes the lower index of equals, so that ties fall the same way however the work is cut up. On CPU it
        # adds a tenth to the multiplication; NumPy's argpartition, in threads beside it, was measured slower.
        similarity = jnp.matmul(queries, bank.T, precision="highest")
        if mesh.size > 1:  # of rows that only fill
            similarity = jnp.where(labels[None, :] >= 0, similarity, -jnp.inf)
        similarity, index = jax.lax.top_k(similarity, min(k, len(bank)))
        return similarity, labels[index]

    parts, columns = PartitionSpec(parallel.DATA_AXIS), PartitionSpec(None, parallel.DATA_AXIS)
    search = jax.shard_map(
        nearest, mesh=mesh, in_specs=(PartitionSpec(), parts, parts), out_specs=columns, check_vma=False
    )
    similarity, found = search(normalize_rows(queries), bank, labels)
    if mesh.size > 1:
        similarity, index = jax.lax.top_k(similarity, k)
        found = jnp.take_along_axis(found, index, axis=1)
    # Relative to the nearest one, so that a small temperature does not overflow; the shares stay the same. The maximum
    # and not `similarity[:, :1]`: with a slice of its result XLA compiles top_k to a full sort on CPU, 12 times slower.
    weight = jnp.exp((similarity - jnp.max(similarity, axis=1, keepdims=True)) / temperature)
    votes = jnp.zeros((len(queries), num_classes)).at[jnp.arange(len(queries))[:, None], found].add(weight)
    return votes / jnp.sum(votes, axis=1, keepdims=True)
