"""Where a preview may be written; what it shows is tested with the negatives."""

import numpy as np
import pytest
from builders import encoded, picture
from PIL import Image

from ncl_jax import config, methods, negatives, preview  # noqa: F401  (these bring their settings)
from ncl_jax.errors import UserError


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none/x.png", "there is no folder .*none"),
        ("x.txt", r"want the name of a \.png file"),
        ("folder.png", "is a folder; name a file"),
    ],
)
def test_a_place_that_cannot_be_written_is_one_line(name, message, tmp_path):
    read_nothing = config.parse({"data": {"name": "folder:/nowhere"}})
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UserError, match=message):
        preview.write(read_nothing, tmp_path / name)


def test_a_dataset_smaller_than_the_sheet_has_fewer_rows(tmp_path):
    """A run whose dataset held fewer than six images was refused for a batch of six that nobody had asked for."""
    (tmp_path / "train" / "any").mkdir(parents=True)
    for index in range(3):
        (tmp_path / "train" / "any" / f"{index}.png").write_bytes(encoded(picture(index, 40, 40), "PNG"))
    settings = config.parse({"batch": 2, "data": {"name": f"folder:{tmp_path}", "image_size": 32}})
    preview.write(settings, tmp_path / "three.png")
    preview.write(settings, tmp_path / "two.png", rows=2)
    three, two = (np.asarray(Image.open(tmp_path / f"{name}.png")).shape for name in ("three", "two"))
    assert three[1:] == two[1:]
    assert three[0] - two[0] == 4 * 32 + 6  # one row
