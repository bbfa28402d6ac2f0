"""Texture versions of datasets: what they are called, and how one is laid beside the dataset it was made of.

`ncl-jax textures` makes them (`ncl_jax.textures.build`). Their record i of a split is the texture of record i of the
same split of their source, under the same label; so any dataset of as many records in the same order can be paired.
"""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from ncl_jax.data import folders, rows
from ncl_jax.data.datasets import MADE_BY_COMMAND, Dataset, open_dataset
from ncl_jax.errors import Missing, UserError

IMAGENET = ("imagenet2012", "imagenet100")  # whose texture versions are configs of `imagenet_texture`
COMPARED = 64  # records whose labels are compared when two datasets are paired


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
    Raises UserError where one is missing, has another number of records, or other labels, and as `open_dataset`.
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
    if texture.label_key is None or dataset.label_key is None:
        return
    ours, theirs = (rows.first_labels(each, COMPARED) for each in (dataset, texture))
    if (ours != theirs).any():
        record = int(np.flatnonzero(ours != theirs)[0])
        raise UserError(f"{whose}: record {record} has label {theirs[record]}, not {ours[record]}")
