"""Contrastive pretraining that does not lean on texture, in JAX (NeurIPS 2021, arXiv 2110.14189)."""

import os
from collections.abc import Mapping
from typing import Any

__version__ = "0.1.0"


def load_config(path: str, overrides: Mapping[str, Any] | None = None):
    """`ncl_jax.config.load`, with every method, negative and test set known: the config of `configs/NAME.py[:variant]`.

    `overrides` maps dotted keys to values, as `--config.KEY=VALUE` does. Raises `ncl_jax.errors.UserError`.
    """
    from ncl_jax import config

    register()
    return config.load(path, overrides)


def load_run(folder: str | os.PathLike):
    """`ncl_jax.convert.command.load_run`: what a workdir of `ncl-jax pretrain` holds, as a `ncl_jax.convert.Network`.

    Features are `network.encoder().apply(network.variables, images, train=False)`, of images `[b s s 3]` as
    `ncl_jax.augment.views.normalize` makes them. Raises `ncl_jax.errors.UserError`.
    """
    from ncl_jax.convert import command

    register()
    return command.load_run(folder)


def register() -> None:
    """Methods, negatives and test sets bring their settings when they are imported."""
    from ncl_jax import methods, negatives  # noqa: F401
    from ncl_jax.evaluation import sets  # noqa: F401
