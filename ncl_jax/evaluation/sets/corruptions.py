"""ImageNet-C: 15 (and 4 more) corruptions in 5 severities, computed from the test split or read as published.

A published set has been cropped already: its images are taken whole.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from ncl_jax.errors import Mistake
from ncl_jax.evaluation import corruptions, robustness
from ncl_jax.evaluation.rows import Row
from ncl_jax.evaluation.sets import domain
from ncl_jax.schema import nearest, option

ALL = len(corruptions.NAMES)


def _part(result: Mapping[str, Any]) -> str:
    """Where it is a mean over some of the corruptions or severities, of how many and of which."""
    count, severities = result.get("corruptions", ALL), result.get("severities", corruptions.SEVERITIES)
    some = f" of {count} corruption{'s' * (count > 1)}" if count < ALL else ""
    if set(severities) == {*corruptions.SEVERITIES}:
        return some
    return f"{some} (severit{'y' if len(severities) == 1 else 'ies'} {', '.join(map(str, severities))})"


ROWS = (
    Row("mean", "{name}, mean", about=_part),
    Row("mce", "{name}, mCE", " %", about=_part),
)
OUT_OF_DOMAIN = True


@dataclasses.dataclass(frozen=True)
class Settings:
    names: tuple[str, ...] = corruptions.NAMES
    severities: tuple[int, ...] = corruptions.SEVERITIES
    split: str = ""  # of the in-domain dataset, corrupted here; empty: its test split
    # A published set instead: imagenet2012_corrupted, cifar10_corrupted, or folder:PATH for PATH/NAME/SEVERITY/label/*.
    dataset: str = ""
    seed: int = option(0, low=0)  # of the corruptions' chance


def check(subject: Any, settings: Settings) -> None:
    for key in ("names", "severities"):
        if not getattr(settings, key):
            raise Mistake(f"config.evaluation.sets: {key} of a set of kind corruptions are empty; give one at least")
    for name in settings.names:
        if name not in corruptions.NAMES + corruptions.EXTRA_NAMES:
            known = nearest(name, corruptions.NAMES + corruptions.EXTRA_NAMES)
            raise Mistake(f"config.evaluation.sets: corruption {name!r}: unknown; {known}")
    for severity in settings.severities:
        if severity not in corruptions.SEVERITIES:
            raise Mistake(f"config.evaluation.sets: severity {severity}: one of 1, 2, 3, 4, 5")
    if settings.dataset:
        opened = [_open(subject, settings, n, s) for n in settings.names for s in settings.severities]
        domain.columns(subject, opened[0])
    else:
        subject.open(split=settings.split)


def run(subject: Any, settings: Settings) -> dict[str, Any]:
    if settings.dataset:
        accuracy = {
            name: [_stored(subject, settings, name, severity) for severity in settings.severities]
            for name in settings.names
        }
    else:
        place, batches = subject.encoder.place, subject.batches(subject.open(split=settings.split))
        accuracy = robustness.evaluate_corruptions(
            subject.predict,
            # On the devices once, a part of the batch on each, for all the ways it is corrupted in.
            ({**batch, "image": place(batch["image"])} for batch in batches),
            functools.partial(_corrupt, seed=settings.seed),
            names=settings.names,
            severities=settings.severities,
        )
    result = robustness.summarize_corruptions(
        accuracy, num_classes=subject.num_classes, image_size=subject.config.data.image_size
    )
    return result | {"severities": list(settings.severities)}


def _corrupt(images: Any, name: str, severity: int, ids: Any, *, seed: int) -> Any:
    return corruptions.corrupt(images, ids, name=name, severity=severity, seed=seed)


def _open(subject: Any, settings: Settings, name: str, severity: int) -> Any:
    if settings.dataset.startswith("folder:"):
        return subject.open(f"{settings.dataset}/{name}/{severity}", settings.split or "test")
    base, colon, version = settings.dataset.partition(":")
    if base == "cifar10_corrupted":  # its own words
        name = {"glass_blur": "frosted_glass_blur", "elastic_transform": "elastic"}.get(name, name)
    default = "validation" if base.startswith("imagenet2012") else "test"
    return subject.open(f"{base}/{name}_{severity}{colon}{version}", settings.split or default)


def _stored(subject: Any, settings: Settings, name: str, severity: int) -> float:
    dataset = _open(subject, settings, name, severity)
    return domain.score(subject, dataset, subject.features(dataset, whole=True))["top1"]
