"""Folders of images: `PATH/split/label/*.jpg|png`, or `PATH/label/*.jpg|png`, which is one split under any name.

Files are in the order of TFDS's ImageFolder, shuffled by the split's name, so that slices mean the same. Needs no TFDS.
The classes are the labels of the split `train` where there is one, else those of all splits. Names that begin with a
dot are passed over.
"""

import functools
import logging
import os
import random
from pathlib import Path
from typing import Any

import numpy as np

from ncl_jax import storage
from ncl_jax.data import splits
from ncl_jax.errors import Mistake, UserError

log = logging.getLogger(__name__)

IMAGES = (".jpg", ".jpeg", ".png")  # in any case
_EXPECTED = "expected PATH/split/label/*.jpg|png, PATH/label/*.jpg|png or, without labels, PATH/all/*.jpg|png"


def split_names(name: str) -> tuple[str, ...]:
    """The splits of `folder:PATH` that have images; UserError where there is none."""
    root = _root(name)
    levels = _levels(root)
    if any(levels.values()):
        names = tuple(split for split, labels in levels.items() if _images(split, labels))
    else:
        names = ("train",) if _images("", _folders(root)) else ()
    if not names:
        raise UserError(f"dataset {name}: no images found; {_EXPECTED} in {root}")
    return names


def built_split(name: str, spec: str) -> str:
    """`spec` in what was built of `folder:PATH`: where its folders are the labels, the one split is `train` there."""
    if any(_levels(_root(name)).values()):
        return spec
    parts = (part.strip().partition("[") for part in spec.split("+"))
    return "+".join("train" + bracket + bounds for _, bracket, bounds in parts)


def fields(name: str, spec: str) -> dict[str, Any]:
    """What a `Dataset` holds of the slices `spec` of `folder:PATH`; only the splits that it names are looked into."""
    root = _root(name)
    levels = _levels(root)
    if any(levels.values()):
        asked = {part.partition("[")[0].strip() for part in spec.split("+")}
        found = {split: _images(split, inside) for split, inside in levels.items() if {split, "all"} & asked}
        known = [levels["train"]] if levels.get("train") else levels.values()
        labels = sorted({label.name for inside in known for label in inside})
        sizes = {split: len(found.get(split, ())) for split in levels}
    else:  # no split level: the folders are the labels
        split = "train" if spec == "all" else spec.partition("[")[0]
        if split in levels and split != "all":
            raise UserError(f"dataset {name}: {root / split} has no folder per label; {_EXPECTED}")
        found = {split: _images("", _folders(root))}
        labels = list(levels)
        sizes = {split: len(found[split])}
    if not any(found.values()) and (found or not levels):
        loose = sum(path.name.lower().endswith(IMAGES) for path in _entries(root))
        if loose:
            raise UserError(f"dataset {name}: {loose} images lie in {root} itself; move them into {root / 'all'}")
        raise UserError(f"dataset {name}: no images found; {_EXPECTED} in {root}")
    parts = splits.parse(name, spec, sizes)
    examples = [example for split, low, high in parts for example in found[split][low:high]]
    place = {label: number for number, label in enumerate(labels)}
    strange = next((path for label, path in examples if label not in place), None)
    if strange:
        raise UserError(f"dataset {name}: {strange}: the split train has no such label")
    return {
        "num_examples": len(examples),
        "num_classes": len(labels),
        "names": {"label": tuple(labels)},
        "paths": tuple(path for _, path in examples),
        "folder_labels": np.array([place[label] for label, _ in examples], np.int32),
    }


def _root(name: str) -> Path:
    path = name.removeprefix("folder:")
    root = Path(path).expanduser()
    if not path:  # it would be the folder one is in
        raise UserError(f"dataset {name}: names no folder; {_EXPECTED}")
    if storage.in_bucket(path):
        raise Mistake(f"dataset {name}: folders are read from disks; copy it to one, or store it as a dataset of TFDS")
    if not root.is_dir():
        raise UserError(f"dataset {name}: no such folder; {_EXPECTED} at {root.absolute()}")
    return root


def _levels(root: Path) -> dict[str, list[Path]]:
    """The folders in each folder of the root."""
    return {folder.name: _folders(folder) for folder in _folders(root)}


def _images(split: str, labels: list[Path]) -> list[tuple[str, str]]:
    """(label, path) of the image files in the folders of the labels, shuffled by the split's name."""
    found, others = [], []
    for label in labels:
        for path in _entries(label):
            if path.name.lower().endswith(IMAGES):
                found.append((label.name, os.fspath(path)))
            else:
                others.append(path)
    if others:
        _left_out(len(others), others[0])
    random.Random(split).shuffle(found)
    return found


@functools.cache  # once: a split is opened time and again
def _left_out(count: int, first: Path) -> None:
    what = "a folder" if first.is_dir() else f"none of {', '.join(IMAGES)}"
    more = f", and {count - 1} more" if count > 1 else ""
    log.warning("left out of the images: %s, which is %s%s", first, what, more)


def _folders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _entries(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return [folder / name for name in sorted(entry.name for entry in entries) if not name.startswith(".")]
