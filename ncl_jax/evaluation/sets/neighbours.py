"""A grid of test images, each with the test images that lie nearest to it: what does the encoder take for alike?"""

import dataclasses
from typing import Any

import numpy as np

from ncl_jax.data import subset
from ncl_jax.errors import UserError
from ncl_jax.evaluation import figures
from ncl_jax.evaluation.features import normalize_rows
from ncl_jax.evaluation.rows import Row
from ncl_jax.schema import option

ROWS = (Row("same_class", "nearest neighbours of the same class"),)
UNLABELLED = True
ANALYSIS = True


@dataclasses.dataclass(frozen=True)
class Settings:
    queries: int = option(10, low=1)  # images, drawn by the seed
    count: int = option(8, low=1)  # neighbours of each


def check(subject: Any, settings: Settings) -> None:
    dataset = subject.open()
    subset.check(dataset)
    count = dataset.num_examples
    if count < settings.queries + settings.count:
        raise UserError(
            f"config.evaluation.sets.neighbours: {settings.queries} queries and {settings.count} neighbours want more "
            f"than the {count} test images"
        )


def run(subject: Any, settings: Settings) -> dict[str, Any]:
    test = subject.test
    order = np.random.default_rng(subject.config.seed).permutation(len(test["label"]))
    queries, others = np.sort(order[: settings.queries]), np.sort(order[settings.queries :])
    unit = np.asarray(normalize_rows(test["features"]))
    nearest = np.argsort(-unit[queries] @ unit[others].T, axis=1, kind="stable")[:, : settings.count]
    nearest = others[nearest]
    path = subject.figure("neighbours")
    if path:
        shown = np.unique(nearest)
        images = _images(subject, test["id"][np.concatenate([queries, shown])])
        found = images[len(queries) :][np.searchsorted(shown, nearest)]
        figures.nearest_neighbours(images[: len(queries)], found, path)
    if subject.unlabelled:
        return {}  # a figure alone
    return {"same_class": float(np.mean(test["label"][nearest] == test["label"][queries][:, None]))}


def _images(subject: Any, ids: np.ndarray) -> np.ndarray:
    """Test images by their ids, in this order."""
    rising = np.sort(ids)
    images = subject.images(subset.pick(subject.open(), rising), len(ids))
    return images[np.searchsorted(rising, ids)]
