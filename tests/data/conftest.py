import pytest
from builders import Jpegs, Unlabelled, encoded, picture

from ncl_jax.data import prepared


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A TFDS folder with `jpegs` and `unlabelled`."""
    folder = tmp_path_factory.mktemp("tfds")
    for builder in (Jpegs, Unlabelled):
        prepared.prepare(lambda builder=builder: builder(data_dir=str(folder)))
    return folder


@pytest.fixture(scope="session")
def array_dir(tmp_path_factory):
    """A TFDS folder with `jpegs` as array_record."""
    folder = tmp_path_factory.mktemp("array")
    Jpegs(data_dir=str(folder), file_format="array_record").download_and_prepare()
    return folder


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """An image folder: train with 3 and val with 1 image of each of cat and dog."""
    root = tmp_path_factory.mktemp("folder")
    for split, count in (("train", 3), ("val", 1)):
        for label in ("cat", "dog"):
            (root / split / label).mkdir(parents=True)
            for index in range(count):
                (root / split / label / f"{index}.jpg").write_bytes(encoded(picture(index)))
    return root
