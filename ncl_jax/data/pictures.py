"""From an encoded image to uint8 crops, by Pillow: random-resized ones for training, central ones for evaluation,
squares at native resolution for textures.

Pillow lets go of the interpreter while it decodes and resizes, so threads keep every core busy; and it is what
torchvision's reference results were made with. Training's crops are resized by cykooz-resizer, which does the same
three times as fast, in vector instructions, and rounds otherwise, by a grey level. Needs no TensorFlow.

An image is its encoded bytes (JPEG, PNG, GIF, BMP) or decoded pixels, uint8 `[h w 3]`. Every function raises BadImage
where the bytes are no image, are cut off, or hold more than MAX_PIXELS (known from the header, before anything is
decoded).
"""

import functools
import io
import math
from collections.abc import Callable, Iterator, Sequence
from typing import ParamSpec, TypeVar

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

try:
    import cykooz_resizer as simd
except ImportError:  # it has no wheels for Linux on ARM
    simd = None

MAX_PIXELS = 178_956_970  # Pillow's limit for a decompression bomb
FORMATS = ("JPEG", "PNG", "GIF", "BMP")
RATIO = (3 / 4, 4 / 3)
TRIES = 10
_BITS, _GOLDEN = 2**64 - 1, 0x9E3779B97F4A7C15
GAP = 2  # a JPEG is decoded at a lower resolution only if twice what is needed is left, as in Pillow's thumbnails

P = ParamSpec("P")
R = TypeVar("R")
Encoded = bytes | UInt8[np.ndarray, "h w 3"]
Box = tuple[int, int, int, int]  # y, x, height, width in pixels


class BadImage(ValueError):
    """Bytes that are no whole image."""


def _checked(function: Callable[P, R]) -> Callable[P, R]:
    """`function` with everything that Pillow raises as BadImage: it has no common base for it."""

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except MemoryError:
            raise
        except Exception as error:
            raise BadImage(str(error)) from error

    return checked


def _open(encoded: Encoded) -> Image.Image:
    """The image, its size known, not decoded yet."""
    if isinstance(encoded, np.ndarray):
        return Image.fromarray(encoded)
    image = Image.open(io.BytesIO(encoded), formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        raise BadImage(f"{image.width} x {image.height} are more pixels than are decoded")
    return image


def rgb(image: Image.Image) -> Image.Image:
    """Decoded: grey is repeated, alpha dropped, CMYK converted, 16 bits cut to 8."""
    if image.mode == "RGB":
        image.load()
        return image
    if image.mode.startswith("I"):  # a PNG of 16 bits, which Pillow would clip
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "P":  # whose transparent colour Pillow warns of
        image = image.convert("RGBA")
    return image.convert("RGB")


def _decoded(image: Image.Image, smallest: float, side: int) -> tuple[Image.Image, float, float]:
    """The image in RGB, and by which factors (y, x) it is smaller than it was.

    A JPEG is decoded at 1/2, 1/4 or 1/8 of its resolution (by libjpeg's scaled inverse DCT) where the smallest extent
    that is wanted of it, in pixels, keeps GAP x `side`.
    """
    width, height = image.size
    ratio = next((ratio for ratio in (8, 4, 2) if smallest >= GAP * ratio * side), 1)
    if ratio > 1:
        image.draft(None, (width // ratio, height // ratio))  # pyright: ignore[reportArgumentType]
    image = rgb(image)
    return image, image.height / height, image.width / width


def _cut(image: Image.Image, box: Sequence[float], side: int) -> UInt8[np.ndarray, "s s 3"]:
    """`box` (y, x, height, width in pixels) as a square, antialiased bilinear: at its border it sees what is beyond."""
    y, x, height, width = box
    around = (x, y, min(x + width, image.width), min(y + height, image.height))
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR, box=around))


def _cuts(image: Image.Image, boxes: Sequence[Sequence[float]], side: int) -> Iterator[UInt8[np.ndarray, "s s 3"]]:
    """The `_cut` of each of `boxes`, within a grey level of it (two, in 19 of 86,590 random crops of all kinds)."""
    if simd is None:
        yield from (_cut(image, box, side) for box in boxes)
        return
    resizer, bilinear = simd.Resizer(), simd.ResizeAlg.convolution(simd.FilterType.bilinear)
    whole = simd.ImageData(*image.size, simd.PixelType.U8x3, image.tobytes())
    for y, x, height, width in boxes:
        around = simd.CropBox(x, y, min(width, image.width - x), min(height, image.height - y))
        cut = simd.ImageData(side, side, simd.PixelType.U8x3)
        resizer.resize(whole, cut, simd.ResizeOptions(bilinear, crop_box=around))
        yield np.frombuffer(cut.get_buffer(), np.uint8).reshape(side, side, 3)


@_checked
def decode(encoded: Encoded) -> UInt8[np.ndarray, "h w 3"]:
    """The whole image."""
    return np.asarray(rgb(_open(encoded)))


@_checked
def crops(
    encoded: Encoded,
    draws: Sequence[Iterator[float]],
    *,
    scale: tuple[float, float],
    side: int,
    source: bool = False,
) -> tuple[UInt8[np.ndarray, "n s s 3"], Float[np.ndarray, "4"]]:
    """A random crop per source of uniform numbers in `draws` and, with `source`, the whole image, from one decoding.

    The whole image is squeezed into the square, so that a box in shares of the image's sides names the same part of
    both, and a crop from it has the image's proportions again.

    Returns uint8 `[v (+1) side side 3]` and the first crop's (y0, x0, y1, x1), float32 in [0, 1] of the whole image.
    """
    image = _open(encoded)
    width, height = image.size
    boxes = [sample_box(height, width, each, scale=scale) for each in draws]
    first = boxes[0]
    if source:
        boxes.append((0, 0, height, width))
    image, down, across = _decoded(image, min(min(box[2:]) for box in boxes), side)
    scaled = [(y * down, x * across, h * down, w * across) for y, x, h, w in boxes]
    pictures = np.stack([*_cuts(image, scaled, side)])
    y, x, h, w = first
    return pictures, np.array([y / height, x / width, (y + h) / height, (x + w) / width], np.float32)


def sample_box(height: int, width: int, draws: Iterator[float], *, scale: tuple[float, float]) -> Box:
    """A random-resized crop (y, x, height, width) of an image of that size.

    torchvision's RandomResizedCrop: TRIES tries of a share of the area uniform in `scale` and an aspect ratio
    log-uniform in [3/4, 4/3]; where none fits, the largest central crop within these ratios. Each try takes four
    uniform numbers from `draws`.
    """
    low, high = math.log(RATIO[0]), math.log(RATIO[1])
    for _ in range(TRIES):
        share, shape, down, across = next(draws), next(draws), next(draws), next(draws)
        area = height * width * (scale[0] + (scale[1] - scale[0]) * share)
        aspect = math.exp(low + (high - low) * shape)
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(down * (height - h + 1)), int(across * (width - w + 1)), h, w
    h = min(height, max(1, round(width / RATIO[0])))
    w = min(width, max(1, round(height * RATIO[1])))
    return (height - h) // 2, (width - w) // 2, h, w


@_checked
def squeezed(encoded: Encoded, *, side: int) -> tuple[UInt8[np.ndarray, "s s 3"], float]:
    """The whole image, whatever its proportions, as a `side` square, and its width / height."""
    image = _open(encoded)
    aspect = image.width / image.height
    image, _, _ = _decoded(image, min(image.size), side)
    return next(_cuts(image, [(0, 0, image.height, image.width)], side)), aspect


@_checked
def exemplars(encoded: Encoded, draws: Iterator[float], *, side: int) -> UInt8[np.ndarray, "2 s s 3"]:
    """What a texture is made of: two squares of `side` pixels at native resolution, the centre and a random place.

    An image whose shorter side is below `side` is first enlarged (bilinear) until it fits.
    """
    image = rgb(_open(encoded))
    short = min(image.size)
    if short < side:
        width, height = (round(length * side / short) for length in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    room = [length - side for length in pixels.shape[:2]]
    corners = [length // 2 for length in room], [int(next(draws) * (length + 1)) for length in room]
    return np.stack([pixels[y : y + side, x : x + side] for y, x in corners])


@_checked
def centre_crop(encoded: Encoded, *, resize: int, side: int) -> UInt8[np.ndarray, "s s 3"]:
    """Shorter side to `resize`, central `side` square: torchvision's Resize and CenterCrop, in one resampling."""
    image = rgb(_open(encoded))
    short = min(image.size)
    # torchvision cuts the longer side's fraction off.
    whole = [length * resize // short for length in (image.height, image.width)]
    steps = [length / target for length, target in zip((image.height, image.width), whole, strict=True)]
    corner = [round((target - side) / 2) for target in whole]
    box = [c * step for c, step in zip(corner, steps, strict=True)] + [side * step for step in steps]
    return _cut(image, box, side)


class Uniform:
    """Endless uniform numbers in [0, 1) that follow from `key` (64 bits) and the id alone.

    SplitMix64 (Steele et al., 2014), seeded by a mix of both: it starts faster than a generator of NumPy.
    """

    def __init__(self, key: int, id: int):
        self._state = _mix(key ^ _mix((id + 1) * _GOLDEN & _BITS))

    def __iter__(self) -> Iterator[float]:
        return self

    def __next__(self) -> float:
        self._state = self._state + _GOLDEN & _BITS
        return (_mix(self._state) >> 11) * 2.0**-53


def _mix(x: int) -> int:
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & _BITS
    x = (x ^ x >> 27) * 0x94D049BB133111EB & _BITS
    return x ^ x >> 31
