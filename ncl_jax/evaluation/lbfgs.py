"""L-BFGS for smooth convex functions (Nocedal & Wright, algorithm 7.5), to be traced into a jitted program.

optax has one with a stronger line search; this one compiles in a fraction of its time, which for probes on features
is most of the time that they take.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_MEMORY = 10  # pairs of steps and gradient changes
_TRIES = 25  # halvings of a step before the search gives up: float32 has nothing left to gain then


def minimise(
    value_and_grad: Callable[[Float[Array, " p"]], tuple[Float[Array, ""], Float[Array, " p"]]],
    start: Float[Array, " p"],
    *,
    steps: int,
    tolerance: float,
) -> Float[Array, " p"]:
    """The argument after at most `steps` iterations, fewer once no entry of the gradient is above `tolerance`."""

    def unsolved(carry):
        step, _, _, gradient, _, going = carry
        return going & (step < steps) & (jnp.max(jnp.abs(gradient)) > tolerance)

    def advance(carry):
        step, x, value, gradient, history, _ = carry
        direction = -_inverse_hessian_product(gradient, history)
        slope = direction @ gradient
        # The first direction is the gradient, whose length says nothing of the step's.
        length = jnp.where(step == 0, jnp.minimum(1.0, 1.0 / jnp.linalg.norm(gradient)), 1.0)

        def too_long(search):
            tries, length, new_value, _ = search
            noise = 1e-6 * jnp.abs(value)  # two float32 sums of the same terms differ by that much
            return (tries < _TRIES) & ~(new_value <= value + 1e-4 * length * slope + noise)

        def halve(search):
            tries, length, _, _ = search
            return tries + 1, length / 2, *value_and_grad(x + length / 2 * direction)

        tries, length, new_value, new_gradient = jax.lax.while_loop(
            too_long, halve, (0, length, *value_and_grad(x + length * direction))
        )
        history = _remember(history, length * direction, new_gradient - gradient)
        going = tries < _TRIES
        x = jnp.where(going, x + length * direction, x)
        return step + 1, x, new_value, new_gradient, history, going

    empty = (jnp.zeros((_MEMORY, start.size)), jnp.zeros((_MEMORY, start.size)), jnp.zeros(_MEMORY))
    return jax.lax.while_loop(unsolved, advance, (0, start, *value_and_grad(start), empty, True))[1]


def _remember(history, moved, changed):
    """The newest pair last. A pair without curvature gets weight 0 and takes no part."""
    moves, changes, weights = history
    curvature = moved @ changed
    good = curvature > 1e-10 * jnp.linalg.norm(moved) * jnp.linalg.norm(changed)
    weight = jnp.where(good, 1.0 / jnp.where(good, curvature, 1.0), 0.0)
    return tuple(
        jnp.concatenate([old[1:], new[None]]) for old, new in ((moves, moved), (changes, changed), (weights, weight))
    )


def _inverse_hessian_product(gradient, history):
    """The two loops of algorithm 7.4."""
    _, changes, weights = history

    def backward(q, pair):
        moved, changed, weight = pair
        share = weight * (moved @ q)
        return q - share * changed, share

    def forward(r, pair):
        moved, changed, weight, share = pair
        return r + (share - weight * (changed @ r)) * moved, None

    q, shares = jax.lax.scan(backward, gradient, history, reverse=True)
    size = weights[-1] * (changes[-1] @ changes[-1])
    scale = jnp.where(weights[-1] > 0, 1.0 / jnp.where(size > 0, size, 1.0), 1.0)
    return jax.lax.scan(forward, scale * q, (*history, shares))[0]
