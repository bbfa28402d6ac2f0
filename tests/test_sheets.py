"""Pictures for people: what is read, where it is drawn, and that a map tells exemplars and places apart."""

import numpy as np
import pytest
from PIL import Image

from ncl_jax import sheets
from ncl_jax.errors import UserError


def test_reading_takes_the_central_square_whatever_the_mode(tmp_path):
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = (200, 100, 50)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    Image.fromarray(wide[..., 0]).save(tmp_path / "grey.png")
    Image.fromarray(wide).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=100)
    Image.fromarray(wide[..., 0].astype(np.uint16) << 8).save(tmp_path / "16_bits.png")
    images = sheets.read([tmp_path / name for name in ("wide.png", "grey.png", "cmyk.jpg", "16_bits.png")], size=10)
    assert images.shape == (4, 10, 10, 3)
    assert images.dtype == np.uint8
    inner = images[:, :, 2:-2].astype(int)  # the resampling reaches a little beyond the square
    assert (inner[0] == [200, 100, 50]).all()
    assert (inner[[1, 3]] == 200).all()
    assert np.abs(inner[2] - [200, 100, 50]).max() < 12


def test_what_is_no_image_is_one_line(tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "cut.ppm").write_text("P6 3 x")  # for which Pillow has a ValueError
    for name in ("text.jpg", "cut.ppm"):
        with pytest.raises(UserError, match=rf"{name}: is no image that can be read"):
            sheets.read([tmp_path / name], size=8)
    with pytest.raises(UserError, match="no image file was given"):
        sheets.read([], size=8)


def test_a_sheet_holds_every_tile_enlarged_by_whole_pixels():
    first, second = np.zeros((2, 32, 32, 3), np.uint8), np.ones((2, 32, 32, 3), np.float32)
    first[1, 3, 5] = 255
    sheet = np.asarray(sheets.grid([first, second], ["a", "b"]))
    tile = sheet[24 + 134 : 24 + 134 + 128, 6 : 6 + 128]  # second row, first column: 4 pixels for one
    np.testing.assert_array_equal(tile[::4, ::4], first[1])
    assert (sheet[24:152, 140:268] == 255).all()


def test_a_map_tells_exemplars_and_places_apart():
    rows, columns = np.mgrid[:96, :96]
    places = np.stack([np.stack([np.full_like(rows, e), rows, columns], -1) for e in (0, 1)])
    colours = sheets.source_maps(places, (96, 96))
    assert colours.shape == (2, 96, 96, 3)
    assert not (colours[0] == colours[1]).all(-1).any()
    step = np.abs(np.diff(colours.astype(int), axis=2)).max()
    assert 0 < step <= 4  # a contiguous piece is smooth
    assert len(np.unique(colours[0, ::12, ::12].reshape(-1, 3), axis=0)) == 64


def test_a_long_title_ends_with_its_column():
    columns = [np.zeros((1, 32, 32, 3))] * 2
    width = sheets.grid(columns, ["", ""]).width
    for title in ("a title that is far too long for it", ""):
        inked = np.asarray(sheets.grid(columns, ["", title]).convert("L"))[: sheets._HEADER] < 128
        assert not inked[:, : width // 2].any()
        assert not inked[:, width - sheets._GAP :].any()
        assert inked.any() == bool(title)
