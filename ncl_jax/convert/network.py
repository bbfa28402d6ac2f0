"""What a checkpoint of another framework holds, in this package's terms."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from ncl_jax.models import ResNet

Variables = Mapping[str, Any]  # {"params": ..., "batch_stats": ...} with float32 numpy leaves


@dataclasses.dataclass(frozen=True, repr=False)
class Network:
    """A ResNet's weights and whatever came with them. All arrays are float32 numpy in this package's axis order.

    Attributes:
      architecture, width, stem, padding: arguments of `ncl_jax.models.ResNet`.
      variables: the backbone's, as `encoder().apply` takes them.
      layout: the layout that the file was recognised as; empty for a network that comes from this package.
      classifier: `kernel` [d c] and, where there is one, `bias` [c] of the linear layer after the pooling.
      heads: name -> variables of an MLP after the backbone (`fc0`, `bn0`, `fc1`, ... as `ncl_jax.models.MLP`). A head
        of another framework may have layers that our MLP has not: a bias before batch norm, batch norm at the end.
      target: name -> variables of the EMA network's `backbone` and heads.
      queue: [n d], unit rows; `pointer` is the row that the next keys go to.
      momentum: name -> the buffer of SGD with momentum, shaped as that network's params.
      sgd: settings of that SGD by PyTorch's names, `lr`, `momentum`, `weight_decay`; those that are known.
      epoch: epochs trained.
      test_size: (shorter side that test images are resized to, side of the crop) in pixels, where that is known.
      batches: number of batches that batch norm has seen, which PyTorch stores with every layer.
      prefix, style: of the backbone's keys in the file; style is one of `names.STYLES`.
      ignored: keys of the file that mean nothing here.
    """

    architecture: str
    variables: Variables
    width: float = 1.0
    stem: str = "imagenet"
    padding: str = "torch"
    layout: str = ""
    classifier: Mapping[str, np.ndarray] | None = None
    heads: Mapping[str, Variables] = dataclasses.field(default_factory=dict)
    target: Mapping[str, Variables] | None = None
    queue: np.ndarray | None = None
    pointer: int = 0
    momentum: Mapping[str, Any] | None = None
    sgd: Mapping[str, float] = dataclasses.field(default_factory=dict)
    epoch: int | None = None
    test_size: tuple[int, int] | None = None
    batches: int = 0
    prefix: str = ""
    style: str = "torchvision"
    ignored: tuple[str, ...] = ()

    def encoder(self) -> ResNet:
        """The backbone in float32; `.apply(network.variables, images, train=False)` gives features [b d]."""
        return ResNet(architecture=self.architecture, width=self.width, stem=self.stem, padding=self.padding)

    def __repr__(self) -> str:
        return f"Network({self.describe()})"

    def describe(self) -> str:
        """What it holds, in one line."""
        parts = [self.architecture]
        parts += [f"width {self.width:g}"] if self.width != 1 else []
        parts += [f"stem {self.stem}"]
        parts += [f"{self.padding} padding"] if self.padding != "torch" else []
        if self.classifier is not None:
            parts.append(f"{self.classifier['kernel'].shape[1]} classes")
        parts += [f"{name} {head_widths(head)}" for name, head in self.heads.items()]
        parts += ["EMA target"] if self.target else []
        parts += [f"queue {self.queue.shape[0]} x {self.queue.shape[1]}"] if self.queue is not None else []
        parts += ["momentum"] if self.momentum is not None else []
        parts += [f"epoch {self.epoch}"] if self.epoch is not None else []
        return ", ".join(parts)


def head_widths(head: Variables) -> str:
    """`2048-2048-128` for the MLP that maps 2048 features over 2048 to 128."""
    return "-".join(str(n) for n in widths(head))


def widths(head: Variables) -> tuple[int, ...]:
    """(2048, 2048, 128) for the same one."""
    kernels = [head["params"][name]["kernel"] for name in linear_names(head["params"])]
    return kernels[0].shape[0], *(kernel.shape[1] for kernel in kernels)


def linear_names(params: Mapping[str, Any]) -> list[str]:
    """`fc0, fc1, ...` in this order; a mapping is often sorted as text."""
    return sorted((name for name in params if name.startswith("fc")), key=lambda name: int(name[2:]))
