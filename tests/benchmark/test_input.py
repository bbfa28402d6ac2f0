"""Inputs are loaded as they say; no test asserts how long anything takes."""

import dataclasses
import types
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from torchvision_reference import import_torchvision

from ncl_jax import config, methods, negatives, parallel, state  # noqa: F401
from ncl_jax.benchmark import input as input_benchmark
from ncl_jax.benchmark.result import Options
from ncl_jax.benchmark.timing import Timing
from ncl_jax.data import datasets
from ncl_jax.errors import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for index in range(16):
        path = root / "train" / "ab"[index % 2] / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(path)
    return f"folder:{root}"


@pytest.fixture
def settings(folder):
    return config.parse(
        {
            "batch": 8,
            "data": {"name": folder, "image_size": 32},
            "method": {"name": "moco", "queue_size": 8},
            "evaluation": {"resize": 32},
        }
    )


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    over = parallel.data_mesh
    monkeypatch.setattr(parallel, "data_mesh", lambda devices=None: over(devices or jax.devices()[:1]))


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("cache", ["none", "device"])
def test_records_to_device_and_the_wait_of_a_step(settings, monkeypatch, cache, devices):
    """With a step that only counts, instead of a network; its state is split where there are several devices."""
    counted, mesh = [], parallel.data_mesh(jax.devices()[:devices])
    monkeypatch.setattr(parallel, "data_mesh", lambda: mesh)

    def uncompiled(config, mesh, *, num_classes):
        counted.append(num_classes)

        def step(current, batch):
            assert batch["query"].shape == (8, 32, 32, 3)
            loss = jnp.mean(batch["query"].astype(jnp.float32))
            return dataclasses.replace(current, step=current.step + 1), {"loss": loss}

        fresh = state.TrainState(jnp.zeros((), jnp.int32), jax.random.key(0), jnp.ones((64, 256)), {}, (), None)
        return step, jax.device_put(fresh, state.shardings(config, fresh, mesh))

    monkeypatch.setattr(input_benchmark.program, "uncompiled", uncompiled)
    settings = dataclasses.replace(
        settings,
        data=dataclasses.replace(settings.data, cache=cache),
        optim=dataclasses.replace(settings.optim, shard_state=True),
    )
    result = input_benchmark.run(Options(settings, seconds=0.01))
    (ours,), (waits,) = result.tables.values()
    assert ours["input"] == "ours"
    assert ours["images/s"] > 0
    assert counted == [2]
    assert waits["data.cache"] == cache
    assert waits["steps"] >= input_benchmark.LEAST
    assert 0 <= float(waits["input wait"].rstrip("%")) <= 100
    assert (waits["waiting for input (ms)"] == 0) == (cache == "device")


def test_a_row_counts_images_per_core(settings, monkeypatch):
    monkeypatch.setattr(input_benchmark.workers, "cores", lambda: 4)
    row = input_benchmark._row("theirs", Timing(1.0, (0.5,)), settings, Timing(1.0, (0.25,)))
    assert (row["images/s"], row["images/s per core"], row["our speed / theirs"]) == (16.0, 4.0, 2.0)


def test_a_burst_is_shared_by_its_batches(monkeypatch):
    monkeypatch.setattr(input_benchmark.workers, "cores", lambda: 2)
    loaded = []

    class Batch:
        pass

    def load():
        assert sum(batch() is not None for batch in loaded) <= 1  # but for the last one, batches are let go
        loaded.append(weakref.ref(batch := Batch()))
        return batch

    def measure_one(call, seconds):
        assert call() is loaded[-1]()
        return Timing(16.0, (8.0,))

    monkeypatch.setattr(input_benchmark.timing, "measure_one", measure_one)
    each = input_benchmark._each(load, 1.0)
    assert each.median == 8.0 / len(loaded)


def test_peers_load_two_views_of_each_image(settings, monkeypatch):
    import_torchvision()
    from ncl_jax.benchmark import torch_loader

    asked = {}

    def loader(torch, paths, transform, batch):
        asked[batch] = paths
        return torch_loader.TwoViews(paths, transform)

    monkeypatch.setattr(torch_loader, "_loader", loader)
    data = datasets.open_dataset(settings.data.name, "train")
    made = torch_loader.loaders(data, settings)
    assert asked == {8: data.paths}
    assert len(made) == 2
    for views in made.values():
        one, two = views[3]
        assert one.shape == two.shape == (3, 32, 32)
        assert str(one.dtype) == "torch.uint8"
        assert (one != two).any()
        assert len(views) == 16


def test_peers_need_image_files(settings):
    import_torchvision()
    from ncl_jax.benchmark import torch_loader

    with pytest.raises(UserError, match="folder:PATH"):
        torch_loader.loaders(types.SimpleNamespace(paths=(), name="cifar10"), settings)


@pytest.mark.parametrize("recipe", ["moco_v1", "byol"])
def test_peers_have_one_recipe(settings, recipe):
    import_torchvision()
    from ncl_jax.benchmark import torch_loader

    other = dataclasses.replace(settings, augment=dataclasses.replace(settings.augment, recipe=recipe))
    data = datasets.open_dataset(settings.data.name, "train")
    with pytest.raises(UserError, match=f"config.augment.recipe = {recipe} has no counterpart"):
        torch_loader.loaders(data, other)
