"""A dataset that lives on the devices: sampled and cropped inside the compiled loop of `cached_steps`.

Every image is kept as a uint8 square (the whole picture, squeezed, with its proportions beside), the squares split over
the devices. An epoch's order, its crops and the order of its key views follow from (seed, epoch, id), as in `stream`;
so a position is {epoch, offset}, and batches are the same on any number of devices (boxes and pixels to float
rounding: another number of devices is another program). What is left over at the end of an epoch, less than a batch, is
dropped. Needs no TensorFlow; to fill it from TFRecords does.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int, Key, UInt8

from ncl_jax import parallel
from ncl_jax.augment import crops
from ncl_jax.data import memory
from ncl_jax.errors import UserError

FIELDS = ("source", "id")  # what `fields` may name besides the fixed ones
MOST = 0.7  # of the free memory: the rest is the step's


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cache:
    """`images` split over the devices, padded to a multiple of them; the others whole on each."""

    images: UInt8[Array, "n s s 3"]
    labels: Int[Array, " n"]  # -1: none
    aspects: Float[Array, " n"]  # width / height of the picture before it was squeezed


@dataclasses.dataclass(frozen=True)
class Sampler:
    """How batches are drawn from a cache of `count` images; the fields of `CropStream` of the same names.

    Raises UserError for a field that a cache does not give and for a batch that it does not fill.
    """

    count: int
    batch: int
    image_size: int
    seed: int
    crop_scale: tuple[float, float] = (0.2, 1.0)
    shuffle_keys: bool = False
    key_blocks: int = 1
    fields: Sequence[str] = ()

    def __post_init__(self) -> None:
        for field in self.fields:
            if field not in FIELDS:
                raise UserError(f"config.data.cache = 'device': gives no field {field!r}; only {', '.join(FIELDS)}")
        if self.count < self.batch:
            raise UserError(f"{self.count} images are fewer than one batch of {self.batch}; lower config.batch")
        if self.batch % self.key_blocks:
            raise UserError(f"batch of {self.batch}: does not divide into {self.key_blocks} key blocks")

    @property
    def steps_per_epoch(self) -> int:
        return self.count // self.batch

    def order(self, epoch: Int[Array, ""]) -> Int[Array, " n"]:
        """Every id once."""
        return jax.random.permutation(self._key(0, epoch), self.count)

    def wire(
        self, cache: Cache, order: Int[Array, " n"], epoch: Int[Array, ""], step: Int[Array, ""], mesh: Mesh
    ) -> dict[str, Array]:
        """The global batch `step` of an epoch: views float32 in [0, 1], the other fields as the stream's."""
        ids = jax.lax.dynamic_slice(order, (step * self.batch,), (self.batch,))
        key_order = self._key_order(epoch, step)
        query_boxes, key_boxes = self.boxes(epoch, ids, cache.aspects[ids])
        images = fetch(cache.images, ids, mesh)
        others = fetch(cache.images, ids[key_order], mesh) if self.shuffle_keys else images
        cut = partial(crops.crop_resize, size=self.image_size)
        batch = {
            "query": cut(images, query_boxes),
            "key": cut(others, key_boxes[key_order]),
            "key_order": key_order,
            "label": cache.labels[ids],
            "box": query_boxes,
        }
        if "source" in self.fields:
            whole = jnp.broadcast_to(jnp.array([0.0, 0.0, 1.0, 1.0]), (self.batch, 4))
            batch["source"] = cut(images, whole)
        if "id" in self.fields:
            batch["id"] = ids
        split = parallel.batch_sharding(mesh)
        return {name: jax.lax.with_sharding_constraint(value, split) for name, value in batch.items()}

    def boxes(
        self, epoch: Int[Array, ""], ids: Int[Array, " b"], aspects: Float[Array, " b"]
    ) -> tuple[Float[Array, "b 4"], Float[Array, "b 4"]]:
        """The query's and the key's crop box of each image, in shares of its sides."""
        keys = jax.vmap(lambda i: jax.random.split(jax.random.fold_in(self._key(1, epoch), i)))(ids)
        sample = partial(crops.sample_box, scale=self.crop_scale, aspect=aspects)
        return sample(keys[:, 0]), sample(keys[:, 1])

    def _key_order(self, epoch: Int[Array, ""], step: Int[Array, ""]) -> Int[Array, " b"]:
        places = jnp.arange(self.batch, dtype=jnp.int32)
        if not self.shuffle_keys:
            return places
        blocks = places.reshape(self.key_blocks, -1)
        key = jax.random.fold_in(self._key(2, epoch), step)
        return jax.random.permutation(key, blocks, axis=1, independent=True).reshape(-1)

    def _key(self, purpose: int, epoch: Int[Array, ""]) -> Key[Array, ""]:
        return jax.random.fold_in(jax.random.fold_in(jax.random.key(self.seed), purpose), epoch)


def fetch(images: UInt8[Array, "n s s 3"], ids: Int[Array, " b"], mesh: Mesh) -> UInt8[Array, "b s s 3"]:
    """The images of these ids, split over the devices; each device adds those that it holds.

    Only the batch's own bytes ever move. `b` and `n` are multiples of the devices.
    """

    def local(held: Array, ids: Array) -> Array:
        place = ids - jax.lax.axis_index(parallel.DATA_AXIS) * len(held)
        mine = (place >= 0) & (place < len(held))
        found = jnp.take(held, jnp.clip(place, 0, len(held) - 1), axis=0)
        found = jnp.where(mine[:, None, None, None], found, jnp.zeros((), held.dtype))
        return jax.lax.psum_scatter(found, parallel.DATA_AXIS, scatter_dimension=0, tiled=True)

    split = PartitionSpec(parallel.DATA_AXIS)
    return jax.shard_map(local, mesh=mesh, in_specs=(split, PartitionSpec()), out_specs=split)(images, ids)


def check_fits(count: int, side: int, mesh: Mesh) -> None:
    """UserError where `count` squares of `side` pixels leave a device too little memory. Reads nothing."""
    free = free_bytes(mesh)
    share = -(-count // mesh.size) * side * side * 3
    if free and share > MOST * free:
        raise UserError(
            f"config.data.cache = 'device': {count} images of {side} px are {_size(count * side * side * 3)}, "
            f"{_size(share)} on each of {mesh.size} devices, and of {_size(free)} that are free there at most "
            f"{MOST:.0%} may be used; lower config.data.cache_size or use config.data.cache = 'none'"
        )


def free_bytes(mesh: Mesh) -> int:
    """Free memory of the first local device; of the machine, shared out, where devices are processors. 0: unknown."""
    device = mesh.local_devices[0]
    held = device.memory_stats()
    if held and "bytes_limit" in held:
        return held["bytes_limit"] - held.get("bytes_in_use", 0)
    return memory.available() // len(mesh.local_devices) if device.platform == "cpu" else 0


def abstract(count: int, side: int, mesh: Mesh) -> Cache:
    """Shapes and dtypes of a cache of `count` images, without any array; padded so that each device holds as many."""
    padded = -(-count // mesh.size) * mesh.size
    struct: Any = jax.ShapeDtypeStruct
    return Cache(
        images=struct((padded, side, side, 3), jnp.uint8),
        labels=struct((count,), jnp.int32),
        aspects=struct((count,), jnp.float32),
    )


def place(
    images: Callable[[int, int], np.ndarray],
    columns: Callable[[], tuple[np.ndarray, np.ndarray]],
    *,
    count: int,
    side: int,
    mesh: Mesh,
) -> Cache:
    """A cache of `count` images on the devices.

    `images(low, high)` gives uint8 `[high - low, side, side, 3]` and is asked once for each of this process's devices,
    so no more than that is on the host; `columns()`, asked afterwards, gives all labels and aspects.
    """
    shape = abstract(count, side, mesh).images.shape

    def part(index: Any) -> np.ndarray:
        low, high, _ = index[0].indices(shape[0])
        return images(low, high)

    made = jax.make_array_from_callback(shape, parallel.batch_sharding(mesh), part)
    labels, aspects = (jax.device_put(column, parallel.replicated(mesh)) for column in columns())
    return Cache(made, labels, aspects)


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
