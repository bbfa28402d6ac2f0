"""From an encoded image to uint8 crops, in TensorFlow graphs: what `stream` maps over records.

All functions take scalar tensors of one record and raise TensorFlow's InvalidArgumentError where the bytes are no
image, are cut off, or hold more than MAX_PIXELS (known from the header, before anything is decoded).
"""

# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# (TensorFlow's stubs know neither symbolic arguments, None as a bound, nor slices with an ellipsis.)

import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

tf.config.set_visible_devices([], "GPU")  # the accelerators belong to JAX

MAX_PIXELS = 178_956_970  # Pillow's limit for a decompression bomb
RATIO = (3 / 4, 4 / 3)
_CROP_ARGUMENTS = [tf.TensorSpec([], tf.string), tf.TensorSpec([2], tf.int64), tf.TensorSpec([], tf.int64)]
GAP = 2  # a JPEG is decoded at a lower resolution only if twice what is needed is left, as in Pillow's thumbnails


def is_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    return tf.strings.substr(encoded, 0, 3) == b"\xff\xd8\xff"


def _header_size(encoded: tf.Tensor) -> tf.Tensor:
    """Height and width int32 `[2]` of a PNG, GIF or BMP; negative where it is none."""

    def integers(start: int, kind: tf.DType, little: bool) -> tf.Tensor:
        return tf.cast(
            tf.io.decode_raw(tf.strings.substr(encoded, start, 2 * kind.size), kind, little_endian=little), tf.int64
        )

    magic = tf.strings.substr(encoded, 0, 4)
    return tf.case(
        [
            (magic == b"\x89PNG", lambda: integers(16, tf.int32, False)[::-1]),
            (magic == b"GIF8", lambda: integers(6, tf.uint16, True)[::-1]),
            (tf.strings.substr(encoded, 0, 2) == b"BM", lambda: tf.abs(integers(18, tf.int32, True)[::-1])),
        ],
        # TensorFlow knows more formats (WebP, JPEG XL), whose size would only be known once they are decoded.
        default=lambda: tf.constant([-1, -1], tf.int64),
        exclusive=True,
    )


def _check_pixels(size: tf.Tensor) -> tf.Tensor:
    size = tf.cast(size, tf.int64)
    tf.debugging.assert_less_equal(size[0] * size[1], np.int64(MAX_PIXELS), "more pixels than are decoded")
    # A PNG side that reads as negative, or two sides whose product overflows.
    tf.debugging.assert_equal(tf.reduce_all((size >= 0) & (size < 2**24)), True, "an image side out of range")
    return size


def decode(encoded: tf.Tensor) -> tf.Tensor:
    """The whole image, uint8 `[h w 3]`: grey is repeated, alpha dropped, CMYK converted, 16 bits cut to 8."""
    return tf.cond(is_jpeg(encoded), lambda: _decode_jpeg(encoded), lambda: _decode_other(encoded))


def _decode_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    _check_pixels(tf.io.extract_jpeg_shape(encoded)[:2])
    return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")


def _decode_other(encoded: tf.Tensor) -> tf.Tensor:
    with tf.control_dependencies([_check_pixels(_header_size(encoded))]):
        image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    image.set_shape([None, None, 3])
    return image


def sample_boxes(size: tf.Tensor, draws: tf.Tensor, *, scale: tuple[float, float]) -> tf.Tensor:
    """Random-resized crops, int32 `[... 4]` (y, x, height, width) in pixels of an image of `size` (h, w).

    torchvision's RandomResizedCrop: 10 tries of a share of the area uniform in `scale` and an aspect ratio
    log-uniform in [3/4, 4/3]; where none fits, the largest central crop within these ratios. `draws` are uniform
    numbers `[4 ... 10]`.
    """
    height, width = tf.cast(size[0], tf.float32), tf.cast(size[1], tf.float32)
    area = height * width * (scale[0] + (scale[1] - scale[0]) * draws[0])
    low, high = np.log(RATIO).astype(np.float32)
    aspect = tf.exp(low + (high - low) * draws[1])
    w, h = tf.round(tf.sqrt(area * aspect)), tf.round(tf.sqrt(area / aspect))
    fits = (w <= width) & (h <= height) & (w > 0) & (h > 0)
    first = tf.argmax(tf.cast(fits, tf.int32), axis=-1)
    fits, h, w, y, x = (tf.gather(v, first, batch_dims=first.shape.rank) for v in (fits, h, w, draws[2], draws[3]))
    y, x = tf.floor(y * (height - h + 1)), tf.floor(x * (width - w + 1))
    # No try fitted: the image is a narrow strip.
    most_h = tf.minimum(height, tf.maximum(1.0, tf.round(width / RATIO[0])))
    most_w = tf.minimum(width, tf.maximum(1.0, tf.round(height * RATIO[1])))
    h, w = tf.where(fits, h, most_h), tf.where(fits, w, most_w)
    y = tf.where(fits, tf.minimum(y, height - h), tf.floor((height - most_h) / 2))
    x = tf.where(fits, tf.minimum(x, width - w), tf.floor((width - most_w) / 2))
    return tf.cast(tf.stack([y, x, h, w], axis=-1), tf.int32)


def _draws(seed: tf.Tensor, id: tf.Tensor, views: int) -> tf.Tensor:
    """The uniform numbers `[4 views 10]` of one image: a function of the epoch's seed (int64 `[2]`) and its id."""
    seed = tf.stack([seed[0], tf.bitwise.bitwise_xor(seed[1], id)])
    return tf.random.stateless_uniform((4, views, 10), seed, alg="philox")


def whole(size: tf.Tensor) -> tf.Tensor:
    """The box of a whole image, int32 `[4]` (y, x, height, width)."""
    return tf.concat([tf.zeros([2], tf.int32), size], axis=0)


def crops(
    encoded: tf.Tensor,
    seed: tf.Tensor,
    id: tf.Tensor,
    *,
    views: int,
    scale: tuple[float, float],
    side: int,
    source: bool,
):
    """`views` random crops and, with `source`, the whole image, from one decoding.

    The whole image is squeezed into the square, so that a box in shares of the image's sides names the same part of
    both, and a crop from it has the image's proportions again.

    Returns uint8 `[views (+1) side side 3]` and the first crop's (y0, x0, y1, x1), float32 `[4]` in [0, 1] of the
    whole image. Of a JPEG only the rectangle around all crops is decoded, and at 1/2, 1/4 or 1/8 of its resolution
    (by libjpeg's scaled inverse DCT) where every crop keeps at least GAP x `side` pixels per axis.
    """

    def boxes_of(size):
        boxes = sample_boxes(size, _draws(seed, id, views), scale=scale)
        return tf.concat([boxes, whole(size)[None]], axis=0) if source else boxes

    def jpeg():
        size = tf.io.extract_jpeg_shape(encoded)[:2]
        _check_pixels(size)
        boxes = boxes_of(size)
        around = _around(boxes)
        smallest = tf.reduce_min(boxes[:, 2:])

        def at(ratio):
            window = _shrink_box(around, ratio, size)
            image = tf.image.decode_and_crop_jpeg(
                encoded, window, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE"
            )
            inner = tf.cast(boxes, tf.float32) / ratio
            return image, inner - tf.concat([tf.cast(window[:2], tf.float32), [0.0, 0.0]], axis=0)

        image, inner = tf.case(
            [(smallest >= GAP * ratio * side, lambda ratio=ratio: at(ratio)) for ratio in (8, 4, 2)],
            default=lambda: at(1),
        )
        return size, boxes, image, inner

    def other():
        image = _decode_other(encoded)
        size = tf.shape(image)[:2]
        boxes = boxes_of(size)
        return size, boxes, image, tf.cast(boxes, tf.float32)

    size, boxes, image, inner = tf.cond(is_jpeg(encoded), jpeg, other)
    pictures = [_crop_resize(image, inner[v], side) for v in range(views + source)]
    y, x, h, w = tf.unstack(tf.cast(boxes[0], tf.float32), 4)
    height, width = tf.cast(size[0], tf.float32), tf.cast(size[1], tf.float32)
    return tf.stack(pictures), tf.stack([y / height, x / width, (y + h) / height, (x + w) / width])


def crops_of_one_size(
    images: tf.Tensor,
    seed: tf.Tensor,
    ids: tf.Tensor,
    *,
    views: int,
    scale: tuple[float, float],
    side: int,
    source: bool,
):
    """As `crops`, for a batch of small decoded images of one size, uint8 `[b h w 3]`: a small matrix per axis and crop.

    For 32-pixel images a tenth of the cost: the time goes into TensorFlow's operations, not into pixels.
    """
    _, height, width, _ = images.shape

    draws = tf.map_fn(lambda id: _draws(seed, id, views), ids, fn_output_signature=tf.float32)
    draws = tf.transpose(draws, (1, 0, 2, 3))
    boxes = sample_boxes(tf.constant([height, width]), draws, scale=scale)
    first = tf.cast(boxes[:, 0], tf.float32)
    if source:
        frame = tf.broadcast_to(whole(tf.constant([height, width])), (tf.shape(boxes)[0], 1, 4))
        boxes = tf.concat([boxes, frame], axis=1)
    boxes = tf.cast(boxes, tf.float32)
    down = _weights(boxes[..., 0], boxes[..., 2], height, side)  # [b v side h]
    across = _weights(boxes[..., 1], boxes[..., 3], width, side)
    planes = tf.transpose(tf.cast(images, tf.float32), (0, 3, 1, 2))  # [b 3 h w]
    planes = tf.linalg.matmul(planes[:, None], across[:, :, None], transpose_b=True)  # [b v 3 h side]
    planes = tf.linalg.matmul(down[:, :, None], planes)
    pictures = tf.transpose(tf.cast(planes + 0.5, tf.uint8), (0, 1, 3, 4, 2))
    corners = tf.concat([first[:, :2], first[:, :2] + first[:, 2:]], axis=1)
    return pictures, corners / np.array([height, width, height, width], np.float32)


def _weights(start: tf.Tensor, length: tf.Tensor, size: int, side: int) -> tf.Tensor:
    """Antialiased bilinear weights `[... side size]`: `size` pixels to `side`, of the part that starts at `start`."""
    start, length = start[..., None, None], length[..., None, None]
    step = length / side
    reach = tf.maximum(step, 1.0)
    centre = start + (tf.range(side, dtype=tf.float32)[:, None] + 0.5) * step
    pixel = tf.range(size, dtype=tf.float32) + 0.5
    weights = tf.maximum(0.0, 1 - tf.abs(pixel - centre) / reach)
    weights = tf.where((pixel > start) & (pixel < start + length), weights, 0.0)
    return weights / tf.reduce_sum(weights, axis=-1, keepdims=True)


@functools.cache
def crop_function(views: int, scale: tuple[float, float], side: int, source: bool) -> Callable:
    """`crops` with these options, traced once however many streams use it: (encoded, seed, id) -> (views, box)."""
    function = functools.partial(crops, views=views, scale=scale, side=side, source=source)
    return tf.function(function, input_signature=_CROP_ARGUMENTS, autograph=False)


@functools.cache
def centre_crop_function(resize: int, side: int) -> Callable:
    """`centre_crop` with these options, traced once."""
    function = functools.partial(centre_crop, resize=resize, side=side)
    return tf.function(function, input_signature=_CROP_ARGUMENTS[:1], autograph=False)


def _around(boxes: tf.Tensor) -> tf.Tensor:
    low = tf.reduce_min(boxes[:, :2], axis=0)
    return tf.concat([low, tf.reduce_max(boxes[:, :2] + boxes[:, 2:], axis=0) - low], axis=0)


def _shrink_box(box: tf.Tensor, ratio: int, size: tf.Tensor) -> tf.Tensor:
    """The smallest whole-pixel box at 1/ratio of the resolution that holds `box`."""
    low = box[:2] // ratio
    high = tf.minimum(-(-(box[:2] + box[2:]) // ratio), -(-size // ratio))
    return tf.concat([low, high - low], axis=0)


def _crop_resize(image: tf.Tensor, box: tf.Tensor, side: int) -> tf.Tensor:
    """`box` (float32 y, x, height, width) of `image`, antialiased bilinear, uint8 `[side side 3]`.

    A box of whole pixels sees none outside itself, as in torchvision.
    """
    low = tf.floor(box[:2])
    high = tf.math.ceil(box[:2] + box[2:])
    corner, extent = tf.cast(low, tf.int32), tf.cast(high - low, tf.int32)
    part = tf.slice(image, tf.concat([corner, [0]], axis=0), tf.concat([extent, [3]], axis=0))
    return _resize(part, scale=side / box[2:], offset=(box[:2] - low) * side / box[2:], side=side)


def _resize(image: tf.Tensor, *, scale: tf.Tensor, offset: tf.Tensor, side: int) -> tf.Tensor:
    """`image` times `scale` (y, x), of that the `side` square at `offset`, uint8; left alone where nothing changes."""

    def resized():
        result = tf.raw_ops.ScaleAndTranslate(
            images=tf.cast(image, tf.float32)[None],  # twice as fast as from uint8
            size=[side, side],
            scale=scale,
            translation=-offset,
            kernel_type="triangle",
            antialias=True,
        )[0]
        return tf.cast(result + 0.5, tf.uint8)

    same = tf.reduce_all(tf.shape(image)[:2] == side) & tf.reduce_all(scale == 1.0) & tf.reduce_all(offset == 0.0)
    result = tf.cond(same, lambda: image, resized)
    result.set_shape([side, side, 3])
    return result


def squeezed(encoded: tf.Tensor, *, side: int) -> tf.Tensor:
    """The whole image, whatever its proportions, as a `side` square: uint8 `[side side 3]`."""
    return squeezed_image(decode(encoded), side=side)


def squeezed_image(image: tf.Tensor, *, side: int) -> tf.Tensor:
    """`squeezed`, of a decoded image."""
    scale = side / tf.cast(tf.shape(image)[:2], tf.float32)
    return _resize(image, scale=scale, offset=tf.zeros([2]), side=side)


def centre_crop(encoded: tf.Tensor, *, resize: int, side: int) -> tf.Tensor:
    """Shorter side to `resize`, central `side` square, uint8 `[side side 3]`: torchvision's Resize and CenterCrop."""
    image = decode(encoded)
    size = tf.cast(tf.shape(image)[:2], tf.float32)
    target = tf.floor(size * (resize / tf.reduce_min(size)) + 1e-3)  # torchvision cuts the longer side's fraction off
    offset = tf.round((target - side) / 2)
    return _resize(image, scale=target / size, offset=offset, side=side)
