"""How features lie on the sphere: dimensions in use, alignment of views, uniformity."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ncl_jax.evaluation.features import normalize_rows


@jax.jit
def effective_rank(features: Float[Array, "n d"]) -> Float[Array, ""]:
    """exp(entropy of the normalised singular values) of the centred unit features (Roy & Vetterli 2007), 1 to d.

    Not the participation ratio that is logged while pretraining, which weighs large directions more.
    """
    x = normalize_rows(features)
    share = jnp.linalg.svd(x - jnp.mean(x, axis=0, keepdims=True), compute_uv=False)
    share = share / jnp.maximum(jnp.sum(share), 1e-12)
    return jnp.exp(-jnp.sum(share * jnp.log(jnp.maximum(share, 1e-12))))


@jax.jit
def alignment(a: Float[Array, "n d"], b: Float[Array, "n d"]) -> Float[Array, ""]:
    """Mean squared distance of the unit features of two views, 0 to 4; lower is closer (Wang & Isola 2020)."""
    return jnp.mean(jnp.sum(jnp.square(normalize_rows(a) - normalize_rows(b)), axis=1))


@jax.jit
def uniformity(features: Float[Array, "n d"]) -> Float[Array, ""]:
    """log of the mean of exp(-2 ‖x - y‖²) over all pairs of unit features; lower is more uniform (Wang & Isola 2020).

    0 when all features coincide, -4 as a limit for far spread ones. A pair takes 4 bytes: give a few thousand rows.
    """
    x = normalize_rows(features)
    similarity = jnp.matmul(x, x.T, precision="highest")
    n = len(x)
    kernel = jnp.where(jnp.eye(n, dtype=bool), 0.0, jnp.exp(4.0 * (similarity - 1.0)))
    return jnp.log(jnp.sum(kernel) / (n * (n - 1)))
