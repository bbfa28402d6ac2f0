"""Pictures for people: images of any size read, sheets of titled columns, maps of where texture pixels are from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image, ImageDraw, ImageFont, ImageOps

from ncl_jax.data import pictures
from ncl_jax.errors import UserError

_TILE = 112  # least side in pixels at which a tile is drawn
_GAP, _HEADER = 6, 24
_HUES = np.array([[0.95, 0.45, 0.25], [0.20, 0.55, 0.85], [0.30, 0.70, 0.35], [0.65, 0.40, 0.75]], np.float32)


def read(paths: Sequence[str | Path], *, size: int) -> UInt8[np.ndarray, "n size size 3"]:
    """The central square of each image file as RGB; UserError for a file that is none."""
    images = []
    for path in paths:
        try:
            with Image.open(path) as image:
                upright = pictures.rgb(ImageOps.exif_transpose(image))
        except MemoryError:
            raise
        except Exception as error:  # Pillow raises whatever its readers of many formats raise
            raise UserError(f"{path}: is no image that can be read: {error}") from error
        images.append(np.asarray(ImageOps.fit(upright, (size, size), Image.Resampling.BICUBIC)))
    if not images:
        raise UserError("no image file was given")
    return np.stack(images)


def grid(columns: Sequence[Any], titles: Sequence[str]) -> Image.Image:
    """A titled column per array `[rows h w 3]`, uint8 or float in [0, 1]; small images are enlarged by whole pixels."""
    side = columns[0].shape[1]
    zoom = max(1, -(-_TILE // side))
    step = side * zoom + _GAP
    sheet = Image.new("RGB", (len(columns) * step + _GAP, len(columns[0]) * step + _HEADER + _GAP), "white")
    for x, (column, title) in enumerate(zip(columns, titles, strict=True)):
        ImageDraw.Draw(sheet).text((_GAP + x * step, 5), title, "black", _font(title, side * zoom))
        for y, tile in enumerate(to_bytes(column)):
            big = Image.fromarray(tile).resize((side * zoom, side * zoom), Image.Resampling.NEAREST)
            sheet.paste(big, (_GAP + x * step, _HEADER + y * step))
    return sheet


def _font(title: str, width: int) -> Any:
    """In which the title is no wider."""
    length = ImageFont.load_default(13).getlength(title)
    return ImageFont.load_default(13 * min(1.0, width / max(1.0, length)))


def source_maps(sources: Int[Any, "n h w 3"], exemplar_sides: tuple[int, int]) -> UInt8[np.ndarray, "n h w 3"]:
    """Colours for `synthesize(..., return_sources=True)`: a hue per exemplar, lighter to its right, greyer downwards.

    A smooth patch is one contiguous piece of an exemplar; edges are where two pieces meet.
    """
    sources = np.asarray(sources)
    hue = _HUES[sources[..., 0] % len(_HUES)]
    down, right = (sources[..., 1 + axis, None] / max(1, exemplar_sides[axis] - 1) for axis in (0, 1))
    return to_bytes((hue * (1 - 0.6 * down) + 0.3 * down) * (0.55 + 0.45 * right))


def to_bytes(images: Any) -> UInt8[np.ndarray, "..."]:
    """uint8 as it is; floats in [0, 1], cut off outside, times 255 and rounded."""
    images = np.asarray(images)
    if images.dtype == np.uint8:
        return images
    return np.round(np.clip(images.astype(np.float32), 0, 1) * 255).astype(np.uint8)
