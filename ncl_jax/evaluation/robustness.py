"""Accuracy out of domain: corrupted images (ImageNet-C) and other depictions of some of the classes (ImageNet-R, -A).

`predict` stands for the frozen encoder and its probe: uint8 images `[b s s 3]` to class probabilities `[b c]`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Float, Int

from ncl_jax.errors import UserError
from ncl_jax.evaluation import corruptions

# AlexNet's error per corruption of ImageNet-C, mean over the severities (Hendrycks & Dietterich 2019).
ALEXNET_ERRORS = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.92264,
    "defocus_blur": 0.81988,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.79836,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.71784,
    "jpeg_compression": 0.6065,
}


def evaluate_corruptions(
    predict: Callable[[Any], Any],
    batches: Iterable[Mapping[str, np.ndarray]],
    corrupt: Callable[..., Any],
    *,
    names: Sequence[str] = corruptions.NAMES,
    severities: Sequence[int] = corruptions.SEVERITIES,
) -> dict[str, list[float]]:
    """Top-1 in [0, 1] per corruption, one number for each severity.

    `batches` (`image`, `label`, `id`, `mask`) are read once; every batch is corrupted in all ways by
    `corrupt(images, name, severity, ids) -> images`. With the same ids it must give the same images, so that the
    result does not depend on the batches. Each process brings its own images; the result counts those of all.
    Raises UserError where there is no image.
    """
    ways = [(name, severity) for name in names for severity in severities]
    right, total = np.zeros(len(ways), np.int64), 0
    for batch in batches:
        mask = np.asarray(batch["mask"], bool)
        total += int(mask.sum())
        # All ways are under way before the first result is fetched.
        votes = [predict(corrupt(batch["image"], name, severity, batch["id"])) for name, severity in ways]
        for way, vote in enumerate(votes):
            right[way] += np.sum((np.argmax(np.asarray(vote), axis=1) == batch["label"]) & mask)
    if jax.process_count() > 1:
        right, total = (x.sum(axis=0) for x in multihost_utils.process_allgather((right, np.int64(total))))
    if not total:
        raise UserError("corruptions: the dataset gave no images; check its name and split")
    shares = (right / total).reshape(len(names), len(severities))
    return {name: [float(v) for v in row] for name, row in zip(names, shares, strict=True)}


def summarize_corruptions(
    accuracy: Mapping[str, Sequence[float]], *, num_classes: int, image_size: int
) -> dict[str, Any]:
    """`mean` top-1 over the 15 standard corruptions and all severities, `per_corruption`, and `mce` where it may stand.

    mCE is only comparable for ImageNet's 1000 classes at 224 pixels and all five severities, as AlexNet's errors are;
    elsewhere it is left out.
    Corruptions beyond the 15 count in `per_corruption` only; of them alone there is no `mean`.
    """
    standard = [name for name in corruptions.NAMES if name in accuracy]
    per_corruption = {name: float(np.mean(values)) for name, values in accuracy.items()}
    summary: dict[str, Any] = {
        **({"mean": float(np.mean([per_corruption[name] for name in standard]))} if standard else {}),
        "corruptions": len(standard),
        "per_corruption": per_corruption,
        "per_severity": {name: [float(v) for v in values] for name, values in accuracy.items()},
    }
    whole = len(standard) == len(corruptions.NAMES) and all(
        len(accuracy[name]) == len(corruptions.SEVERITIES) for name in standard
    )
    if (num_classes, image_size) == (1000, 224) and whole:
        summary["mce"] = mean_corruption_error({name: 1 - per_corruption[name] for name in corruptions.NAMES})
    return summary


def mean_corruption_error(errors: Mapping[str, float]) -> float:
    """mCE in percent: the mean over the 15 corruptions of the error divided by AlexNet's; AlexNet itself has 100."""
    missing = [name for name in corruptions.NAMES if name not in errors]
    if missing:
        raise UserError(f"mCE: {missing[0]} was not measured; it takes all of the 15 corruptions")
    return float(100 * np.mean([errors[name] / reference for name, reference in ALEXNET_ERRORS.items()]))


def class_map(test_classes: Sequence[str], probe_classes: Sequence[str]) -> Int[np.ndarray, " k"]:
    """For each class of a test set its column in the probe, -1 where the probe has not learnt it.

    Raises UserError where they have no class in common.
    """
    place = {name: index for index, name in enumerate(probe_classes)}
    columns = np.array([place.get(name, -1) for name in test_classes], np.int32)
    if not (columns >= 0).any():
        example = (
            f"{test_classes[0]!r} against {probe_classes[0]!r}" if test_classes and probe_classes else "none given"
        )
        raise UserError(f"class lists: the test set and the probe have no class in common ({example})")
    return columns


def subset_accuracy(
    probabilities: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"], columns: Int[np.ndarray, " k"]
) -> dict[str, float]:
    """Top-1 on a test set that holds some of the probe's classes, as ImageNet-R holds 200 of 1000.

    `labels` count the test set's classes, `columns` comes from `class_map`. Images of classes that the probe has not
    learnt are left out. `masked`: among the classes of the test set only. `unmasked`: among all that the probe knows.
    """
    truth = columns[labels]
    known = truth >= 0
    if not known.any():
        raise UserError("class lists: no image of the test set belongs to a class that the probe knows")
    probabilities, truth = probabilities[known], truth[known]
    allowed = np.zeros(probabilities.shape[1], bool)
    allowed[columns[columns >= 0]] = True
    masked = np.where(allowed[None, :], probabilities, -1.0)
    return {
        "masked": float(np.mean(np.argmax(masked, axis=1) == truth)),
        "unmasked": float(np.mean(np.argmax(probabilities, axis=1) == truth)),
        "classes": int(allowed.sum()),
        "images": int(known.sum()),
    }


def multi_label_accuracy(probabilities: Float[np.ndarray, "n c"], labels: Sequence[Sequence[int]]) -> float:
    """ReaL (Beyer et al. 2020): right is any of an image's labels; images without one are left out."""
    decided = np.argmax(probabilities, axis=1)
    right = [decision in allowed for decision, allowed in zip(decided, labels, strict=True) if len(allowed)]
    if not right:
        raise UserError("ReaL labels: no image has a label")
    return float(np.mean(right))
