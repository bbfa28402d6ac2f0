"""From an encoded image to pixels in TensorFlow graphs, for the building of textures (`pictures` serves all else).

All functions take the scalar tensor of one record and raise TensorFlow's InvalidArgumentError where the bytes are no
image, are cut off, or hold more than MAX_PIXELS (known from the header, before anything is decoded).
"""

# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# (TensorFlow's stubs know neither symbolic arguments, None as a bound, nor slices with an ellipsis.)

import numpy as np

from ncl_jax.data.pictures import MAX_PIXELS
from ncl_jax.data.tf import tf


def is_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    return tf.strings.substr(encoded, 0, 3) == b"\xff\xd8\xff"


def _header_size(encoded: tf.Tensor) -> tf.Tensor:
    """Height and width int32 `[2]` of a PNG, GIF or BMP; negative where it is none."""
    # A header that is cut off reads as zeros: substr would refuse it by a message that holds the bytes, which
    # TensorFlow then fails to decode as text.
    encoded = tf.strings.join([encoded, b"\0" * 32])

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
