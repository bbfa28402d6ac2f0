"""ResNets as torchvision's (v1.5: a bottleneck's stride is on its 3x3 convolution), with the same layer names."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ncl_jax.errors import UserError
from ncl_jax.models.convolution import convolve
from ncl_jax.models.norm import BatchNorm
from ncl_jax.models.pooling import max_pool

# name -> (bottleneck blocks?, blocks per stage)
ARCHITECTURES: dict[str, tuple[bool, tuple[int, ...]]] = {
    "resnet10": (False, (1, 1, 1, 1)),
    "resnet18": (False, (2, 2, 2, 2)),
    "resnet34": (False, (3, 4, 6, 3)),
    "resnet50": (True, (3, 4, 6, 3)),
    "resnet101": (True, (3, 4, 23, 3)),
    "resnet152": (True, (3, 8, 36, 3)),
}

# name -> (side and stride of the first convolution, max pool of stride 2 after it?)
STEMS: dict[str, tuple[int, int, bool]] = {
    "imagenet": (7, 2, True),
    "medium": (3, 2, False),  # for about 64 pixels, or 32 in a hurry
    "small": (3, 1, False),  # for about 32 pixels
}

_he_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class Block(nn.Module):
    """A basic (two 3x3) or bottleneck (1x1, 3x3, 1x1) residual block. `channels` is the inner width."""

    bottleneck: bool
    channels: int
    stride: int
    conv: Callable[..., Any]
    norm: Callable[..., Any]
    zero_init: bool

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], places: Int[Array, " b"] | None) -> Float[Array, "b h2 w2 c2"]:
        s, wide = self.stride, self.channels * (4 if self.bottleneck else 1)
        kernels = ((1, 1), (3, s), (1, 1)) if self.bottleneck else ((3, s), (3, 1))
        y = x
        for index, (side, stride) in enumerate(kernels, start=1):
            last = index == len(kernels)
            y = self.conv(wide if last else self.channels, side, stride, name=f"conv{index}")(y)
            y = self.norm(name=f"bn{index}", zero=last and self.zero_init)(y, places=places)
            y = y if last else nn.relu(y)
        if x.shape != y.shape:
            x = self.conv(wide, 1, s, name="downsample_conv")(x)
            x = self.norm(name="downsample_bn")(x, places=places)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """A ResNet up to the global average pool.

    Attributes:
      architecture: one of ARCHITECTURES.
      width: multiplies the channels of every layer (rounded).
      stem: one of STEMS.
      padding: `torch` pads half a kernel on either side; `same` pads as TensorFlow and Haiku do, which for strides of 2
        is another place; `wide` is `torch` with a pixel more before the first convolution, as solo-learn has it for
        small images. Weights trained with one lose points with another.
      bn_groups: parts of the batch that are normalised on their own, contiguous ones unless the call's `places` say
        otherwise (`BatchNorm`).
      dtype: of the activations; parameters, statistics and the returned features are float32.
      zero_init_residual: the last batch norm of every block begins with scale 0 (Goyal et al. 2017, section 5.1).
      remat: compute each block again in the backward pass instead of keeping its activations.
    """

    architecture: str
    width: float = 1.0
    stem: str = "imagenet"
    padding: str = "torch"
    bn_groups: int = 1
    dtype: jnp.dtype = jnp.float32
    zero_init_residual: bool = False
    remat: bool = False

    @property
    def feature_dim(self) -> int:
        bottleneck, stages = ARCHITECTURES[self.architecture]
        return round(64 * 2 ** (len(stages) - 1) * self.width) * (4 if bottleneck else 1)

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w 3"], *, train: bool, places: Int[Array, " b"] | None = None
    ) -> Float[Array, "b d"]:
        """Features of normalised images; UserError for an array that is none of such."""
        if x.ndim != 4 or x.shape[-1] != 3 or not jnp.issubdtype(x.dtype, jnp.floating):
            got = f"{x.dtype} {list(x.shape)}"
            raise UserError(f"ResNet: want images [b h w 3] as augment.views.normalize makes them, got {got}")
        bottleneck, stages = ARCHITECTURES[self.architecture]

        def pad(side: int) -> Any:
            return "SAME" if self.padding == "same" else [(side // 2, side // 2)] * 2

        def conv(channels: int, side: int, stride: int, name: str) -> nn.Conv:
            return nn.Conv(
                channels,
                (side, side),
                (stride, stride),
                pad(side),
                use_bias=False,
                dtype=self.dtype,
                kernel_init=_he_fan_out,
                conv_general_dilated=convolve,
                name=name,
            )

        def norm(name: str, *, zero: bool = False) -> Callable[..., Any]:
            start = nn.initializers.zeros if zero else nn.initializers.ones
            return partial(BatchNorm(self.bn_groups, dtype=self.dtype, scale_init=start, name=name), train=train)

        block = nn.remat(Block) if self.remat else Block
        x = x.astype(self.dtype)
        if self.padding == "wide":
            x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        side, stride, pool = STEMS[self.stem]
        x = conv(round(64 * self.width), side, stride, "conv1")(x)
        x = nn.relu(norm("bn1")(x, places=places))
        if pool:
            x = max_pool(x, pad(3))
        for stage, blocks in enumerate(stages):
            for index in range(blocks):
                stride = 2 if stage > 0 and index == 0 else 1
                channels = round(64 * 2**stage * self.width)
                name = f"layer{stage + 1}_{index}"
                x = block(bottleneck, channels, stride, conv, norm, self.zero_init_residual, name=name)(x, places)
        return jnp.mean(x.astype(jnp.float32), axis=(1, 2))
