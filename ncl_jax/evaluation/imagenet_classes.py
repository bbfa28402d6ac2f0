"""ImageNet's 1000 classes: order, names, which sets of ImageNet's variants hold them, and their place in WordNet."""

import collections
import csv
import dataclasses
import functools
from collections.abc import Sequence
from importlib import resources

from ncl_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class ImagenetClass:
    """A class. `depth`: hypernyms on the shortest way up to `entity` in WordNet 3.0 (see wordnet_license.txt)."""

    wnid: str
    name: str
    depth: int
    parents: tuple[str, ...]  # WordNet ids of the direct hypernyms
    rendition: bool  # one of the 200 classes of ImageNet-R
    adversarial: bool  # one of the 200 classes of ImageNet-A


@functools.cache
def classes() -> tuple[ImagenetClass, ...]:
    """All 1000 in the order of the labels of ImageNet 2012."""
    text = resources.files("ncl_jax.evaluation").joinpath("imagenet_classes.csv").read_text(encoding="utf-8")
    return tuple(
        ImagenetClass(
            wnid=row["wnid"],
            name=row["name"],
            depth=int(row["depth"]),
            parents=tuple(row["parents"].split()),
            rendition=row["rendition"] == "1",
            adversarial=row["adversarial"] == "1",
        )
        for row in csv.DictReader(text.splitlines())
    )


def hierarchy(wnids: Sequence[str]) -> dict[str, list[int]]:
    """`depth` of each class and its `siblings`: how many others of `wnids` share a direct parent with it.

    Deep classes with many siblings are fine ones (breeds of dogs), the others coarse. Raises UserError for a class that
    ImageNet has not.
    """
    known = {c.wnid: c for c in classes()}
    missing = [wnid for wnid in wnids if wnid not in known]
    if missing:
        raise UserError(
            f"class {missing[0]!r}: is no WordNet id of ImageNet's 1000 classes; the hierarchy covers those"
        )
    chosen = [known[wnid] for wnid in wnids]
    children = collections.defaultdict(set)
    for number, each in enumerate(chosen):
        for parent in each.parents:
            children[parent].add(number)
    return {
        "depth": [c.depth for c in chosen],
        "siblings": [len(set().union(*(children[parent] for parent in c.parents))) - 1 for c in chosen],
    }
