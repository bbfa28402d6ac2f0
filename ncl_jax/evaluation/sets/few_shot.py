"""The linear probe on a small part of the labels, the mean over draws."""

import dataclasses
from typing import Any

from ncl_jax.evaluation import few_shot
from ncl_jax.evaluation.rows import Row
from ncl_jax.schema import option

ROWS = (
    Row("top1_1%", "1 % of the labels"),
    Row("top1_10%", "10 % of the labels"),
)


@dataclasses.dataclass(frozen=True)
class Settings:
    shares: tuple[float, ...] = option((0.01, 0.1), above=0.0, high=1.0)  # tables show these two
    draws: int = option(3, low=1)


def check(subject: Any, settings: Settings) -> None:
    """Its images are those of kNN and probe, which are looked at anyway."""


def run(subject: Any, settings: Settings) -> dict[str, Any]:
    return few_shot.accuracies(
        subject.train,
        subject.test,
        num_classes=subject.num_classes,
        shares=settings.shares,
        seeds=range(settings.draws),
    )
