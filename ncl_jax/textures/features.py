"""What a 5x5 neighbourhood looks like, in few numbers: a fixed linear basis, and maps of it over an exemplar.

The basis is that of photographs, whose colour and place vary independently of each other: each filter sees one of three
components of the colour (`COMPONENTS`), so images are taken apart into these once, and a filter has 25 taps, not 75.
Everything here that depends on sizes alone is computed with numpy while tracing.

Layout "quad": a grid of even sides as its four parity planes, `q[a, b, i, j] = grid[2 i + a, 2 j + b]`. A 5x5 filter
over the grid is then a 3x3 filter over cells of 4 pixels, in which convolutions and in-place updates are contiguous.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32

from ncl_jax.textures import parity

# Covariance of the colour channels of photographs; its eigenvectors as columns, that of the greatest variance (all of
# the brightness, 94 %) first: RGB @ COMPONENTS.
_COLOUR = 0.06 * np.array([[1.0, 0.93, 0.85], [0.93, 1.0, 0.95], [0.85, 0.95, 1.0]])
_VARIANCES, COMPONENTS = (x[..., ::-1].astype(np.float32) for x in np.linalg.eigh(_COLOUR))
_TAPS = np.arange(-2, 3)


@functools.lru_cache
def basis(features: int, sigma: float) -> tuple[np.ndarray, ...]:
    """For each colour component the filters `[5, 5, n]`, `features` of them in all, whose responses differ by about a
    Gaussian-weighted colour difference.

    Top eigenvectors of `W^.5 (0.97^distance x colour) W^.5`: the principal components of a photograph's windows under
    the weight `W`, a normalised Gaussian of the given `sigma` in pixels; each is a product of one over place and one
    over colour. The squared distance of two responses is the weighted sum of squared differences of two windows, as far
    as the components carry it.
    """
    y, x = (axis.ravel() for axis in np.meshgrid(_TAPS, _TAPS, indexing="ij"))
    weight = np.exp(-(y**2 + x**2) / (2 * sigma**2))
    root = np.sqrt(weight / weight.sum())
    distance = np.hypot(y[:, None] - y[None, :], x[:, None] - x[None, :])
    variances, vectors = np.linalg.eigh(root[:, None] * 0.97**distance * root[None, :])
    variances, vectors = variances[::-1], vectors[:, ::-1]
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(0), np.arange(25)])[None, :]
    filters = (root[:, None] * vectors).reshape(5, 5, 25).astype(np.float32)
    chosen = np.argsort(-np.outer(_VARIANCES, variances).ravel(), kind="stable")[:features] // 25
    return tuple(filters[..., : np.sum(chosen == component)] for component in range(3))


@functools.lru_cache
def quad_basis(features: int, sigma: float) -> tuple[np.ndarray, ...]:
    """`basis` for each of the four parities as 3x3 filters over cells: `[2, 2, 3, 3, 4, n]` of each component."""
    quads = []
    for filters in basis(features, sigma):
        quad = np.zeros((2, 2, 3, 3, 2, 2, filters.shape[-1]), np.float32)
        for a in range(2):
            for b in range(2):
                for dy in _TAPS:
                    for dx in _TAPS:
                        (cell_y, plane_y), (cell_x, plane_x) = divmod(a + dy, 2), divmod(b + dx, 2)
                        quad[a, b, cell_y + 1, cell_x + 1, plane_y, plane_x] = filters[dy + 2, dx + 2]
        quads.append(quad.reshape(2, 2, 3, 3, 4, -1))
    return tuple(quads)


def reflect(index: np.ndarray, length: int) -> np.ndarray:
    """Positions outside `[0, length)` mirrored at the first and last sample, which are not repeated."""
    period = max(2 * (length - 1), 1)
    index = np.abs(index) % period
    return np.minimum(index, period - index) if length > 1 else np.zeros_like(index)


@functools.lru_cache
def sampling_matrix(length: int, positions: tuple[int, int, int], sigma: float) -> np.ndarray:
    """`[count, length]`: blurs a reflected signal by `sigma` and reads it at `range(*positions)`, also outside it."""
    where = np.arange(*positions)
    reach = int(np.ceil(3 * sigma))
    offsets = np.arange(-reach, reach + 1)
    weight = np.exp(-(offsets**2) / (2 * sigma**2)) if sigma else np.ones(1)
    weight = weight / weight.sum()
    matrix = np.zeros((len(where), length))
    sources = reflect(reflect(where, length)[:, None] + offsets[None, :], length)
    np.add.at(matrix, (np.arange(len(where))[:, None], sources), weight[None, :])
    return matrix.astype(np.float32)


def exemplar_maps(
    exemplars: Float[Array, "e h w 3"], *, spread: int, step: int, features: int, sigma: float, blur: float
) -> tuple[Float[Array, "e hq wq 3"], Int32[Array, "places d/4"], Float[Array, " d"]]:
    """Blurred colours and the packed features of the neighbourhoods of every `step`-th source position.

    Features stay in the order in which they are computed; `table_index` finds them.

    Args:
        exemplars: the colour in components (`COMPONENTS`).
        spread: distance of the neighbourhood's taps in pixels, a multiple of `step`.
        step: distance of the source positions in pixels; `hq = ceil(h / step)`.
        features, sigma: of the basis.
        blur: standard deviation in pixels; 0: none.
    """
    height, width = exemplars.shape[1:3]
    rate = spread // step  # of the dilated convolution on the grid of positions
    block = 2 * rate

    def side(length):
        count = -(-length // step)
        padded = -(-count // block) * block
        matrix = sampling_matrix(length, (-2 * spread, (padded + 2 * rate) * step, step), blur)
        return count, padded, matrix

    (rows, tall, vertical), (columns, wide, horizontal) = side(height), side(width)
    precision = jax.lax.Precision.HIGHEST
    if blur or step > 1:
        grid = jnp.einsum("ih,ehwc->eiwc", vertical, exemplars, precision=precision)
        grid = jnp.einsum("jw,eiwc->eijc", horizontal, grid, precision=precision)
    else:
        grid = exemplars[:, vertical.argmax(1)][:, :, horizontal.argmax(1)]
    colours = grid[:, 2 * rate : 2 * rate + rows, 2 * rate : 2 * rate + columns]

    # Split by phase of the dilation, each phase into cells, and convolve all of them at once.
    count, cells_y, cells_x = len(exemplars), tall // block, wide // block
    cells = grid.reshape(count, cells_y + 2, 2, rate, cells_x + 2, 2, rate, 3)
    cells = cells.transpose(7, 0, 3, 6, 1, 4, 2, 5).reshape(3, -1, cells_y + 2, cells_x + 2, 4)
    filters = [quad.transpose(2, 3, 4, 0, 1, 5) for quad in quad_basis(features, sigma)]
    maps = convolve(cells, [quad.reshape(3, 3, 4, 4 * quad.shape[-1]) for quad in filters])
    words, scale = pack(jnp.concatenate([part.reshape(-1, 4, part.shape[-1] // 4) for part in maps], axis=-1))
    return colours, words.reshape(-1, features // 4), scale


def table_index(
    exemplar: Int32[Array, "*n"],
    row: Int32[Array, "*n"],
    column: Int32[Array, "*n"],
    *,
    sides: tuple[int, int],
    rate: int,
) -> Int32[Array, "*n"]:
    """Where `exemplar_maps` puts the features of a source position, given by its number on the grid of positions.

    Args:
        sides: rows and columns of the grid.
        rate: `spread // step`, a power of two.
    """
    cells_y, cells_x = (-(-side // (2 * rate)) for side in sides)
    shift = rate.bit_length() - 1
    phase = ((exemplar << shift) + (row & (rate - 1))) * rate + (column & (rate - 1))
    row, column = row >> shift, column >> shift
    cell = (phase * cells_y + (row >> 1)) * cells_x + (column >> 1)
    return (cell << 2) + ((row & 1) << 1) + (column & 1)


def convolve(
    cells: Float[Array, "3 n i j 4"], filters: Sequence[Array | np.ndarray]
) -> list[Float[Array, "n i-2 j-2 _"]]:
    """Valid 3x3 convolutions of each colour component with its filters `[3 3 4 d]`; of one without filters, none."""
    pairs = zip(_columns(cells), filters, strict=True)
    return [_convolve(part, jnp.asarray(of_it)) for part, of_it in pairs if of_it.shape[-1]]


def _convolve(part: Float[Array, "n i j-2 12"], filters: Float[Array, "3 3 4 d"]) -> Float[Array, "n i-2 j-2 d"]:
    """As a matrix product, of `_columns`: XLA runs convolutions inside of loops on one core of a CPU."""
    windows = jnp.concatenate([part[:, y : y + part.shape[1] - 2] for y in range(3)], axis=-1)
    return jnp.matmul(windows, filters.reshape(36, -1), precision=jax.lax.Precision.HIGHEST)


def _columns(cells: Float[Array, "3 n i j 4"]) -> Float[Array, "3 n i j-2 12"]:
    """Every three neighbouring columns side by side. (Rows later: nine pieces at once take XLA twice as long.)"""
    return jnp.concatenate([cells[:, :, :, x : x + cells.shape[3] - 2] for x in range(3)], axis=-1)


def respond(beside: parity.Beside, features: int, sigma: float) -> list[Float[Array, "n i j"]]:
    """The filters' responses at the pixels of one parity, in the order of `convolve`'s; for GPUs.

    A plane each, and sums of the 25 planes under the taps: as products or in one array they would not be made, with
    what is done to each of them next, by a single kernel that reads the planes once.

    Args:
        beside: gives the colour components `[3 n i j]` of the pixels so many rows and columns away.
    """
    taps = [beside(int(y), int(x)) for y in _TAPS for x in _TAPS]
    responses = []
    for component, filters in enumerate(basis(features, sigma)):
        under = [tap[component] for tap in taps]
        for weights in filters.reshape(25, -1).T:
            responses.append(sum(float(w) * tap for w, tap in zip(weights, under, strict=True)))
    return responses


def pack(maps: Float[Array, "p q d"]) -> tuple[Int32[Array, "p q d/4"], Float[Array, " d"]]:
    """Features in steps of a 127th of each one's range, four to a word: few reads where single words are gathered.

    Byte k of the words holds the k-th quarter of the features. Returns the words and the features' steps.
    """
    scale = jnp.maximum(jnp.max(jnp.abs(maps), axis=(0, 1)), 1e-6) * (1 / 127)
    numbers = jnp.round(maps * (1 / scale)[None, None, :]).astype(jnp.int32)
    quarter = maps.shape[-1] // 4
    parts = [(numbers[..., k * quarter : (k + 1) * quarter] & 0xFF) << (8 * k) for k in range(4)]
    return parts[0] | parts[1] | parts[2] | parts[3], scale


def unpack(words: Int32[Array, "*n"]) -> list[Float[Array, "*n"]]:
    """The four numbers of each word, in steps."""
    return [((words << (24 - 8 * byte)) >> 24).astype(jnp.float32) for byte in range(4)]
