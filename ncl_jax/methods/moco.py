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
from ncl_jax.methods import contract, target
from ncl_jax.methods.contract import Tree
from ncl_jax.schema import option


@dataclasses.dataclass(frozen=True)
class Settings:
    temperature: float = option(0.2, low=1e-3)
    momentum: float = option(0.999, low=0.0, high=1.0)  # of the EMA key encoder
    queue_size: int = option(16384, low=1)  # keys of earlier batches
    hidden_dim: int = option(2048, low=0)  # of the projection head; 0: a linear one, as MoCo v1 has it
    embedding_dim: int = option(128, low=1)
    head_batch_norm: bool = False  # MoCo-v2's head has none; with it, short runs on small images get going sooner
    # Each view is once the query; the queue gets both views' keys. The loss is the mean of the two: where they are
    # added, as in MoCo's CIFAR demo, the same steps of SGD take twice the learning rate and half the decay here.
    symmetric: bool = False
    non_semantic_encoder: str = option("target", choices=target.ENCODERS)  # online: with gradient
    non_semantic_norm: str = option("own", choices=target.NORMS)  # batch norm of the negatives; see target.py
    ifm_epsilon: float = option(0.0, low=0.0)  # implicit feature modification: cosines made harder by this; 0: off

    def keys_per_step(self, batch: int) -> int:
        """What a step writes to the queue, in one piece: the pointer is always a multiple of it."""
        return batch * (2 if self.symmetric else 1)

    def check(self, config: config_lib.Config) -> None:
        if self.head_batch_norm:
            contract.check_head_groups(config)
            if not self.hidden_dim:
                raise UserError(
                    "config.method.head_batch_norm = True: normalises the hidden layer of the head, and "
                    "config.method.hidden_dim = 0 asks for none"
                )
        keys = self.keys_per_step(config.batch)
        if self.queue_size % keys:
            raise UserError(
                f"config.method.queue_size = {self.queue_size}: is no multiple of the {keys} keys of a step "
                f"(config.batch = {config.batch}{', both views' if self.symmetric else ''})"
            )

    def against_collapse(self, config: config_lib.Config) -> list[str]:
        """What to try where the embeddings collapse, what helped most first (`configs/study/cifar10.py:heads`)."""
        tries = []
        if self.hidden_dim and not self.head_batch_norm:
            tries.append("config.method.hidden_dim=0 or head_batch_norm=True")
        if config.negatives and self.non_semantic_encoder == "target":
            tries.append("config.method.non_semantic_encoder=online")
        if config.negatives and not config.alpha_warmup_epochs:  # of a fresh encoder all cosines are near 1
            tries.append(f"config.alpha_warmup_epochs={min(10, max(1, config.epochs // 10))}")
        return tries


def build(config: config_lib.Config, total_steps: int) -> contract.Method:
    """The three functions of MoCo for this config. `total_steps` is not used: its momentum is constant."""
    del total_steps
    settings: Settings = config.method
    head = models.MLP(
        (settings.hidden_dim, settings.embedding_dim) if settings.hidden_dim else (settings.embedding_dim,),
        batch_norm=settings.head_batch_norm,
        bn_groups=config.model.bn_groups,
    )
    encoder = contract.Encoder(models.encoder(config.model), {"head": head})

    def init(key: Key[Array, ""], images: Float[Array, "b s s 3"]) -> tuple[Tree, Tree]:
        network_key, queue_key = jax.random.split(key)
        params, stats = encoder.init(network_key, images)
        queue = jax.random.normal(queue_key, (settings.queue_size, settings.embedding_dim))
        extra = {
            "batch_stats": stats,
            "target": target.init(params, stats),
            "queue": losses.normalize(queue),
            "pointer": jnp.zeros((), jnp.int32),
        }
        return params, extra

    def loss(
        params: Tree, extra: Tree, views: Mapping[str, Any], key: Key[Array, ""]
    ) -> tuple[Float[Array, ""], dict[str, Any]]:
        del key
        encoded = target.encode(encoder, params, extra, views, settings)
        logits = [
            losses.info_nce_logits(
                query["head"],
                positive,
                extra["queue"],
                encoded.non_semantic,
                temperature=settings.temperature,
                alpha=views["alpha"],
                non_semantic_gradient=settings.non_semantic_encoder == "online",
            )
            for query, positive in zip(encoded.online, encoded.targets, strict=True)
        ]
        perturbation = settings.ifm_epsilon / settings.temperature
        total = jnp.mean(jnp.stack([losses.first_is_positive(part, perturbation=perturbation) for part in logits]))
        online = encoded.online[0]
        aux = encoded.aux() | {
            "metrics": _metrics(logits[0], settings)
            | contract.similarity_to_negatives(online["head"], encoded.non_semantic),
            "keys": jnp.stack([losses.normalize(positive) for positive in encoded.targets], axis=1),
        }
        return total, aux

    def after_update(params: Tree, extra: Tree, aux: dict[str, Any], step: Array) -> Tree:
        # The reference moves the key encoder at the start of a step, from the weights that the last update left:
        # the same numbers as moving it here, at the end of that update.
        del step
        keys = aux["keys"].reshape(-1, settings.embedding_dim)
        return {
            "batch_stats": aux["batch_stats"],
            "target": target.update(extra["target"], params, aux["target_batch_stats"], settings.momentum),
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
