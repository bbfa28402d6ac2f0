"""Wire batches of noise, as the stream would give them: for measuring without data and without TensorFlow."""

import jax
import jax.numpy as jnp
import numpy as np

from ncl_jax import negatives
from ncl_jax.augment import views as views_lib
from ncl_jax.config import Config
from ncl_jax.errors import UserError

CLASSES = 100  # labels are below
SIDES = {224: 16, 32: 128}  # pixels -> images at a time, where no config says


def wire(config: Config) -> dict[str, np.ndarray]:
    """A global batch with every field that `config` needs: uint8 images, boxes, labels, key order."""
    rng = np.random.default_rng(0)
    batch, side = config.batch, config.data.image_size

    def images(*shape: int) -> np.ndarray:
        return rng.integers(0, 256, (batch, *shape, side, side, 3), np.uint8)

    corner, extent = rng.uniform(0.0, 0.4, (batch, 2)), rng.uniform(0.4, 0.6, (batch, 2))
    fields = {
        "query": images(),
        "key": images(),
        "key_order": np.arange(batch, dtype=np.int32),
        "label": rng.integers(0, CLASSES, batch).astype(np.int32),
        "box": np.concatenate([corner, corner + extent], axis=1).astype(np.float32),
    }
    for field in negatives.needs(config.negatives):
        if field == "source":
            fields[field] = images()
        elif field == "texture":
            fields[field] = images(max(settings.num for settings in config.negatives.values()))
        elif field == "id":
            fields[field] = np.arange(batch, dtype=np.int32)
        else:
            raise UserError(f"a negative needs the field {field!r}, of which the benchmark cannot make random values")
    return fields


def views(config: Config) -> dict[str, jax.Array]:
    """What a negative is given: a wire batch with its query augmented."""
    fields = {name: jnp.asarray(value) for name, value in wire(config).items()}
    keys = jax.random.split(jax.random.key(0), config.batch)
    augment = jax.jit(views_lib.augment, static_argnums=2)
    query = augment(keys, fields["query"], views_lib.recipe(config.augment, view="query"))
    return {**fields, "query": query, "query_keys": keys}
