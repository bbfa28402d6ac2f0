"""Two encoders, one learnt (online) and its moving average (target): what MoCo, MoCo-v3 and BYOL share.

Two choices about non-semantic negatives (NS) live here, since all three methods have them:

* `non_semantic_encoder`: "target" (the paper's) encodes them as it does the keys, without gradient: queries move away
  from where the NS are, and the NS follow slowly, by the moving average. "online" encodes them with the weights that
  are learnt, and the gradient pushes the NS away from the query too: their similarity falls at once.
* `non_semantic_norm`: "own" (the paper's) makes them a batch of their own for batch norm: whatever sets all NS apart
  from all views in a channel's mean and variance is normalised away, so they have to be told apart image by image.
  The running statistics, by which the encoder is evaluated, are those of the views alone.
  With several groups (`model.bn_groups`) the negatives of a group are those of its queries. "shuffled", as in
  the paper's code, is "own" in groups that are shuffled as the keys' are: then no group's statistics tell whose
  negative it is. Only statistics cross devices for it. Several negatives of a query are one batch in either, where
  the paper's code has as many.
  "shared" normalises them together with the views that the same encoder sees first (keys for target, queries for
  online): such differences stay, NS are easier to tell apart, and the views' own embeddings depend on them.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from ncl_jax.methods import contract
from ncl_jax.methods.contract import Encoder, Tree

ENCODERS = ("target", "online")
NORMS = ("own", "shuffled", "shared")
PREDICTOR = ("predictor",)  # networks that the target has not, where there is one


class Encoded(NamedTuple):
    online: list[dict[str, Float[Array, "b d"]]]  # outputs of every online network; of queries, then of swapped keys
    targets: list[Float[Array, "b d"]]  # what each of them is to predict: the target's `head`, without gradient
    non_semantic: Float[Array, "b m d"] | None  # their `head`
    stats: Tree
    target_stats: Tree

    def aux(self) -> dict[str, Any]:
        """What every method with a target returns beside its loss."""
        online = self.online[0]
        compared = {"query": online.get("predictor", online["head"]), "positive": self.targets[0]}
        if self.non_semantic is not None:
            compared["non_semantic"] = self.non_semantic
        return jax.lax.stop_gradient(compared) | {
            "features": jax.lax.stop_gradient(online["backbone"]),
            "embeddings": jax.lax.stop_gradient(online["head"]),
            "batch_stats": self.stats,
            "target_batch_stats": self.target_stats,
        }


def init(params: Tree, stats: Tree, online_only: tuple[str, ...] = ()) -> Tree:
    """The target at the start: a copy of all networks but those of `online_only`."""

    def copy(tree: Tree) -> Tree:
        return {name: jax.tree.map(jnp.copy, part) for name, part in tree.items() if name not in online_only}

    return {"params": copy(params), "batch_stats": copy(stats)}


def update(target: Tree, params: Tree, target_stats: Tree, momentum: float | Array) -> Tree:
    """The target after the optimiser's step: moving average of the parameters, batch statistics of its own."""
    online = {name: params[name] for name in target["params"]}
    return {"params": contract.ema(target["params"], online, momentum), "batch_stats": target_stats}


def cosine_momentum(base: float, step: Int[Array, ""], total_steps: int) -> Float[Array, ""]:
    """`base` at the first step, 1 at the end: 1 - (1 - base) (cos(pi k / K) + 1) / 2 (Grill et al. 2020, 3.2)."""
    share = jnp.clip(step / total_steps, 0.0, 1.0)
    return 1 - (1 - base) * (jnp.cos(jnp.pi * share) + 1) / 2


def with_predictor(encoder: Encoder, settings: Any, total_steps: int, loss: Callable[..., Any]) -> contract.Method:
    """The method of this loss whose state is a target without predictor, its momentum rising to 1 (BYOL, MoCo-v3)."""

    def start(key: Key[Array, ""], images: Float[Array, "b s s 3"]) -> tuple[Tree, Tree]:
        params, stats = encoder.init(key, images)
        return params, {"batch_stats": stats, "target": init(params, stats, PREDICTOR)}

    def after_update(params: Tree, extra: Tree, aux: dict[str, Any], step: Array) -> Tree:
        momentum = cosine_momentum(settings.momentum, step, total_steps)
        return {
            "batch_stats": aux["batch_stats"],
            "target": update(extra["target"], params, aux["target_batch_stats"], momentum),
        }

    return contract.Method(start, loss, after_update)


def encode(
    encoder: Encoder,
    params: Tree,
    extra: Tree,
    views: Mapping[str, Any],
    settings: Any,
    *,
    online_only: tuple[str, ...] = (),
) -> Encoded:
    """Queries through the online networks, keys through the target, negatives as the module's text says.

    `settings` are the method's. Its `symmetric` adds the other direction: keys through online, queries through the
    target. Negatives are made of the query view; both directions share them.
    """
    target = jax.lax.stop_gradient(extra["target"])
    stats, target_stats, order = extra["batch_stats"], target["batch_stats"], views["key_order"]
    by_online, shared = settings.non_semantic_encoder == "online", settings.non_semantic_norm == "shared"
    images, encoded = views["non_semantic"], None
    flat = contract.flat_negatives(images) if images is not None else None

    with_query = [flat] if flat is not None and shared and by_online else []
    (online, *own), stats = encoder.apply_pooled(params, stats, [views["query"], *with_query])
    encoded = own[0] if own else encoded
    with_key = [flat] if flat is not None and shared and not by_online else []
    (keys, *own), target_stats = encoder.apply_pooled(
        target["params"], target_stats, [views["key"], *with_key], skip=online_only
    )
    encoded = own[0] if own else encoded
    queries, targets = [online], [contract.unpermute(keys["head"], order)]
    if settings.symmetric:
        swapped, stats = encoder.apply(params, stats, views["key"])
        other, target_stats = encoder.apply(target["params"], target_stats, views["query"], skip=online_only)
        queries.append({name: contract.unpermute(output, order) for name, output in swapped.items()})
        targets.append(other["head"])
    if flat is not None and not shared:
        by = (params, stats) if by_online else (target["params"], target_stats)
        places = contract.places(order, len(flat)) if settings.non_semantic_norm == "shuffled" else None
        # Not their statistics: images alone are evaluated.
        encoded, _ = encoder.apply(*by, flat, skip=online_only, places=places)
    non_semantic = contract.of_each_query(encoded["head"], views["query"]) if encoded is not None else None
    return Encoded(queries, targets, non_semantic, stats, target_stats)
