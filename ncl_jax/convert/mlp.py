"""Heads: a PyTorch `Sequential` of Linear, BatchNorm1d and ReLU against the tree of `ncl_jax.models.MLP`."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ncl_jax.convert.names import COUNTER
from ncl_jax.convert.network import linear_names


def read(tensors: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
    """{"params", "batch_stats"} from `0.weight`, `0.bias`, `1.running_mean`, ...; None where it is no such MLP.

    A single linear layer is `weight`, `bias`. Linear layers become `fc0, fc1, ...` and a batch norm takes the number
    of the linear layer before it.
    """
    layers: dict[int, dict[str, np.ndarray]] = {}
    for key, value in tensors.items():
        match = re.fullmatch(r"(?:layers\.)?(?:(\d+)\.)?(\w+)", key)
        if not match:
            return None
        layers.setdefault(int(match[1] or 0), {})[match[2]] = value
    params, stats, count = {}, {}, -1
    for _, layer in sorted(layers.items()):
        weight = layer.get("weight")
        if weight is not None and weight.ndim == 2:
            if set(layer) - {"weight", "bias"}:
                return None
            count += 1
            params[f"fc{count}"] = linear(layer)
        elif count >= 0 and "running_mean" in layer and "running_var" in layer:
            stats[f"bn{count}"] = {"mean": _copy(layer["running_mean"]), "var": _copy(layer["running_var"])}
            if weight is not None:
                params[f"bn{count}"] = {"scale": _copy(weight), "bias": _copy(layer["bias"])}
        else:
            return None
    return {"params": params, "batch_stats": stats} if params else None


def linear(layer: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """`kernel` [in out] and `bias` from PyTorch's `weight` [out in] and `bias`."""
    result = {"kernel": _copy(layer["weight"].T)}
    return result | ({"bias": _copy(layer["bias"])} if "bias" in layer else {})


def write(variables: Mapping[str, Any], *, batches: int = 0) -> dict[str, np.ndarray]:
    """PyTorch's keys and shapes in its order: the inverse of `read`, with a place for every ReLU in between.

    The tree of a head's momentum, `{"params": ...}`, gives the parameters' keys alone.
    """
    params, stats = variables["params"], variables.get("batch_stats", {})
    names = linear_names(params)
    tensors: dict[str, np.ndarray] = {}
    index = 0
    for position, name in enumerate(names):
        prefix = f"{index}." if len(names) > 1 or stats else ""
        tensors |= {prefix + k: v for k, v in torch_linear(params[name]).items()}
        norm = f"bn{position}"
        if norm in params or norm in stats:
            index += 1
            if norm in params:
                tensors[f"{index}.weight"] = _copy(params[norm]["scale"])
                tensors[f"{index}.bias"] = _copy(params[norm]["bias"])
            if norm in stats:
                tensors[f"{index}.running_mean"] = _copy(stats[norm]["mean"])
                tensors[f"{index}.running_var"] = _copy(stats[norm]["var"])
                tensors[f"{index}.{COUNTER}"] = np.asarray(batches, np.int64)
        index += 2  # this layer and the ReLU after it
    return tensors


def torch_linear(layer: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """PyTorch's `weight` [out in] and `bias` of a linear layer."""
    result = {"weight": _copy(np.asarray(layer["kernel"]).T)}
    return result | ({"bias": _copy(layer["bias"])} if "bias" in layer else {})


def _copy(value: Any) -> np.ndarray:
    return np.array(value, np.float32, order="C")
