"""The same random images through our network and through PyTorch's operators on a file's own tensors."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import numpy as np

from ncl_jax.convert import names
from ncl_jax.convert.network import Network, Variables, widths
from ncl_jax.errors import UserError
from ncl_jax.models import MLP
from ncl_jax.models.resnet import ARCHITECTURES, STEMS

_SIZE = 64  # pixels
TOLERANCE = 1e-4  # of float32 features and logits, in units of their largest magnitude where that is above 1
# Random or ill-conditioned weights amplify rounding: up to this multiple of what PyTorch's own float32 differs from its
# float64 is rounding too (a fresh ResNet-101 in train mode: 1e-3).
_ROUNDING = 3


def verify(network: Network, tensors: Mapping[str, np.ndarray], *, batch: int = 4) -> dict[str, tuple[float, float]]:
    """name -> (largest absolute difference, what is allowed) of `eval features`, `eval logits` (a classifier's, or
    those of a head under `fc`), the same in train mode, and the `running statistics` that train mode leaves.

    `network` and `tensors` are what `layouts.load` gives for a file. The PyTorch side is written with
    `torch.nn.functional` from torchvision's architecture; of the conversion it uses the names of the file's keys only.

    Raises UserError where torch is missing or a difference is above what is allowed: TOLERANCE, or float32's rounding.
    """
    try:
        import torch
    except ImportError as error:
        raise UserError("--verify: needs torch (pip install 'ncl-jax[torch]')") from error
    images = np.random.default_rng(0).normal(size=(batch, _SIZE, _SIZE, 3)).astype(np.float32)
    torch_images = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    differences = {}
    for mode in ("eval", "train"):
        with torch.no_grad():
            reference = _torch_forward(network, tensors, torch_images, mode == "train")
            exact = _torch_forward(network, tensors, torch_images.double(), mode == "train")
        ours = _our_forward(network, images, mode == "train")
        for name in sorted(reference.keys() & ours.keys()):
            expected = reference[name].numpy()
            difference = float(np.max(np.abs(expected - ours[name])))
            rounding = float(np.max(np.abs(expected - exact[name].numpy())))
            allowed = max(TOLERANCE, TOLERANCE * float(np.max(np.abs(expected))), _ROUNDING * rounding)
            what = name if name == "running statistics" else f"{mode} {name}"
            differences[what] = (difference, allowed)
            if not difference <= allowed:  # so that NaN fails too
                raise UserError(f"--verify: {what} differ by {difference:.2g} from PyTorch's; allowed is {allowed:.2g}")
    return differences


def check_equal(written: Network, network: Network) -> None:
    """Raise UserError unless the backbone's tensors are the same bits in both."""
    ours, theirs = names.from_tree(network.variables), names.from_tree(written.variables)
    for name in sorted({*ours, *theirs}):
        if name not in ours or name not in theirs or not np.array_equal(ours[name], theirs[name], equal_nan=True):
            raise UserError(f"--verify: {name} is not the same after writing and reading")


def _our_forward(network: Network, images: np.ndarray, train: bool) -> dict[str, np.ndarray]:
    # Not jitted: compiling every shape of layer once takes less time than a program of hundreds of layers does.
    applied: Any = network.encoder().apply(dict(network.variables), images, train=train, mutable=["batch_stats"])
    features, updated = np.asarray(applied[0]), applied[1]
    result = {"features": features}
    if train:
        stats = updated["batch_stats"]["bn1"]
        result["running statistics"] = np.concatenate([stats["mean"], stats["var"]])
    if network.classifier is not None:
        result["logits"] = features @ network.classifier["kernel"] + network.classifier.get("bias", np.float32(0))
    # Of several heads one follows the backbone: a predictor follows the projector, whatever that is.
    head = next((head for name, head in network.heads.items() if name != "predictor"), None)
    mlp = _mlp(head, features) if head is not None else None
    if head is not None and mlp is not None:
        outputs, _ = mlp.apply(dict(head), features, train=train, mutable=["batch_stats"])
        result["logits"] = np.asarray(outputs)
    return result


def _mlp(head: Variables, features: np.ndarray) -> MLP | None:
    """Our MLP of these variables; None where the head has layers that ours has not."""
    mlp = MLP(widths(head)[1:], batch_norm=bool(head.get("batch_stats")))
    fresh = jax.eval_shape(partial(mlp.init, train=False), jax.random.key(0), features)
    present = {kind: leaves for kind, leaves in head.items() if leaves}
    return mlp if jax.tree.structure(present) == jax.tree.structure(fresh) else None


def _torch_forward(network: Network, tensors: Mapping[str, np.ndarray], x: Any, train: bool) -> dict[str, Any]:
    """torchvision's ResNet.forward, from its description: v1.5, padding of half a kernel, batch norm momentum 0.1."""
    import torch
    from torch.nn import functional

    to_style = names.STYLES[network.style][1]
    state = {
        key.removeprefix(network.prefix): torch.tensor(np.asarray(value, np.float32)).to(x.dtype)
        for key, value in tensors.items()
        if key.startswith(network.prefix)
    }

    def leaf(name) -> Any:
        return state.get(to_style(name))

    def pad(x, side, stride, value=0.0):
        if network.padding != "same":
            return functional.pad(x, [side // 2] * 4, value=value)
        missing = [max((-(-n // stride) - 1) * stride + side - n, 0) for n in (x.shape[3], x.shape[2])]
        return functional.pad(x, [part for n in missing for part in (n // 2, n - n // 2)], value=value)

    def conv(x, name, stride):
        weight = leaf(f"{name}.weight")
        return functional.conv2d(pad(x, weight.shape[-1], stride), weight, stride=stride)

    def norm(x, name):
        leaves = [leaf(f"{name}.{kind}") for kind in ("running_mean", "running_var", "weight", "bias")]
        return functional.batch_norm(x, *leaves, training=train, momentum=0.1, eps=1e-5)

    bottleneck, stages = ARCHITECTURES[network.architecture]
    _, first_stride, pool = STEMS[network.stem]
    x = functional.pad(x, [int(network.padding == "wide")] * 4)
    x = functional.relu(norm(conv(x, "conv1", first_stride), "bn1"))
    x = functional.max_pool2d(pad(x, 3, 2, -torch.inf), 3, 2) if pool else x
    for stage, blocks in enumerate(stages, start=1):
        for index in range(blocks):
            name, stride = f"layer{stage}.{index}", 2 if stage > 1 and index == 0 else 1
            strides = (1, stride, 1) if bottleneck else (stride, 1)
            y = x
            for n, s in enumerate(strides, start=1):
                y = norm(conv(y, f"{name}.conv{n}", s), f"{name}.bn{n}")
                y = functional.relu(y) if n < len(strides) else y
            if leaf(f"{name}.downsample.0.weight") is not None:
                x = norm(conv(x, f"{name}.downsample.0", stride), f"{name}.downsample.1")
            x = functional.relu(x + y)
    result = {"features": x.mean((2, 3))}
    if train:
        result["running statistics"] = torch.cat([leaf("bn1.running_mean"), leaf("bn1.running_var")])
    logits = _torch_head(leaf, norm, result["features"])
    return result | ({"logits": logits} if logits is not None else {})


def _torch_head(leaf: Any, norm: Any, x: Any) -> Any:
    """What the modules under `fc` make of the features: one linear layer, or a `Sequential`."""
    from torch.nn import functional

    if leaf("fc.weight") is not None:
        return functional.linear(x, leaf("fc.weight"), leaf("fc.bias"))
    numbers = [n for n in range(20) if leaf(f"fc.{n}.weight") is not None or leaf(f"fc.{n}.running_mean") is not None]
    for n in range(max(numbers, default=-1) + 1):
        if n not in numbers:
            x = functional.relu(x)  # the one layer of such a Sequential that has no tensors
        elif leaf(f"fc.{n}.running_mean") is not None:
            x = norm(x, f"fc.{n}")
        else:
            x = functional.linear(x, leaf(f"fc.{n}.weight"), leaf(f"fc.{n}.bias"))
    return x if numbers else None
