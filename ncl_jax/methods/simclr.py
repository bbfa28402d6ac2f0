"""SimCLR with non-semantic negatives (Chen et al. 2020): NT-Xent over the global batch, one encoder, no target.

The head is the paper's; the authors' code ends it in a batch norm besides.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ncl_jax import config as config_lib
from ncl_jax import losses, models
from ncl_jax.methods import contract
from ncl_jax.methods.contract import Tree
from ncl_jax.schema import option


@dataclasses.dataclass(frozen=True)
class Settings:
    temperature: float = option(0.1, low=1e-3)
    hidden_dim: int = option(2048, low=1)  # of the projection head
    embedding_dim: int = option(128, low=1)
    non_semantic_gradient: bool = True  # False: the negatives' embeddings are constants, as with MoCo's target
    non_semantic_norm: str = option("own", choices=("own", "shared"))  # shared: one batch norm with both views
    ifm_epsilon: float = option(0.0, low=0.0)  # implicit feature modification: cosines made harder by this; 0: off

    def check(self, config: config_lib.Config) -> None:
        contract.check_head_groups(config)
        contract.check_in_batch(config, "simclr")


def build(config: config_lib.Config, total_steps: int) -> contract.Method:
    """The three functions of SimCLR for this config. `total_steps` is not used: nothing here has a schedule."""
    del total_steps
    settings: Settings = config.method
    widths = (settings.hidden_dim, settings.embedding_dim)
    head = models.MLP(widths, batch_norm=True, bn_groups=config.model.bn_groups)
    encoder = contract.Encoder(models.encoder(config.model), {"head": head})

    def init(key: Key[Array, ""], images: Float[Array, "b s s 3"]) -> tuple[Tree, Tree]:
        params, stats = encoder.init(key, images)
        return params, {"batch_stats": stats}

    def loss(
        params: Tree, extra: Tree, views: Mapping[str, Any], key: Key[Array, ""]
    ) -> tuple[Float[Array, ""], dict[str, Any]]:
        del key
        images = views["non_semantic"]
        flat = [contract.flat_negatives(images)] if images is not None else []
        shared = settings.non_semantic_norm == "shared"
        # Both views are one batch for batch norm, as SimCLR has it.
        parts = [views["query"], views["key"], *(flat if shared else [])]
        (query, keys, *own), stats = encoder.apply_pooled(params, extra["batch_stats"], parts)
        if flat and not shared:
            encoded, _ = encoder.apply(params, stats, flat[0])  # not their statistics: images alone are evaluated
            own = [encoded]
        non_semantic = contract.of_each_query(own[0]["head"], views["query"]) if own else None
        positive = contract.unpermute(keys["head"], views["key_order"])
        compared = {"query": query["head"], "positive": positive}
        if non_semantic is not None:
            compared["non_semantic"] = non_semantic
        logits = losses.nt_xent_logits(
            query["head"],
            positive,
            non_semantic,
            temperature=settings.temperature,
            alpha=views["alpha"],
            non_semantic_gradient=settings.non_semantic_gradient,
        )
        perturbation = settings.ifm_epsilon / settings.temperature
        aux = jax.lax.stop_gradient(compared) | {
            "metrics": contract.in_batch_metrics(logits, settings.temperature, non_semantic)
            | contract.similarity_to_negatives(query["head"], non_semantic),
            "features": jax.lax.stop_gradient(query["backbone"]),
            "embeddings": jax.lax.stop_gradient(query["head"]),
            "batch_stats": stats,
        }
        return jnp.mean(losses.first_is_positive(logits, perturbation=perturbation)), aux

    def after_update(params: Tree, extra: Tree, aux: dict[str, Any], step: Array) -> Tree:
        del params, extra, step
        return {"batch_stats": aux["batch_stats"]}

    return contract.Method(init, loss, after_update)
