"""`ncl-jax textures`: builds a texture version of a dataset, ImageNet-Texture for one, as a TFDS dataset.

The unit of work is a file: written beside, then renamed. So a build may be killed anywhere, go on later and be shared
by any number of processes (file k belongs to process k mod their number, and whoever finds all files there describes
the dataset), and the files come out the same.
"""

import contextlib
import dataclasses
import functools
import json
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from ncl_jax import parallel, progress, workdir
from ncl_jax.data import datasets, prepared, texture_datasets
from ncl_jax.data.tf import tf
from ncl_jax.errors import UserError, first_line
from ncl_jax.textures import QUALITIES, build_examples, build_sample
from ncl_jax.textures.build_examples import Recipe
from ncl_jax.textures.levels import exemplar_side

VERSION = "3.0.0"  # another one whenever a texture changes
SHARD = 1280  # images: the most of one file; a file of the source is cut into equal parts up to this
SHOW_EVERY = 2.0  # seconds: the progress
NAMED = 5  # images that do not decode
PATIENCE = 30 * 24 * 3600  # seconds that a process which has built its files waits for the others


@dataclasses.dataclass(frozen=True)
class Shard:
    """Records `low` to `high` of a split, and where they go."""

    dataset: datasets.Dataset  # the source's split
    low: int
    high: int
    path: str

    @property
    def done(self) -> bool:
        return tf.io.gfile.exists(self.path)


def run(
    source: str,
    *,
    splits: Sequence[str] = (),
    data_dir: str | None = None,
    quality: str = "standard",
    size: int | None = None,
    seed: int = 0,
    process: tuple[int, int] | None = None,
    beam_options: str | None = None,
) -> None:
    """The command: build, then measure and show a sample.

    Args:
        process: (index, count) of those that share the build; as JAX's by default.
        beam_options: build by TFDS on Apache Beam instead.
    """
    from ncl_jax.textures import build_tfds  # which imports this module

    if process is None:
        parallel.initialize(shutdown_timeout=PATIENCE)
        process = (jax.process_index(), jax.process_count())
    parallel.check_process(*process)
    if beam_options is not None:
        build_tfds.parse_options(beam_options)
    recipe, splits = plan(source, splits=splits, data_dir=data_dir, quality=quality, size=size, seed=seed)
    if beam_options is not None:
        place = folder_of(recipe)
        if tf.io.gfile.exists(place):  # TFDS would take whatever is there for the finished dataset
            raise UserError(f"{place}: is there already; Beam builds in one go: remove it or give another --data_dir")
        folder, complete = build_tfds.build_on_beam(recipe, splits, beam_options), True
    else:
        folder, complete = build(recipe, splits, process=process)
    if not complete:
        print(f"the files of this process are in {folder}; the others are not there yet")
        return
    print(f"dataset {recipe.name} ({', '.join(splits)}) is in {folder}")
    row = build_sample.sample(recipe, splits[0], folder)
    if row is None:
        print(f"no contact sheet: the first {build_sample.COUNT} images of {splits[0]} do not decode")
        return
    figures = "  ".join(f"{name} {value:.3g}" for name, value in row.items() if isinstance(value, float))
    print(f"first textures, grey levels / 255 (see `ncl_jax.textures.quality`): {figures}")
    print(f"wrote {os.path.join(folder, 'contact_sheet.png')}: exemplars, and below them their texture")


def plan(
    source: str,
    *,
    splits: Sequence[str] = (),
    data_dir: str | None = None,
    quality: str = "standard",
    size: int | None = None,
    seed: int = 0,
) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe for a dataset and the splits, all of the source's by default.

    Without `size` it is the images' own side where all are squares of one below 224 px, else 224; exemplars are in
    proportion to 96 px at 224.
    """
    if quality not in (*QUALITIES, "faithful"):
        raise UserError(f"--quality={quality}: one of {', '.join(QUALITIES)}, faithful")
    if size is not None and not 8 <= size <= 2048:
        raise UserError(f"--size={size}: want 8 to 2048 pixels")
    if not 0 <= seed < 2**32:  # a key keeps no more of it
        raise UserError(f"--seed={seed}: want 0 to {2**32 - 1}")
    data_dir = os.path.expanduser(data_dir) if data_dir else None
    known = datasets.split_names(source, data_dir=data_dir)  # may have to build it
    for split in splits:
        if split not in known:
            raise UserError(f"--splits: {source} has no split {split!r}; it has {', '.join(known)}")
    splits = tuple(splits) or known
    if size is None:
        shape = datasets.open_dataset(source, splits[0], data_dir=data_dir).image_shape
        size = shape[0] if shape and shape[0] == shape[1] and shape[0] < 224 else 224
        if size < 8:
            raise UserError(f"dataset {source}: its images are {size} pixels wide; give --size, 8 to 2048")
    return Recipe(source, quality, size, exemplar_side(size), seed, data_dir), splits


def build(recipe: Recipe, splits: Sequence[str], *, process: tuple[int, int] = (0, 1)) -> tuple[str, bool]:
    """Build this process's files of a texture dataset, going on where a build stopped.

    Args:
        process: (index, count).

    Returns:
        The dataset's folder, and whether the files of all processes are there.

    Raises:
        UserError: a folder that holds another build, or where this very one is under way; files that cannot be read
            or written.
    """
    folder = folder_of(recipe)
    shards = {split: shards_of(recipe, split, folder) for split in splits}
    try:
        tf.io.gfile.makedirs(folder)
        with contextlib.ExitStack() as stack:
            for split in splits:
                stack.enter_context(_alone(folder, split, process[0]))
            _claim(recipe, shards, folder)
            _write(recipe, [s for part in shards.values() for s in part][process[0] :: process[1]], process[0])
        complete = all(shard.done for part in shards.values() for shard in part)
        if complete:
            known = _claim(recipe, shards, folder)  # again: another command may have added a split since
            parts = {split: shards.get(split) or shards_of(recipe, split, folder) for split in known}
            _describe(recipe, {split: part for split, part in parts.items() if all(s.done for s in part)}, folder)
    except (OSError, tf.errors.OpError) as error:
        raise UserError(f"{folder}: cannot be written: {first_line(error)}") from error
    return folder, complete


def folder_of(recipe: Recipe) -> str:
    """Of the dataset's files."""
    root = os.path.expanduser(recipe.data_dir or str(prepared.import_tfds().core.constants.DATA_DIR))
    return os.path.join(root, recipe.name, VERSION)


@contextlib.contextmanager
def _alone(folder: str, split: str, process: int) -> Iterator[None]:
    """Keep out a second build of the split as the same process: both would write the same unfinished file."""
    if "://" in folder:  # buckets have no locks
        yield
        return
    path = Path(folder)
    try:
        lock = workdir.hold(path.parent, f".{path.name}.{split}.{process}.lock")
    except workdir.Busy:
        raise UserError(
            f"{folder}: another build of {split} is at work there; wait for it, or start both with --process_count and "
            "different --process_index"
        ) from None
    with lock:
        yield


def shards_of(recipe: Recipe, split: str, folder: str) -> list[Shard]:
    """The source's files, cut where they are long: a texture file lies beside one file of the source."""
    dataset = recipe.open(split)
    bounds = [0]
    for count in [chunk.take for chunk in dataset.chunks] or [dataset.num_examples]:
        parts = -(-count // SHARD)
        start = bounds[-1]
        bounds += [start + count * (part + 1) // parts for part in range(parts)]
    name, total = recipe.name.partition("/")[0], len(bounds) - 1
    paths = [os.path.join(folder, f"{name}-{split}.tfrecord-{k:05d}-of-{total:05d}") for k in range(total)]
    return [Shard(dataset, bounds[k], bounds[k + 1], path) for k, path in enumerate(paths)]


def _claim(recipe: Recipe, shards: dict[str, list[Shard]], folder: str) -> list[str]:
    """Note what this folder is built of, or see that it is the same; splits may be added. Returns all of its splits."""
    ours = {key: value for key, value in dataclasses.asdict(recipe).items() if key not in ("source", "data_dir")}
    splits = {split: texture_datasets.fingerprint(part[0].dataset) for split, part in shards.items()}
    path = os.path.join(folder, texture_datasets.RECIPE)
    if tf.io.gfile.exists(path):
        with tf.io.gfile.GFile(path) as file:
            theirs = json.loads(file.read())
        known = theirs["splits"]
        changes = [f"{key} {theirs.get(key)} is now {value}" for key, value in ours.items() if value != theirs.get(key)]
        for split, mark in splits.items():
            before = known.get(split, mark)
            if not texture_datasets.same_source(before, mark):
                changes.append(f"{split} {before} is now {mark}")
        if changes:
            raise UserError(
                f"{folder}: holds another build ({'; '.join(changes)}); remove it or give another --data_dir"
            )
        if splits.keys() <= known.keys():
            return list(known)
        splits = known | splits
    elif tf.io.gfile.exists(os.path.join(folder, "dataset_info.json")):
        raise UserError(
            f"{folder}: holds a dataset that was built otherwise, as by Beam; remove it or give another --data_dir"
        )

    def write(partial):
        with tf.io.gfile.GFile(partial, "w") as file:
            file.write(json.dumps(ours | {"splits": splits}, indent=1) + "\n")

    _put(path, write, uuid.uuid4().hex[:8])  # containers that share the folder may share a process number too
    return list(splits)


def _put(path: str, write: Any, writer: Any) -> None:
    """Write `path` whole or not at all; `writer` keeps two processes' unfinished files apart."""
    partial = f"{path}.{writer}.partial"
    write(partial)
    tf.io.gfile.rename(partial, path, overwrite=True)


def _write(recipe: Recipe, shards: list[Shard], process: int) -> None:
    total = sum(shard.high - shard.low for shard in shards)
    todo = [shard for shard in shards if not shard.done]
    done = total - sum(shard.high - shard.low for shard in todo)
    bar = progress.Bar(total, done, unit="image")
    if done:
        bar.say(f"{done} of {total} images are there already")
    unread: list[str] = []
    first, began, shown = done, 0.0, 0.0

    def write(partial, shard):
        nonlocal done, first, began, shown
        features = build_examples.features(recipe, shard.dataset)
        with tf.io.TFRecordWriter(partial) as writer:
            made = build_examples.examples(recipe, shard.dataset, shard.low, shard.high)
            for index, example in enumerate(made, start=shard.low):
                # (Features are a map: sorted, so that equal records have equal bytes.)
                record = tf.train.Example.FromString(features.serialize_example(example))
                writer.write(record.SerializeToString(deterministic=True))
                if not example["image"]:
                    unread.append(shard.dataset.record_name(index))
                done, now = done + 1, time.perf_counter()
                if not began:  # now everything is compiled
                    first, began, shown = done, now, now
                elif now - shown > SHOW_EVERY or done == total:
                    bar.update(done, {"images_per_second": (done - first) / (now - began)})
                    shown = now

    try:
        for shard in todo:
            _put(shard.path, functools.partial(write, shard=shard), process)
    finally:
        bar.close()
    if unread:
        more = f" and {len(unread) - NAMED} more" if len(unread) > NAMED else ""
        bar.say(f"does not decode, and its texture will not either: {', '.join(unread[:NAMED])}{more}")


def _describe(recipe: Recipe, shards: dict[str, list[Shard]], folder: str) -> None:
    """What makes the files a TFDS dataset."""
    tfds = prepared.import_tfds()
    name, _, config = recipe.name.partition("/")
    identity = tfds.core.dataset_info.DatasetIdentity(
        name=name, config_name=config, version=tfds.core.Version(VERSION), data_dir=folder, module_name=""
    )
    info = build_examples.info(identity, recipe, next(iter(shards.values()))[0].dataset)
    info.set_file_format(tfds.core.FileFormat.TFRECORD)
    template = tfds.core.ShardedFileTemplate(data_dir=folder, dataset_name=name, filetype_suffix="tfrecord")
    info.set_splits(
        tfds.core.splits.SplitDict(
            [
                tfds.core.SplitInfo(
                    name=split,
                    shard_lengths=[shard.high - shard.low for shard in part],
                    num_bytes=sum(tf.io.gfile.stat(shard.path).length for shard in part),
                    filename_template=template.replace(split=split),
                )
                for split, part in shards.items()
            ]
        )
    )
    info.write_to_directory(folder)
