"""Projection and prediction heads."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ncl_jax.models.norm import BatchNorm


def torch_uniform(key, shape, dtype=jnp.float32):
    """PyTorch's default for a linear layer: U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
    bound = shape[0] ** -0.5
    return jax.random.uniform(key, shape, dtype, -bound, bound)


class MLP(nn.Module):
    """Linear layers `fc0, fc1, ...` of these widths with ReLU between them; float32 out.

    `batch_norm` puts a BatchNorm before every ReLU (BYOL, SimCLR) in place of the linear layer's bias.
    """

    widths: tuple[int, ...]
    batch_norm: bool = False
    bn_groups: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b d"], *, train: bool) -> Float[Array, "b e"]:
        last = len(self.widths) - 1
        for layer, width in enumerate(self.widths):
            normed = self.batch_norm and layer < last
            fan_in = x.shape[-1]
            x = nn.Dense(
                width,
                use_bias=not normed,
                dtype=self.dtype,
                kernel_init=torch_uniform,
                bias_init=lambda key, shape, dtype, fan_in=fan_in: jax.random.uniform(
                    key, shape, dtype, -(fan_in**-0.5), fan_in**-0.5
                ),
                name=f"fc{layer}",
            )(x)
            if normed:
                x = BatchNorm(self.bn_groups, dtype=self.dtype, name=f"bn{layer}")(x, train=train)
            if layer < last:
                x = nn.relu(x)
        return x.astype(jnp.float32)
