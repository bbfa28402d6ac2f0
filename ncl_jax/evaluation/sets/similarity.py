"""What the loss sees on test images: cosines of queries to their positives, to the others, to negatives of every kind.

Encoded by the run's own method and state, batch norm in train mode, as in a step of training.
"""

import dataclasses
from typing import Any

import jax
import numpy as np

from ncl_jax import methods, negatives, parallel
from ncl_jax.errors import UserError
from ncl_jax.evaluation import figures, similarity, training_views
from ncl_jax.evaluation.rows import Row
from ncl_jax.schema import option

_QUEUED = 4096  # keys of the queue that are compared, evenly spread over it

ROWS = (
    Row("positive.mean", "cosine to the positive", ""),
    Row("queue.mean", "cosine to the queue", ""),
    Row("batch.mean", "cosine to the rest of the batch", ""),
    *(Row(f"{kind}.mean", f"cosine to {kind.replace('_', ' ')} negatives", "") for kind in negatives.REGISTRY),
)
UNLABELLED = True
ANALYSIS = True


@dataclasses.dataclass(frozen=True)
class Settings:
    images: int = option(1024, low=1)  # of the test split


def check(subject: Any, settings: Settings) -> None:
    if subject.foreign:
        raise UserError(
            "config.evaluation.sets.similarity: needs a run of ours with its heads; leave it out for --torch"
        )
    _config(subject)


def run(subject: Any, settings: Settings) -> dict[str, Any]:
    config = _config(subject)
    current = jax.device_put((subject.current.params, subject.current.extra), parallel.replicated(subject.mesh))
    params, extra = jax.device_put(jax.tree.map(parallel.local_value, current), jax.local_devices()[0])
    compare = subject.encoder.once(("similarity", repr(config)), lambda: _comparison(config))
    found: dict[str, list[np.ndarray]] = {}
    for views in training_views.batches(subject.encoder, config, images=settings.images):
        for kind, values in _cosines(config, compare(params, extra, views), extra.get("queue")).items():
            found.setdefault(kind, []).append(values)
    cosines = {kind: np.concatenate(values) for kind, values in found.items()}
    path = subject.figure("similarity")
    if path:
        figures.similarity_histograms(cosines, path)
    return {**similarity.summary(cosines), "images": len(cosines["positive"])}


def _config(subject: Any) -> Any:
    return training_views.as_trained(subject.config, keep=tuple(subject.config.negatives))


def _comparison(config: Any) -> Any:
    """A jitted function from parameters, the state beside them, and views to the embeddings of them all."""
    method = methods.build(config, 1)
    return jax.jit(lambda params, extra, views: method.loss(params, extra, views, jax.random.key(0))[1])


def _cosines(config: Any, aux: dict[str, Any], queue: Any) -> dict[str, np.ndarray]:
    query, positive = np.asarray(aux["query"]), np.asarray(aux["positive"])
    of_kind, start = {}, 0
    for kind, settings in config.negatives.items():
        of_kind[kind] = np.asarray(aux["non_semantic"])[:, start : start + settings.num]
        start += settings.num
    if queue is not None:
        queue = np.asarray(queue)[:: -(-len(queue) // _QUEUED)]
        return similarity.similarities(query, positive=positive, queue=queue, negatives=of_kind)
    cosines = similarity.similarities(query, positive=positive, negatives=of_kind)
    others = similarity.similarities(query, queue=positive)["queue"].reshape(len(query), -1)
    return {"positive": cosines.pop("positive"), "batch": others[~np.eye(len(query), dtype=bool)], **cosines}
