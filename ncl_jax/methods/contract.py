"""What a method is: three pure functions, and the pieces that methods share.

`params` is what the optimiser moves. `extra` is all other state of the method: batch statistics, EMA target, queue.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ncl_jax import losses

Tree = Any


class Method(NamedTuple):
    """The contract that `step` runs.

    `views` holds `query` and `key` `[b s s 3]`, `key_order` `[b]` (`key[j]` shows image `key_order[j]`),
    `non_semantic` `[b m s s 3]` or None, and `alpha` `[m]`.
    """

    init: Callable[[Key[Array, ""], Float[Array, "b s s 3"]], tuple[Tree, Tree]]  # (key, images) -> params, extra
    # (params, extra, views, key) -> loss, aux with `metrics` (scalars), `features` [b d] and what after_update wants
    loss: Callable[[Tree, Tree, Mapping[str, Any], Key[Array, ""]], tuple[Float[Array, ""], dict[str, Any]]]
    after_update: Callable[[Tree, Tree, dict[str, Any], Array], Tree]  # (new params, extra, aux, step) -> extra


class Encoder(NamedTuple):
    """A backbone and the heads after it. Variables are dicts by name: params and stats of `backbone`, `head`, ..."""

    backbone: Any
    heads: dict[str, Any]

    def init(self, key: Key[Array, ""], images: Float[Array, "b s s 3"]) -> tuple[Tree, Tree]:
        """Fresh params and batch statistics of all networks."""
        params, stats = {}, {}
        x = images
        for position, (name, network) in enumerate(self._networks()):
            x, variables = network.init_with_output(jax.random.fold_in(key, position), x, train=False)
            params[name], stats[name] = variables["params"], variables.get("batch_stats", {})
        return params, stats

    def apply(
        self, params: Tree, stats: Tree, images: Float[Array, "b s s 3"], *, skip: tuple[str, ...] = ()
    ) -> tuple[dict[str, Float[Array, "b d"]], Tree]:
        """Outputs of every network by name, and the new batch statistics; always in train mode."""
        outputs, new_stats, x = {}, dict(stats), images
        for name, network in self._networks():
            if name in skip:
                continue
            variables = {"params": params[name], "batch_stats": stats[name]}
            x, updated = network.apply(variables, x, train=True, mutable=["batch_stats"])
            outputs[name], new_stats[name] = x, updated.get("batch_stats", {})
        return outputs, new_stats

    def _networks(self) -> list[tuple[str, Any]]:
        return [("backbone", self.backbone), *self.heads.items()]


def flat_negatives(non_semantic: Float[Array, "b m s s 3"]) -> Float[Array, "bm s s 3"]:
    """Negatives as a batch of their own, image after image, so that batch-norm groups keep to their images."""
    return non_semantic.reshape(-1, *non_semantic.shape[2:])


def ema(target: Tree, online: Tree, momentum: float | Array) -> Tree:
    """Exponential moving average in the parameters' own precision."""
    return jax.tree.map(lambda t, p: t + (1 - momentum) * (p - t), target, online)


def unpermute(embeddings: Float[Array, "b d"], order: Array) -> Float[Array, "b d"]:
    """Embeddings of key views back in the order of their queries; only these ever cross devices, no images."""
    return jnp.zeros_like(embeddings).at[order].set(embeddings)


def health(embeddings: Float[Array, "b d"]) -> dict[str, Float[Array, ""]]:
    """Collapse guards of a batch of embeddings.

    `feature_std`: standard deviation over the batch of the normalised embedding, times sqrt(d); 1 when spread evenly
    over the sphere, 0 when collapsed. `effective_rank`: participation ratio `(sum e)^2 / sum e^2` of the eigenvalues
    e of the centred covariance, between 1 and min(b, d).
    """
    z = losses.normalize(jax.lax.stop_gradient(embeddings))
    centred = z - jnp.mean(z, axis=0, keepdims=True)
    gram = centred @ centred.T if len(z) < z.shape[1] else centred.T @ centred  # they share their eigenvalues
    total, squares = jnp.trace(gram), jnp.sum(gram * gram)
    return {
        "feature_std": jnp.mean(jnp.std(z, axis=0)) * z.shape[1] ** 0.5,
        "effective_rank": total**2 / jnp.maximum(squares, 1e-20),
    }


def similarity_to_negatives(
    query: Float[Array, "b d"], non_semantic: Float[Array, "b m d"] | None
) -> dict[str, Float[Array, ""]]:
    """Mean cosine of each query to its own negatives, as the metric `similarity_ns`; nothing where there are none."""
    if non_semantic is None:
        return {}
    cosine = jnp.einsum("bd,bmd->bm", losses.normalize(query), losses.normalize(non_semantic))
    return {"similarity_ns": jax.lax.stop_gradient(jnp.mean(cosine))}
