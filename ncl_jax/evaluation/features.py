"""Features of a frozen encoder for every image of a split, whatever the batch size and the number of devices."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding
from jaxtyping import Array, Float, UInt8

from ncl_jax.errors import UserError

_PIECE = 2**26  # bytes of features that are on every device at a time while they are gathered
Encode = Callable[[UInt8[Array, "b s s 3"]], Float[Array, "b d"]]


def normalize_rows(features: Float[Array | np.ndarray, "n d"]) -> Float[Array, "n d"]:
    """Rows of L2 norm 1; a row of zeros stays zeros."""
    norm = jnp.sqrt(jnp.sum(jnp.square(features), axis=-1, keepdims=True))
    return jnp.asarray(features) / jnp.maximum(norm, 1e-12)


def extract(
    encode: Encode, batches: Iterable[Mapping[str, np.ndarray]], *, sharding: NamedSharding
) -> dict[str, np.ndarray]:
    """Run `encode` over all `batches`: `{"features": float32 [n d], "label": int32 [n], ...}` on the host.

    A batch is a dict of host arrays of one leading length: uint8 images `image` `[b s s 3]`, `mask` [b] (False
    where padded) and any integer fields [b], which come back as int32. Nothing is dropped: a batch that does not divide
    over the devices of `sharding` is padded here. With several processes each gives its own part, all must give equally
    many batches, and every process gets all rows. Rows come in the order of `id` where the batches have it: it then
    depends neither on the batches nor on the processes. Raises UserError where no image comes or a feature is not
    finite.
    """
    rows: list[dict[str, np.ndarray]] = []
    pending: deque[tuple[Any, dict[str, np.ndarray]]] = deque()
    for batch in batches:
        fields = {k: np.asarray(v) for k, v in batch.items() if k not in ("image", "mask") and _is_integer_field(v)}
        images, mask, fields = _fill(sharding, np.asarray(batch["image"]), np.asarray(batch["mask"], bool), fields)
        placed = jax.make_array_from_process_local_data(sharding, images)
        pending.append((_spread(encode(placed), sharding), {"mask": mask, **fields}))
        # One batch stays in flight: the device works on it while the host fetches this one and decodes the next.
        if len(pending) > 1:
            rows.append(_fetch(*pending.popleft()))
    while pending:
        rows.append(_fetch(*pending.popleft()))
    result = _gather({name: np.concatenate([r[name] for r in rows]) for name in rows[0]}) if rows else {}
    if not len(result.get("features", ())):
        raise UserError("features: the dataset gave no images; check its name and split")
    bad = np.asarray(~np.isfinite(result["features"]).all(axis=1))
    if bad.any():
        raise UserError(
            f"features: {bad.sum()} of {len(bad)} images give values that are not finite; the encoder has diverged"
        )
    if "id" in result:
        order = np.argsort(result["id"], kind="stable")
        result = {name: rows[order] for name, rows in result.items()}
    return result


def _is_integer_field(value: Any) -> bool:
    value = np.asarray(value)
    return value.ndim == 1 and np.issubdtype(value.dtype, np.integer)


def _fill(sharding, images, mask, fields):
    """Zero rows up to the next length that divides over this process's devices; the mask drops them again."""
    parts = sum(d.process_index == jax.process_index() for d in sharding.mesh.devices.flat)
    missing = -len(images) % parts

    def fill(x):
        return np.concatenate([x, np.zeros((missing, *x.shape[1:]), x.dtype)]) if missing else x

    return fill(images), fill(mask), {k: fill(v) for k, v in fields.items()}


def _spread(features: Any, sharding: NamedSharding) -> Any:
    """Each row on the device that had its image, so that every process holds its own."""
    return features if jax.process_count() == 1 else jax.device_put(features, sharding)


def _fetch(features: Any, fields: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The rows of this process, without padding."""
    if isinstance(features, jax.Array) and not features.is_fully_addressable:
        shards = sorted(features.addressable_shards, key=lambda shard: shard.index[0].start)
        features = np.concatenate([np.asarray(shard.data) for shard in shards])
    keep = fields.pop("mask")
    fields = {k: v[keep].astype(np.int32) for k, v in fields.items()}
    return {"features": np.asarray(features, np.float32)[keep], **fields}


def _gather(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The rows of all processes, those of the first one first: once, in the end, and in pieces. A gather with every
    batch would wait for the one that the devices are at."""
    if jax.process_count() == 1:
        return rows
    counts = np.asarray(multihost_utils.process_allgather(np.array(len(rows["features"]))))
    starts = np.cumsum(counts) - counts
    width = math.prod(rows["features"].shape[1:]) * rows["features"].itemsize
    piece = max(1, _PIECE // (len(counts) * width))  # the same on all, also where one has no rows
    result = {name: np.empty((counts.sum(), *x.shape[1:]), x.dtype) for name, x in rows.items()}
    for low in range(0, counts.max(), piece):
        size = min(piece, counts.max() - low)
        for name, mine in rows.items():
            part = np.zeros((size, *mine.shape[1:]), mine.dtype)
            part[: max(0, len(mine) - low)] = mine[low : low + size]
            parts = np.asarray(multihost_utils.process_allgather(part))
            for start, count, got in zip(starts, np.clip(counts - low, 0, size), parts, strict=True):
                result[name][start + low : start + low + count] = got[:count]
    return result
