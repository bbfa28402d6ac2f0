"""Stylized images without a network: the content's forms laid in patches of a style image.

Style transfer by texture synthesis (Elad and Milanfar, "Style Transfer via Texture Synthesis", 2017), made for batches:
from coarse to fine every patch is replaced by the most similar one of the style, overlapping patches are averaged
robustly, some of the content is mixed back in, and the colours are made the style's. Nothing is learnt.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

SMALLEST = 32  # pixels
LEVELS = 3  # at most; each of half the resolution of the next, none below SMALLEST
ROUNDS = 3  # per level: look for the patches, average them, mix the content in
CONTENT = 0.4  # share of the content in that mixture
_LOOKED_AT = 4096  # patches of a style image, evenly spaced; up to 2.2 times as many, as they lie whole pixels apart
_AT_ONCE = 8  # images whose tables of distances exist at the same time


@jax.jit
def stylize(content: UInt8[Array, "b s s 3"], style: UInt8[Array, "b s s 3"]) -> UInt8[Array, "b s s 3"]:
    """Each content image in the colours and patches of its style image.

    Deterministic, and no image depends on another. uint8 RGB of one side s, at least SMALLEST.
    """

    def one(pair):
        content, style = (image.astype(jnp.float32) / 255 for image in pair)
        return jnp.round(255 * jnp.clip(_stylize(content, style), 0, 1)).astype(jnp.uint8)

    return jax.lax.map(one, (content, style), batch_size=_AT_ONCE)


def _stylize(content: Float[Array, "s s 3"], style: Float[Array, "s s 3"]) -> Float[Array, "s s 3"]:
    size = content.shape[0]
    patch = 8 if size >= 128 else 4
    content = recolour(content, style)
    result = None
    for level in reversed(range(LEVELS)):
        side = -(-(size >> level) // patch) * patch
        if level and side < SMALLEST:
            continue
        shown, model = _resized(content, side), _resized(style, side)

        def improve(_, result, shown=shown, model=model):
            return _repatched(recolour((1 - CONTENT) * result + CONTENT * shown, model), model, patch)

        start = shown if result is None else _resized(result, side)
        result = jax.lax.fori_loop(0, ROUNDS, improve, start)
    assert result is not None
    return _resized(result, size)


def recolour(image: Float[Array, "h w 3"], model: Float[Array, "y x 3"]) -> Float[Array, "h w 3"]:
    """`image` with the mean and covariance of `model`'s colours: the linear map that moves them least
    (Pitié and Kokaram, "The linear Monge-Kantorovitch linear colour mapping", 2007)."""

    def moments(picture):
        colours = picture.reshape(-1, 3)
        mean = jnp.mean(colours, axis=0)
        apart = colours - mean[None]
        covariance = jnp.matmul(apart.T, apart, precision="highest") / len(colours)
        return mean, covariance + 1e-5 * jnp.eye(3)

    def root(matrix, power):
        values, vectors = jnp.linalg.eigh(matrix)
        scaled = vectors * jnp.maximum(values, 1e-6)[None] ** power
        return jnp.matmul(scaled, vectors.T, precision="highest")

    (mean, ours), (goal, theirs) = moments(image), moments(model)
    half, back = root(ours, 0.5), root(ours, -0.5)
    change = back @ root(half @ theirs @ half, 0.5) @ back
    return (image - mean[None, None]) @ change + goal[None, None]


def _resized(image: Float[Array, "h w 3"], side: int) -> Float[Array, "s s 3"]:
    return image if image.shape[0] == side else jax.image.resize(image, (side, side, 3), "linear", antialias=True)


def _patches(image: Float[Array, "h w 3"], step: int, patch: int) -> Float[Array, "n p"]:
    """The square patches every `step` pixels, each as one row."""
    corners = np.arange(0, image.shape[0] - patch + 1, step)
    inside = corners[:, None] + np.arange(patch)
    return image[inside][:, :, inside].transpose(0, 2, 1, 3, 4).reshape(len(corners) ** 2, -1)


def _repatched(image: Float[Array, "s s 3"], style: Float[Array, "s s 3"], patch: int) -> Float[Array, "s s 3"]:
    """`image` made of patches of `style` alone; each pixel is the mean of the four patches over it, weighed by how
    alike they are to what they stand for (the paper's robust aggregation, of the L0.8 norm)."""
    side, half = image.shape[0], patch // 2
    known = _patches(style, max(1, round((side - patch) / (_LOOKED_AT**0.5 - 1))), patch)
    asked = _patches(image, half, patch)
    distance = jnp.sum(jnp.square(known), axis=1)[None] - 2 * jnp.matmul(asked, known.T, precision="high")
    found = known[jnp.argmin(distance, axis=1)]
    weight = (jnp.mean(jnp.square(found - asked), axis=1) + 1e-3) ** -0.6

    # Patches lie half over each other: each is cut into quarters, which then lie on one grid.
    count = side // half - 1
    weighed = jnp.concatenate([found.reshape(-1, patch, patch, 3), jnp.ones((len(found), patch, patch, 1))], axis=-1)
    fade = np.sin(np.pi * (np.arange(patch) + 0.5) / patch).astype(np.float32) ** 2  # no seams
    weighed *= weight[:, None, None, None] * (fade[:, None] * fade[None, :])[None, :, :, None]
    weighed = weighed.reshape(count, count, 2, half, 2, half, 4)
    total = jnp.zeros((count + 1, count + 1, half, half, 4))
    for down in (0, 1):
        for right in (0, 1):
            total = total.at[down : down + count, right : right + count].add(weighed[:, :, down, :, right])
    total = total.transpose(0, 2, 1, 3, 4).reshape(side, side, 4)
    return total[..., :3] / total[..., 3:]
