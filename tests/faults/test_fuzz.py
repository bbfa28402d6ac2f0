"""Whatever the input, no other error than the documented one: the config parser, the image readers, the importer.

300 inputs of each in CI; `NCL_JAX_FUZZ=20000` tries so many.
"""

import os
import zipfile

import numpy as np
import pytest
from builders import encoded, picture
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ncl_jax import command_line, config_file, convert, methods, negatives  # noqa: F401  (they bring their settings)
from ncl_jax import config as config_lib
from ncl_jax.convert import files
from ncl_jax.data import pictures
from ncl_jax.errors import UserError

many = settings(
    max_examples=int(os.environ.get("NCL_JAX_FUZZ", "300")),
    deadline=None,
    derandomize="NCL_JAX_FUZZ" not in os.environ,
    suppress_health_check=list(HealthCheck),
    database=None,
)

KEYS = tuple(config_lib._flat(config_lib.to_dict(config_lib.parse({"negatives": {"patch": {}}}))))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(("patch", "moco")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=4,
)
NAMES = st.sampled_from(KEYS) | st.builds(
    ".".join,
    st.lists(st.sampled_from(("method", "negatives", "patch", "data", "name", "", "x")), min_size=1, max_size=4),
)


def check_line(error):
    assert str(error)
    assert "\n" not in str(error), repr(str(error))


@many
@given(st.lists(st.tuples(NAMES, VALUES | st.text(max_size=12)), max_size=4))
def test_config(changes):
    raw = {}
    try:
        for key, value in changes:
            config_file.override(raw, key, value)
        parsed = config_lib.parse(raw)
    except UserError as error:
        check_line(error)
        return
    assert config_lib.parse(config_lib.to_dict(parsed)) == parsed


@many
@given(VALUES)
def test_config_of_any_shape(raw):
    try:
        config_lib.parse(raw if isinstance(raw, dict) else {"negatives": raw, "method": raw, "data": raw})
    except UserError as error:
        check_line(error)


@many
@given(st.lists(st.text(max_size=10) | st.sampled_from(("--config.a", "--config.", "--config.a=1", "=")), max_size=4))
def test_overrides_of_the_command_line(arguments):
    try:
        command_line.overrides(arguments)
    except UserError as error:
        check_line(error)


def mutated(seeds):
    """One of the files with bytes changed, cut out, put in, or cut off; or any bytes at all."""

    def mutate(seed, edits, length):
        data = bytearray(seed)
        for place, value, kind in edits:
            at = int(place * len(data))
            if kind == 0 and data:
                data[min(at, len(data) - 1)] = value
            elif kind == 1:
                del data[at : at + value]
            else:
                data[at:at] = bytes([value]) * (value % 9)
        return bytes(data[: max(0, int(length * len(data)))])

    share = st.floats(0, 1)
    # Most edits fall on the first bytes, where the headers are.
    place = share | share.map(lambda x: x / 20)
    edits = st.lists(st.tuples(place, st.integers(0, 255), st.integers(0, 2)), max_size=6)
    return st.builds(mutate, st.sampled_from(seeds), edits, st.just(1.0) | share) | st.binary(max_size=64)


IMAGES = [
    encoded(picture(0, 24, 31)),
    encoded(picture(1, 24, 31), mode="CMYK"),
    encoded(picture(2, 24, 31), progressive=True),
    encoded(picture(3, 24, 31), "PNG"),
    encoded(picture(4, 24, 31), "PNG", mode="P"),
    encoded(picture(5, 24, 31), "GIF"),
    encoded(picture(6, 24, 31), "BMP"),
]


@many
@given(mutated(IMAGES))
def test_images(data):
    draws = [pictures.Uniform(1, view) for view in range(2)]
    for read in (
        lambda: pictures.centre_crop(data, resize=16, side=16),
        lambda: pictures.crops(data, draws, scale=(0.2, 1.0), side=16, source=True)[0],
        lambda: pictures.squeezed(data, side=16)[0],
        lambda: pictures.exemplars(data, iter(draws[0]), side=16),
    ):
        try:
            image = read()
        except pictures.BadImage:
            continue
        assert image.shape[-3:] == (16, 16, 3)
        assert image.dtype == np.uint8


def checkpoint_files(folder):
    tensors = {"conv1.weight": np.ones((4, 3, 3, 3), np.float32), "fc.bias": np.arange(3.0, dtype=np.float32)}
    files.write(folder / "a.npz", tensors)
    files.write(folder / "a.safetensors", tensors, note={"stem": "small"})
    made = ["a.npz", "a.safetensors"]
    try:
        import torch
    except ImportError:
        pass
    else:
        both = {"state_dict": {name: torch.from_numpy(value) for name, value in tensors.items()}, "epoch": 3}
        torch.save(both, folder / "a.pth")
        torch.save(both, folder / "b.pth", _use_new_zipfile_serialization=False)
        made += ["a.pth", "b.pth"]
    return [(folder / name).read_bytes() for name in made]


def test_checkpoints(tmp_path):
    seeds = checkpoint_files(tmp_path)

    @many
    @given(mutated(seeds))
    def check(data):
        path = tmp_path / "fuzzed"
        path.write_bytes(data)
        for read in (files.read, convert.load_torch):
            try:
                read(path)
            except UserError as error:
                check_line(error)

    check()


@pytest.mark.filterwarnings("ignore::UserWarning")  # numpy on headers of old versions
def test_npz_members_of_any_header(tmp_path):

    @many
    @given(st.binary(max_size=80), st.sampled_from((b"\x93NUMPY\x01\x00", b"\x93NUMPY\x02\x00", b"")))
    def check(data, magic):
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}" if len(data) % 2 else data
            archive.writestr("x.npy", magic + len(header).to_bytes(2, "little") + header + data)
        try:
            files.read(tmp_path / "a.npz")
        except UserError as error:
            check_line(error)

    check()
