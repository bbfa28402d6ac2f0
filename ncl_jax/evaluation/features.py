"""Features of a frozen encoder for every image of a split, whatever the batch size and the number of devices."""

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

Encode = Callable[[UInt8[Array, "b s s 3"]], Float[Array, "b d"]]


def normalize_rows(features: Float[Array | np.ndarray, "n d"]) -> Float[Array, "n d"]:
    """Rows of L2 norm 1; a row of zeros stays zeros."""
    norm = jnp.sqrt(jnp.sum(jnp.square(features), axis=-1, keepdims=True))
    return jnp.asarray(features) / jnp.maximum(norm, 1e-12)


def extract(
    encode: Encode,
    batches: Iterable[Mapping[str, np.ndarray]],
    *,
    sharding: NamedSharding | None = None,
) -> dict[str, np.ndarray]:
    """Run `encode` over all `batches`: `{"features": float32 [n d], "label": int32 [n], ...}` on the host.

    A batch is a dict of host arrays of one leading length: uint8 images `image` `[b s s 3]`, `mask` [b] (False
    where padded; may be missing when nothing is padded) and any integer fields [b], which come back as int32.
    Nothing is dropped: a batch that does not divide over the devices of `sharding` is padded here. With several
    processes each gives its own part, all must give equally many batches, and every process gets all rows. Rows come in
    the order of `id` where the batches have it: it then depends neither on the batches nor on the processes.
    Raises UserError where no image comes or a feature is not finite.
    """
    rows: list[dict[str, np.ndarray]] = []
    pending: deque[tuple[Any, dict[str, np.ndarray]]] = deque()
    for batch in batches:
        images = np.asarray(batch["image"])
        mask = np.asarray(batch.get("mask", np.ones(len(images), bool)), bool)
        fields = {k: np.asarray(v) for k, v in batch.items() if k not in ("image", "mask") and _is_integer_field(v)}
        images, mask, fields = _fill(sharding, images, mask, fields)
        pending.append((encode(_place(images, sharding)), {"mask": mask, **fields}))
        # One batch stays in flight: the device works on it while the host fetches this one and decodes the next.
        if len(pending) > 1:
            rows.append(_fetch(*pending.popleft()))
    while pending:
        rows.append(_fetch(*pending.popleft()))
    if not rows or not sum(len(r["features"]) for r in rows):
        raise UserError("features: the dataset gave no images; check its name and split")
    result = {name: np.concatenate([r[name] for r in rows]) for name in rows[0]}
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
    if sharding is None:
        return images, mask, fields
    parts = sum(d.process_index == jax.process_index() for d in sharding.mesh.devices.flat)
    missing = -len(images) % parts

    def fill(x):
        return np.concatenate([x, np.zeros((missing, *x.shape[1:]), x.dtype)]) if missing else x

    return fill(images), fill(mask), {k: fill(v) for k, v in fields.items()}


def _place(images: np.ndarray, sharding: NamedSharding | None) -> Any:
    if sharding is None:
        return images
    return jax.make_array_from_process_local_data(sharding, images)


def _fetch(features: Any, fields: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if jax.process_count() > 1:
        if not features.is_fully_addressable:
            features = multihost_utils.process_allgather(features, tiled=True)
        fields = {k: np.asarray(multihost_utils.process_allgather(v, tiled=True)) for k, v in fields.items()}
    keep = fields.pop("mask")
    fields = {k: v[keep].astype(np.int32) for k, v in fields.items()}
    return {"features": np.asarray(features, np.float32)[keep], **fields}
