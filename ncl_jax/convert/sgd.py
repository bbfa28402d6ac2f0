"""The state of PyTorch's SGD, both ways. It numbers parameters in the order in which the whole model has them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ncl_jax.convert import mlp, names
from ncl_jax.errors import UserError

_SETTINGS = {"lr": 0.03, "momentum": 0.9, "weight_decay": 1e-4}  # what MoCo's scripts have
_NO_PARAMETERS = re.compile(r"(^|\.)(running_mean|running_var|num_batches_tracked|queue|queue_ptr)$")


def read(
    optimizer: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    container: str,
    prefix: str,
    heads: Mapping[str, Any],
) -> tuple[dict[str, Any] | None, dict[str, float]]:
    """(name -> buffers shaped as that network's params, settings by PyTorch's names); (None, {}) where there are none.

    `tensors` are the file's in its order; the model's keys start with `container`, the trained encoder's with `prefix`.
    Raises UserError for a buffer of another shape than its parameter.
    """
    groups, state = optimizer.get("param_groups"), optimizer.get("state")
    if not isinstance(groups, list) or len(groups) != 1 or not isinstance(state, Mapping):
        return None, {}  # of several groups no key tells which parameters are whose
    order = groups[0].get("params", [])
    parameters = [key for key in tensors if key.startswith(container) and not _NO_PARAMETERS.search(key)]
    # A script may hand over only the parameters that are trained; the key encoder's come last.
    trained = [key for key in parameters if key.startswith(prefix)]
    parameters = {len(parameters): parameters, len(trained): trained}.get(len(order))
    if parameters is None:
        return None, {}
    found = {}
    for number, key in zip(order, parameters, strict=True):
        if not key.startswith(prefix):
            continue
        buffer = (state.get(number) or {}).get("momentum_buffer")
        if not isinstance(buffer, np.ndarray):
            return None, {}  # Adam, LARS, or no step taken yet
        if buffer.shape != tensors[key].shape:
            raise UserError(
                f"optimizer.state.{number}.momentum_buffer: shape {buffer.shape}, {key} expects {tensors[key].shape}"
            )
        found[key[len(prefix) :]] = buffer
    backbone = {key: value for key, value in found.items() if not key.startswith("fc.")}
    momentum = {"backbone": names.to_tree(backbone)["params"]}
    if "head" in heads:
        head = mlp.read({key[3:]: value for key, value in found.items() if key.startswith("fc.")})
        momentum |= {"head": head["params"]} if head else {}
    values = {name: groups[0].get(name) for name in _SETTINGS}
    return momentum, {name: float(value) for name, value in values.items() if isinstance(value, (int, float))}


def write(buffers: Sequence[np.ndarray], count: int, settings: Mapping[str, float]) -> dict[str, Any]:
    """The `state_dict` of an SGD over `count` parameters, of which the first have these momentum buffers."""
    group = {
        **_SETTINGS,
        **settings,
        "dampening": 0,
        "nesterov": False,
        "maximize": False,
        "foreach": None,
        "differentiable": False,
        "fused": None,
        "params": list(range(count)),
    }
    return {"state": {n: {"momentum_buffer": buffer} for n, buffer in enumerate(buffers)}, "param_groups": [group]}
