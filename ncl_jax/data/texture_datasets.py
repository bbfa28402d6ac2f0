"""Texture versions of datasets: what they are called, and how one is laid beside the dataset it was made of.

`ncl-jax textures` makes them (`ncl_jax.textures.build`). Their record i of a split is the texture of record i of the
same split of their source, under the same label; so any dataset of as many records in the same order can be paired.
"""

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ncl_jax.data import folders, rows
from ncl_jax.data.datasets import MADE_BY_COMMAND, Dataset, open_dataset
from ncl_jax.errors import Missing, UserError

IMAGENET = ("imagenet2012", "imagenet100")  # whose texture versions are configs of `imagenet_texture`
COMPARED = 64  # records whose labels are compared when two datasets are paired
RECIPE = "recipe.json"  # in the folder of a texture dataset: what it was built of
SIZES = 100  # files of an image folder, at the most, whose sizes are looked at


def texture_name(source: str, *, quality: str = "standard", seed: int = 0) -> str:
    """The TFDS name of the texture version of the dataset `source`: `textures/...`, ImageNet's `imagenet_texture/...`.

    It names what differs from the defaults, so that several versions lie side by side.
    """
    if source.startswith("folder:"):
        path = [part for part in re.split(r"[/\\]+", source.removeprefix("folder:")) if part]
        source = "folder-" + (path[-1] if path else "root")
    base = re.sub(r"[^A-Za-z0-9_.-]+", "-", source.partition(":")[0]).strip("-.")
    changes = [quality] * (quality != "standard") + [f"seed{seed}"] * (seed != 0)
    return "/".join(["imagenet_texture" if base in IMAGENET else "textures", "-".join([base, *changes])])


def pair(dataset: Dataset, names: Sequence[str] = (), *, count: int = 1, data_dir: str | None = None) -> Dataset:
    """`dataset` with `textures`: the same split of each of `names`.

    Without names they are the `count` versions of this dataset that `ncl-jax textures` makes with the seeds 0, 1, ...
    Raises UserError where one is missing, has another number of records, other labels or file names, or was built of
    another folder, and as `open_dataset`.
    """
    defaults = {texture_name(dataset.name, seed=seed): seed for seed in range(count)}
    built = folders.built_split(dataset.name, dataset.split) if dataset.name.startswith("folder:") else dataset.split
    textures = []
    for name in names or defaults:
        split = built if name.partition("/")[0] in MADE_BY_COMMAND else dataset.split
        try:
            texture = open_dataset(name, split, data_dir=data_dir)
        except Missing as error:
            if name not in defaults:
                raise
            flags = [f"--dataset={dataset.name}"]
            flags += [f"--data_dir={data_dir}"] * bool(data_dir) + [f"--seed={defaults[name]}"] * bool(defaults[name])
            raise UserError(
                f"texture dataset {name}[{split}]: not there; make it with: ncl-jax textures {' '.join(flags)} "
                "(or name another in config.negatives.texture_dataset.names)"
            ) from error
        _check_pair(dataset, texture)
        textures.append(texture)
    return dataclasses.replace(dataset, textures=tuple(textures))


def _check_pair(dataset: Dataset, texture: Dataset) -> None:
    whose = f"texture dataset {texture.name}[{texture.split}]: is none of {dataset.name}[{dataset.split}]"
    if texture.num_examples != dataset.num_examples:
        raise UserError(f"{whose}: it has {texture.num_examples} records, not {dataset.num_examples}")
    if dataset.paths and texture.paths:
        for ours, theirs in zip(dataset.paths, texture.paths, strict=True):
            if _stem(ours) != _stem(theirs):
                raise UserError(
                    f"{whose}: {theirs} is where the texture of {ours} should be; give files the same names"
                )
    elif dataset.paths and texture.chunks:
        _check_source(dataset, texture, whose)
    if texture.label_key is None or dataset.label_key is None:
        return
    ours, theirs = (rows.first_labels(each, COMPARED) for each in (dataset, texture))
    if (ours != theirs).any():
        record = int(np.flatnonzero(ours != theirs)[0])
        raise UserError(f"{whose}: record {record} has label {theirs[record]}, not {ours[record]}")


def _check_source(dataset: Dataset, texture: Dataset, whose: str) -> None:
    """Textures of an image folder have its name, as those of another folder of this name, elsewhere, would."""
    recipe = Path(texture.chunks[0].path).parent / RECIPE
    if not recipe.is_file():  # another's, or built by Beam
        return
    known = json.loads(recipe.read_text())["splits"]
    spec = folders.built_split(dataset.name, dataset.split)
    asked = {part.partition("[")[0].strip() for part in spec.split("+")}
    for split in known.keys() if "all" in asked else asked & known.keys():
        whole = dataset if split == dataset.split else open_dataset(dataset.name, split)
        if not same_source(known[split], fingerprint(whole)):
            raise UserError(
                f"{whose}: it is of another folder, or files have changed; remove {recipe.parent} and build it anew, "
                "or give another data_dir"
            )


def same_source(built: Mapping[str, Any], source: Mapping[str, Any]) -> bool:
    """Whether what a split was built of, by its `fingerprint` in the recipe, is the source of this fingerprint."""
    return all(source.get(key) == value for key, value in built.items())  # one of before 2026-11-29 has no sizes


def fingerprint(dataset: Dataset) -> dict[str, Any]:
    """The number of records of a split and a hash of their order, wherever its files lie; of an image folder with the
    sizes of some files, by which another folder of the same names is told from it."""
    if dataset.paths:
        order = [os.path.join(*path.replace("\\", "/").split("/")[-2:]) for path in dataset.paths]
        some = dataset.paths[:: -(-len(dataset.paths) // SIZES)]
        sizes = {"sizes": _hash([str(os.path.exists(path) and os.path.getsize(path)) for path in some])}
    else:
        order, sizes = [str(chunk.take) for chunk in dataset.chunks], {}
    return {"records": dataset.num_examples, "order": _hash(order), **sizes}


def _stem(path: str) -> str:
    """Of millions of files: pathlib takes three times as long."""
    return os.path.splitext(os.path.basename(path))[0]


def _hash(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
