"""A convolution that CPUs run fast on small maps too, and GPUs and TPUs on images."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

# Largest side, in pixels, of an output map that is computed as a matrix product on CPU.
_SMALL = 4
# Channels that tensor cores want at least, in multiples of which cuDNN computes.
_CHANNELS = 16


def convolve(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k k c o"], strides: Any, padding: Any, **kwargs: Any
) -> Float[Array, "b h2 w2 o"]:
    """`lax.conv_general_dilated`, the same numbers (to rounding) in the way that the backend runs fast.

    Small maps on CPU go through shifted copies and one matrix product: XLA's CPU convolution takes 225 ms of CPU time
    where the product takes 10 (batch 128, 2 x 2 pixels, 256 channels); from 8 x 8 pixels on it is the faster one.
    Elsewhere a stride of 2 over few channels, an image's, becomes one of 1 over the four times as many of 2 x 2 blocks:
    0.77 ms for 1.86 forward and 0.57 for 1.21 backward (stem of 7 x 7 on an H200, batch 256, 224 px, bfloat16).
    """
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
    sides = [
        (size + sum(pads) - k) // stride + 1
        for size, k, stride, pads in zip(x.shape[1:3], kernel.shape[:2], strides, padding, strict=True)
    ]
    if jax.default_backend() == "cpu":
        if max(sides) <= _SMALL:
            return _as_product(x, kernel, strides, padding, sides)
    elif tuple(strides) == (2, 2) and 4 * x.shape[-1] <= _CHANNELS:
        return by_blocks(x, kernel, padding, sides, **kwargs)
    return lax.conv_general_dilated(x, kernel, strides, padding, **kwargs)


def by_blocks(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k k c o"], padding: Any, sides: Sequence[int], **kwargs: Any
) -> Float[Array, "b h2 w2 o"]:
    """A convolution of stride 2 with outputs of these `sides`, as one of stride 1 over blocks of 2 x 2 pixels.

    The kernel gets zeros to even sides, and blocks and kernel get channels of zeros to `_CHANNELS`.
    """
    blocks = [-(-k // 2) for k in kernel.shape[:2]]  # the kernel's sides
    of_image = [side + block - 1 for side, block in zip(sides, blocks, strict=True)]
    pads = [
        (low, 2 * count - size - low) for (low, _), count, size in zip(padding, of_image, x.shape[1:3], strict=True)
    ]
    x = _blocks(lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *((*p, 0) for p in pads), (0, 0, 0))))
    even = [(0, 2 * block - k) for block, k in zip(blocks, kernel.shape[:2], strict=True)]
    kernel = _blocks(jnp.moveaxis(jnp.pad(kernel, (*even, (0, 0), (0, 0))), -1, 0))
    x, kernel = (jnp.pad(a, ((0, 0), (0, 0), (0, 0), (0, _CHANNELS - a.shape[-1]))) for a in (x, kernel))
    return lax.conv_general_dilated(x, jnp.moveaxis(kernel, 0, -1), (1, 1), "VALID", **kwargs)


def _blocks(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c4"]:
    """The pixels of each block of 2 x 2 as channels of one."""
    count, height, width, channels = x.shape
    x = x.reshape(count, height // 2, 2, width // 2, 2, channels)
    return jnp.moveaxis(x, 2, 3).reshape(count, height // 2, width // 2, 4 * channels)


def _as_product(x, kernel, strides, padding, sides):
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    copies = [
        x[:, i : i + (sides[0] - 1) * strides[0] + 1 : strides[0], j : j + (sides[1] - 1) * strides[1] + 1 : strides[1]]
        for i in range(kernel.shape[0])
        for j in range(kernel.shape[1])
    ]
    return jnp.concatenate(copies, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])
