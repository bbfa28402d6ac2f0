"""Procedural pictures of a textured shape: 10 shapes x 10 textures, everything else random.

The class of a picture can be read from its outline or from its surface, and from nothing else: colours, position,
size, rotation, background, and the texture's own tilt, phase and period are drawn independently of both.
Plain numpy, so that notebooks and tests can draw without TensorFlow.
"""

from collections.abc import Callable

import numpy as np

SUPERSAMPLE = 3  # samples per pixel and axis; smooth edges, and textures that do not alias
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as Pillow's grayscale


def draw(
    seed: "int | tuple[int, ...] | np.random.Generator",
    shape: "str | int | None",
    texture: "str | int | None",
    size: int = 32,
) -> np.ndarray:
    """One picture: uint8 `[size size 3]`, the same for the same arguments.

    `shape` and `texture` are names or positions in SHAPES and TEXTURES. Without a texture the shape is filled with one
    colour, without a shape the texture fills the picture. Lengths scale with `size`, so the same seed
    gives the same picture at any size. A Generator as `seed` is advanced. Raises ValueError for an unknown name.
    """
    rng = seed if isinstance(seed, np.random.Generator) else np.random.default_rng(seed)
    inside = _everywhere if shape is None else SHAPE_FUNCTIONS[_name(shape, SHAPES, "shape")]
    pattern = _nowhere if texture is None else TEXTURE_FUNCTIONS[_name(texture, TEXTURES, "texture")]
    # Every random number is drawn before the choice of shape and texture can matter, and the lattice noise last:
    # pictures that differ only in shape share all else.
    pose, surface, colours, shading = rng.random(6), rng.random(4), rng.random(10), rng.random(2)
    noise = rng.random((64, 64), dtype=np.float32)
    side = size * SUPERSAMPLE
    axis = (np.arange(side, dtype=np.float32) + 0.5) * (2.0 / side) - 1.0
    x, y = axis[None, :], axis[:, None]

    mask = inside(*_pose(x, y, pose))
    rows, columns = np.nonzero(mask)  # a quarter of the picture: the texture is computed only there
    x, y = axis[columns], axis[rows]
    turn = 0.2 * (2 * surface[0] - 1)  # within 11 degrees: a texture seen at any angle is many textures
    period = 0.30 + 0.10 * surface[1]  # of an image that is 2 wide: 4.8 to 6.4 pixels at 32
    cos, sin = np.float32(np.cos(turn) / period), np.float32(np.sin(turn) / period)
    u = cos * x + sin * y + np.float32(8 * surface[2])
    v = -sin * x + cos * y + np.float32(8 * surface[3])
    marks = np.zeros((side, side), bool)
    marks[rows, columns] = pattern(u, v, noise)

    first, second, behind = _colours(colours)
    # Coverage per pixel is averaged before colouring: three numbers per pixel instead of 9 colours.
    foreground, marked = _shrink(mask, size), _shrink(marks, size)
    x, y = (axis.reshape(size, SUPERSAMPLE).mean(axis=1).reshape(shape) for shape in ((1, -1), (-1, 1)))
    ramp = np.float32(np.cos(2 * np.pi * shading[0])) * x + np.float32(np.sin(2 * np.pi * shading[0])) * y
    background = behind + ramp[..., None] * np.float32(0.12 * shading[1])
    image = background * (1 - foreground[..., None])
    image += first * (foreground - marked)[..., None] + second * marked[..., None]
    return np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)


def _name(value: "str | int", names: tuple[str, ...], what: str) -> str:
    if isinstance(value, str):
        if value not in names:
            raise ValueError(f"unknown {what} {value!r}; one of {', '.join(names)}")
        return value
    return names[value]


def _shrink(image: np.ndarray, size: int) -> np.ndarray:
    """The mean over each pixel's samples, `[s*k s*k] -> [s s]`."""
    side = image.shape[0] // size
    rows = image.reshape(size, side, size * side).sum(axis=1, dtype=np.float32)
    return rows.reshape(size, size, side).sum(axis=2) / np.float32(side * side)


def _pose(x: np.ndarray, y: np.ndarray, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Image coordinates to those of a shape that fills about [-1, 1]: 6 uniform numbers give the pose."""
    radius = 0.68 + 0.24 * r[0]
    room = 1.0 - 0.9 * radius
    angle = np.pi / 5 * (2 * r[1] - 1)  # upright within 36 degrees
    stretch = np.exp(0.16 * (2 * r[2] - 1))
    shear = 0.2 * (2 * r[3] - 1)
    x, y = x - np.float32(room * (2 * r[4] - 1)), y - np.float32(room * (2 * r[5] - 1))
    cos, sin = np.cos(angle) / radius, np.sin(angle) / radius
    a = (np.float32(cos) * x + np.float32(sin) * y) * np.float32(stretch)
    b = (np.float32(-sin) * x + np.float32(cos) * y) * np.float32(1 / stretch)
    return a + np.float32(shear) * b, b


def _colours(r: np.ndarray) -> np.ndarray:
    """Two texture colours and a background `[3 3]` in [0, 1], apart in luma, so that grayscale keeps both cues."""
    dark = 0.08 + 0.14 * r[0]
    lumas = np.array([dark, dark + 0.27 + 0.08 * r[1], dark + 0.58 + 0.10 * r[2]])
    # The background lies between the texture's colours: either cue alone can be learnt, and neither is drowned. With
    # the background as the darkest or brightest, the outline stands out and networks prefer it to the texture.
    order = (0, 2, 1) if r[3] < 0.5 else (2, 0, 1)
    # Colours are faint. Hues outlive colour jitter and differ from picture to picture: where they are strong, telling
    # pictures apart takes nothing else, and contrastive pretraining learns neither shapes nor textures.
    hue, chroma = 2 * np.pi * r[4:7], 0.05 + 0.13 * r[7:10]
    colour = np.cos(hue[:, None] - np.array([0.0, 2.0943951, 4.1887902])) * chroma[:, None] * 0.6
    colour -= (colour @ LUMA)[:, None]
    luma = lumas[list(order)][:, None]
    # Shorten the chroma until the colour is inside the cube: luma stays what it was chosen to be.
    room = np.where(colour > 0, (1 - luma) / np.maximum(colour, 1e-6), luma / np.maximum(-colour, 1e-6))
    return (luma + colour * np.minimum(1, room.min(axis=1, keepdims=True))).astype(np.float32)


def _everywhere(x, y):
    return np.broadcast_to(True, np.broadcast_shapes(x.shape, y.shape))


def _nowhere(u, v, noise):
    return np.zeros(u.shape, bool)


# Shapes: is a point inside? y points down; areas are near each other (1.4 to 1.9, where the square [-1, 1] has 4).
def _circle(x, y):
    return x * x + y * y < 0.52


def _square(x, y):
    return np.maximum(np.abs(x), np.abs(y)) < 0.64


def _triangle(x, y):
    return (y < 0.62) & (np.abs(x) * 1.732 - y < 0.95)


def _star(x, y):
    turn = 2 * np.pi / 5
    angle = np.mod(np.arctan2(x, -y) + turn / 2, turn) - turn / 2  # 0 at each of the 5 tips
    radius = np.sqrt(x * x + y * y)
    tip, notch = 1.08, 0.47
    # The edge runs from the tip to the notch, half a turn of the symmetry further.
    a, b = radius * np.cos(angle), radius * np.abs(np.sin(angle))
    nx, ny = notch * np.cos(turn / 2), notch * np.sin(turn / 2)
    return (a - tip) * ny - b * (nx - tip) < 0


def _cross(x, y):
    a, b = np.abs(x), np.abs(y)
    return (np.minimum(a, b) < 0.25) & (np.maximum(a, b) < 0.92)


def _ring(x, y):
    r = x * x + y * y
    return (r < 0.90**2) & (r > 0.44**2)


def _crescent(x, y):
    return ((x + 0.15) ** 2 + y * y < 0.95**2) & ((x - 0.38) ** 2 + y * y > 0.72**2)


def _heart(x, y):
    a, b = x * 1.42, -y * 1.42 + 0.12
    r = a * a + b * b - 1
    return r * r * r - a * a * b * b * b < 0


def _arrow(x, y):
    head = (y < 0.02) & (np.abs(x) - (y + 0.95) * 0.92 < 0)
    return head | ((np.abs(x) < 0.30) & (y >= 0.02) & (y < 0.92))


def _hourglass(x, y):
    return (np.abs(y) < 0.86) & (np.abs(x) < 0.10 + 0.85 * np.abs(y))


# Textures: is a point marked (second colour)? u, v in periods, at any offset and orientation.
def _wave(t):
    """Distance to the nearest integer, 0 to 0.5."""
    return np.abs(t - np.round(t))


def _stripes(u, v, noise):
    return _wave(u) < 0.25


def _checks(u, v, noise):
    return (_wave(0.75 * u) < 0.25) ^ (_wave(0.75 * v) < 0.25)


def _dots(u, v, noise):
    v = v * 1.1547
    row = np.floor(v)
    a, b = u + 0.5 * np.mod(row, 2), v
    a, b = a - np.floor(a) - 0.5, (b - row - 0.5) / 1.1547
    return a * a + b * b < 0.30**2


def _grid(u, v, noise):
    return (_wave(u * 0.9) < 0.14) | (_wave(v * 0.9) < 0.14)


def _zigzag(u, v, noise):
    return _wave(u + 1.8 * _wave(v * 0.6)) < 0.25


def _bricks(u, v, noise):
    v = v * 1.1
    row = np.floor(v)
    a = 0.55 * u + 0.5 * np.mod(row, 2)
    return (v - row < 0.26) | (a - np.floor(a) < 0.14)


def _rings(u, v, noise):
    a, b = _wave(u * 0.7), _wave(v * 0.7)
    r = np.sqrt(a * a + b * b)
    return (r > 0.20) & (r < 0.40)


def _dashes(u, v, noise):
    v = v * 1.3
    row = np.floor(v)
    a = 0.5 * u + 0.5 * np.mod(row, 2)
    return (v - row < 0.5) & (a - np.floor(a) < 0.55)


def _speckle(u, v, noise):
    i, j = np.floor(2.8 * u).astype(np.int32) & 63, np.floor(2.8 * v).astype(np.int32) & 63
    return noise[i, j] < 0.45


def _blobs(u, v, noise):
    """Smooth noise above its median: camouflage."""
    u, v = 1.4 * u, 1.4 * v
    i, j = np.floor(u), np.floor(v)
    a, b = u - i, v - j
    a, b = a * a * (3 - 2 * a), b * b * (3 - 2 * b)
    i, j = i.astype(np.int32) & 63, j.astype(np.int32) & 63
    k, m = (i + 1) & 63, (j + 1) & 63
    top = noise[i, j] * (1 - a) + noise[k, j] * a
    bottom = noise[i, m] * (1 - a) + noise[k, m] * a
    return top * (1 - b) + bottom * b < 0.5


SHAPE_FUNCTIONS: dict[str, Callable] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
    "crescent": _crescent,
    "heart": _heart,
    "arrow": _arrow,
    "hourglass": _hourglass,
}
TEXTURE_FUNCTIONS: dict[str, Callable] = {
    "stripes": _stripes,
    "checks": _checks,
    "dots": _dots,
    "grid": _grid,
    "zigzag": _zigzag,
    "bricks": _bricks,
    "rings": _rings,
    "dashes": _dashes,
    "speckle": _speckle,
    "blobs": _blobs,
}
SHAPES, TEXTURES = tuple(SHAPE_FUNCTIONS), tuple(TEXTURE_FUNCTIONS)
