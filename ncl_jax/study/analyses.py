"""What a study's document says of single classes and categories: the paper's analyses, means over seeds."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ncl_jax.errors import UserError
from ncl_jax.evaluation import class_accuracy, figures, imagenet_classes
from ncl_jax.study import figures as study_figures
from ncl_jax.study import tables

Document = Mapping[str, Any]
Figure = tuple[str, bytes]  # caption, PNG


def shape_bias(document: Document) -> list[Figure]:
    """Shape bias of each category, all variants in a figure, for every cue-conflict set."""
    found = []
    for name in _sets(document, lambda result: result["kind"] == "cue_conflict"):
        rows, colours = {}, []
        for variant in tables.begun(document):
            of_seeds = [result["per_category"] for result in _results(document, variant, name)]
            means = {
                category: {"shape_bias": _mean([seed[category]["shape_bias"] for seed in of_seeds])}
                for category in (of_seeds[0] if of_seeds else ())
            }
            if means:
                rows[document["variants"][variant]["label"]] = means
                colours.append(study_figures.colour(document, variant))
        if rows:
            png = _drawn(lambda path, r=rows, c=colours: figures.shape_bias_by_category(r, path, colours=c))
            found.append(
                (
                    f"{name}: shape bias of each category, means over the seeds; dashed: over the categories, each of "
                    "which counts alike, so that it is not the shape bias of all decisions in the table",
                    png,
                )
            )
    return found


def class_changes(document: Document) -> list[Figure]:
    """Which classes gain and lose, for every variant and set whose accuracy is kept by class (`per_class`)."""
    found = []
    for name in _sets(document, lambda result: "per_class" in result):
        by_variant = {v: by_class(document, v, name) for v in tables.begun(document)}
        for variant, after in by_variant.items():
            against = document["variants"][variant]["against"]
            before = by_variant.get(against, {})
            if against == variant or not before or not after:
                continue
            changes = class_accuracy.changes(
                np.array(list(before.values())),
                np.array([after.get(c, np.nan) for c in before]),
                [readable(c) for c in before],
            )
            labels = [document["variants"][v]["label"] for v in (variant, against)]
            png = _drawn(lambda path, changes=changes: figures.class_changes(changes, path))
            found.append(
                (f"{name}: what classes gain and lose, {labels[0]} less {labels[1]}, means over the seeds", png)
            )
    return found


def hierarchy(document: Document) -> list[Figure]:
    """Accuracy and its change over depth and siblings in WordNet, where the classes are ImageNet's."""
    found = []
    for name in _sets(document, lambda result: "per_class" in result):
        for variant in tables.begun(document):
            accuracy = by_class(document, variant, name)
            try:
                places = imagenet_classes.hierarchy(list(accuracy))
            except UserError:  # another dataset's classes
                continue
            if accuracy:
                values = np.array(list(accuracy.values()))
                png = _drawn(lambda path, v=values, p=places: figures.class_scatter(v, p, path))
                label = document["variants"][variant]["label"]
                found.append((f"{name}: accuracy of each class over its place in WordNet, {label}", png))
    return found


def by_class(document: Document, variant: str, name: str) -> dict[str, float]:
    """Class -> accuracy, the mean over the seeds that finished."""
    of_seeds = [result["per_class"] for result in _results(document, variant, name)]
    return {c: _mean([seed[c] for seed in of_seeds if c in seed]) for c in (of_seeds[0] if of_seeds else ())}


def readable(name: str) -> str:
    """A WordNet id of ImageNet as its first name; anything else as it is."""
    names = {c.wnid: c.name for c in imagenet_classes.classes()}
    return names.get(name, name).partition(",")[0]


def _results(document: Document, variant: str, name: str) -> list[dict[str, Any]]:
    """What the set gave for each seed of a variant."""
    runs = [run for run in document["runs"] if run["variant"] == variant and run["results"]]
    return [run["results"]["sets"][name] for run in runs if name in run["results"]["sets"]]


def _sets(document: Document, want: Callable[[Mapping[str, Any]], bool]) -> list[str]:
    """Names of the sets with such results, in order."""
    every = [run["results"]["sets"].items() for run in document["runs"] if run["results"]]
    return list(dict.fromkeys(name for sets in every for name, result in sets if want(result)))


def _mean(values: list[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else float("nan")


def _drawn(draw: Callable[[Path], Any]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figure.png"
        draw(path)
        return path.read_bytes()
