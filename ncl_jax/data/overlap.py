"""Images that two splits share: what is trained on is not tested on."""

from ncl_jax.data.datasets import Chunk, Dataset
from ncl_jax.errors import UserError


def need_other_images(train: Dataset, test: Dataset) -> None:
    """UserError where they share images, as slices that overlap do, and two names of the only split of a folder."""
    shared = len({*train.paths} & {*test.paths}) + _overlap(train.chunks or train.origin, test.chunks or test.origin)
    if shared:
        raise UserError(
            f"dataset {test.name}: {shared} of the {test.num_examples} images of {test.split} are in {train.split} "
            "too; name parts that share none, e.g. train[:80%] and train[80%:]"
        )


def _overlap(some: tuple[Chunk, ...], others: tuple[Chunk, ...]) -> int:
    """How many records are in both."""
    pairs = [(a, b) for a in some for b in others if a.path == b.path]
    return sum(max(0, min(a.skip + a.take, b.skip + b.take) - max(a.skip, b.skip)) for a, b in pairs)
