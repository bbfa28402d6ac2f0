"""MoCo-v3 with non-semantic negatives (Chen, Xie and He 2021): MoCo without a queue.

The negatives are the other keys of the batch, and a predictor follows the projection head. It is a method of its own,
not an option of `moco`: of MoCo-v2's settings and state it has no queue, and adds a predictor and a momentum schedule.
Both heads are BYOL's: theirs end in a batch norm besides, which this one does not.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ncl_jax import config as config_lib
from ncl_jax import losses
from ncl_jax.methods import contract, target
from ncl_jax.methods.contract import Tree
from ncl_jax.schema import option


@dataclasses.dataclass(frozen=True)
class Settings:
    temperature: float = option(1.0, low=1e-3)  # the paper's for ResNets; 0.2 for vision transformers
    momentum: float = option(0.99, low=0.0, high=1.0)  # of the EMA key encoder at the start; rises to 1 by a cosine
    hidden_dim: int = option(4096, low=1)  # of projector and predictor
    embedding_dim: int = option(256, low=1)
    symmetric: bool = True  # each view is once the query; the two losses are added
    non_semantic_encoder: str = option("target", choices=target.ENCODERS)  # online: with gradient
    non_semantic_norm: str = option("own", choices=target.NORMS)  # batch norm of the negatives; see target.py
    ifm_epsilon: float = option(0.0, low=0.0)  # implicit feature modification: cosines made harder by this; 0: off

    def check(self, config: config_lib.Config) -> None:
        contract.check_head_groups(config)
        contract.check_in_batch(config, "moco_v3")


def build(config: config_lib.Config, total_steps: int) -> contract.Method:
    """The three functions of MoCo-v3 for this config; the target's momentum reaches 1 after `total_steps`."""
    settings: Settings = config.method
    encoder = contract.predicting_encoder(config, settings.hidden_dim, settings.embedding_dim)

    def loss(
        params: Tree, extra: Tree, views: Mapping[str, Any], key: Key[Array, ""]
    ) -> tuple[Float[Array, ""], dict[str, Any]]:
        del key
        encoded = target.encode(encoder, params, extra, views, settings, online_only=target.PREDICTOR)
        logits = [
            losses.in_batch_logits(
                online["predictor"],
                positive,
                encoded.non_semantic,
                temperature=settings.temperature,
                alpha=views["alpha"],
                non_semantic_gradient=settings.non_semantic_encoder == "online",
            )
            for online, positive in zip(encoded.online, encoded.targets, strict=True)
        ]
        perturbation = settings.ifm_epsilon / settings.temperature
        # 2t keeps the gradient's size about the same for all temperatures (their algorithm 1).
        scale = 2 * settings.temperature
        total = scale * sum(jnp.mean(losses.first_is_positive(part, perturbation=perturbation)) for part in logits)
        online = encoded.online[0]
        aux = encoded.aux() | {
            "metrics": contract.in_batch_metrics(logits[0], settings.temperature, encoded.non_semantic)
            | contract.similarity_to_negatives(online["predictor"], encoded.non_semantic),
        }
        # What the loss is when all logits are equal, on the loss's own scale.
        aux["metrics"]["chance_loss"] *= scale * len(logits)
        return jnp.asarray(total), aux

    return target.with_predictor(encoder, settings, total_steps, loss)
