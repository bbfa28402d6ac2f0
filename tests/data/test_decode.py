import io

import numpy as np
import pytest
import tensorflow as tf
from builders import encoded, picture
from PIL import Image

from ncl_jax.data import decode

SEED = tf.constant([3, 4], tf.int64)


def crops(data, id=0, *, views=2, scale=(0.2, 1.0), side=24, source=False):
    id = tf.constant(id, tf.int64)
    pictures, box = decode.crops(tf.constant(data), SEED, id, views=views, scale=scale, side=side, source=source)
    return pictures.numpy(), box.numpy()


def pillow_crop(image, box, side):
    """torchvision's resized_crop on a Pillow image."""
    return np.asarray(Image.fromarray(image).crop(box).resize((side, side), Image.Resampling.BILINEAR)).astype(int)


def test_crops_equal_pillows_of_the_box():
    image = picture(1, 90, 120)
    for id in range(10):
        views, box = crops(encoded(image, "PNG"), id, side=20)
        y0, x0, y1, x1 = np.round(box * [90, 120, 90, 120]).astype(int)
        assert np.abs(views[0] - pillow_crop(image, (x0, y0, x1, y1), 20)).max() <= 1


def test_partial_jpeg_decode_shows_the_same_as_the_whole():
    image = np.asarray(Image.open(io.BytesIO(data := encoded(picture(2, 150, 200), quality=95))))
    for id in range(10):
        views, box = crops(data, id, side=64)
        y0, x0, y1, x1 = np.round(box * [150, 200, 150, 200]).astype(int)
        error = np.abs(views[0] - pillow_crop(image, (x0, y0, x1, y1), 64))
        assert error[3:-3, 3:-3].max() <= 1
        assert error.max() <= 12  # chroma is repeated at the window's border instead of interpolated across it


def test_scaled_jpeg_decode_shows_nearly_the_same():
    image = np.asarray(Image.open(io.BytesIO(data := encoded(picture(2, 700, 900), quality=95))))
    for id in range(10):
        views, box = crops(data, id, side=64)
        y0, x0, y1, x1 = np.round(box * [700, 900, 700, 900]).astype(int)
        assert np.abs(views[0] - pillow_crop(image, (x0, y0, x1, y1), 64)).mean() < 1.0


def test_boxes_have_torchvisions_distribution():
    torch = pytest.importorskip("torch")
    from torchvision_reference import import_torchvision

    import_torchvision()
    from torchvision.transforms import RandomResizedCrop

    torch.manual_seed(0)
    image = torch.zeros(3, 60, 100)
    theirs = np.array([RandomResizedCrop.get_params(image, [0.2, 1.0], [3 / 4, 4 / 3]) for _ in range(6000)])
    draws = tf.random.stateless_uniform((4, 6000, 10), [1, 2])
    ours = decode.sample_boxes(tf.constant([60, 100]), draws, scale=(0.2, 1.0)).numpy()
    stats = pytest.importorskip("scipy.stats")
    for column in range(4):
        assert stats.ks_2samp(ours[:, column], theirs[:, column]).pvalue > 1e-3
    area = ours[:, 2] * ours[:, 3], theirs[:, 2] * theirs[:, 3]
    assert stats.ks_2samp(*area).pvalue > 1e-3


@pytest.mark.parametrize(("size", "box"), [((10, 1000), (0, 493, 10, 13)), ((1000, 10), (493, 0, 13, 10))])
def test_no_try_fits_a_narrow_strip(size, box):
    draws = tf.random.stateless_uniform((4, 2, 10), [1, 2])
    boxes = decode.sample_boxes(tf.constant(size), draws, scale=(0.9, 1.0)).numpy()
    np.testing.assert_array_equal(boxes, [box, box])


def test_views_are_independent_and_ids_differ():
    image = encoded(picture(3, 80, 80), "PNG")
    first, _ = crops(image, 1)
    again, _ = crops(image, 1)
    other, _ = crops(image, 2)
    np.testing.assert_array_equal(first, again)
    assert (first[0] != first[1]).any()
    assert (first[0] != other[0]).any()


def test_source_is_the_whole_image_in_a_square():
    image = picture(4, 60, 100)
    views, _ = crops(data := encoded(image, "PNG"), side=30, source=True)
    assert views.shape == (3, 30, 30, 3)
    assert np.abs(views[2] - pillow_crop(image, (0, 0, 100, 60), 30)).max() <= 1
    np.testing.assert_array_equal(views[2], decode.squeezed(tf.constant(data), side=30))


def test_batched_crops_equal_single_ones():
    images = np.stack([picture(i, 32, 32) for i in range(6)])
    options = {"views": 2, "scale": (0.2, 1.0), "side": 24, "source": True}
    ids = tf.range(6, dtype=tf.int64)
    views, boxes = decode.crops_of_one_size(tf.constant(images), SEED, ids, **options)
    for index in range(6):
        single, box = crops(encoded(images[index], "PNG"), index, source=True)
        np.testing.assert_allclose(boxes[index], box, atol=1e-6)
        assert np.abs(views[index].numpy().astype(int) - single).max() <= 1


def test_centre_crop_is_torchvisions_resize_and_centre_crop():
    for height, width in ((70, 113), (113, 70), (41, 41)):
        image = picture(5, height, width)
        short = min(height, width)
        resized = Image.fromarray(image).resize((32 * width // short, 32 * height // short), Image.Resampling.BILINEAR)
        top, left = round((resized.height - 28) / 2), round((resized.width - 28) / 2)
        expected = np.asarray(resized)[top : top + 28, left : left + 28].astype(int)
        ours = decode.centre_crop(tf.constant(encoded(image, "PNG")), resize=32, side=28).numpy()
        assert np.abs(ours - expected).max() <= 2, (height, width)


def test_centre_crop_leaves_the_right_size_alone():
    image = picture(6, 28, 28)
    np.testing.assert_array_equal(decode.centre_crop(tf.constant(encoded(image, "PNG")), resize=28, side=28), image)


def test_unusual_images_decode():
    image = picture(7, 30, 40)
    grey = np.asarray(Image.fromarray(image).convert("L"))
    deep = Image.fromarray((grey.astype(np.uint16) << 8) + 7)
    file = io.BytesIO()
    deep.save(file, "PNG")
    kinds = {
        "grey jpeg": encoded(image, mode="L"),
        "cmyk jpeg": encoded(image, mode="CMYK"),
        "progressive jpeg": encoded(image, progressive=True),
        "alpha png": encoded(image, "PNG", mode="RGBA"),
        "palette png": encoded(image, "PNG", mode="P"),
        "grey and alpha png": encoded(image, "PNG", mode="LA"),
        "16-bit png": file.getvalue(),
        "gif": encoded(image, "GIF"),
        "bmp": encoded(image, "BMP"),
        "1x1 png": encoded(image[:1, :1], "PNG"),
        "1x1 jpeg": encoded(image[:1, :1]),
    }
    for kind, data in kinds.items():
        views, box = crops(data, source=True)
        assert views.shape == (3, 24, 24, 3), kind
        assert 0 <= box.min() <= box.max() <= 1, kind
    np.testing.assert_array_equal(decode.decode(tf.constant(kinds["16-bit png"])), np.repeat(grey[..., None], 3, -1))
    cmyk = decode.decode(tf.constant(kinds["cmyk jpeg"])).numpy().astype(int)
    assert np.abs(cmyk - image).mean() < 4


def png_header(width, height):
    """A PNG that claims to be of this size."""
    data = bytearray(encoded(picture(0, 4, 4), "PNG"))
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return bytes(data)


def jpeg_header(width, height):
    data = bytearray(encoded(picture(0, 8, 8)))
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8\xff",
        b"no image",
        encoded(picture(8))[:400],
        encoded(picture(8), "PNG")[:400],
        encoded(picture(8), "WEBP"),
        png_header(100_000, 100_000),
        png_header(2**31, 2**31 - 1),
        jpeg_header(60_000, 60_000),
    ],
    ids=["empty", "magic", "text", "cut jpeg", "cut png", "webp", "png bomb", "negative png", "jpeg bomb"],
)
def test_bad_bytes_are_errors(data):
    for function in (crops, lambda d: decode.decode(tf.constant(d))):
        with pytest.raises(tf.errors.OpError):
            function(data)


def test_a_wide_image_is_fine():
    views, _ = crops(encoded(np.zeros((2, 20_000, 3), np.uint8)))
    assert views.shape == (2, 24, 24, 3)
