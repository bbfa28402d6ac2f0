"""MoCo-v2 with non-semantic negatives (paper, section 3.2): a queue, an EMA key encoder, InfoNCE."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ncl_jax import config as config_lib
from ncl_jax import losses, models
from ncl_jax.errors import UserError
from ncl_jax.methods import contract
from ncl_jax.methods.contract import Tree
from ncl_jax.schema import option


@dataclasses.dataclass(frozen=True)
class Settings:
    temperature: float = option(0.2, above=0.0)
    momentum: float = option(0.999, low=0.0, high=1.0)  # of the EMA key encoder
    queue_size: int = option(16384, low=1)  # keys of earlier batches
    hidden_dim: int = option(2048, low=1)  # of the projection head
    embedding_dim: int = option(128, low=1)
    symmetric: bool = False  # each view is once the query; queue gets both views' keys
    non_semantic_encoder: str = option("target", choices=("target", "online"))  # online: with gradient

    def check(self, config: config_lib.Config) -> None:
        keys = config.batch * (2 if self.symmetric else 1)
        if self.queue_size % keys:
            raise UserError(
                f"config.method.queue_size = {self.queue_size}: is no multiple of the {keys} keys of a step "
                f"(config.batch = {config.batch}{', both views' if self.symmetric else ''})"
            )


def build(config: config_lib.Config, total_steps: int) -> contract.Method:
    """The three functions of MoCo for this config. `total_steps` is not used: its momentum is constant."""
    del total_steps
    settings: Settings = config.method
    encoder = contract.Encoder(
        models.encoder(config.model),
        {"head": models.MLP((settings.hidden_dim, settings.embedding_dim))},
    )

    def init(key: Key[Array, ""], images: Float[Array, "b s s 3"]) -> tuple[Tree, Tree]:
        network_key, queue_key = jax.random.split(key)
        params, stats = encoder.init(network_key, images)
        queue = jax.random.normal(queue_key, (settings.queue_size, settings.embedding_dim))
        extra = {
            "batch_stats": stats,
            "target": jax.tree.map(jnp.copy, {"params": params, "batch_stats": stats}),
            "queue": losses.normalize(queue),
            "pointer": jnp.zeros((), jnp.int32),
        }
        return params, extra

    def loss(
        params: Tree, extra: Tree, views: Mapping[str, Any], key: Key[Array, ""]
    ) -> tuple[Float[Array, ""], dict[str, Any]]:
        del key
        target = jax.lax.stop_gradient(extra["target"])
        stats, target_stats, order = extra["batch_stats"], target["batch_stats"], views["key_order"]

        online, stats = encoder.apply(params, stats, views["query"])
        keys, target_stats = encoder.apply(target["params"], target_stats, views["key"])
        pairs = [(online["head"], contract.unpermute(keys["head"], order))]
        if settings.symmetric:
            swapped, stats = encoder.apply(params, stats, views["key"])
            query_keys, target_stats = encoder.apply(target["params"], target_stats, views["query"])
            pairs.append((contract.unpermute(swapped["head"], order), query_keys["head"]))

        # Negatives are a batch of their own for batch norm, like the keys.
        non_semantic = None
        if views["non_semantic"] is not None:
            flat = contract.flat_negatives(views["non_semantic"])
            if settings.non_semantic_encoder == "online":
                encoded, stats = encoder.apply(params, stats, flat)
            else:
                encoded, target_stats = encoder.apply(target["params"], target_stats, flat)
            non_semantic = encoded["head"].reshape(*views["non_semantic"].shape[:2], -1)

        logits = [
            losses.info_nce_logits(
                query,
                positive,
                extra["queue"],
                non_semantic,
                temperature=settings.temperature,
                alpha=views["alpha"],
                non_semantic_gradient=settings.non_semantic_encoder == "online",
            )
            for query, positive in pairs
        ]
        total = jnp.mean(jnp.stack([losses.first_is_positive(part) for part in logits]))
        aux = {
            "metrics": _metrics(logits[0], settings)
            | contract.similarity_to_negatives(online["head"], non_semantic)
            | contract.health(online["head"]),
            "features": jax.lax.stop_gradient(online["backbone"]),
            "batch_stats": stats,
            "target_batch_stats": target_stats,
            "keys": jnp.concatenate([losses.normalize(positive) for _, positive in pairs]),
        }
        return total, aux

    def after_update(params: Tree, extra: Tree, aux: dict[str, Any], step: Array) -> Tree:
        # The reference moves the key encoder at the start of a step, from the weights that the last update left:
        # the same numbers as moving it here, at the end of that update.
        del step
        keys = aux["keys"]
        return {
            "batch_stats": aux["batch_stats"],
            "target": {
                "params": contract.ema(extra["target"]["params"], params, settings.momentum),
                "batch_stats": aux["target_batch_stats"],
            },
            "queue": jax.lax.dynamic_update_slice(extra["queue"], keys, (extra["pointer"], 0)),
            "pointer": (extra["pointer"] + len(keys)) % settings.queue_size,
        }

    return contract.Method(init, loss, after_update)


def _metrics(logits: Float[Array, "b k"], settings: Settings) -> dict[str, Array]:
    """Similarities (cosines) and contrast accuracy of the first direction."""
    logits = jax.lax.stop_gradient(logits)
    return {
        "chance_loss": jnp.log(jnp.float32(logits.shape[1])),  # the loss when all logits are equal: log K
        # Against the queue alone: alpha lifts the logits of non-semantic negatives above what similarity gives.
        "contrast_top1": jnp.mean(jnp.argmax(logits[:, : 1 + settings.queue_size], axis=1) == 0),
        "similarity_positive": jnp.mean(logits[:, 0]) * settings.temperature,
        "similarity_queue": jnp.mean(logits[:, 1 : 1 + settings.queue_size]) * settings.temperature,
    }
