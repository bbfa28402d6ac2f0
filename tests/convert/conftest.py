"""State dicts as other frameworks have them: in numpy where keys and shapes are all that matters, else PyTorch's own
modules with weights that are as mild as trained ones."""

import itertools

import numpy as np
import pytest
from torchvision_reference import import_torchvision

from ncl_jax.convert import names


@pytest.fixture(scope="session")
def torchvision():
    return import_torchvision()


@pytest.fixture(scope="session")
def backbone():
    """`backbone(prefix)`: random tensors of a narrow ResNet under torchvision's keys, for what needs no torch."""

    def make(prefix="", *, architecture="resnet18", width=0.125, side=7, seed=0):
        rng = np.random.default_rng(seed)
        shapes = names.expected(architecture, width, side)
        return {prefix + name: rng.normal(0.5, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}

    return make


@pytest.fixture(scope="session")
def mlp():
    """`mlp(prefix, widths, batch_norm=...)`: tensors of a `Sequential` of linear layers, batch norm and ReLU."""

    def make(prefix, widths, *, batch_norm=False):
        rng, tensors, index = np.random.default_rng(1), {}, 0
        for position, (before, after) in enumerate(itertools.pairwise(widths)):
            tensors[f"{index}.weight"] = rng.normal(0, 0.1, (after, before))
            tensors[f"{index}.bias"] = rng.normal(0, 0.1, after)
            if batch_norm and position < len(widths) - 2:
                index += 1
                for leaf in ("weight", "bias", "running_mean", "running_var"):
                    tensors[f"{index}.{leaf}"] = rng.uniform(0.5, 1, after)
            index += 2
        return {prefix + name: value.astype(np.float32) for name, value in tensors.items()}

    return make


@pytest.fixture(scope="session")
def fill():
    """`fill(module, seed)`: random weights and statistics in place. The last batch norm of a block is small, as in
    trained networks: with a fresh network's, a deep one turns float32's rounding into 1e-3 of the features."""
    torch = pytest.importorskip("torch")

    def apply(module, seed=0):
        rng = np.random.default_rng(seed)
        names_ = list(module.state_dict())
        last = {"bn3" if any(".bn3." in name for name in names_) else "bn2"}
        for name, value in module.state_dict().items():
            shape = tuple(value.shape)
            if name.endswith("num_batches_tracked"):
                new = np.full(shape, 7)
            elif name.endswith("running_var"):
                new = rng.uniform(0.5, 1.5, shape)
            elif len(shape) > 1:
                new = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
            else:
                new = rng.normal(0.2 if last & set(name.split(".")) else 0.8, 0.05, shape)
            value.copy_(torch.as_tensor(new).to(value.dtype))
        return module

    return apply
