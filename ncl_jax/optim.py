"""Optimisers and their schedules."""

import jax
import jax.numpy as jnp
import optax

from ncl_jax.config import Config


def schedule(config: Config, steps_per_epoch: int) -> optax.Schedule:
    """step -> learning rate: linear warm-up by steps, then cosine to zero, moving every step or once an epoch."""
    peak, total = config.learning_rate, float(config.epochs)
    warmup = config.optim.warmup_epochs

    def learning_rate(step: jax.typing.ArrayLike) -> jax.Array:
        epoch = passed = jnp.asarray(step) / steps_per_epoch
        if config.optim.schedule == "epoch":
            # Small steps before the floor: 3 * (1/3) must count as the third epoch in float32.
            epoch = jnp.floor(epoch + 0.5 / steps_per_epoch)
        cosine = 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip((epoch - warmup) / (total - warmup), 0, 1)))
        # In this order and form: another rounding of the rate gives other runs than the committed ones.
        ramp = jnp.minimum(passed / warmup, 1.0) if warmup else 1.0
        return jnp.where(passed < warmup, peak * ramp, peak * cosine)

    return learning_rate


def optimizer(config: Config, steps_per_epoch: int) -> optax.GradientTransformation:
    """SGD as PyTorch's (decay added to the gradient, then momentum), LARS, or AdamW.

    With `decay_all = False` biases and batch-norm parameters get neither weight decay nor LARS's rescaling.
    """
    optim, rate = config.optim, schedule(config, steps_per_epoch)
    mask = None if optim.decay_all else matrices
    if optim.name == "lars":
        return optax.lars(
            rate,
            weight_decay=optim.weight_decay,
            weight_decay_mask=True if mask is None else mask,
            trust_ratio_mask=True if mask is None else mask,
            momentum=optim.momentum,
        )
    if optim.name == "adamw":
        return optax.adamw(rate, b1=optim.momentum, weight_decay=optim.weight_decay, mask=mask)
    return optax.chain(
        optax.add_decayed_weights(optim.weight_decay, mask), optax.sgd(rate, momentum=optim.momentum or None)
    )


def matrices(params: optax.Params) -> optax.Params:
    """True for kernels, False for biases and batch-norm scales."""
    return jax.tree.map(lambda p: p.ndim > 1, params)
