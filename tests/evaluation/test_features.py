"""Extraction drops nothing and does not depend on batch size or devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncl_jax import config, parallel
from ncl_jax.errors import UserError
from ncl_jax.evaluation import features
from ncl_jax.evaluation.subject import Encoder

IMAGES = np.random.default_rng(0).integers(0, 256, (37, 4, 4, 3), np.uint8)
LABELS = np.arange(37) % 5


def batches(size, pad=True):
    for start in range(0, len(IMAGES), size):
        image, label = IMAGES[start : start + size], LABELS[start : start + size]
        missing = size - len(image) if pad else 0
        yield {
            "image": np.pad(image, ((0, missing), (0, 0), (0, 0), (0, 0))),
            "label": np.pad(label, (0, missing)),
            "shape": np.pad(label + 7, (0, missing)).astype(np.int64),
            "mask": np.arange(size if pad else len(image)) < len(image),
        }


@jax.jit
def encode(images):
    x = images.astype(jnp.float32).reshape(len(images), -1)
    return jnp.stack([x.mean(axis=1), x.max(axis=1)], axis=1)


def mesh_sharding(count):
    return parallel.batch_sharding(parallel.data_mesh(jax.devices()[:count]))


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize(("size", "pad"), [(8, True), (10, True), (10, False), (64, True)])
def test_every_image_once_in_order(devices, size, pad):
    got = features.extract(encode, batches(size, pad), sharding=mesh_sharding(devices))
    flat = IMAGES.reshape(37, -1).astype(np.float64)
    np.testing.assert_allclose(got["features"], np.stack([flat.mean(1), flat.max(1)], 1), rtol=1e-6)
    np.testing.assert_array_equal(got["label"], LABELS)
    np.testing.assert_array_equal(got["shape"], LABELS + 7)
    assert got["label"].dtype == got["shape"].dtype == np.int32
    assert set(got) == {"features", "label", "shape"}


def test_a_batch_is_dispatched_before_the_previous_one_is_fetched():
    log = []

    class Result:
        def __init__(self, index):
            self.index = index

        def __array__(self, dtype=None, copy=None):
            log.append(f"fetch {self.index}")
            return np.zeros((8, 1), np.float32)

    def record(images):
        log.append(f"dispatch {sum(line.startswith('dispatch') for line in log)}")
        return Result(len(log) - 1 - sum(line.startswith("fetch") for line in log))

    features.extract(record, batches(8), sharding=mesh_sharding(1))
    assert log[:4] == ["dispatch 0", "dispatch 1", "fetch 0", "dispatch 2"]
    assert log[-1] == "fetch 4"


def test_nothing_comes_and_nonsense_comes():
    with pytest.raises(UserError, match="no images"):
        features.extract(encode, iter(()), sharding=mesh_sharding(1))
    with pytest.raises(UserError, match="37 of 37 images give values that are not finite"):
        features.extract(lambda x: encode(x) / 0.0, batches(8), sharding=mesh_sharding(1))


class Linear:
    """Stands for a model: the mean colour times a weight, and a mode that must be eval."""

    def apply(self, variables, x, train):
        assert not train
        return x.mean(axis=(1, 2)) * variables["params"]["w"][None, :]


@pytest.mark.parametrize("devices", [1, 8])
def test_encoder_normalises_and_is_in_eval_mode(devices):
    encoder = Encoder(config.parse({}), parallel.data_mesh(jax.devices()[:devices]), Linear())
    variables = {"params": {"w": jnp.array([1.0, 2.0, 3.0])}}
    got = features.extract(
        lambda images: encoder.encode(variables, images), batches(8), sharding=parallel.batch_sharding(encoder.mesh)
    )["features"]
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    want = ((IMAGES / 255.0 - mean) / std).mean((1, 2)) * np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
