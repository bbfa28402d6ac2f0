"""Checkpoints that torchvision, timm, MoCo and detectron2 load."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ncl_jax.augment import views
from ncl_jax.convert import files, mlp, names, sgd
from ncl_jax.convert.network import Network, widths
from ncl_jax.errors import UserError
from ncl_jax.models.resnet import ARCHITECTURES

Tensors = dict[str, np.ndarray]
_SUFFIXES = {
    "torchvision": (*files.TORCH_SUFFIXES, ".safetensors", ".npz"),
    "timm": (".safetensors",),
    "moco": files.TORCH_SUFFIXES,
    "detectron2": files.TORCH_SUFFIXES,
}
LAYOUTS = tuple(_SUFFIXES)


def check_layout(layout: str) -> None:
    """UserError for an unknown one."""
    if layout not in _SUFFIXES:
        raise UserError(f"layout {layout!r}: unknown; one of {', '.join(LAYOUTS)}")


def save_torch(
    variables: Network | Mapping[str, Any],
    path: str | os.PathLike,
    layout: str = "torchvision",
    *,
    stem: str | None = None,
) -> list[str]:
    """Write a backbone's variables (`params`, `batch_stats`), or a whole `Network`, for PyTorch.

    * `torchvision`: the bare state_dict, with `fc` where there is a classifier; `.pth`, `.safetensors` or `.npz`.
    * `timm`: a folder with `model.safetensors` and `config.json` for
      `timm.create_model("local-dir:FOLDER", pretrained=True)`, or a `.safetensors` with `config.json` beside it.
    * `moco`: what MoCo's scripts load or resume from: encoders, `fc` heads, queue, optimiser (those that there are; a
      line returned names what is in the way of resuming).
    * `detectron2`: `.pth` with detectron2's names for `MODEL.WEIGHTS`; no pickle of its own kind is needed. The lines
      returned tell the settings that go with it.

    `stem` says how the first convolution is used when bare `variables` have a 3x3 one. Returns lines that tell what
    the layout could not hold or what the reader has to know. Raises UserError where the layout cannot hold the network.
    """
    check_layout(layout)
    network = variables if isinstance(variables, Network) else bare_network(variables, stem=stem)
    path = Path(path).expanduser()
    file = _file(path, layout)
    if network.padding != "torch":
        how = {"same": "as TensorFlow does", "wide": "its first convolution by two pixels"}[network.padding]
        raise UserError(f"{path}: the network pads {how}; torchvision's ResNets cannot")
    if layout == "detectron2":
        _check_detectron2(path, network)
    if layout == "timm":
        _check_timm(path, network)
        if (file.parent / "checkpoints").exists():
            raise UserError(f"{file.parent}: is a run's workdir, whose config.json would be lost; name another folder")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{file.parent}: cannot be made: {error.strerror}") from error
    note = {"stem": network.stem}
    tree: Mapping[str, Any] = state_dict(network, layout)
    if layout == "moco":
        tree = _moco_file(network, tree) | {"ncl_jax": note}
    elif layout == "detectron2":
        # The loader matches names by their ends when asked to, so that a backbone finds its place in any detector.
        tree = {"model": tree, "__author__": "ncl-jax", "matching_heuristics": True, "ncl_jax": note}
    files.write(file, tree, note=note)
    if layout == "timm":  # after the weights: where these cannot be written, an older file keeps its own description
        files.write_json(file.parent / "config.json", timm_config(network))
    return _remarks(network, layout)


def bare_network(variables: Mapping[str, Any], *, stem: str | None = None) -> Network:
    """A `Network` of a backbone's variables, its architecture and width found from their shapes."""
    if set(variables) != {"params", "batch_stats"}:
        raise UserError(f"variables with {sorted(variables)}: expected params and batch_stats of a ResNet")
    architecture, width, side = names.infer(names.from_tree(variables))
    fitting = names.stems(side, stem)
    if stem is None and len(fitting) > 1:
        raise UserError(
            f"variables with a {side} x {side} first convolution: say how it is used, stem='medium' or 'small'"
        )
    return Network(architecture=architecture, variables=variables, width=width, stem=stem or fitting[0])


def state_dict(network: Network, layout: str = "torchvision") -> Tensors:
    """The network's tensors under the layout's keys, in PyTorch's order; for `moco` queue and encoders as well."""
    if layout == "moco":
        return _moco_state(network)
    backbone = _ordered(network, network.variables, counters=layout != "detectron2")
    if layout == "detectron2":
        return {names.to_detectron2(key): value for key, value in backbone.items()}
    if network.classifier is not None:
        backbone |= {f"fc.{k}": v for k, v in mlp.torch_linear(network.classifier).items()}
    return backbone


def _file(path: Path, layout: str) -> Path:
    """The file of weights that `path` means."""
    if layout == "timm" and path.suffix != ".safetensors":
        if path.suffix in (*files.TORCH_SUFFIXES, ".npz") or path.is_file():
            raise UserError(f"{path}: timm's layout is a folder (or a .safetensors file); name one")
        path = path / "model.safetensors"
    elif not path.name.endswith(_SUFFIXES[layout]):
        raise UserError(f"{path}: layout {layout} is written as {', '.join(_SUFFIXES[layout])}; name the file so")
    folder = path.parent.parent if layout == "timm" else path.parent
    if not folder.is_dir():
        raise UserError(f"{path}: no folder {folder}; make it first")
    return path


def _ordered(network: Network, variables: Mapping[str, Any], *, counters: bool = True) -> Tensors:
    """torchvision's keys in its order, with the counters that PyTorch's batch norm keeps."""
    tensors = names.from_tree(variables)
    shapes = names.expected(network.architecture, network.width, tensors["conv1.weight"].shape[-1])
    result: Tensors = {}
    for key in shapes:
        if key not in tensors:
            continue  # momentum has no statistics
        result[key] = tensors[key]
        if counters and key.endswith("running_var"):
            prefix = key.removesuffix("running_var")
            result[prefix + names.COUNTER] = np.asarray(network.batches, np.int64)
    return result


def _moco_state(network: Network) -> Tensors:
    result: Tensors = {}
    if network.queue is not None:
        result["module.queue"] = np.array(network.queue.T, np.float32, order="C")
        result["module.queue_ptr"] = np.asarray([network.pointer], np.int64)
    online = {"backbone": network.variables, **network.heads}
    for name, networks in (("encoder_q", online), ("encoder_k", network.target)):
        if networks is None:
            continue
        prefix = f"module.{name}."
        result |= {prefix + k: v for k, v in _ordered(network, networks["backbone"]).items()}
        if "head" in networks:
            head = mlp.write(networks["head"], batches=network.batches)
            result |= {f"{prefix}fc.{k}": v for k, v in head.items()}
    return result


def _moco_file(network: Network, state: Mapping[str, np.ndarray]) -> dict[str, Any]:
    result: dict[str, Any] = {"epoch": network.epoch or 0, "arch": network.architecture, "state_dict": state}
    if network.momentum is None:
        return result
    buffers = dict(_ordered(network, {"params": network.momentum["backbone"]}))
    if "head" in network.momentum:
        head = mlp.write({"params": network.momentum["head"]})
        buffers |= {f"fc.{key}": value for key, value in head.items()}
    # MoCo gives the parameters of both encoders to its optimiser; only the first half ever has gradients.
    count = len(buffers) * (2 if network.target else 1)
    return result | {"optimizer": sgd.write(list(buffers.values()), count, network.sgd)}


def timm_config(network: Network) -> dict[str, Any]:
    """timm's `config.json`: architecture, arguments where it is no standard ResNet, and the input it was trained on."""
    architecture = network.architecture
    arguments: dict[str, Any] = {}
    if architecture == "resnet10":  # timm has no plain one by this name
        architecture, arguments["layers"] = "resnet18", [1, 1, 1, 1]
    classes = network.classifier["kernel"].shape[1] if network.classifier is not None else 0
    features = 512 * (4 if ARCHITECTURES[network.architecture][0] else 1)
    resize, size = network.test_size or (256, 224)
    config: dict[str, Any] = {
        "architecture": architecture,
        "num_classes": classes,
        "num_features": features,
        "global_pool": "avg",
        "pretrained_cfg": {
            "num_classes": classes,
            "input_size": [3, size, size],
            "pool_size": [-(-size // 32)] * 2,
            "crop_pct": size / resize,
            "interpolation": "bilinear",
            "fixed_input_size": False,
            "mean": list(views.MEAN),
            "std": list(views.STD),
            "first_conv": "conv1",
            "classifier": "fc",
        },
    }
    return config | ({"model_args": arguments} if arguments else {})


def _check_timm(path: Path, network: Network) -> None:
    if network.stem != "imagenet":
        raise UserError(f"{path}: timm's ResNets have no {network.stem!r} stem (a 3x3 one); use layout torchvision")
    if network.width != 1:
        raise UserError(f"{path}: timm's ResNets have no width {network.width:g}; use layout torchvision")


def _check_detectron2(path: Path, network: Network) -> None:
    if network.stem != "imagenet" or network.architecture == "resnet10":
        raise UserError(
            f"{path}: detectron2 has no {network.architecture} with stem {network.stem!r}; "
            "expected resnet18 to resnet152 with stem 'imagenet'"
        )


def _not_mocos(network: Network) -> list[str]:
    """What MoCo's scripts do not build, or would miss: they take a torchvision ResNet and heads of one kind."""
    found = [f"a {network.architecture}"] if network.architecture == "resnet10" else []
    found += [f"width {network.width:g}"] if network.width != 1 else []
    found += [f"stem {network.stem}"] if network.stem != "imagenet" else []
    head = network.heads.get("head")
    if head and (set(head["params"]) - {"fc0", "fc1"} or head.get("batch_stats") or len(set(widths(head)[:-1])) > 1):
        found.append("a head other than v1's or v2's")
    parts = {"head": head, "target": network.target, "queue": network.queue, "momentum": network.momentum}
    return found + [f"no {name}" for name, part in parts.items() if part is None]


def _remarks(network: Network, layout: str) -> list[str]:
    lines = []
    held = {"torchvision": {"classifier"}, "timm": {"classifier"}, "moco": {"head", "target", "queue", "momentum"}}
    parts = {name: getattr(network, name) for name in ("classifier", "target", "queue", "momentum")}
    parts |= network.heads
    lost = [name for name, part in parts.items() if part is not None and name not in held.get(layout, set())]
    if lost:
        lines.append(f"not in layout {layout}, left out: {', '.join(lost)}")
    if network.stem != "imagenet" and layout == "torchvision":
        stride = 1 if network.stem == "small" else 2
        lines.append(
            f"stem {network.stem}: in torchvision set model.conv1 = "
            f"Conv2d(3, {round(64 * network.width)}, 3, {stride}, 1, bias=False) "
            "and model.maxpool = Identity() before load_state_dict"
        )
    if layout == "torchvision" and (network.width != 1 or network.architecture == "resnet10"):
        lines.append(
            f"torchvision has no {network.architecture} of width {network.width:g}: load it into one built alike"
        )
    obstacles = _not_mocos(network) if layout == "moco" else []
    if obstacles:
        lines.append(f"MoCo's scripts cannot --resume from it: {', '.join(obstacles)}")
    if layout == "detectron2":
        bottleneck, _ = ARCHITECTURES[network.architecture]
        stem_out, res2_out = round(64 * network.width), round(64 * network.width) * (4 if bottleneck else 1)
        lines.append(
            f"in detectron2's config: MODEL.RESNETS DEPTH {network.architecture.removeprefix('resnet')}, "
            f"STRIDE_IN_1X1 False, STEM_OUT_CHANNELS {stem_out}, RES2_OUT_CHANNELS {res2_out}, "
            f"WIDTH_PER_GROUP {stem_out}; INPUT.FORMAT RGB; "
            "MODEL.PIXEL_MEAN [123.675, 116.28, 103.53], PIXEL_STD [58.395, 57.12, 57.375]"
        )
    return lines
