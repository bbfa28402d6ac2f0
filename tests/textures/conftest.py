"""Shared by the tests of texture datasets."""

import pytest
from builders import Jpegs
from textures import builds

from ncl_jax.data import prepared
from ncl_jax.textures import build


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    prepared.prepare(lambda: Jpegs(data_dir=str(folder)))
    return folder


@pytest.fixture
def few(monkeypatch):
    """Files of at most 10 textures."""
    monkeypatch.setattr(build, "SHARD", 10)


@pytest.fixture(scope="session")
def built(data_dir):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "SHARD", 10)
        folder, complete = build.build(*builds.plan(data_dir))
    assert complete
    assert len(builds.files(folder)) == 12 + 4  # recipe, info, features, label names
    return folder
