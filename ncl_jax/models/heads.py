"""Projection and prediction heads."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ncl_jax.models.norm import BatchNorm


def torch_uniform(fan_in: int) -> nn.initializers.Initializer:
    """PyTorch's default for a linear layer, kernel and bias: U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
    bound = fan_in**-0.5
    return lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -bound, bound)


class MLP(nn.Module):
    """Linear layers `fc0, fc1, ...` of these widths with ReLU between them, in float32.

    `batch_norm` puts a BatchNorm (which takes `places`) before every ReLU (BYOL, SimCLR) in place of the linear layer's
    bias.
    """

    widths: tuple[int, ...]
    batch_norm: bool = False
    bn_groups: int = 1

    @nn.compact
    def __call__(
        self, x: Float[Array, "b d"], *, train: bool, places: Int[Array, " b"] | None = None
    ) -> Float[Array, "b e"]:
        last = len(self.widths) - 1
        for layer, width in enumerate(self.widths):
            normed = self.batch_norm and layer < last
            uniform = torch_uniform(x.shape[-1])
            x = nn.Dense(
                width,
                use_bias=not normed,
                dtype=jnp.float32,
                kernel_init=uniform,
                bias_init=uniform,
                name=f"fc{layer}",
            )(x)
            if normed:
                x = BatchNorm(self.bn_groups, name=f"bn{layer}")(x, train=train, places=places)
            if layer < last:
                x = nn.relu(x)
        return x
