"""The algorithm by which the paper made ImageNet-Texture, for building datasets: slow, and as it was.

Multi-resolution stochastic synthesis over a Gaussian stack: pixels are resolved one after another in random order, each
from what continues one of its 50 nearest resolved pixels or from one of 50 random places, whichever agrees best with
those 50 pixels (outside of an exemplar all is black). Six stages; each resolves all resolved pixels again and then
doubles their number.

Here one random order serves all images, so that the neighbours are tables known before the run, and pixels are resolved
in groups that do not see each other's changes: at most 1024 (and a 16th of the resolved ones) of those resolved again,
at most half the number of resolved ones of new ones.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32, Key

NEIGHBOURS = 50
CANDIDATES = 50  # random ones
SHRINKS = (16, 8, 4, 2, 1, 1)  # of the stages, at 224 px and more: exemplars are shrunk so and enlarged again
GROUP = 1024
_ORDER_SEED = 20211406


class Stage(NamedTuple):
    """Groups `g` of at most `n` pixels; the pixel `size * size` stands for none.

    `shift` is where a neighbour lies, seen from the pixel; `weight` is 0 for a neighbour that is none.
    """

    pixels: np.ndarray  # int32 [g n]
    neighbours: np.ndarray  # int32 [g n 50]
    shift: np.ndarray  # int16 [g n 50 2]
    weight: np.ndarray  # float32 [g n 50]


@functools.lru_cache(maxsize=4)
def tables(size: int) -> tuple[Stage, ...]:
    """The order of resolution and everyone's neighbours; about 40 MB at 224 px."""
    from scipy.spatial import KDTree

    total = size * size
    order = np.random.default_rng(_ORDER_SEED).permutation(total)
    places = np.stack(np.divmod(order, size), -1)
    stages, resolved = [], 0
    for number in range(len(SHRINKS)):
        goal = max(1, round(total * 0.5 ** (len(SHRINKS) - 1 - number)))
        length = max(1, min(GROUP, resolved // 16)) if resolved else min(GROUP, max(1, goal // 8))
        groups = [(np.arange(start, min(start + length, resolved)), resolved) for start in range(0, resolved, length)]
        while resolved < goal:
            new = min(max(1, resolved // 2), goal - resolved)
            groups += [
                (np.arange(start, min(start + length, resolved + new)), resolved)
                for start in range(resolved, resolved + new, length)
            ]
            resolved += new
        stages.append(_stage(groups, length, order, places, total, KDTree))
    return tuple(stages)


def _stage(groups, length, order, places, total, tree_of):
    shape = (len(groups), length)
    pixels = np.full(shape, total, np.int32)
    neighbours = np.full((*shape, NEIGHBOURS), total, np.int32)
    shift = np.zeros((*shape, NEIGHBOURS, 2), np.int16)
    weight = np.zeros((*shape, NEIGHBOURS), np.float32)
    tree, known = None, -1
    for number, (members, resolved) in enumerate(groups):
        pixels[number, : len(members)] = order[members]
        count = min(NEIGHBOURS, resolved)
        if not count:
            continue
        if known != resolved:
            tree, known = tree_of(places[:resolved]), resolved
        assert tree is not None
        # One that is resolved again is its own nearest neighbour, as in the tool: its colour and source count.
        found = tree.query(places[members], k=np.arange(1, count + 1))[1]
        step = places[found] - places[members][:, None]
        squared = (step**2).sum(-1)
        row = (number, slice(len(members)))
        neighbours[*row, :count] = order[found]
        shift[*row, :count] = step
        weight[*row, :count] = np.exp(-squared / np.maximum(squared.mean(1, keepdims=True), 1e-9))
    return Stage(pixels, neighbours, shift, weight)


def resampling(length: int, new: int) -> Float[np.ndarray, "new length"]:
    """`[new, length]`: resizes with a Gaussian of half a pixel of the coarser of the two, cut off at three pixels."""
    scale = max(length / new, 1.0)
    centre = (np.arange(new)[:, None] + 0.5) * (length / new)
    distance = (np.arange(length)[None, :] + 0.5 - centre) / scale
    weight = np.exp(-2 * distance**2) * (np.abs(distance) <= 3)
    return weight / weight.sum(1, keepdims=True)


def blurred(exemplars: Float[Array, "e h w 3"], shrink: float) -> Int32[Array, " places"]:
    """The exemplars shrunk and enlarged again, in steps of a 1023rd, three channels to a word."""
    if shrink > 1:
        small = [max(1, int(side / shrink)) for side in exemplars.shape[1:3]]
        sides = zip(exemplars.shape[1:3], small, strict=True)
        down, along = (jnp.asarray(resampling(new, old) @ resampling(old, new), jnp.float32) for old, new in sides)
        precision = jax.lax.Precision.HIGHEST
        exemplars = jnp.einsum("ih,ehwc->eiwc", down, exemplars, precision=precision)
        exemplars = jnp.einsum("jw,eiwc->eijc", along, exemplars, precision=precision)
    steps = jnp.round(jnp.clip(exemplars, 0, 1) * 1023).astype(jnp.int32)
    return (steps[..., 0] | (steps[..., 1] << 10) | (steps[..., 2] << 20)).reshape(-1)


def synthesize_one(
    key: Key[Array, ""], exemplars: Float[Array, "e h w 3"], stages: Sequence[Stage], size: int
) -> Int32[Array, "places 3"]:
    """Sources `[size * size, 3]` (exemplar, row, column) of one image."""
    count, height, width = exemplars.shape[:3]
    sides = jnp.array([height, width], jnp.int32)
    sources = jnp.zeros((size * size + 1, 3), jnp.int32)
    for number, (stage, shrink) in enumerate(zip(stages, SHRINKS, strict=True)):
        words = blurred(exemplars.astype(jnp.float32), shrink * min(1.0, size / 224))
        stage_key = jax.random.fold_in(key, number)

        def resolve(g, sources, stage=stage, words=words, stage_key=stage_key):
            pixels, near, shift, weight = (jnp.asarray(table)[g] for table in stage)
            shift = shift.astype(jnp.int32)
            exemplar, *there = jnp.moveaxis(sources[near], -1, 0)
            colours = _channels(words[(exemplar * height + there[0]) * width + there[1]])
            draws = jax.random.uniform(jax.random.fold_in(stage_key, g), (3, len(pixels), CANDIDATES))
            anywhere = [
                jnp.minimum((d * n).astype(jnp.int32), n - 1)
                for d, n in zip(draws, (count, height, width), strict=True)
            ]
            row, column = there[0] - shift[..., 0], there[1] - shift[..., 1]
            inside = (weight > 0) & (row >= 0) & (row < sides[0]) & (column >= 0) & (column < sides[1])
            candidates = [jnp.concatenate(x, axis=1) for x in zip((exemplar, row, column), anywhere, strict=True)]
            # The tool compares random places with their neighbourhood mirrored at the pixel. Keeping that matters:
            # without it larger recognisable fragments survive.
            sign = jnp.where(jnp.arange(NEIGHBOURS + CANDIDATES) < NEIGHBOURS, 1, -1)[None, :]

            def compare(j, cost):
                step, colour = shift[:, j], [c[:, j] for c in colours]
                row, column = (candidates[1 + k] + sign * step[:, k, None] for k in (0, 1))
                within = (row >= 0) & (row < sides[0]) & (column >= 0) & (column < sides[1])
                found = words[jnp.clip((candidates[0] * height + row) * width + column, 0, len(words) - 1)]
                found = [jnp.where(within, c, 0.0) for c in _channels(found)]  # outside: black
                factor = 1.0
                for a, b in zip(found, colour, strict=True):
                    factor *= 1.0 + (a - b[:, None]) ** 2
                return cost + weight[:, j, None] * jnp.log(factor)

            cost = jax.lax.fori_loop(0, NEIGHBOURS, compare, jnp.zeros((len(pixels), NEIGHBOURS + CANDIDATES)))
            cost = jnp.where(jnp.pad(inside, ((0, 0), (0, CANDIDATES)), constant_values=True), cost, jnp.inf)
            best = cost.argmin(1)[:, None]
            chosen = jnp.concatenate([jnp.take_along_axis(c, best, axis=1) for c in candidates], axis=1)
            return sources.at[pixels].set(chosen)

        sources = jax.lax.fori_loop(0, len(stage.pixels), resolve, sources)
    return sources[:-1]


def _channels(words):
    return [((words >> (10 * k)) & 1023).astype(jnp.float32) * (1 / 1023) for k in range(3)]


@functools.partial(jax.jit, static_argnames="size")
def synthesize(
    keys: Key[Array, " b"], exemplars: Float[Array, "b e h w 3"], stages: Sequence[Stage], size: int
) -> tuple[Float[Array, "b size size 3"], Int32[Array, "b size size 3"]]:
    """Images and sources, as `synthesis.synthesize` gives them; `stages` are the tables of `size`."""

    def one(key, exemplars):
        sources = synthesize_one(key, exemplars, stages, size).reshape(size, size, 3)
        return exemplars[sources[..., 0], sources[..., 1], sources[..., 2]], sources

    chunk = 1 if jax.default_backend() == "cpu" else len(keys)
    return jax.lax.map(lambda x: one(*x), (keys, exemplars), batch_size=chunk)
