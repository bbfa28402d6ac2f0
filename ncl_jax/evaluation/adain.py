"""Stylized images by adaptive instance normalisation (Huang and Belongie 2017), with the published network's weights.

VGG-19 up to relu4_1 encodes content and style; the content's features get the mean and deviation of the style's,
channel by channel; a decoder makes an image of them. The weights are not shipped: they are read from two PyTorch files
with the keys of AdaIN's usual port (`vgg_normalised.pth` and `decoder.pth`: `nn.Sequential` of the layers below).
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ncl_jax.convert import files
from ncl_jax.errors import UserError

# Places of the convolutions, and what comes between. All are 3x3 behind a mirrored border and before a ReLU, but for
# VGG's first (1x1, no ReLU) and the decoder's last (no ReLU).
_ENCODER = (0, 2, 5, "pool", 9, 12, "pool", 16, 19, 22, 25, "pool", 29)
_DECODER = (1, "double", 5, 8, 11, 14, "double", 18, 21, "double", 25, 28)
_CHANNELS = {
    "encoder": (3, 64, 64, 128, 128, 256, 256, 256, 256, 512),
    "decoder": (256, 256, 256, 256, 128, 128, 64, 64, 3),
}

Weights = dict[str, list[dict[str, np.ndarray]]]


def load(vgg: str, decoder: str) -> Weights:
    """The weights of both files: kernels `[h w in out]` and biases of the convolutions in order. Raises UserError."""
    return {
        "encoder": _convolutions(vgg, [p for p in _ENCODER if isinstance(p, int)], _CHANNELS["encoder"]),
        "decoder": _convolutions(decoder, [p for p in _DECODER if isinstance(p, int)], _CHANNELS["decoder"]),
    }


def _convolutions(file: str, places: list[int], channels: tuple[int, ...]) -> list[dict[str, np.ndarray]]:
    found: Mapping[str, Any] = files.read(file)
    result = []
    for place, out in zip(places, channels, strict=True):
        kernel, bias = (np.asarray(found.get(f"{place}.{name}", ()), np.float32) for name in ("weight", "bias"))
        if kernel.ndim != 4 or len(kernel) != out or bias.shape != (out,):
            raise UserError(
                f"{file}: no weights of AdaIN: {place}.weight has shape {list(kernel.shape)}, want {out} filters"
            )
        result.append({"kernel": kernel.transpose(2, 3, 1, 0), "bias": bias})
    return result


def stylize(
    weights: Weights, content: Float[Array, "b s s 3"], style: Float[Array, "b s s 3"]
) -> Float[Array, "b s s 3"]:
    """Each content image in the style of its style image. RGB in [0, 1]; the side is a multiple of 8."""
    content, style = (_run(_ENCODER, weights["encoder"], x, plain_first=True) for x in (content, style))
    (mean, deviation), (goal, wanted) = _moments(content), _moments(style)
    mixed = (content - mean) / deviation * wanted + goal
    return jnp.clip(_run(_DECODER, weights["decoder"], mixed, plain_last=True), 0, 1)


def _moments(x: Float[Array, "b h w c"]) -> tuple[Float[Array, "b 1 1 c"], Float[Array, "b 1 1 c"]]:
    """Mean and deviation (unbiased) over the places of each image."""
    return jnp.mean(x, (1, 2), keepdims=True), jnp.sqrt(jnp.var(x, (1, 2), ddof=1, keepdims=True) + 1e-5)


def _run(
    plan: tuple[int | str, ...],
    weights: list[dict[str, np.ndarray]],
    x: Float[Array, "b h w c"],
    *,
    plain_first: bool = False,
    plain_last: bool = False,
) -> Float[Array, "b y x d"]:
    layers = iter(enumerate(weights))
    for step in plan:
        if step == "pool":
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "SAME")
            continue
        if step == "double":
            x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
            continue
        index, layer = next(layers)
        border = layer["kernel"].shape[0] // 2
        x = jnp.pad(x, ((0, 0), (border, border), (border, border), (0, 0)), mode="reflect")
        x = jax.lax.conv_general_dilated(
            x, jnp.asarray(layer["kernel"]), (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = x + layer["bias"][None, None, None]
        plain = (plain_first and index == 0) or (plain_last and index == len(weights) - 1)
        x = x if plain else jax.nn.relu(x)
    return x
