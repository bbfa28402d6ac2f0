"""Where a preview may be written; what it shows is tested with the negatives."""

import pytest

from ncl_jax import config, methods, negatives, preview  # noqa: F401  (these bring their settings)
from ncl_jax.errors import UserError


@pytest.mark.parametrize(
    ("name", "message"), [("none/x.png", "there is no folder .*none"), ("x.txt", r"want the name of a \.png file")]
)
def test_a_place_that_cannot_be_written_is_one_line(name, message, tmp_path):
    read_nothing = config.parse({"data": {"name": "folder:/nowhere"}})
    with pytest.raises(UserError, match=message):
        preview.write(read_nothing, tmp_path / name)
