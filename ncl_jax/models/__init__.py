"""Networks: the only place that knows Linen."""

import jax.numpy as jnp

from ncl_jax import config
from ncl_jax.models.heads import MLP
from ncl_jax.models.norm import BatchNorm
from ncl_jax.models.resnet import ARCHITECTURES, ResNet

__all__ = ["ARCHITECTURES", "MLP", "BatchNorm", "ResNet", "encoder"]


def encoder(settings: config.Model) -> ResNet:
    """The backbone that the config describes."""
    return ResNet(
        architecture=settings.name,
        width=settings.width,
        stem=settings.stem,
        bn_groups=settings.bn_groups,
        dtype=jnp.dtype(settings.dtype),
        zero_init_residual=settings.zero_init_residual,
        remat=settings.remat,
    )
