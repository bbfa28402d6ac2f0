import io
import itertools
import tarfile

import numpy as np
import pytest
from builders import encoded, picture
from PIL import Image

from ncl_jax.data import pictures


def crops(data, id=0, *, views=2, scale=(0.2, 1.0), side=24, source=False):
    draws = [pictures.Uniform(7, 2 * id + view) for view in range(views)]
    return pictures.crops(data, draws, scale=scale, side=side, source=source)


def pillow_crop(image, box, side):
    """torchvision's resized_crop on a Pillow image."""
    return np.asarray(Image.fromarray(image).crop(box).resize((side, side), Image.Resampling.BILINEAR)).astype(int)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("resampler", ["Pillow", "simd"])
def test_crops_are_those_of_torchvision_but_for_the_border(resampler, kind, monkeypatch):
    """By Pillow to the bit, by vector instructions within a grey level. torchvision cuts first and then repeats the
    border's pixels; here the border sees what is beyond it."""
    if resampler == "Pillow":
        monkeypatch.setattr(pictures, "simd", None)
    elif pictures.simd is None:
        pytest.skip("no wheel of cykooz-resizer for this machine")
    data = encoded(picture(1, 190, 260), kind)
    image = np.asarray(Image.open(io.BytesIO(data)))
    for id in range(10):
        views, box = crops(data, id, side=60)
        y0, x0, y1, x1 = np.round(box * [190, 260, 190, 260]).astype(int)
        error = np.abs(views[0] - pillow_crop(image, (x0, y0, x1, y1), 60))
        inside = error[2:-2, 2:-2]
        assert inside.max() == (resampler == "simd")
        assert inside.mean() <= 0.25 * (resampler == "simd")
        assert error.max() <= 12


@pytest.mark.skipif(pictures.simd is None, reason="no wheel of cykooz-resizer for this machine")
def test_either_resampler_is_as_near_to_an_exact_one(monkeypatch):
    image = picture(2, 90, 130)
    box = (11, 20, 61, 83)  # y, x, height, width

    def weights(start, length, of, side):  # antialiased bilinear: a triangle as wide as two of the target's pixels
        step = length / side
        centre = start + (np.arange(side) + 0.5) * step
        share = np.maximum(0, 1 - np.abs(np.arange(of) + 0.5 - centre[:, None]) / max(step, 1.0))
        return share / share.sum(1, keepdims=True)

    down, across = weights(box[0], box[2], 90, 40), weights(box[1], box[3], 130, 40)
    exact = np.einsum("ih,hwc,jw->ijc", down, image.astype(np.float64), across)
    (fast,) = pictures._cuts(Image.fromarray(image), [box], 40)
    monkeypatch.setattr(pictures, "simd", None)
    (pillow,) = pictures._cuts(Image.fromarray(image), [box], 40)
    assert (fast != pillow).any()
    for cut in (fast, pillow):
        assert np.abs(cut - exact).max() <= 1.01
        assert np.abs(cut - exact).mean() < 0.3


def test_scaled_jpeg_decode_shows_nearly_the_same():
    """Grey levels between a JPEG decoded at 1/2 to 1/8 of its resolution and a full decoding, both antialiased."""
    image = np.asarray(Image.open(io.BytesIO(data := encoded(picture(2, 700, 900), quality=95))))
    for id in range(10):
        views, box = crops(data, id, side=64)
        y0, x0, y1, x1 = np.round(box * [700, 900, 700, 900]).astype(int)
        assert np.abs(views[0] - pillow_crop(image, (x0, y0, x1, y1), 64)).mean() < 1.0


def test_scaled_jpeg_decode_of_photographs(shared_data):
    errors = []
    with tarfile.open(shared_data / "imagenet_fullsize_207.tar.gz") as tar:
        files = (tar.extractfile(member) for member in tar if member.name.endswith(".JPEG"))
        for file in itertools.islice(filter(None, files), 12):
            image = np.asarray(Image.open(io.BytesIO(data := file.read())).convert("RGB"))
            views, box = crops(data, side=56)  # of 224 pixels and more: at half the resolution
            y0, x0, y1, x1 = np.round(box * [*image.shape[:2], *image.shape[:2]]).astype(int)
            errors.append(np.abs(views[0] - pillow_crop(image, (x0, y0, x1, y1), 56)).mean())
    assert max(errors) < 2.5


def test_boxes_have_torchvisions_distribution():
    torch = pytest.importorskip("torch")
    from torchvision_reference import import_torchvision

    import_torchvision()
    from torchvision.transforms import RandomResizedCrop

    torch.manual_seed(0)
    image = torch.zeros(3, 60, 100)
    theirs = np.array([RandomResizedCrop.get_params(image, [0.2, 1.0], [3 / 4, 4 / 3]) for _ in range(6000)])
    ours = np.array([pictures.sample_box(60, 100, pictures.Uniform(5, id), scale=(0.2, 1.0)) for id in range(6000)])
    stats = pytest.importorskip("scipy.stats")
    for column in range(4):
        assert stats.ks_2samp(ours[:, column], theirs[:, column]).pvalue > 1e-3
    area = ours[:, 2] * ours[:, 3], theirs[:, 2] * theirs[:, 3]
    assert stats.ks_2samp(*area).pvalue > 1e-3


def test_uniform_numbers_are_uniform_and_independent():
    numbers = np.array([list(itertools.islice(pictures.Uniform(3, id), 8)) for id in range(4000)])
    assert numbers.min() >= 0
    assert numbers.max() < 1
    stats = pytest.importorskip("scipy.stats")
    assert stats.kstest(numbers.ravel(), "uniform").pvalue > 1e-3
    table = np.concatenate([numbers, np.roll(numbers, 1, axis=0)], axis=1)  # with the neighbouring id's
    assert np.abs(np.corrcoef(table.T) - np.eye(16)).max() < 0.07
    assert next(pictures.Uniform(3, 1)) == next(pictures.Uniform(3, 1)) != next(pictures.Uniform(4, 1))


@pytest.mark.parametrize(("size", "box"), [((10, 1000), (0, 493, 10, 13)), ((1000, 10), (493, 0, 13, 10))])
def test_no_try_fits_a_narrow_strip(size, box):
    assert pictures.sample_box(*size, pictures.Uniform(1, 2), scale=(0.9, 1.0)) == box


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
    whole, aspect = pictures.squeezed(data, side=30)
    np.testing.assert_array_equal(views[2], whole)
    assert aspect == 100 / 60


def test_crops_of_pixels_are_those_of_the_encoded_image():
    image = picture(5, 32, 32)
    for a, b in zip(crops(image, 3, source=True), crops(encoded(image, "PNG"), 3, source=True), strict=True):
        np.testing.assert_array_equal(a, b)


def test_centre_crop_is_torchvisions_resize_and_centre_crop():
    for height, width in ((70, 113), (113, 70), (41, 41)):
        image = picture(5, height, width)
        short = min(height, width)
        resized = Image.fromarray(image).resize((32 * width // short, 32 * height // short), Image.Resampling.BILINEAR)
        top, left = round((resized.height - 28) / 2), round((resized.width - 28) / 2)
        expected = np.asarray(resized)[top : top + 28, left : left + 28].astype(int)
        ours = pictures.centre_crop(encoded(image, "PNG"), resize=32, side=28)
        assert np.abs(ours - expected).max() <= 2, (height, width)


def test_centre_crop_leaves_the_right_size_alone():
    image = picture(6, 28, 28)
    np.testing.assert_array_equal(pictures.centre_crop(encoded(image, "PNG"), resize=28, side=28), image)


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
    np.testing.assert_array_equal(pictures.decode(kinds["16-bit png"]), np.repeat(grey[..., None], 3, -1))
    assert np.abs(pictures.decode(kinds["cmyk jpeg"]).astype(int) - image).mean() < 4
    for kind in ("alpha png", "bmp"):
        np.testing.assert_array_equal(pictures.decode(kinds[kind]), image, err_msg=kind)


def test_exemplars_are_the_centre_and_any_place():
    whole = picture(2, 30, 40)
    cut = pictures.exemplars(whole, iter([0.0, 0.999]), side=14)
    np.testing.assert_array_equal(cut, [whole[8:22, 13:27], whole[:14, 26:]])
    one, other = (pictures.exemplars(encoded(whole), pictures.Uniform(1, id), side=14) for id in (1, 2))
    np.testing.assert_array_equal(one[0], other[0])
    assert (one[1] != other[1]).any()


def test_small_images_are_enlarged_until_the_exemplar_fits():
    image = picture(1, 7, 20)
    cut = pictures.exemplars(image, iter([0.0, 0.0]), side=14)
    large = np.asarray(Image.fromarray(image).resize((40, 14), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(cut, [large[:, 13:27], large[:, :14]])


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
    for function in (
        crops,
        pictures.decode,
        lambda d: pictures.squeezed(d, side=8),
        lambda d: pictures.exemplars(d, pictures.Uniform(1, 1), side=8),
        lambda d: pictures.centre_crop(d, resize=8, side=8),
    ):
        with pytest.raises(pictures.BadImage):
            function(data)


def test_a_wide_image_is_fine():
    views, _ = crops(encoded(np.zeros((2, 20_000, 3), np.uint8)))
    assert views.shape == (2, 24, 24, 3)
