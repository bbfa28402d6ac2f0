"""PyTorch's way from image files to batches: torchvision's transforms with Pillow in a `DataLoader`."""

import os
from collections.abc import Callable, Iterator
from typing import Any

from ncl_jax.augment import views as views_lib
from ncl_jax.benchmark.torch_step import augmentation, import_torch
from ncl_jax.config import Config
from ncl_jax.data import workers
from ncl_jax.data.datasets import Dataset
from ncl_jax.errors import UserError

NOTES = (
    "torchvision, crops: two random resized crops of each image, uint8, as our stream gives them; "
    "torchvision, augmented: MoCo's whole recipe besides, which our step makes on the device",
    "a worker process per core; each of theirs decodes an image once for both crops",
)


def loaders(data: Dataset, config: Config) -> dict[str, Callable[[], Any]]:
    """Functions that load the next batch of two views. Raises UserError for anything but image files."""
    torch, vision = import_torch()
    if not data.paths:
        raise UserError(
            f"--against=torch: {data.name} is not read from image files; give --config.data.name=folder:PATH"
        )
    transforms = vision.transforms.v2
    recipe = views_lib.recipe(config.augment)
    crop = transforms.RandomResizedCrop(config.data.image_size, scale=recipe.crop_scale, antialias=True)
    recipes = {
        "torchvision, crops": transforms.Compose([crop, transforms.PILToTensor()]),
        "torchvision, augmented": transforms.Compose([crop, *augmentation(config), transforms.PILToTensor()]),
    }
    return {name: _loader(torch, data.paths, transform, config.batch) for name, transform in recipes.items()}


def _loader(torch: Any, paths: tuple[str, ...], transform: Any, batch: int) -> Callable[[], Any]:
    files = TwoViews(paths, transform)
    order = torch.utils.data.RandomSampler(files, replacement=True, num_samples=2**40)
    start = {"multiprocessing_context": "forkserver"} if os.name == "posix" else {}  # JAX has threads: no fork
    loader = torch.utils.data.DataLoader(files, batch, sampler=order, num_workers=workers.cores(), **start)
    batches: list[Iterator] = []

    def load() -> Any:
        if not batches:  # workers start when this loader's turn comes
            batches.append(iter(loader))
        return next(batches[0])

    return load


class TwoViews:
    """Image files; of each, two views by the same random transform."""

    def __init__(self, paths: tuple[str, ...], transform: Any):
        self._paths, self._transform = paths, transform

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        from PIL import Image

        with Image.open(self._paths[index]) as file:
            image = file.convert("RGB")
        return self._transform(image), self._transform(image)
