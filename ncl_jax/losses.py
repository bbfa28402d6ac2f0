"""Contrastive losses with non-semantic negatives: pure functions of embeddings, in float32.

The products with the queue are of the backend's own precision: bfloat16 or TF32 factors, float32 sums on accelerators
(which moves a logit at temperature 0.2 by about .001).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ncl_jax.errors import UserError

# Below any logit that unit vectors give at a usable temperature: takes an entry out of a softmax without NaNs.
MASKED = -1e9


def normalize(x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
    """Unit length along the last axis in float32; a zero vector stays zero and has a finite gradient.

    Exact for lengths of 1e-6 to 1e19, whose squares float32 holds; shorter ones stay short, longer ones become zero.
    """
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), 1e-12))


def info_nce_logits(
    query: Float[Array, "b d"],
    positive: Float[Array, "b d"],
    queue: Float[Array, "n d"],
    non_semantic: Float[Array, "b m d"] | None = None,
    *,
    temperature: float,
    alpha: float | Float[Array, " m"] = 1.0,
    non_semantic_gradient: bool = False,
) -> Float[Array, "b k"]:
    """The `k = 1 + n + m` logits of `info_nce`: the positive, the queue, each query's own non-semantic negatives.

    Arguments and errors as `info_nce`.
    """
    stop = jax.lax.stop_gradient
    _check_temperature(temperature)
    if queue is None:
        raise UserError("info_nce: want a queue [n d], which may have no rows, got None")
    if query.ndim != 2 or query.shape != positive.shape or queue.ndim != 2 or queue.shape[1] != query.shape[1]:
        raise UserError(
            "info_nce: want query and positive [b d] and queue [n d], "
            f"got {query.shape}, {positive.shape} and {queue.shape}"
        )
    query = normalize(query)
    to_positive = jnp.sum(query * normalize(stop(positive)), axis=-1, keepdims=True)
    similarities = [to_positive, query @ normalize(stop(queue)).T]
    if non_semantic is not None:
        non_semantic = non_semantic if non_semantic_gradient else stop(non_semantic)
        similarities.append(_to_non_semantic(query, non_semantic, alpha))
    return jnp.concatenate(similarities, axis=-1) / temperature


def info_nce(
    query: Float[Array, "b d"],
    positive: Float[Array, "b d"],
    queue: Float[Array, "n d"],
    non_semantic: Float[Array, "b m d"] | None = None,
    *,
    temperature: float,
    alpha: float | Float[Array, " m"] = 1.0,
    non_semantic_gradient: bool = False,
) -> Float[Array, " b"]:
    """InfoNCE with non-semantic negatives (paper, eq. 2): one loss per query, in nats.

    `-log(e^{q.k/t} / (e^{q.k/t} + sum_queue e^{q.n/t} + sum_m e^{alpha q.z_m/t}))`. `alpha` scales the similarity
    inside the exponent. Embeddings of any float type and length (within `normalize`'s); they are L2-normalised here, in
    float32.

    Args:
      query: online embeddings; the only ones that get a gradient.
      positive: embedding of the other view of each query.
      queue: negatives shared by all queries.
      non_semantic: each query's own negatives; None or m = 0 gives plain InfoNCE, whatever `alpha` is.
      temperature: t, above 0.
      alpha: one for all non-semantic negatives, or one for each of the m.
      non_semantic_gradient: let the gradient flow into `non_semantic` too.

    Raises:
      UserError: shapes that do not fit together; a temperature not above 0, unless it is traced.
    """
    logits = info_nce_logits(
        query,
        positive,
        queue,
        non_semantic,
        temperature=temperature,
        alpha=alpha,
        non_semantic_gradient=non_semantic_gradient,
    )
    return first_is_positive(logits)


def first_is_positive(logits: Float[Array, "*b k"], *, perturbation: float = 0.0) -> Float[Array, "*b"]:
    """Cross-entropy of logits whose first column is the positive.

    `perturbation` > 0 averages it with that of the logits of implicit feature modification (Robinson et al. 2021,
    eq. 4): the positive made harder and all negatives harder by `perturbation`, in units of the logits (epsilon / t).
    """
    loss = -jax.nn.log_softmax(logits, axis=-1)[..., 0]
    if not perturbation:
        return loss
    shift = jnp.full(logits.shape[-1], perturbation).at[0].set(-perturbation)
    return (loss - jax.nn.log_softmax(logits + jnp.broadcast_to(shift, logits.shape), axis=-1)[..., 0]) / 2


def byol_regression(
    prediction: Float[Array, "b d"],
    target: Float[Array, "b d"],
    non_semantic: Float[Array, "b m d"] | None = None,
    *,
    alpha: float | Float[Array, " m"] = 1.0,
    non_semantic_gradient: bool = False,
) -> Float[Array, " b"]:
    """BYOL's regression pushed away from non-semantic negatives: one loss per example.

    `|q - z|^2 - mean_m alpha_m |q - z_m|^2` with all embeddings L2-normalised here (paper, eq. 4), so that alpha keeps
    its meaning for any number of negatives. No gradient flows into `target`, nor into `non_semantic` unless asked.

    Raises:
      UserError: shapes that do not fit together.
    """
    if prediction.ndim != 2 or prediction.shape != target.shape:
        raise UserError(f"byol_regression: want prediction and target [b d], got {prediction.shape}, {target.shape}")
    prediction = normalize(prediction)
    # |a - b|^2 = 2 - 2 a.b for unit vectors.
    loss = 2 - 2 * jnp.sum(prediction * normalize(jax.lax.stop_gradient(target)), axis=-1)
    if non_semantic is None:
        return loss
    non_semantic = non_semantic if non_semantic_gradient else jax.lax.stop_gradient(non_semantic)
    similarity = _to_non_semantic(prediction, non_semantic, 1.0)
    if similarity.shape[1] == 0:  # whose mean there is none of
        return loss
    return loss - jnp.mean(_alphas(alpha, similarity) * (2 - 2 * similarity), axis=-1)


def in_batch_logits(
    query: Float[Array, "b d"],
    keys: Float[Array, "b d"],
    non_semantic: Float[Array, "b m d"] | None = None,
    *,
    temperature: float,
    alpha: float | Float[Array, " m"] = 1.0,
    non_semantic_gradient: bool = False,
) -> Float[Array, "b k"]:
    """MoCo-v3's logits, `k = 1 + b + m`, the positive first: a query's key against the batch's other keys.

    The positive's second appearance, among the keys, is masked out. No gradient flows into `keys`, nor into
    `non_semantic` unless asked.

    Raises:
      UserError: shapes that do not fit together.
    """
    logits = info_nce_logits(
        query,
        keys,
        keys,
        non_semantic,
        temperature=temperature,
        alpha=alpha,
        non_semantic_gradient=non_semantic_gradient,
    )
    batch = len(query)
    again = jnp.pad(jnp.eye(batch, dtype=bool), ((0, 0), (1, logits.shape[1] - 1 - batch)))
    return jnp.where(again, MASKED / temperature, logits)


def nt_xent_logits(
    query: Float[Array, "b d"],
    key: Float[Array, "b d"],
    non_semantic: Float[Array, "b m d"] | None = None,
    *,
    temperature: float,
    alpha: float | Float[Array, " m"] = 1.0,
    non_semantic_gradient: bool = True,
) -> Float[Array, "two_b k"]:
    """SimCLR's logits, `k = 2b + m`, the positive first: all queries, then all keys, are anchors.

    An anchor's own similarity is masked out; both anchors of an image are pushed from that image's negatives.
    Gradients flow into everything, and into `non_semantic` unless told otherwise.

    Raises:
      UserError: shapes that do not fit together.
    """
    _check_temperature(temperature)
    if query.ndim != 2 or query.shape != key.shape:
        raise UserError(f"nt_xent: want query and key [b d], got {query.shape}, {key.shape}")
    query, key = normalize(query), normalize(key)
    anchors = jnp.concatenate([query, key])
    others = jnp.concatenate([key, query])
    positive = jnp.sum(anchors * others, axis=-1, keepdims=True)
    # The anchor itself and its positive leave the matrix; the positive comes back as the first column.
    eye = jnp.eye(len(query), dtype=bool)
    similarities = [positive, jnp.where(jnp.tile(eye, (2, 2)), MASKED, anchors @ anchors.T)]
    if non_semantic is not None:
        non_semantic = non_semantic if non_semantic_gradient else jax.lax.stop_gradient(non_semantic)
        similarities.append(_to_non_semantic(anchors, jnp.concatenate([non_semantic, non_semantic]), alpha))
    return jnp.concatenate(similarities, axis=-1) / temperature


def nt_xent(
    query: Float[Array, "b d"],
    key: Float[Array, "b d"],
    non_semantic: Float[Array, "b m d"] | None = None,
    *,
    temperature: float,
    alpha: float | Float[Array, " m"] = 1.0,
) -> Float[Array, " two_b"]:
    """NT-Xent (Chen et al. 2020, eq. 1) with non-semantic negatives as extra logits: one loss per anchor, in nats."""
    return first_is_positive(nt_xent_logits(query, key, non_semantic, temperature=temperature, alpha=alpha))


def _check_temperature(temperature: float) -> None:
    if isinstance(temperature, int | float | np.number) and not temperature > 0:
        raise UserError(f"temperature = {temperature}: must be above 0")


def _to_non_semantic(
    query: Float[Array, "b d"], non_semantic: Float[Array, "b m d"], alpha: float | Float[Array, " m"]
) -> Float[Array, "b m"]:
    """`alpha` times the cosine of each (normalised) query to its own negatives."""
    if non_semantic.ndim != 3 or (non_semantic.shape[0], non_semantic.shape[2]) != query.shape:
        raise UserError(f"non_semantic {non_semantic.shape} must be [b m d] beside embeddings {query.shape}")
    similarity = jnp.einsum("bd,bmd->bm", query, normalize(non_semantic))
    return similarity * _alphas(alpha, similarity)


def _alphas(alpha: float | Float[Array, " m"], similarity: Float[Array, "b m"]) -> Float[Array, "1 m"]:
    alphas, count = jnp.asarray(alpha, jnp.float32), similarity.shape[1]
    if alphas.shape not in ((), (count,)):
        raise UserError(f"alpha of shape {alphas.shape}: want one number, or one for each of {count} negatives")
    return jnp.broadcast_to(alphas, (count,))[None, :]
