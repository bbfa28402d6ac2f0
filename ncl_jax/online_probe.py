"""A linear classifier that follows pretraining on frozen features: never touches the encoder."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

_OPTIMIZER = optax.adam(1e-3)


def init(feature_dim: int, num_classes: int) -> dict[str, Any]:
    """Zero weights and the optimiser's state."""
    params = {"kernel": jnp.zeros((feature_dim, num_classes)), "bias": jnp.zeros(num_classes)}
    return {"params": params, "optimizer": _OPTIMIZER.init(params)}


def update(
    probe: dict[str, Any], features: Float[Array, "b d"], labels: Int[Array, " b"]
) -> tuple[dict[str, Any], Float[Array, ""]]:
    """One Adam step on the cross-entropy; the top-1 accuracy before it. Labels of -1 (unknown) count for nothing."""
    features = jax.lax.stop_gradient(features.astype(jnp.float32))
    known = (labels >= 0).astype(jnp.float32)
    count = jnp.maximum(jnp.sum(known), 1.0)

    def loss(params):
        logits = features @ params["kernel"] + params["bias"][None, :]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(labels, 0))
        return jnp.sum(losses * known) / count, logits

    grads, logits = jax.grad(loss, has_aux=True)(probe["params"])
    updates, optimizer = _OPTIMIZER.update(grads, probe["optimizer"], probe["params"])
    top1 = jnp.sum((jnp.argmax(logits, axis=-1) == labels) * known) / count
    return {"params": optax.apply_updates(probe["params"], updates), "optimizer": optimizer}, top1
