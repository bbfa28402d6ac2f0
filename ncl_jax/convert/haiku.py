"""Names of a Haiku ResNet, as DeepMind's BYOL trains it: flat keys such as
`online_params/res_net50/~/block_group_0/~/block_1/~/conv_2/w`, to PyTorch's."""

import re
from collections.abc import Mapping

import numpy as np

_KEY = re.compile(
    r"(?P<before>(?:.*[/.])?)(?P<network>(?!~|block_)[^/.]+)/~/"
    r"(?:block_group_(?P<stage>\d)/~/block_(?P<block>\d+)/~/)?"
    r"(?P<layer>initial_conv|initial_batchnorm|conv_\d|batchnorm_\d|shortcut_conv|shortcut_batchnorm|logits)"
    r"(?:/~/(?P<ema>mean|var)_ema)?[/.](?P<leaf>w|b|scale|offset|average|hidden|counter)"
)
_HEAD = re.compile(
    r"(?P<before>(?:.*[/.])?)(?P<head>projector|predictor)/(?P<kind>linear|batch_norm)(?:_(?P<number>\d+))?"
    r"(?:/~/(?P<ema>mean|var)_ema)?[/.](?P<leaf>w|b|scale|offset|average|hidden|counter)"
)
_LEAVES = {"w": "weight", "b": "bias", "scale": "weight", "offset": "bias"}


def translate(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray] | None:
    """PyTorch keys under `online.backbone.`, `target.backbone.`, ..., and its axis order; None where it is no Haiku
    ResNet. Keys that are none of its are kept as they are; the EMAs' counters are dropped."""
    if not any((m := _KEY.fullmatch(key)) and m["layer"] == "initial_conv" for key in tensors):
        return None
    result = {}
    for key, value in tensors.items():
        match = _KEY.fullmatch(key)
        head = None if match else _HEAD.fullmatch(key)
        found = match or head
        if found is None:
            result[key] = value
            continue
        leaf = found["leaf"]
        if leaf in ("hidden", "counter") or (leaf == "average" and not found["ema"]):
            continue
        if leaf != "w":
            value = value.reshape(-1)  # Haiku keeps axes of length 1
        elif value.ndim in (2, 4):
            value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
        leaf = f"running_{found['ema']}" if found["ema"] else _LEAVES[leaf]
        root = "target" if "target" in found["before"] else "online"
        result[f"{root}.{_layer(found) if match else _head(found)}.{leaf}"] = value
    return result


def _layer(match: re.Match[str]) -> str:
    layer = match["layer"]
    if layer == "logits":
        return "backbone.fc"
    name = {
        "initial_conv": "conv1",
        "initial_batchnorm": "bn1",
        "shortcut_conv": "downsample.0",
        "shortcut_batchnorm": "downsample.1",
    }.get(layer)
    if name is None:
        kind, number = layer.split("_")
        name = f"{'conv' if kind == 'conv' else 'bn'}{int(number) + 1}"
    block = f"layer{int(match['stage']) + 1}.{match['block']}." if match["stage"] else ""
    return f"backbone.{block}{name}"


def _head(match: re.Match[str]) -> str:
    """Haiku counts every kind of layer on its own; PyTorch's `Sequential` is linear, norm, ReLU, linear."""
    number = int(match["number"] or 0)
    return f"{match['head']}.{3 * number + (match['kind'] == 'batch_norm')}"
