"""Gradient accumulation: a batch in parts, one after another, for memory.

With `optim.accumulate` = a, part i holds the i-th of a equal runs of the batch and of batch norm's groups, so every
image is normalised with the same others as in the whole batch. All parts start from the same state. Where the loss is
a mean over images (MoCo, whose queue stands still during a step, and BYOL), means over the parts are then exactly
those over the batch: loss, gradients, batch statistics. Views and negatives are made for the whole batch, before.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from ncl_jax import parallel
from ncl_jax.config import Config
from ncl_jax.methods.contract import PER_IMAGE, Method, Tree

LossAndGradient = Callable[[Tree, Tree, Mapping[str, Any], Key[Array, ""]], tuple[tuple[Array, dict[str, Any]], Tree]]


def part_of(config: Config) -> Config:
    """The config that a method is built with: the batch and the batch-norm groups of one part."""
    parts = config.optim.accumulate
    if parts == 1:
        return config
    model = dataclasses.replace(config.model, bn_groups=config.model.bn_groups // parts)
    return dataclasses.replace(config, batch=config.batch // parts, model=model)


def value_and_grad(method: Method, parts: int) -> LossAndGradient:
    """`jax.value_and_grad` of the method's loss on the whole batch, computed in that many parts."""
    grad = jax.value_and_grad(method.loss, has_aux=True)
    if parts == 1:
        return grad

    def accumulated(params: Tree, extra: Tree, views: Mapping[str, Any], key: Key[Array, ""]):
        alpha = views["alpha"]
        pieces = {name: cut(value, parts) for name, value in views.items() if name != "alpha" and value is not None}
        # Keys are shuffled within parts only (the stream sees to it), so their places are those in the part.
        pieces["key_order"] = pieces["key_order"] % pieces["key_order"].shape[1]

        def one(total: Tree, piece: tuple[Mapping[str, Array], Array]) -> tuple[Tree, dict[str, Any]]:
            views, number = piece
            views = {"non_semantic": None, **views, "alpha": alpha}
            (loss, aux), grads = grad(params, extra, views, jax.random.fold_in(key, number))
            images = {name: aux.pop(name) for name in PER_IMAGE if name in aux}
            added = jax.tree.map(lambda t, new: t + new / parts, total, (loss, aux, grads))
            return added, images

        def nothing() -> Tree:
            first = jax.tree.map(lambda value: value[0], pieces)
            (loss, aux), grads = grad(params, extra, {"non_semantic": None, **first, "alpha": alpha}, key)
            return loss, {name: value for name, value in aux.items() if name not in PER_IMAGE}, grads

        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(nothing))
        (loss, aux, grads), images = jax.lax.scan(one, zeros, (pieces, jnp.arange(parts)))
        merged = {name: value.reshape(-1, *value.shape[2:]) for name, value in images.items()}
        return (loss, {**aux, **merged}), grads

    return accumulated


def cut(batch: Array, parts: int) -> Array:
    """`[b ...]` as `[parts, b / parts, ...]`, every part spread over all devices."""
    return parallel.spread(batch.reshape(parts, -1, *batch.shape[1:]), axis=1)
