"""A step small enough for tests: its config, its state, its batches."""

import copy

import jax
import numpy as np

from ncl_jax import config as config_lib
from ncl_jax import config_file, methods, optim, parallel, state, step

SIDE = 16
TINY = {
    "batch": 16,
    "epochs": 2,
    "data": {"name": "none", "image_size": SIDE},
    "model": {"name": "resnet10", "width": 0.125, "stem": "small"},
    "method": {"name": "moco", "queue_size": 64, "momentum": 0.9, "hidden_dim": 16, "embedding_dim": 8},
    "negatives": {"patch": {"patch_size": (2, 5), "num": 2}},
    "optim": {"learning_rate": 0.05},
    "augment": {"blur_probability": 0.0},
    "evaluation": {"resize": SIDE},
}


def settings(seed=0, **changes):
    """The config with these changes."""
    raw = copy.deepcopy(TINY) | {"seed": seed}  # `override` changes sections in place
    for key, value in changes.items():
        config_file.override(raw, key, value)
    return config_lib.parse(raw)


def make(devices, seed=0, **changes):
    """(compiled step, fresh state) on that many devices."""
    config = settings(seed, **changes)
    mesh = parallel.data_mesh(jax.devices()[:devices])
    method, optimizer = methods.build(config, 8), optim.optimizer(config, 4)
    fresh = state.create(config, method, optimizer, num_classes=10, mesh=mesh)
    made = step.make_step(config, method, optimizer, steps_per_epoch=4)
    return step.compile_step(made, mesh, state.shardings(config, fresh, mesh)), fresh


def batch(seed, permuted=False, size=16):
    rng = np.random.default_rng(seed)
    order = rng.permutation(size) if permuted else np.arange(size)
    return {
        "query": rng.integers(0, 256, (size, SIDE, SIDE, 3), np.uint8),
        "key": rng.integers(0, 256, (size, SIDE, SIDE, 3), np.uint8),
        "key_order": order.astype(np.int32),
        "label": rng.integers(0, 10, size).astype(np.int32),
        "box": np.tile(np.float32([0, 0, 1, 1]), (size, 1)),
    }


def flat(tree):
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(jax.device_get(tree))])
