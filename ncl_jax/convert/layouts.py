"""Which framework wrote a checkpoint, told by its keys, and what of it is what."""

import dataclasses
import json
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ncl_jax.convert import files, haiku, mlp, names, sgd
from ncl_jax.convert.network import Network
from ncl_jax.errors import UserError

log = logging.getLogger(__name__)

_ANCHOR = re.compile(r"(?P<prefix>(?:.*\.)?)(?P<first>layer1|res2|4)\.0\.conv1\.weight")
_STYLE = {"layer1": "torchvision", "res2": "detectron2", "4": "sequence"}
_EMA = re.compile(r"encoder_k|momentum|target|teacher|ema(?![a-z])")
_AFTER = re.compile(r"(projection_head|prototypes)\.")  # SwAV and DeepCluster-v2 keep them among the backbone's layers
_OPTIMIZER = ("optimizer", "optimizer_states", "optimizer_state_dict")
_CONTAINERS = r"^(state_dict|model|model_state|model_state_dict|net)\."


@dataclasses.dataclass(frozen=True)
class _Layout:
    """How a framework names its parts. Prefixes are what follows the containers that a file wraps its weights in."""

    name: str
    online: str  # pattern of the backbone's prefix
    sibling: str = ""  # and of a key that must be there too
    target: tuple[str, str] = ("", "")  # (part of the online prefix, what the EMA network has there)
    heads: tuple[tuple[str, str], ...] = ()  # (our name, prefix: `.` stands for the backbone's, `/` for its parent's)
    padding: str = "torch"


_LAYOUTS = (
    _Layout("MoCo", r"(module\.)?encoder_q\.", "", ("encoder_q", "encoder_k"), (("head", ".fc."),)),
    _Layout(
        "MoCo-v3",
        r"(module\.)?base_encoder\.",
        "",
        ("base_encoder", "momentum_encoder"),
        (("projector", ".fc."), ("predictor", "/predictor.")),
    ),
    _Layout(
        "lightly",
        r"(backbone|resnet|model\.backbone)\.",
        r"projection_head\.|prediction_head\.",
        ("backbone", "backbone_momentum|momentum_backbone|teacher_backbone"),
        (("projector", "/projection_head."), ("predictor", "/prediction_head.")),
    ),
    _Layout(
        "solo-learn",
        r"(backbone|encoder)\.",
        r"projector\.|momentum_projector\.|classifier\.|momentum_backbone\.",
        ("backbone|encoder", "momentum_backbone|momentum_encoder"),
        (("projector", "/projector."), ("predictor", "/predictor.")),
    ),
    _Layout(
        "BYOL (Haiku)",
        r"online\.backbone\.",
        "",
        ("online", "target"),
        (("projector", "/projector."), ("predictor", "/predictor.")),
        "same",
    ),
    _Layout(
        "SimSiam",
        r"(module\.)?encoder\.",
        r"(module\.)?predictor\.",
        ("", ""),
        (("projector", ".fc."), ("predictor", "/predictor.")),
    ),
)


def load_torch(path: str | os.PathLike, *, stem: str | None = None) -> Network:
    """Read a ResNet from a PyTorch checkpoint (`.pth`, `.safetensors`) or an `.npz` with the same or Haiku's keys.

    torchvision, timm, MoCo (v1 to v3; the paper's), lightly, solo-learn, SimSiam, detectron2, DeepMind's BYOL, and any
    other file with one torchvision ResNet under some prefix. `stem` (`medium` or `small`) tells how a 3x3 first
    convolution is used, which no key shows; files of `save_torch` that have a place for it say so themselves.

    Raises UserError, one line with the key and what was expected, for anything but a plain ResNet's checkpoint.
    """
    return load(path, stem=stem)[0]


def load(path: str | os.PathLike, *, stem: str | None = None) -> tuple[Network, dict[str, np.ndarray]]:
    """`load_torch`, with the file's tensors by its own keys, dots between the levels; Haiku's by those of PyTorch."""
    path = Path(path).expanduser()
    tree = files.read(path)
    note = tree.pop("ncl_jax", None) or {}
    tensors = _flat({k: v for k, v in tree.items() if k not in _OPTIMIZER})
    translated = haiku.translate(tensors)
    tensors = translated if translated is not None else tensors
    try:
        return _network(path, tree, tensors, note, stem), tensors
    except UserError as error:
        raise error if str(error).startswith(str(path)) else UserError(f"{path}: {error}") from None


def _network(path: Path, tree: dict, tensors: dict[str, np.ndarray], note: Mapping[str, Any], stem: str | None):
    prefix, style = _backbone(tensors)
    container = ""
    while match := re.match(_CONTAINERS, prefix[len(container) :]):
        container += match[0]
    layout = _recognise(prefix[len(container) :], [k[len(container) :] for k in tensors if k.startswith(container)])
    used: set[str] = set()
    heads = _heads(tensors, prefix, layout, used)
    kept, classifier = _variables(tensors, prefix, style, used)
    architecture, width, side = names.infer(kept, lambda name: prefix + names.STYLES[style][1](name))

    # (A predictor follows the projector.)
    layers = {name: head["params"]["fc0"] for name, head in heads.items() if name != "predictor"}
    _check_features(architecture, width, side, layers | ({f"{prefix}fc": classifier} if classifier else {}))
    target = None
    if layout and layout.target[0]:
        target = _target(tensors, prefix, style, layout, heads, used, architecture)
    parent = _parent(prefix)
    queue, pointer = tensors.get(f"{parent}queue"), tensors.get(f"{parent}queue_ptr", np.zeros(1))
    if queue is not None and queue.ndim == 2 and heads and layout and layout.name == "MoCo":
        used |= {f"{parent}queue", f"{parent}queue_ptr"}
        queue = np.array(queue.T, np.float32, order="C")
        if pointer.size != 1 or not 0 <= pointer < len(queue):
            raise UserError(f"{parent}queue_ptr: {pointer.tolist()}, expected one place of the {len(queue)} of queue")
    else:
        queue = None
    momentum, settings = None, {}
    if layout and layout.name == "MoCo" and isinstance(tree.get("optimizer"), Mapping):
        momentum, settings = sgd.read(tree["optimizer"], tensors, container, prefix, heads)
    epoch = tree.get("epoch")
    return Network(
        architecture=architecture,
        variables=names.to_tree(kept),
        width=width,
        stem=_stem(path, side, note.get("stem"), stem),
        padding=_padding(layout, side),
        layout=_layout_name(path, layout, style, prefix[len(container) :], ours=bool(note)),
        classifier=classifier,
        heads=heads,
        target=target,
        queue=queue,
        pointer=int(pointer.item()) if queue is not None else 0,
        momentum=momentum,
        sgd=settings,
        epoch=epoch if isinstance(epoch, int) else None,
        batches=int(np.asarray(kept.get(f"bn1.{names.COUNTER}", 0)).item()),
        prefix=prefix,
        style=style,
        ignored=tuple(key for key in tensors if key not in used),
    )


def _check_features(architecture: str, width: float, side: int, layers: Mapping[str, Any]) -> None:
    """UserError where a linear layer, by its name, does not take what this backbone gives."""
    *_, (features,) = names.expected(architecture, width, side).values()  # of the last batch norm
    for name, layer in layers.items():
        found = len(layer["kernel"])
        if found != features:
            raise UserError(f"{name}: takes {found} features, {architecture} of width {width:g} has {features}")


def _padding(layout: _Layout | None, side: int) -> str:
    """Of `ncl_jax.models.ResNet`: what a framework does is in no key."""
    if layout and layout.name == "solo-learn" and side == 3:
        return "wide"
    return layout.padding if layout else "torch"


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """Nested dicts to dotted keys; what is no array is left out."""
    flat: dict[str, np.ndarray] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        elif isinstance(value, np.ndarray):
            flat[f"{prefix}{key}"] = value
    return flat


def _backbone(tensors: Mapping[str, np.ndarray]) -> tuple[str, str]:
    """(prefix, style) of the ResNet that the file is about: the trained one, not its EMA."""
    found = [(m["prefix"], _STYLE[m["first"]]) for key in tensors if (m := _ANCHOR.fullmatch(key))]
    # `4.0.conv1` inside another network would be somebody else's; it must start with a convolution at 0.
    found = [(p, s) for p, s in found if s != "sequence" or f"{p}0.weight" in tensors]
    if found:
        return min(found, key=lambda pair: bool(_EMA.search(pair[0])))
    if not tensors:
        raise UserError("holds no tensors; expected a ResNet's state_dict")
    attention = next((k for k in tensors if re.search(r"patch_embed\.|\.attn\.|self_attention|cls_token", k)), None)
    if attention:
        raise UserError(f"{attention}: a vision transformer; expected a ResNet (layer1.0.conv1.weight)")
    raise UserError(f"{next(iter(tensors))}: no ResNet; expected a key that ends in layer1.0.conv1.weight")


def _recognise(prefix: str, keys: list[str]) -> _Layout | None:
    for layout in _LAYOUTS:
        if re.fullmatch(layout.online, prefix) and (
            not layout.sibling or any(re.match(layout.sibling, key) for key in keys)
        ):
            return layout
    return None


def _layout_name(path: Path, layout: _Layout | None, style: str, prefix: str, *, ours: bool) -> str:
    if layout:
        return layout.name
    if style == "detectron2":  # by its own defaults images are BGR and not scaled, and strides are elsewhere
        return "detectron2" if ours else "detectron2 (taken to be of STRIDE_IN_1X1 False, RGB, PIXEL_STD as ImageNet's)"
    if style == "torchvision" and prefix in ("", "module."):
        config = (path if path.is_dir() else path.parent) / "config.json"
        try:
            return "timm" if "architecture" in json.loads(config.read_text()) else "torchvision"
        except (OSError, ValueError, TypeError):
            return "torchvision"
    return f"weights under {prefix!r}" if prefix else "a Sequential of torchvision's layers"


def _parent(prefix: str) -> str:
    return prefix[: prefix[:-1].rfind(".") + 1]


def _heads(
    tensors: Mapping[str, np.ndarray], prefix: str, layout: _Layout | None, used: set[str]
) -> dict[str, dict[str, Any]]:
    """Heads that are MLPs, by our names; their keys are added to `used`."""
    heads = {}
    for name, place in layout.heads if layout else ():
        start = (prefix if place[0] == "." else _parent(prefix)) + place[1:]
        keys = [key for key in tensors if key.startswith(start)]
        head = mlp.read({key[len(start) :]: tensors[key] for key in keys}) if keys else None
        if head:
            heads[name] = head
            used |= set(keys)
    return heads


def _variables(
    tensors: Mapping[str, np.ndarray], prefix: str, style: str, used: set[str]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray] | None]:
    """The backbone's tensors by torchvision's names, and the linear classifier where there is one."""
    inner = {key: names.STYLES[style][0](key[len(prefix) :]) for key in tensors if key.startswith(prefix)}
    if style == "torchvision":
        inner = {key: name for key, name in inner.items() if not _AFTER.match(name)}
    else:  # frameworks that have their other modules beside the network's layers
        own = re.compile(r"(conv1|bn1|fc|layer\d)\.|(conv1|bn1)$")
        inner = {key: name for key, name in inner.items() if own.match(name)}
    kept = {name: tensors[key] for key, name in inner.items() if key not in used and not name.startswith("fc.")}
    linear = {name[3:]: tensors[key] for key, name in inner.items() if key not in used and name.startswith("fc.")}
    classifier = None
    if linear:
        if linear.get("weight", np.zeros(0)).ndim != 2 or set(linear) - {"weight", "bias"}:
            raise UserError(f"{prefix}fc.{next(iter(linear))}: no linear classifier; expected fc.weight and fc.bias")
        classifier = mlp.linear(linear)
    used |= set(inner)
    return kept, classifier


def _target(tensors, prefix, style, layout, heads, used, architecture) -> dict[str, Any] | None:
    old, new = layout.target
    for part in new.split("|"):
        other = re.sub(rf"({old})\.$|\b({old})\.(?=backbone\.$)", f"{part}.", prefix)
        if other == prefix or not any(m["prefix"] == other for key in tensors if (m := _ANCHOR.fullmatch(key))):
            continue
        # A head beside the backbones, not in them, is the online network's.
        apart = _parent(other) != _parent(prefix)
        own = tuple((name, place) for name, place in layout.heads if apart or place[0] == ".")
        networks = _heads(tensors, other, dataclasses.replace(layout, heads=own), used)
        kept, _ = _variables(tensors, other, style, used)
        same, _, _ = names.infer(kept, lambda name, other=other: other + names.STYLES[style][1](name))
        if same != architecture:
            raise UserError(f"{other}: is a {same}, expected {architecture} like {prefix}")
        networks = {"backbone": names.to_tree(kept)} | networks
        return {name: networks[name] for name in ("backbone", *heads) if name in networks}
    return None


def _stem(path: Path, side: int, noted: Any, given: str | None) -> str:
    """The name of the stem; a 3x3 convolution is `small` unless the file or the caller says otherwise."""
    fitting = names.stems(side, given)
    if given is None and noted in fitting:
        return noted
    if given is None and len(fitting) > 1:
        log.warning(
            "%s: does not say what the stride of its 3x3 first convolution is: taken for 1, stem small; where it is 2, "
            "give stem medium",
            path,
        )
    return given or ("small" if "small" in fitting else fitting[0])
