"""BYOL with non-semantic negatives (Grill et al. 2020; paper, section 3.2): predict the target, avoid the negatives."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ncl_jax import config as config_lib
from ncl_jax import losses
from ncl_jax.methods import contract, target
from ncl_jax.methods.contract import Tree
from ncl_jax.schema import option


@dataclasses.dataclass(frozen=True)
class Settings:
    DEFAULT_ALPHA: ClassVar[float] = 0.1  # of negatives that set none; chosen in the table of configs/study/README.md

    momentum: float = option(0.996, low=0.0, high=1.0)  # of the EMA target at the start; rises to 1 by a cosine
    hidden_dim: int = option(4096, low=1)  # of projector and predictor
    embedding_dim: int = option(256, low=1)
    symmetric: bool = True  # each view once predicts the other; the two losses are added
    non_semantic_encoder: str = option("target", choices=target.ENCODERS)  # online: with gradient
    non_semantic_norm: str = option("own", choices=target.NORMS)  # batch norm of the negatives; see target.py

    def check(self, config: config_lib.Config) -> None:
        contract.check_head_groups(config)


def build(config: config_lib.Config, total_steps: int) -> contract.Method:
    """The three functions of BYOL for this config; the target's momentum reaches 1 after `total_steps`."""
    settings: Settings = config.method
    encoder = contract.predicting_encoder(config, settings.hidden_dim, settings.embedding_dim)

    def loss(
        params: Tree, extra: Tree, views: Mapping[str, Any], key: Key[Array, ""]
    ) -> tuple[Float[Array, ""], dict[str, Any]]:
        del key
        encoded = target.encode(encoder, params, extra, views, settings, online_only=target.PREDICTOR)
        total = sum(
            jnp.mean(
                losses.byol_regression(
                    online["predictor"],
                    positive,
                    encoded.non_semantic,
                    alpha=views["alpha"],
                    non_semantic_gradient=settings.non_semantic_encoder == "online",
                )
            )
            for online, positive in zip(encoded.online, encoded.targets, strict=True)
        )
        online = encoded.online[0]
        cosine = jnp.sum(losses.normalize(online["predictor"]) * losses.normalize(encoded.targets[0]), axis=-1)
        aux = encoded.aux() | {
            "metrics": {"similarity_positive": jax.lax.stop_gradient(jnp.mean(cosine))}
            | contract.similarity_to_negatives(online["predictor"], encoded.non_semantic),
        }
        return jnp.asarray(total), aux

    return target.with_predictor(encoder, settings, total_steps, loss)
