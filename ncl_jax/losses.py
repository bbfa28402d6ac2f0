"""Contrastive losses with non-semantic negatives: pure functions of embeddings, float32 in, float32 out."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ncl_jax.errors import UserError

# Above any logit that unit vectors can give at a usable temperature; masks an entry out of a softmax without NaNs.
_MASKED = -1e9


def normalize(x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
    """Unit length along the last axis; a zero vector stays zero and has a finite gradient."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), 1e-12))


def info_nce_logits(
    query: Float[Array, "b d"],
    positive: Float[Array, "b d"],
    queue: Float[Array, "n d"],
    non_semantic: Float[Array, "b m d"] | None = None,
    *,
    temperature: float,
    alpha: float | Float[Array, "m"] = 1.0,
) -> Float[Array, "b 1+n+m"]:
    """The logits of `info_nce`: the positive first, then the queue, then each query's own non-semantic negatives.

    Positive, queue and negatives are constants: no gradient flows into them.
    """
    stop = jax.lax.stop_gradient
    if query.shape != positive.shape or queue.ndim != 2 or queue.shape[1] != query.shape[-1]:
        raise UserError(
            f"info_nce: query {query.shape} and positive {positive.shape} must be [b d], queue {queue.shape} [n d]"
        )
    query = normalize(query)
    similar = jnp.sum(query * normalize(stop(positive)), axis=-1, keepdims=True)
    logits = [similar / temperature, query @ normalize(stop(queue)).T / temperature]
    if non_semantic is not None:
        if non_semantic.ndim != 3 or (non_semantic.shape[0], non_semantic.shape[2]) != query.shape:
            raise UserError(f"info_nce: non_semantic {non_semantic.shape} must be [b m d] beside query {query.shape}")
        to_ns = jnp.einsum("bd,bmd->bm", query, normalize(non_semantic))
        logits.append(jnp.broadcast_to(jnp.asarray(alpha, jnp.float32), to_ns.shape[1:])[None, :] * to_ns / temperature)
    return jnp.concatenate(logits, axis=-1)
