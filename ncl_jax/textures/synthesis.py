"""Texture synthesis from exemplars, fast enough for a train step: parallel coherent synthesis in pure JAX.

Order-independent multi-resolution synthesis after Lefebvre and Hoppe ("Parallel Controllable Texture Synthesis",
2005) with the candidates of the tool by which the paper made ImageNet-Texture: where a neighbour continues, and random
places. Sources are positions in the exemplars; an output pixel is its source pixel, never a mixture.
"""

import functools
import math
from typing import Literal, overload

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from ncl_jax.errors import UserError
from ncl_jax.textures import faithful, features, parity, positions, usage
from ncl_jax.textures.levels import QUALITIES, plan


@overload
def synthesize(
    key: Key[Array, "..."],
    exemplars: Float[Array, "b e h w c"],
    *,
    size: int = ...,
    quality: str = ...,
    return_sources: Literal[False] = ...,
) -> Float[Array, "b size size c"]: ...


@overload
def synthesize(
    key: Key[Array, "..."],
    exemplars: Float[Array, "b e h w c"],
    *,
    size: int = ...,
    quality: str = ...,
    return_sources: Literal[True],
) -> tuple[Float[Array, "b size size c"], Int[Array, "b size size 3"]]: ...


def synthesize(
    key: Key[Array, "*keys"],
    exemplars: Float[Array, "b e h w c"],
    *,
    size: int = 224,
    quality: str = "standard",
    return_sources: bool = False,
) -> Float[Array, "b size size c"] | tuple[Float[Array, "b size size c"], Int[Array, "b size size 3"]]:
    """A texture per image that looks like its exemplars everywhere, of pixels of theirs.

    Args:
        key: a typed PRNG key, of which image i uses `fold_in(key, i)`; or a key per image `[b]`, used as it is.
        exemplars: RGB in [0, 1], of any floating dtype. Convert uint8 first (divide by 255). Sides from 4 to 4096 px;
            at 224 px of output the paper has e = 2 and sides of 96 px.
        size: side of the output in pixels, at least 4.
        quality: "standard", "fast", "draft", or "faithful" (the reference's own algorithm, hundreds of times
            slower, for building datasets).
        return_sources: also return where each pixel comes from: (exemplar, row, column).

    Returns:
        Images in the exemplars' dtype; every pixel equals its source pixel exactly. Equal keys give equal images; in
        batches of another size all but about one in 300 small ones, where two places fit alike to the last bit.

    Raises:
        UserError: integer exemplars, another rank or channel count, sizes out of range, an unknown quality, a key that
            is not typed.
    """
    check(exemplars, size, quality)
    if not isinstance(key, jax.Array) or not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        got = f"{key.dtype} {key.shape}" if isinstance(key, jax.Array) else type(key).__name__
        raise UserError(f"synthesize: key of {got}, want a typed key: jax.random.key(seed)")
    keys = key
    if key.ndim == 0:
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(len(exemplars)))
    if keys.shape != exemplars.shape[:1]:
        raise UserError(f"synthesize: key of shape {key.shape}, want one key or one per image {exemplars.shape[:1]}")
    exemplars = jnp.asarray(exemplars)
    with jax.enable_x64(False):  # positions are 32-bit words; and textures are the same in either mode
        if quality == "faithful":
            images, sources = faithful.synthesize(keys, exemplars, faithful.tables(size), size)
        else:
            images, sources = _synthesize(keys, exemplars, size, quality)
    return (images, sources) if return_sources else images


def check(exemplars: Array, size: int, quality: str) -> None:
    """Raise UserError where `synthesize` cannot serve these arguments."""
    if not isinstance(exemplars, jax.Array | np.ndarray):
        raise UserError(f"synthesize: want exemplars as an array [b e h w 3], got {type(exemplars).__name__}")
    if exemplars.ndim != 5 or exemplars.shape[-1] != 3 or 0 in exemplars.shape:
        raise UserError(f"synthesize: want exemplars [b e h w 3], got {tuple(exemplars.shape)}")
    if not jnp.issubdtype(exemplars.dtype, jnp.floating):
        raise UserError(f"synthesize: want float exemplars in [0, 1], got {exemplars.dtype}; divide uint8 by 255")
    if (
        not 4 <= min(exemplars.shape[2:4]) <= max(exemplars.shape[2:4]) <= positions.FIELD + 1
        or exemplars.shape[1] > 127
    ):
        raise UserError(f"synthesize: want at most 127 exemplars of sides 4 to 4096, got {tuple(exemplars.shape)}")
    if not isinstance(size, (int, np.integer)) or size < 4:
        raise UserError(f"synthesize: size = {size!r}, want a whole number of pixels, at least 4")
    if quality not in (*QUALITIES, "faithful"):
        raise UserError(f"synthesize: quality = {quality!r}; one of {', '.join(QUALITIES)}, faithful")


@functools.partial(jax.jit, static_argnames=("size", "quality"))
def _synthesize(keys, exemplars, size, quality):
    """Levels from coarse to fine. All sources are packed words."""
    settings = QUALITIES[quality]
    count, sides = exemplars.shape[1], exemplars.shape[2:4]
    seeds = jax.vmap(lambda k: jax.random.bits(k, (2,), jnp.uint32))(keys)
    source, exemplars = exemplars, exemplars.astype(jnp.float32)
    exemplars = exemplars - jnp.mean(exemplars, axis=(1, 2, 3), keepdims=True)  # keeps small what is rounded
    exemplars = jnp.matmul(exemplars, features.COMPONENTS, precision="highest")
    variance = jnp.sum(jnp.var(exemplars, axis=(1, 2, 3)), axis=-1)
    grid = None
    for number, level in enumerate(plan(settings, size, sides)):
        half = math.ceil(size / (2 * level.spacing))
        space = positions.Space(
            count, -(-sides[0] // level.step), -(-sides[1] // level.step), level.step, level.spacing
        )
        if grid is None:
            quad = space.random(positions.noise(seeds, (2, 2, half, half), number, 0))
        else:
            corners = [(a * level.spacing, b * level.spacing) for a in (0, 1) for b in (0, 1)]
            quad = jnp.stack([space.mirrored(grid, *corner)[:, :half, :half] for corner in corners], axis=1)
            quad = quad.reshape(-1, 2, 2, half, half)
        if level.passes:
            refine = functools.partial(_refine, settings, level, space, number)
            quad = _in_chunks(refine, max(1, 2**15 // half**2), seeds, quad, variance, exemplars)
        grid = quad.transpose(0, 3, 1, 4, 2).reshape(-1, 2 * half, 2 * half)
    assert grid is not None
    grid = grid[:, :size, :size]
    sources = jnp.stack(
        [grid >> positions.EXEMPLAR, (grid >> positions.ROW) & positions.FIELD, grid & positions.FIELD], axis=-1
    )
    index = (sources[..., 0] * sides[0] + sources[..., 1]) * sides[1] + sources[..., 2]
    return positions.take(source.reshape(len(source), -1, 3), index), sources


def _in_chunks(function, most, *arrays):
    """`function` of at most `most` images at a time where that keeps them in a processor's cache; of all elsewhere."""
    batch = len(arrays[0])
    if jax.default_backend() != "cpu" or batch <= most:
        return function(*arrays)
    chunk = max(n for n in range(1, most + 1) if batch % n == 0)
    split = [x.reshape(batch // chunk, chunk, *x.shape[1:]) for x in arrays]
    result = jax.lax.map(lambda x: function(*x), split)
    return jax.tree.map(lambda x: x.reshape(batch, *x.shape[2:]), result)


def _maps(settings, level, exemplars):
    """Per image the colours of the source positions, their packed features, and the features' steps."""

    def one(image):
        colours, words, steps = features.exemplar_maps(
            image,
            spread=level.spacing,
            step=level.step,
            features=level.features,
            sigma=settings.sigma,
            blur=0.6 * level.spacing if level.spacing > 1 else 0.0,
        )
        return colours.reshape(-1, 3), words, steps

    return jax.vmap(one)(exemplars)


def _refine(settings, level, space, number, seeds, quad, variance, exemplars):
    """The passes of a level: each pixel of a parity takes the best candidate, all at once."""
    batch, half = len(quad), quad.shape[-1]
    colours, words, steps = _maps(settings, level, exemplars)
    filters = [jnp.asarray(quad) for quad in features.quad_basis(level.features, settings.sigma)]
    priced = level.crowding > 0 or level.tone > 0
    neighbours = usage.colour_neighbours(exemplars, space) if level.tone else None
    around = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if level.wide or y == 0 or x == 0]
    around.sort(key=lambda offset: abs(offset[0]) + abs(offset[1]))  # a tie keeps the pixel as it is
    tried = around + [(0, 0)] * level.random  # by candidate
    offsets = jnp.asarray([*tried, (0, 0)], jnp.int32)  # one more: `one_by_one` prepares what comes next
    at_once = jax.default_backend() == "gpu"
    axis = 0 if at_once else 4  # of a cell's pixels: planes, or side by side for products of windows

    def one_pass(number_of_pass, carry):
        prices = None
        if priced:
            prices = usage.prices(carry[0], space, crowding=level.crowding, tone=level.tone, neighbours=neighbours)
            prices *= jnp.where(number_of_pass < level.priced, variance[:, None], 0.0)
        # Of a known length: else a GPU asks the host at every turn whether there is another.
        return jax.lax.fori_loop(0, 4, lambda t, carry: turn(prices, 4 * number_of_pass + t, carry), carry)

    def turn(prices, t, carry):
        quad, cells = carry
        (a, b), (last_a, last_b) = parity.at(t), parity.at(t - 1)
        changed = jax.lax.dynamic_slice(quad, (0, last_a, last_b, 0, 0), (batch, 1, 1, half, half))[:, 0, 0]
        changed = jnp.expand_dims(jnp.moveaxis(positions.take(colours, space.index(changed)), -1, 0), axis)
        cells = jax.lax.dynamic_update_slice_in_dim(cells, changed, 2 * last_a + last_b, axis)
        padded = jnp.pad(quad, ((0, 0), (0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-1)

        def settle(c, neighbour, offset):
            """What continues the neighbour, else (also for c from `len(around)` on) a random place."""
            moved = space.shifted(neighbour, -offset[0] * level.spacing, -offset[1] * level.spacing)
            anywhere = space.random(positions.noise(seeds, (half, half), number, (t + 1) * 16 + c))
            return jnp.where((moved < 0) | (c >= len(around)), anywhere, moved)

        def found(position):
            """Where a candidate's features are and, at levels that mind usage, its region's price."""
            place = space.features(position)
            if not priced:
                return (place,)
            row, column = space.region(position)
            return place, positions.take(prices, row * space.bins + column)

        def code(c, wanted, place, price=None):
            """Distance and candidate in one word, so that the least of them names the candidate."""
            distance = jnp.zeros(place.shape)
            numbers = features.unpack(positions.take(words, place))
            for j in range(level.features):
                byte, word = divmod(j, words.shape[-1])
                its = numbers[byte][..., word]
                distance += ((its - wanted[j]) * steps[:, j, None, None]) ** 2
            distance *= jnp.where(c < len(around), 1.0, (1 + settings.reluctance) ** 2)
            if price is not None:
                distance += price
            return (jax.lax.bitcast_convert_type(distance, jnp.int32) & ~15) | c

        def one_by_one():
            """The best candidates; only the best so far is kept, which is what a CPU's cache holds."""
            framed = jnp.pad(cells, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
            wanted = jnp.concatenate(features.convolve(framed, [quad[a, b] for quad in filters]), axis=-1)
            wanted = jnp.moveaxis(wanted / steps[:, None, None, :], -1, 0)

            def candidate(c):
                row, column = a + offsets[c, 0], b + offsets[c, 1]
                place = (0, row & 1, column & 1, 1 + (row >> 1), 1 + (column >> 1))
                neighbour = jax.lax.dynamic_slice(padded, place, (batch, 1, 1, half, half))[:, 0, 0]
                return found(settle(c, neighbour, offsets[c]))

            def compare(c, carry):
                # The next candidate is prepared beside: what a loop hands on is computed once, what is used inside is
                # computed again by every fused reader.
                best, ready = carry
                return jnp.minimum(best, code(c, wanted, *ready)), candidate(c + 1)

            best = jnp.full((batch, half, half), np.iinfo(np.int32).max, jnp.int32)
            best = jax.lax.fori_loop(0, len(tried), compare, (best, candidate(0)))[0] & 15
            offset = (jnp.take(offsets[:, 0], best), jnp.take(offsets[:, 1], best))
            row, column = offset[0] + a, offset[1] + b
            here = jnp.arange(half)
            place = (((row & 1) * 2 + (column & 1)) * (half + 2) + (1 + here[None, :, None] + (row >> 1))) * (half + 2)
            neighbour = positions.take(padded.reshape(batch, -1), place + 1 + here[None, None, :] + (column >> 1))
            return settle(best, neighbour, offset)

        def all_at_once():
            """The same, in few kernels over all candidates, as a GPU has it fastest."""
            plane = functools.partial(jax.lax.dynamic_index_in_dim, keepdims=False)
            framed = jnp.pad(cells, ((0, 0), (0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
            colour = parity.beside(lambda p, q: plane(framed, 2 * p + q, 0), a, b)
            wanted = features.respond(colour, level.features, settings.sigma)
            wanted = [response / steps[:, j, None, None] for j, response in enumerate(wanted)]
            places = padded.reshape(batch, 4, half + 2, half + 2)
            neighbour = parity.beside(lambda p, q: plane(places, 2 * p + q, 1), a, b)

            def candidate(c, neighbour, offset):
                position = settle(c, neighbour, offset)
                return position, code(c, wanted, *found(position))

            around_each = jnp.stack([neighbour(*offset) for offset in tried])
            position, codes = jax.vmap(candidate)(jnp.arange(len(tried)), around_each, offsets[:-1])
            return jnp.take_along_axis(position, jnp.min(codes, axis=0, keepdims=True) & 15, axis=0, mode="clip")[0]

        chosen = all_at_once() if at_once else one_by_one()
        return jax.lax.dynamic_update_slice(quad, chosen[:, None, None], (0, a, b, 0, 0)), cells

    cells = positions.take(colours, space.index(quad)).reshape(batch, 4, half, half, 3)
    cells = jnp.moveaxis(jnp.moveaxis(cells, -1, 0), 2, axis)
    return jax.lax.fori_loop(0, level.passes, one_pass, (quad, cells))[0]
