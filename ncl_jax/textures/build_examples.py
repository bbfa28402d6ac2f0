"""The records of a texture version of a dataset.

Record i of a split is the texture of record i of the source's split, under the same labels. It follows from (seed,
split, i) alone on one kind of device. (Another kind rounds otherwise, and may choose another pixel now and then.) A
record of the source that does not decode gives one that does not decode either, so that places stay equal.

Exemplars are cut at native resolution, one from the centre and one from a random place. An image whose shorter side is
below the exemplar's is first enlarged (bilinear) until it fits.
"""

import dataclasses
import functools
import io
import itertools
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt8, UInt32
from PIL import Image

from ncl_jax.data import datasets, decoders, pictures, prepared, rows, workers
from ncl_jax.data.texture_datasets import texture_name
from ncl_jax.textures.synthesis import synthesize

PNG_UP_TO = 64  # pixels: smaller textures are stored without loss, larger ones as JPEG of quality 95


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What decides every pixel besides the source.

    Attributes:
        source: name of the dataset, as `datasets.open_dataset` takes it.
        size: side of the textures in pixels.
        exemplar: side of the exemplars in pixels of the image; the paper has 96 for 224.
    """

    source: str
    quality: str = "standard"
    size: int = 224
    exemplar: int = 96
    seed: int = 0
    data_dir: str | None = dataclasses.field(default=None, compare=False)

    @property
    def name(self) -> str:
        """Of the texture dataset."""
        return texture_name(self.source, quality=self.quality, seed=self.seed)

    @property
    def encoding(self) -> str:
        return "png" if self.size <= PNG_UP_TO else "jpeg"

    def open(self, split: str) -> datasets.Dataset:
        return datasets.open_dataset(self.source, split, data_dir=self.data_dir)


def features(recipe: Recipe, dataset: datasets.Dataset) -> Any:
    """The TFDS features of a texture dataset: image, the source's class labels under their names, id."""
    tfds = prepared.import_tfds()

    def label(key):
        if key in dataset.names:
            return tfds.features.ClassLabel(names=list(dataset.names[key]))
        known = dataset.num_classes if key == dataset.label_key else None
        return tfds.features.ClassLabel(num_classes=known) if known else np.int64

    labels = {key: label(key) for key in (dataset.label_key, *dataset.extra_keys) if key}
    image = tfds.features.Image(shape=(recipe.size, recipe.size, 3), encoding_format=recipe.encoding)
    return tfds.features.FeaturesDict({"image": image, **labels, "id": np.int64})


def info(builder: Any, recipe: Recipe, dataset: datasets.Dataset) -> Any:
    """The TFDS description of the texture version of `dataset`; `builder` is one, or the identity of one."""
    tfds = prepared.import_tfds()
    return tfds.core.DatasetInfo(
        builder=builder,
        description=f"Textures of {recipe.source.rpartition('/')[2]}: record i of a split is of its record i",
        features=features(recipe, dataset),
        supervised_keys=("image", dataset.label_key) if dataset.label_key else None,
        disable_shuffling=True,
    )


def examples(recipe: Recipe, dataset: datasets.Dataset, low: int, high: int) -> Iterator[dict[str, Any]]:
    """Records `low` to `high` of the texture dataset, as its features take them; `dataset` is the source's split."""
    labels = [key for key in (dataset.label_key, *dataset.extra_keys) if key]
    column = {key: "label" if key == dataset.label_key else key for key in labels}
    with workers.pool(workers.cores(), "encode") as pool:
        for integers, filled, textures in _synthesised(recipe, dataset, low, high):
            encoded = pool.map(functools.partial(_encode, recipe.encoding), filled, textures)
            for number, image in enumerate(encoded):
                yield {
                    "image": image,
                    **{key: int(integers[column[key]][number]) for key in labels},
                    "id": int(integers["id"][number]),
                }


def _encode(encoding: str, good: bool, image: np.ndarray) -> bytes:
    if not good:
        return b""
    file = io.BytesIO()
    options = {"quality": 95, "subsampling": 0} if encoding == "jpeg" else {}
    Image.fromarray(image).save(file, encoding, **options)
    return file.getvalue()


def _synthesised(recipe: Recipe, dataset: datasets.Dataset, low: int, high: int) -> Iterator[tuple]:
    """Batches of (labels and ids, which decode, uint8 textures); each device has one at work and one that waits."""
    size = batch_size(recipe.quality)
    devices = jax.local_devices() if jax.default_backend() != "cpu" else jax.local_devices()[:1]
    turns, waiting = itertools.cycle(devices), deque()
    for integers, filled, exemplars in exemplar_batches(recipe, dataset, low, high, size):
        ids = np.pad(integers["id"], (0, size - len(filled)))
        made = texture_batch(recipe, dataset.split, *jax.device_put((ids.astype(np.uint32), exemplars), next(turns)))
        waiting.append((integers, filled, made[0]))
        if len(waiting) > 2 * len(devices):
            integers, filled, textures = waiting.popleft()
            yield integers, filled, np.asarray(textures)
    for integers, filled, textures in waiting:
        yield integers, filled, np.asarray(textures)


def batch_size(quality: str) -> int:
    """Images at a time: enough for the device; few where the last batch of a shard is slow to fill up."""
    if jax.default_backend() == "cpu":
        return 4 if quality == "faithful" else 32
    return 64 if quality == "faithful" else 256


def texture_batch(
    recipe: Recipe, split: str, ids: UInt32[Array, " b"], exemplars: UInt8[Array, "b e h w 3"]
) -> tuple[UInt8[Array, "b s s 3"], Int[Array, "b s s 3"]]:
    """The textures of the records `ids` of a split, and where their pixels come from (exemplar, row, column)."""
    base = jax.random.fold_in(jax.random.key(recipe.seed), zlib.crc32(split.encode()))
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(base, ids)
    unit = exemplars.astype(jnp.float32) / 255
    images, sources = synthesize(keys, unit, size=recipe.size, quality=recipe.quality, return_sources=True)
    return jnp.round(images * 255).astype(jnp.uint8), sources


def exemplar_batches(
    recipe: Recipe, dataset: datasets.Dataset, low: int, high: int, size: int
) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]]:
    """Labels and ids of at most `size` records, which of them decode, and the exemplars, uint8 `[size 2 side side 3]`,
    zeros where there are none."""
    origin = np.random.SeedSequence((recipe.seed, zlib.crc32(dataset.split.encode())))
    key = int(np.random.Philox(origin).random_raw())
    integers = ("label", *dataset.extra_keys)

    def cut(read: Callable[[], rows.Row]) -> dict[str, Any]:
        row = read()
        made = {name: row[name] for name in integers}
        try:
            draws = pictures.Uniform(key, int(row["id"]))
            return made | {"decodes": True, "exemplars": decoders.exemplars(row["image"], draws, side=recipe.exemplar)}
        except pictures.BadImage:
            return made | {"decodes": False, "exemplars": 0}

    side = recipe.exemplar
    specs: workers.Specs = {"exemplars": ((2, side, side, 3), np.uint8), "decodes": ((), np.bool_)}
    specs = {**specs, **dict.fromkeys(integers, ((), np.int32))}
    for items, arrays, _ in workers.fill(rows.in_order(dataset, low, high, size), cut, specs, size=size):
        count = len(items)
        ids = np.arange(low, low + count)
        found = {"id": ids} | {name: arrays[name][:count] for name in integers}
        if dataset.folder_labels is not None:  # of a file that cannot be read too
            found["label"] = dataset.folder_labels[ids]
        yield found, arrays["decodes"][:count], arrays["exemplars"]
        low += count
