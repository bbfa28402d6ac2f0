"""How good a texture is: does it look like its exemplars everywhere, all of them, without copying them?

All measures take images in [0, 1] and speak in grey levels / 255, i.e. differences of that range. They are numpy with
matrix products: about a second per texture. See `Quality` for what each says.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

Images = Float[np.ndarray, "h w 3"]
Exemplars = Float[np.ndarray, "e h w 3"]

BOUNDS = 2**25  # pairs of windows that are compared at a time


@dataclasses.dataclass(frozen=True)
class Quality:
    """The measures of one texture, or their means over several.

    Attributes:
        nn7: mean RMSE of 7x7 windows (smaller where an exemplar is) of the texture to their nearest exemplar window:
            what is made up.
        nn7_p95: its 95th percentile: seams. The mean alone cannot tell a jigsaw from a texture.
        cov7: the reverse, exemplar windows to the texture: what is left out.
        copy32: share of 32x32 windows with an exemplar window within 3/255 RMSE: what is recognisable.
        swd: sliced Wasserstein distance of the colours of texture and exemplars.
        island: side of the average contiguous piece of an exemplar in pixels; nan where sources are not known.
        plain: share of 16x16 windows that are plain areas (deviation below 2.5/255), less the exemplars' share.
            A texture has collapsed to a plain area where it is above 0.35.
    """

    nn7: float
    nn7_p95: float
    cov7: float
    copy32: float
    swd: float
    island: float
    plain: float

    @property
    def collapsed(self) -> bool:
        return self.plain > 0.35


def measure(texture: Images, exemplars: Exemplars, sources: Int[np.ndarray, "h w 3"] | None = None) -> Quality:
    """All measures of one texture. Windows are drawn with a fixed seed."""
    texture, exemplars = np.asarray(texture, np.float32), np.asarray(exemplars, np.float32)
    rng = np.random.default_rng(0)
    side = min(7, *texture.shape[:2], *exemplars.shape[1:3])  # exemplars of textures below 16 px are smaller
    nearest = window_distances(texture[None], exemplars, rng, side=side)
    return Quality(
        nn7=float(nearest.mean()),
        nn7_p95=float(np.percentile(nearest, 95)),
        cov7=float(window_distances(exemplars, texture[None], rng, side=side).mean()),
        copy32=copied_share(texture, exemplars),
        swd=sliced_wasserstein(texture, exemplars, rng),
        island=float("nan") if sources is None else island_side(sources),
        plain=plain_share(texture[None]) - plain_share(exemplars),
    )


def mean(qualities: Sequence[Quality]) -> Quality:
    """Every measure's mean."""
    return Quality(*np.mean([dataclasses.astuple(quality) for quality in qualities], axis=0).tolist())


def window_distances(
    images: Exemplars, others: Exemplars, rng: np.random.Generator, *, side: int = 7, count: int = 600
) -> Float[np.ndarray, " count"]:
    """RMSE of `count` random windows of `images` to the nearest of all windows of `others`."""
    found, known = windows(images, side), windows(others, side)
    found = found[rng.integers(0, len(found), count)]
    return nearest_rmse(found, known)


def windows(images: Exemplars, side: int, stride: int = 1) -> Float[np.ndarray, "n d"]:
    """All square windows, flat."""
    view = np.lib.stride_tricks.sliding_window_view(images, (side, side), axis=(1, 2))[:, ::stride, ::stride]
    return np.ascontiguousarray(view).reshape(-1, images.shape[-1] * side * side)


def nearest_rmse(found: Float[np.ndarray, "n d"], known: Float[np.ndarray, "m d"]) -> Float[np.ndarray, " n"]:
    """RMSE of each row to the nearest of `known`; exact for that one."""
    lengths = np.einsum("md,md->m", known, known)
    best = np.empty(len(found), np.int64)
    for start in range(0, len(found), 128):
        part = found[start : start + 128]
        best[start : start + 128] = (lengths[None, :] - 2.0 * (part @ known.T)).argmin(1)
    return np.sqrt(np.mean((found - known[best]) ** 2, axis=1))


def copied_share(texture: Images, exemplars: Exemplars, *, side: int = 32, tolerance: float = 3 / 255) -> float:
    """Share of windows (every 12th along each side) that an exemplar has, but for `tolerance` RMSE.

    Windows larger than an exemplar cannot be copied: 0.
    """
    if min(*exemplars.shape[1:3], *texture.shape[:2]) < side:
        return 0.0
    found = windows(texture[None], side, stride=12)

    # Means over 4x4 blocks never differ more (in RMSE) than the windows do: they tell where a copy may be.
    def blocks(images, stride):
        sums = np.pad(images, ((0, 0), (1, 0), (1, 0), (0, 0))).astype(np.float64).cumsum(1).cumsum(2)
        means = (sums[:, 4:, 4:] - sums[:, 4:, :-4] - sums[:, :-4, 4:] + sums[:, :-4, :-4]) / 16
        view = np.lib.stride_tricks.sliding_window_view(means, (side - 3, side - 3), axis=(1, 2))
        view = view[:, ::stride, ::stride, :, ::4, ::4]
        return np.ascontiguousarray(view, np.float32).reshape(-1, view[0, 0, 0].size)

    coarse, known = blocks(texture[None], 12), blocks(exemplars, 1)
    lengths = [np.einsum("nd,nd->n", x, x) for x in (coarse, known)]

    def likely():
        """Of each window: where a copy may be. Some windows at a time: all of large textures take gigabytes."""
        some = max(1, BOUNDS // len(known))
        for part in (slice(start, start + some) for start in range(0, len(coarse), some)):
            bound = (lengths[0][part, None] + lengths[1][None, :] - 2 * coarse[part] @ known.T) / known.shape[1]
            best = np.argpartition(bound, min(8, len(known) - 1), axis=1)[:, :8]  # a copy is the very best one
            yield from (places[row[places] < (1.2 * tolerance) ** 2] for row, places in zip(bound, best, strict=True))

    height, width = (length - side + 1 for length in exemplars.shape[1:3])
    copies = 0
    for window, places in zip(found, likely(), strict=True):
        for place in places:
            e, y, x = np.unravel_index(place, (len(exemplars), height, width))
            exact = exemplars[e, y : y + side, x : x + side].transpose(2, 0, 1).reshape(-1)
            if np.mean((window - exact) ** 2) <= tolerance**2:
                copies += 1
                break
    return copies / len(found)


def sliced_wasserstein(
    texture: Images, exemplars: Exemplars, rng: np.random.Generator, *, directions: int = 16
) -> float:
    """Mean over random directions in colour space of the Wasserstein-1 distance of the projected colours."""
    axes = rng.normal(size=(directions, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    levels = (np.arange(1024) + 0.5) / 1024
    one, other = (np.quantile(x.reshape(-1, 3) @ axes.T, levels, axis=0) for x in (texture, exemplars))
    return float(np.abs(one - other).mean())


def island_side(sources: Int[np.ndarray, "h w 3"]) -> float:
    """Square root of the area-weighted mean area of 4-connected regions that are one contiguous exemplar piece."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    sources = np.asarray(sources, np.int64)
    number = np.arange(sources.shape[0] * sources.shape[1]).reshape(sources.shape[:2])
    right = (sources[:, 1:] - sources[:, :-1] == np.array([0, 0, 1])).all(-1)
    down = (sources[1:] - sources[:-1] == np.array([0, 1, 0])).all(-1)
    here = np.concatenate([number[:, :-1][right], number[:-1][down]])
    there = np.concatenate([number[:, 1:][right], number[1:][down]])
    graph = coo_matrix((np.ones(len(here), bool), (here, there)), shape=(number.size, number.size))
    areas = np.bincount(connected_components(graph, directed=False)[1]).astype(np.float64)
    return float(np.sqrt((areas**2).sum() / areas.sum()))


def plain_share(images: Exemplars, *, side: int = 16, limit: float = 2.5 / 255) -> float:
    """Share of windows (side at most the image's) whose grey values deviate by less than `limit` from their mean."""
    side = min(side, *images.shape[1:3])
    grey = images.mean(-1, keepdims=True)
    return float((windows(grey, side, stride=4).std(1) < limit).mean())


def builtin_exemplars(side: int = 96) -> Float[np.ndarray, "4 2 side side 3"]:
    """Pairs of drawn patterns for where no photographs are: brick, grass, cloudy sky with a tower, pebbles."""
    patterns = (_brick, _grass, _sky, _pebbles)
    pairs = np.array([[draw(np.random.default_rng(seed), side) for seed in (0, 1)] for draw in patterns])
    return np.clip(pairs, 0, 1).astype(np.float32)


def _cloud(rng: np.random.Generator, side: int, smoothness: float) -> Float[np.ndarray, "side side"]:
    """Noise of mean 0 and deviation 1 whose spectrum falls as frequency^-smoothness."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None, :])
    frequency[0, 0] = np.inf
    noise = np.fft.ifft2(np.fft.fft2(rng.normal(size=(side, side))) * frequency**-smoothness).real
    return (noise - noise.mean()) / noise.std()


def _tinted(value: np.ndarray, dark: Sequence[float], light: Sequence[float]) -> np.ndarray:
    """Colours from `dark` at 0 to `light` at 1."""
    value = np.clip(value, 0, 1)[..., None]
    return np.asarray(dark) * (1 - value) + np.asarray(light) * value


def _brick(rng: np.random.Generator, side: int) -> np.ndarray:
    y, x = np.mgrid[:side, :side] + rng.integers(0, 40, 2)[:, None, None]
    row = y // 12
    mortar = (y % 12 < 2) | ((x + 11 * (row % 2)) % 22 < 2)
    value = 0.45 + 0.12 * _cloud(rng, side, 0.8) + 0.1 * np.sin(row * 5.0 + (x + 11 * (row % 2)) // 22 * 3.0)
    return np.where(mortar[..., None], 0.75, _tinted(value, (0.35, 0.12, 0.08), (0.8, 0.4, 0.28)))


def _grass(rng: np.random.Generator, side: int) -> np.ndarray:
    value = np.zeros((side, side))
    for _ in range(side * side // 12):
        y, x, angle = rng.integers(0, side), rng.integers(0, side), rng.normal(0, 0.5)
        reach = np.arange(rng.integers(4, 12))
        value[(y - reach) % side, (x + np.round(reach * np.sin(angle)).astype(int)) % side] = rng.uniform(0.1, 1)
    return _tinted(value, (0.05, 0.1, 0.02), (0.6, 0.8, 0.3))


def _sky(rng: np.random.Generator, side: int) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    sky = _tinted(0.35 + 0.15 * _cloud(rng, side, 2.0), (0.2, 0.3, 0.6), (0.9, 0.92, 0.98))
    tower = (np.abs(x - side * rng.uniform(0.3, 0.7)) < 9) & (y > side * rng.uniform(0.1, 0.5))
    wall = _tinted(0.4 + 0.2 * (y % 8 < 2) + 0.1 * _cloud(rng, side, 0.5), (0.3, 0.25, 0.2), (0.9, 0.85, 0.7))
    return np.where(tower[..., None], wall, sky)


def _pebbles(rng: np.random.Generator, side: int) -> np.ndarray:
    centres, tone = rng.uniform(-8, side + 8, (side * side // 90, 2)), rng.uniform(0.3, 1, side * side // 90)
    points = np.moveaxis(np.mgrid[:side, :side], 0, -1).reshape(-1, 1, 2)
    distance = np.linalg.norm(points - centres[None], axis=-1)
    order = np.sort(distance, axis=1)
    gap = np.clip((order[:, 1] - order[:, 0]) / 3, 0, 1)
    value = (gap * tone[distance.argmin(1)]).reshape(side, side) + 0.05 * _cloud(rng, side, 0.3)
    return _tinted(value, (0.08, 0.07, 0.06), (0.8, 0.77, 0.72))


def load_reference(path: str | Path) -> tuple[Float[np.ndarray, "n e h w 3"], Float[np.ndarray, "n s s 3"]]:
    """Exemplar pairs from photographs and the reference tool's textures of them, in [0, 1]."""
    with np.load(path) as file:
        return file["exemplars"].astype(np.float32) / 255, file["reference"].astype(np.float32) / 255


def report(
    exemplars: Float[np.ndarray, "n e h w 3"],
    reference: Float[np.ndarray, "n s s 3"] | None,
    synthesise: Mapping[str, Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]],
) -> list[dict[str, str | float]]:
    """A row of mean measures for the reference (where there is one) and for each way to make textures.

    Args:
        exemplars: in [0, 1].
        reference: textures of them by another tool, in [0, 1].
        synthesise: by name, from exemplars `[n e h w 3]` to textures `[m s s 3]` and sources `[m s s 3]`; where m is
            a multiple of n, all sets of exemplars once, then all of them again, and so on.

    Returns:
        Rows `{"textures": name, measures..., "collapsed": count, "of": m}`.
    """
    made = {name: tuple(np.asarray(x) for x in make(exemplars)) for name, make in synthesise.items()}
    shown = ({"reference": (reference, None)} if reference is not None else {}) | made
    rows = []
    for name, (textures, sources) in shown.items():
        measured = [
            measure(texture, exemplars[i % len(exemplars)], None if sources is None else sources[i])
            for i, texture in enumerate(textures)
        ]
        counts = {"collapsed": sum(q.collapsed for q in measured), "of": len(measured)}
        rows.append({"textures": name, **dataclasses.asdict(mean(measured)), **counts})
    return rows


def contact_sheet(
    exemplars: Float[np.ndarray, "n e h w 3"],
    reference: Float[np.ndarray, "n s s 3"] | None,
    outputs: Mapping[str, Float[np.ndarray, "n s s 3"]],
) -> UInt8[np.ndarray, "height width 3"]:
    """Per column one set of exemplars, above it the reference's texture and ours."""
    stacks = ([] if reference is None else [reference]) + list(outputs.values())
    side, gap = stacks[0].shape[1], 4
    columns = []
    for i, patches in enumerate(exemplars):
        top = np.concatenate([np.pad(p, ((0, 0), (0, gap), (0, 0)), constant_values=1) for p in patches], axis=1)
        height = max(1, round(top.shape[0] * side / top.shape[1]))
        scaled = Image.fromarray(_bytes(top)).resize((side, height), Image.Resampling.BILINEAR)
        parts = [np.asarray(scaled), *(_bytes(stack[i]) for stack in stacks)]
        columns.append(np.concatenate([np.pad(p, ((0, gap), (0, gap), (0, 0)), constant_values=255) for p in parts]))
    return np.concatenate(columns, axis=1)


def _bytes(image: np.ndarray) -> np.ndarray:
    return np.round(np.clip(np.asarray(image, np.float32), 0, 1) * 255).astype(np.uint8)
