"""Names and shapes: PyTorch's keys of a ResNet against the tree of `ncl_jax.models.ResNet`.

torchvision's key is the common name of a tensor. Other styles (detectron2's, a plain `Sequential`) map to it and back.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from ncl_jax.errors import UserError
from ncl_jax.models.resnet import ARCHITECTURES, STEMS

Shape = tuple[int, ...]
COUNTER = "num_batches_tracked"
_NORM = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}
_TO_TORCH = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def expected(architecture: str, width: float, side: int) -> dict[str, Shape]:
    """Every key of a backbone with its PyTorch shape, in PyTorch's order; `side` is that of the first kernel."""
    bottleneck, stages = ARCHITECTURES[architecture]

    def conv(name: str, out: int, inner: int, side: int) -> Iterator[tuple[str, Shape]]:
        yield f"{name}.weight", (out, inner, side, side)

    def norm(name: str, channels: int) -> Iterator[tuple[str, Shape]]:
        yield from ((f"{name}.{leaf}", (channels,)) for leaf in _NORM)

    def entries() -> Iterator[tuple[str, Shape]]:
        before = round(64 * width)
        yield from conv("conv1", before, 3, side)
        yield from norm("bn1", before)
        for stage, blocks in enumerate(stages):
            inner = round(64 * 2**stage * width)
            wide = inner * (4 if bottleneck else 1)
            for index in range(blocks):
                block = f"layer{stage + 1}.{index}"
                sides = (1, 3, 1) if bottleneck else (3, 3)
                outs = (inner,) * (len(sides) - 1) + (wide,)
                ins = (before, *outs[:-1])
                for n, (o, i, k) in enumerate(zip(outs, ins, sides, strict=True), start=1):
                    yield from conv(f"{block}.conv{n}", o, i, k)
                    yield from norm(f"{block}.bn{n}", o)
                if index == 0 and (stage > 0 or before != wide):
                    yield from conv(f"{block}.downsample.0", wide, before, 1)
                    yield from norm(f"{block}.downsample.1", wide)
                before = wide

    return dict(entries())


def infer(tensors: Mapping[str, np.ndarray], show: Callable[[str], str] = str) -> tuple[str, float, int]:
    """(architecture, width, side of the first kernel) of a backbone by its torchvision keys, all shapes checked.

    Raises UserError for a backbone that is none of ours, with the first wrong key as `show` prints it.
    """
    if "conv1.weight" not in tensors:
        deep = "conv1.0.weight" in tensors
        hint = "a deep stem of several convolutions is not supported" if deep else "expected the first convolution"
        raise UserError(f"{show('conv1.weight')}: missing; {hint}")
    first = tensors["conv1.weight"]
    if first.ndim != 4 or first.shape[1] != 3 or first.shape[2] != first.shape[3]:
        raise UserError(
            f"{show('conv1.weight')}: shape {_shape(first.shape)}, expected (channels, 3, side, side) of an RGB stem"
        )
    side = first.shape[2]
    if side not in {kernel for kernel, _, _ in STEMS.values()}:
        raise UserError(f"{show('conv1.weight')}: a {side} x {side} stem; expected 7 x 7 or 3 x 3")
    blocks = {m.groups() for name in tensors if (m := re.match(r"layer(\d)\.(\d+)\.", name))}
    counts = tuple(max((int(b) + 1 for s, b in blocks if s == str(stage)), default=0) for stage in range(1, 5))
    bottleneck = "layer1.0.conv3.weight" in tensors
    found = [name for name, shape in ARCHITECTURES.items() if shape == (bottleneck, counts)]
    if not found:
        kind = "bottleneck" if bottleneck else "basic"
        known = ", ".join(f"{n} {c}" for n, (b, c) in ARCHITECTURES.items() if b == bottleneck)
        raise UserError(f"{show('layer1.0.conv1.weight')}: {kind} blocks {counts} per stage; known: {known}")
    architecture = found[0]
    width = _width(architecture, tensors)
    _check(tensors, expected(architecture, width, side), show, architecture)
    return architecture, width, side


def stems(side: int, given: str | None) -> list[str]:
    """The stems whose first convolution has this side; UserError where one is `given` that is none of them."""
    fitting = [name for name, (kernel, _, _) in STEMS.items() if kernel == side]
    if given is not None and given not in fitting:
        raise UserError(f"stem {given!r}: the first convolution is {side} x {side}; expected {' or '.join(fitting)}")
    return fitting


def _width(architecture: str, tensors: Mapping[str, np.ndarray]) -> float:
    """The roundest multiplier whose stages are as wide as these."""
    last, times = (3, 4) if ARCHITECTURES[architecture][0] else (2, 1)  # of a block: its convolution, its expansion
    wide = [len(tensors[k]) // times if (k := f"layer{s}.0.bn{last}.weight") in tensors else 0 for s in range(1, 5)]
    exact = (wide[3] or 512) / 512
    for width in [*(round(exact, digits) for digits in range(1, 5)), exact]:
        if [round(64 * 2**s * width) for s in range(4)] == wide:
            return width
    return max(len(tensors["conv1.weight"]), 1) / 64


def _check(tensors: Mapping[str, np.ndarray], shapes: Mapping[str, Shape], show: Callable, architecture: str) -> None:
    for name, shape in shapes.items():
        if name not in tensors:
            raise UserError(f"{show(name)}: missing; {architecture} expects shape {_shape(shape)}")
        if tensors[name].shape != shape:
            raise UserError(
                f"{show(name)}: shape {_shape(tensors[name].shape)}, {architecture} expects {_shape(shape)}"
            )
    for name, tensor in tensors.items():
        if name.endswith(COUNTER):
            if tensor.size != 1:
                raise UserError(f"{show(name)}: shape {_shape(tensor.shape)}, expected one number")
        elif name not in shapes:
            raise UserError(f"{show(name)}: unexpected; {architecture} has no such tensor")


def _shape(shape: Shape) -> str:
    return "(" + ", ".join(map(str, shape)) + ")"


def to_tree(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """{"params", "batch_stats"} of our ResNet from checked torchvision tensors (a copy, float32)."""
    tree: dict[str, Any] = {"params": {}, "batch_stats": {}}
    for name, value in tensors.items():
        *parts, leaf = name.split(".")
        if leaf == COUNTER:
            continue
        if parts[0].startswith("layer"):
            parts = [f"{parts[0]}_{parts[1]}", *parts[2:]]
        if parts[-2:] in (["downsample", "0"], ["downsample", "1"]):
            parts[-2:] = ["downsample_conv" if parts[-1] == "0" else "downsample_bn"]
        value = np.asarray(value, np.float32)
        if value.ndim == 4:
            leaf, value = "kernel", value.transpose(2, 3, 1, 0)  # OIHW -> HWIO
        else:
            leaf = _NORM[leaf]
        node = tree["batch_stats" if leaf in ("mean", "var") else "params"]
        for part in parts:
            node = node.setdefault(part, {})
        node[leaf] = np.array(value, order="C")
    return tree


def from_tree(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """torchvision's keys and axis order, in no particular order, of our ResNet's variables or parts of them."""
    tensors = {}
    for path, value in _leaves({k: variables[k] for k in ("params", "batch_stats") if k in variables}):
        _, *parts, leaf = path
        parts = [re.sub(r"^(layer\d)_(\d+)$", r"\1.\2", part) for part in parts]
        parts = [{"downsample_conv": "downsample.0", "downsample_bn": "downsample.1"}.get(p, p) for p in parts]
        value = np.asarray(value, np.float32)
        value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value
        tensors[".".join([*parts, _TO_TORCH.get(leaf, leaf)])] = np.array(value, order="C")
    return tensors


def _leaves(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key), value


def to_detectron2(name: str) -> str:
    """`layer1.0.bn2.weight` -> `res2.0.conv2.norm.weight`; `conv1.weight` -> `stem.conv1.weight`."""
    name = re.sub(r"^layer(\d)", lambda m: f"res{int(m[1]) + 1}", name)
    name = name if name.startswith("res") else f"stem.{name}"
    name = re.sub(r"\bbn(\d)\.", r"conv\1.norm.", name)
    return name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")


def from_detectron2(name: str) -> str:
    """The inverse of `to_detectron2`."""
    name = re.sub(r"^res(\d)", lambda m: f"layer{int(m[1]) - 1}", name.removeprefix("stem."))
    name = name.replace("shortcut.norm", "downsample.1").replace("shortcut", "downsample.0")
    return re.sub(r"\bconv(\d)\.norm\.", r"bn\1.", name)


_SEQUENCE = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
_POSITION = {name: index for index, name in _SEQUENCE.items()}


def to_sequence(name: str) -> str:
    """`layer1.0.conv1.weight` -> `4.0.conv1.weight`: `Sequential(*resnet.children())`, as lightly's users build it."""
    first, _, rest = name.partition(".")
    return f"{_POSITION.get(first, first)}.{rest}"


def from_sequence(name: str) -> str:
    """The inverse of `to_sequence`."""
    first, _, rest = name.partition(".")
    return f"{_SEQUENCE.get(first, first)}.{rest}"


# style -> (file's key to torchvision's, torchvision's to the file's)
STYLES: dict[str, tuple[Callable[[str], str], Callable[[str], str]]] = {
    "torchvision": (str, str),
    "detectron2": (from_detectron2, to_detectron2),
    "sequence": (from_sequence, to_sequence),
}
