"""What the sets share that draw the test images anew, on the devices, image by image."""

from collections.abc import Callable
from typing import Any

from ncl_jax.evaluation.sets import domain


def run(subject: Any, split: str, change: Callable[[Any, Any], Any]) -> dict[str, Any]:
    """The probe's accuracy on a split of the in-domain dataset, its images as `change(images, ids)` makes them."""
    dataset = subject.open(split=split)
    return domain.score(subject, dataset, subject.features(dataset, change))
