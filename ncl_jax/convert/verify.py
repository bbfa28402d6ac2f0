"""The same random images through our network and through PyTorch's operators on the file's own tensors."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from ncl_jax.convert.network import Network, linear_names
from ncl_jax.errors import UserError
from ncl_jax.models import MLP
from ncl_jax.models.resnet import ARCHITECTURES, STEMS

TOLERANCE = 1e-4  # of float32 features and logits, in units of their largest magnitude where that is above 1


def verify(
    network: Network,
    tensors: Mapping[str, np.ndarray],
    key: Callable[[str], str] = str,
    *,
    size: int = 64,
    batch: int = 4,
) -> dict[str, float]:
    """Largest absolute differences of `features`, of `logits` (a classifier's, or the MoCo head's) and, after a step
    in train mode, of the running statistics: `eval features`, `train features`, ...

    `tensors` are a state_dict as it is in a file, `key` maps torchvision's names to its keys. The PyTorch side is
    written with `torch.nn.functional` from torchvision's architecture and shares no code with the conversion but `key`.

    Raises UserError where torch is missing or a difference is above TOLERANCE.
    """
    try:
        import torch
    except ImportError as error:
        raise UserError("--verify: needs torch (pip install 'ncl-jax[torch]')") from error
    if network.padding != "torch":
        raise UserError("--verify: the network pads as TensorFlow does (SAME); there is no PyTorch network to compare")
    images = np.random.default_rng(0).normal(size=(batch, size, size, 3)).astype(np.float32)
    state = {name: torch.from_numpy(np.array(value)) for name, value in tensors.items()}
    differences = {}
    for train in (False, True):
        mode = "train" if train else "eval"
        with torch.no_grad():
            reference = _torch_forward(
                state, key, network, torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), train
            )
        ours = _our_forward(network, images, train)
        for name, expected in reference.items():
            if name not in ours:
                continue
            difference = float(np.max(np.abs(expected.numpy() - ours[name])))
            differences[f"{mode} {name}"] = difference
            # `not <=` so that NaN fails
            if not difference <= TOLERANCE * max(1.0, float(np.max(np.abs(expected.numpy())))):
                raise UserError(
                    f"--verify: {mode} {name} differ by {difference:.2g} from PyTorch's; at most {TOLERANCE:g}"
                )
    return differences


def _our_forward(network: Network, images: np.ndarray, train: bool) -> dict[str, np.ndarray]:
    model = network.encoder()
    apply = jax.jit(lambda v, x: model.apply(v, x, train=train, mutable=["batch_stats"]))
    features, updated = apply(dict(network.variables), images)
    features = np.asarray(features)
    result = {"features": features}
    stats = updated["batch_stats"]
    result["statistics"] = np.concatenate([np.ravel(x) for x in (stats["bn1"]["mean"], stats["bn1"]["var"])])
    if network.classifier is not None:
        result["logits"] = features @ network.classifier["kernel"] + network.classifier.get("bias", 0)
    elif "head" in network.heads and not network.heads["head"].get("batch_stats"):
        head = network.heads["head"]
        layers = linear_names(head["params"])
        widths = tuple(head["params"][name]["kernel"].shape[1] for name in layers)
        result["logits"] = np.asarray(MLP(widths).apply({"params": head["params"]}, features, train=train))
    return result


def _torch_forward(state: Mapping[str, Any], key: Callable[[str], str], network: Network, x: Any, train: bool) -> dict:
    """torchvision's ResNet.forward, from its description: v1.5, padding of half a kernel, batch norm momentum 0.1."""
    from torch.nn import functional

    bottleneck, stages = ARCHITECTURES[network.architecture]
    _, first_stride, pool = STEMS[network.stem]
    # Batch norm updates its statistics in place; the file's own stay as they are.
    state = {name: value.clone() if "running" in name else value for name, value in state.items()}

    def conv(x, name, stride):
        weight = state[key(f"{name}.weight")]
        return functional.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    def norm(x, name):
        leaves = [state[key(f"{name}.{leaf}")] for leaf in ("running_mean", "running_var", "weight", "bias")]
        return functional.batch_norm(x, *leaves, training=train, momentum=0.1, eps=1e-5)

    x = functional.relu(norm(conv(x, "conv1", first_stride), "bn1"))
    x = functional.max_pool2d(x, 3, 2, 1) if pool else x
    for stage, blocks in enumerate(stages, start=1):
        for index in range(blocks):
            name, stride = f"layer{stage}.{index}", 2 if stage > 1 and index == 0 else 1
            strides = (1, stride, 1) if bottleneck else (stride, 1)
            y = x
            for n, s in enumerate(strides, start=1):
                y = norm(conv(y, f"{name}.conv{n}", s), f"{name}.bn{n}")
                y = functional.relu(y) if n < len(strides) else y
            if key(f"{name}.downsample.0.weight") in state:
                x = norm(conv(x, f"{name}.downsample.0", stride), f"{name}.downsample.1")
            x = functional.relu(x + y)
    features = x.mean((2, 3))
    import torch

    statistics = torch.cat([state[key(f"bn1.running_{leaf}")] for leaf in ("mean", "var")])
    result = {"features": features, "statistics": statistics}
    if key("fc.weight") in state:
        result["logits"] = functional.linear(features, state[key("fc.weight")], state.get(key("fc.bias")))
    elif key("fc.0.weight") in state and key("fc.2.weight") in state:
        hidden = features
        numbers = [n for n in range(0, 20, 2) if key(f"fc.{n}.weight") in state]
        for n in numbers:
            hidden = functional.linear(hidden, state[key(f"fc.{n}.weight")], state[key(f"fc.{n}.bias")])
            hidden = functional.relu(hidden) if n != numbers[-1] else hidden
        result["logits"] = hidden
    return result
