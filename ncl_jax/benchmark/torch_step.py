"""The same MoCo step in PyTorch: what a careful user of it would write, to compare speeds in one session."""

import copy
import sys
import warnings
from typing import Any

import numpy as np

from ncl_jax.augment import views as views_lib
from ncl_jax.benchmark import random_batch
from ncl_jax.config import Config
from ncl_jax.errors import UserError
from ncl_jax.methods import moco
from ncl_jax.models import ARCHITECTURES
from ncl_jax.models.resnet import STEMS
from ncl_jax.negatives import patch


class TorchStep:
    """torchvision's ResNet in channels-last, autocast where the config computes in bfloat16, fused where it can be.

    Patch negatives are made by one gather for the batch, as ours are, not image by image as in the paper's loader.
    Augmentation: torchvision's v2 transforms on the device, which draw per call and so go image by image.
    """

    def __init__(self, config: Config, *, compiled: bool = False):
        """Raises UserError for what has no counterpart here, and without PyTorch."""
        self._torch, self._vision = import_torch()
        _check(config)
        torch, colours = self._torch, augmentation(config)
        torch.manual_seed(config.seed)
        if torch.cuda.is_available():  # what XLA does by itself: try the convolutions' algorithms, TF32 for float32
            torch.backends.cudnn.benchmark = True
            torch.set_float32_matmul_precision("high")
        self.config = config
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        device = torch.cuda.get_device_name() if self._device.type == "cuda" else "CPU"
        self.name = f"PyTorch {torch.__version__}{', torch.compile' if compiled else ''}, {device}"
        self.notes = [
            "PyTorch's batch norm is over the whole batch; ours in the config's groups",
            "our step without augmentation is the whole less the views alone",
            "on CUDA: cudnn.benchmark on, float32 matrix products in TF32",
        ]
        settings: moco.Settings = config.method
        self._online = self._network().to(self._device, memory_format=torch.channels_last)
        self._target = copy.deepcopy(self._online).requires_grad_(False)
        queue = torch.randn(settings.embedding_dim, settings.queue_size, device=self._device)
        self._queue, self._pointer = torch.nn.functional.normalize(queue, dim=0), 0
        self._optimizer = torch.optim.SGD(
            self._online.parameters(),
            lr=config.learning_rate,
            momentum=config.optim.momentum,
            weight_decay=config.optim.weight_decay,
        )
        encoders = self._online, self._target
        self._encode = tuple(torch.compile(encoder) for encoder in encoders) if compiled else encoders
        wire = random_batch.wire(config)
        self._bytes = [torch.from_numpy(np.moveaxis(wire[v], -1, 1)).to(self._device) for v in ("query", "key")]
        transforms = self._vision.transforms.v2
        self._normalize = transforms.Normalize(views_lib.MEAN, views_lib.STD)
        self._floats = [self._normalized(images) for images in self._bytes]
        self._transform = transforms.Compose([*colours, transforms.ToDtype(torch.float32, scale=True), self._normalize])

    def step(self) -> "_Pending":
        """A step from views that are there."""
        return self._step(*self._floats)

    def augment_and_step(self) -> "_Pending":
        """A step from uint8 crops."""
        views = [self._torch.stack([self._transform(image) for image in images]) for images in self._bytes]
        return self._step(*(view.contiguous(memory_format=self._torch.channels_last) for view in views))

    def _step(self, query_view: Any, key_view: Any) -> "_Pending":
        torch, settings = self._torch, self.config.method
        online, target = self._encode
        with self._autocast(), torch.no_grad():
            torch._foreach_lerp_(
                list(self._target.parameters()), list(self._online.parameters()), 1 - settings.momentum
            )
            key = torch.nn.functional.normalize(target(key_view).float(), dim=1)
        with self._autocast():
            query = torch.nn.functional.normalize(online(query_view).float(), dim=1)
            logits = [torch.sum(query * key, dim=1, keepdim=True), query @ self._queue]
            if chosen := self.config.negatives.get("patch"):
                images = self._patches(query_view, chosen).contiguous(memory_format=torch.channels_last)
                with_gradient = settings.non_semantic_encoder == "online"
                with torch.set_grad_enabled(with_gradient):
                    others = (online if with_gradient else target)(images).float()
                pairs = torch.nn.functional.normalize(others, dim=1).unflatten(0, (len(query), chosen.num))
                logits.append(chosen.alpha * torch.einsum("bd,bmd->bm", query, pairs))
        logits = torch.cat([part.float() for part in logits], dim=1) / settings.temperature
        loss = torch.nn.functional.cross_entropy(logits, torch.zeros(len(query), dtype=torch.long, device=self._device))
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        self._queue[:, self._pointer : self._pointer + len(key)] = key.T
        self._pointer = (self._pointer + len(key)) % settings.queue_size
        return _Pending(loss.detach())

    def _network(self) -> Any:
        torch, vision, config = self._torch, self._vision, self.config
        bottleneck, layers = ARCHITECTURES[config.model.name]
        resnet = vision.models.resnet
        network = resnet.ResNet(resnet.Bottleneck if bottleneck else resnet.BasicBlock, list(layers))
        side, stride, pooled = STEMS[config.model.stem]
        network.conv1 = torch.nn.Conv2d(3, 64, side, stride, side // 2, bias=False)
        if not pooled:
            network.maxpool = torch.nn.Identity()
        hidden, width, features = config.method.hidden_dim, config.method.embedding_dim, network.fc.in_features
        network.fc = torch.nn.Linear(hidden or features, width)
        if hidden:
            network.fc = torch.nn.Sequential(torch.nn.Linear(features, hidden), torch.nn.ReLU(inplace=True), network.fc)
        return network.train()

    def _patches(self, images: Any, chosen: patch.Settings) -> Any:
        """Patch negatives `[b m]`, flattened, of images `[b c s s]`."""
        torch, side = self._torch, images.shape[-1]
        low, high = chosen.patch_size or patch.scaled_sides(side)
        count, cells = len(images) * chosen.num, -(-side // low)
        sides = torch.randint(low, high + 1, (count, 1, 1), device=self._device)
        place = torch.arange(side, device=self._device)
        cell, inside = place // sides[:, 0], place % sides[:, 0]  # [n s]
        which = (cell[:, :, None] * cells + cell[:, None, :]).flatten(1)
        room = side - sides + 1
        y, x = ((torch.rand(count, cells, cells, device=self._device) * room).long() for _ in range(2))
        y, x = (o.flatten(1).gather(1, which).unflatten(1, (side, side)) for o in (y, x))
        source = (y + inside[:, :, None]) * side + x + inside[:, None, :]
        flat = images.flatten(2).repeat_interleave(chosen.num, dim=0)
        return flat.gather(2, source.flatten(1)[:, None].expand(-1, 3, -1)).unflatten(2, (side, side))

    def _normalized(self, images: Any) -> Any:
        return self._normalize(images.float() / 255).contiguous(memory_format=self._torch.channels_last)

    def _autocast(self) -> Any:
        torch = self._torch
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self.config.model.dtype == "bfloat16")


class _Pending:
    """A loss that may still be under way; `timing` waits for it."""

    def __init__(self, loss: Any):
        self.loss = loss

    def block_until_ready(self) -> None:
        self.loss.item()


def augmentation(config: Config) -> list[Any]:
    """torchvision's v2 transforms of the config's recipe, between the crop and normalising: of MoCo-v2's alone, whose
    order this is."""
    if config.augment.recipe != "moco_v2":
        raise UserError(
            f"--against=torch: config.augment.recipe = {config.augment.recipe} has no counterpart in PyTorch here"
        )
    transforms, recipe = import_torch()[1].transforms.v2, views_lib.recipe(config.augment)
    steps = [
        transforms.RandomApply([transforms.ColorJitter(*recipe.jitter)], p=recipe.jitter_probability),
        transforms.RandomGrayscale(recipe.gray_probability),
    ]
    if recipe.blur_probability:
        blur = transforms.GaussianBlur(min(23, config.data.image_size // 2 * 2 - 1), recipe.blur_sigma)
        steps.append(transforms.RandomApply([blur], p=recipe.blur_probability))
    return [*steps, transforms.RandomHorizontalFlip(recipe.flip_probability)]


def import_torch() -> tuple[Any, Any]:
    """PyTorch and torchvision; a UserError where they are missing or do not fit each other."""
    if "tensorflow" in sys.modules:  # PyTorch takes triton where it is; imported after TensorFlow it ends the process
        sys.modules.setdefault("triton", None)  # pyright: ignore[reportArgumentType]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import torch
            import torchvision
            import torchvision.transforms.v2
    except ImportError as error:
        raise UserError(f"--against=torch: {error}; pip install 'ncl-jax[torch]'") from error
    except RuntimeError as error:
        raise UserError(f"--against=torch: torchvision does not fit this PyTorch ({error})") from error
    return torch, torchvision


def _check(config: Config) -> None:
    others = [kind for kind in config.negatives if kind != "patch"]
    chosen = config.negatives.get("patch")
    is_moco = isinstance(config.method, moco.Settings)
    settings = config.method if is_moco else moco.Settings()
    for wrong, what in (
        (not is_moco, "config.method.name other than moco"),
        (settings.symmetric, "config.method.symmetric = True"),
        (settings.head_batch_norm, "config.method.head_batch_norm = True"),
        (settings.non_semantic_norm != "own", f"config.method.non_semantic_norm = {settings.non_semantic_norm}"),
        (settings.ifm_epsilon > 0, f"config.method.ifm_epsilon = {settings.ifm_epsilon}"),
        (config.augment.seam_shift > 0, f"config.augment.seam_shift = {config.augment.seam_shift}"),
        (config.model.width != 1, f"config.model.width = {config.model.width}"),
        (config.optim.name != "sgd", f"config.optim.name = {config.optim.name}"),
        (config.optim.accumulate != 1, f"config.optim.accumulate = {config.optim.accumulate}"),
        (bool(others), f"config.negatives.{next(iter(others), '')}"),
        (bool(chosen and (chosen.rotate or chosen.flip)), "turned or mirrored patches"),
    ):
        if wrong:
            raise UserError(f"--against=torch: {what} has no counterpart in the PyTorch step")
